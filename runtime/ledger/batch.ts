/**
 * What crosses from the main thread to the writer: records packed into one ArrayBuffer that is transferred and comes back to be used again. Little-endian.
 * A message is a fixed head and three strings of bytes; everything rarer is `op u8, length u32, deterministic CBOR`. One process, one version.
 */
import { TenzroError, invariant } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { InboundMessage, InboundRecord, SealedBlock } from '#runtime/core/ports.ts';
import type { Cbor, Draft, KindNumber, TreeHead } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';

/** A rarer operation; each but `cursor` and `learn` is answered, in order. `drain`: the decoder closes what is open, the sources have stopped. */
export type Operation =
  | { readonly op: 'draft'; readonly draft: Draft }
  | { readonly op: 'cursor'; readonly name: string; readonly index: number }
  | { readonly op: 'learn'; readonly topic: string; readonly payload: Uint8Array }
  | { readonly op: 'pending'; readonly payload: Uint8Array }
  | { readonly op: 'block'; readonly block: SealedBlock }
  | { readonly op: 'head' }
  | { readonly op: 'drain' };
/** A draft is answered by its index, `head` by the head at the end of the batch, others by null. */
export type Answer = number | TreeHead | null;

const OP = { message: 0, draft: 1, cursor: 2, pending: 3, block: 4, head: 5, drain: 6, learn: 7 } as const;
const FLAG = { qosMask: 3, retain: 4, duplicate: 8 } as const;
/** op, flags, packet id u16, client length u16, topic length u16, payload length u32, monotonic µs f64. */
const MESSAGE_HEAD_BYTES = 20;
const OPERATION_HEAD_BYTES = 5;
/** UTF-8 bytes per UTF-16 unit, at most. */
const UTF8_MAX = 3;

/** Packs records into an arena as long as they fit. */
export class BatchPacker {
  readonly #bytes: Buffer;
  #used = 0;

  constructor(arena: ArrayBuffer) { this.#bytes = Buffer.from(arena); }

  get used(): number { return this.#used; }

  /** Bytes that a message may take. */
  static messageBytes(message: InboundMessage): number {
    return MESSAGE_HEAD_BYTES + (message.clientId.length + message.topic.length) * UTF8_MAX + message.payload.length;
  }

  fits(more: number): boolean { return this.#used + more <= this.#bytes.length; }

  /** The caller has made sure that it fits. */
  message(message: InboundMessage, monoMicros: number): void {
    const bytes = this.#bytes;
    const start = this.#used;
    const { payload } = message;
    let at = start + MESSAGE_HEAD_BYTES;
    const clientLength = bytes.write(message.clientId, at);
    at += clientLength;
    const topicLength = bytes.write(message.topic, at);
    at += topicLength;
    bytes.set(payload, at);
    bytes[start] = OP.message;
    bytes[start + 1] = message.qos | (message.retain ? FLAG.retain : 0) | (message.duplicate ? FLAG.duplicate : 0);
    bytes.writeUInt16LE(message.packetId, start + 2);
    bytes.writeUInt16LE(clientLength, start + 4);
    bytes.writeUInt16LE(topicLength, start + 6);
    bytes.writeUInt32LE(payload.length, start + 8);
    bytes.writeDoubleLE(monoMicros, start + 12);
    this.#used = at + payload.length;
  }

  /** `encoded` comes from `encodeOperation`; the caller has made sure that it fits. */
  operation(encoded: Uint8Array): void {
    this.#bytes.set(encoded, this.#used);
    this.#used += encoded.length;
  }
}

export function encodeOperation(operation: Operation): Buffer {
  const [op, value] = operationValue(operation);
  const body = encodeCbor(value);
  const head = Buffer.alloc(OPERATION_HEAD_BYTES);
  head[0] = op;
  head.writeUInt32LE(body.length, 1);
  return Buffer.concat([head, body]);
}

function operationValue(operation: Operation): readonly [number, Cbor] {
  switch (operation.op) {
    case 'draft': {
      const { kind, source, wallMicros, monoMicros, body } = operation.draft;
      return [OP.draft, [kind, source, wallMicros, monoMicros, body]];
    }
    case 'cursor': return [OP.cursor, [operation.name, operation.index]];
    case 'learn': return [OP.learn, [operation.topic, operation.payload]];
    case 'pending': return [OP.pending, operation.payload];
    case 'block': {
      const { sequence, payload, cose, evidence, pcrAfter, resetCount } = operation.block;
      return [OP.block, [sequence, payload, cose, evidence, pcrAfter ?? null, resetCount ?? null]];
    }
    case 'head': return [OP.head, null];
    case 'drain': return [OP.drain, null];
  }
}

export interface BatchVisitor {
  message(record: InboundRecord): void;
  operation(operation: Operation): void;
}

/** Walks a batch in order. `wallOffsetMicros` turns the monotonic times of its messages into wall time. Views into `bytes` are not copied. */
export function readBatch(bytes: Buffer, wallOffsetMicros: number, visitor: BatchVisitor): void {
  let at = 0;
  while (at < bytes.length) {
    const op = bytes[at] ?? 0;
    if (op === OP.message) {
      const flags = bytes[at + 1] ?? 0;
      const clientEnd = at + MESSAGE_HEAD_BYTES + bytes.readUInt16LE(at + 4);
      const topicEnd = clientEnd + bytes.readUInt16LE(at + 6);
      const end = topicEnd + bytes.readUInt32LE(at + 8);
      const monoMicros = bytes.readDoubleLE(at + 12);
      visitor.message({
        clientId: bytes.toString('utf8', at + MESSAGE_HEAD_BYTES, clientEnd), topic: bytes.toString('utf8', clientEnd, topicEnd), payload: bytes.subarray(topicEnd, end),
        qos: (flags & FLAG.qosMask) as 0 | 1 | 2, retain: (flags & FLAG.retain) !== 0, duplicate: (flags & FLAG.duplicate) !== 0, packetId: bytes.readUInt16LE(at + 2),
        wallMicros: monoMicros + wallOffsetMicros, monoMicros,
      });
      at = end;
    } else {
      const end = at + OPERATION_HEAD_BYTES + bytes.readUInt32LE(at + 1);
      visitor.operation(decodeOperation(op, decodeCbor(bytes.subarray(at + OPERATION_HEAD_BYTES, end))));
      at = end;
    }
  }
}

/** The other side of `operationValue`, in the same process: the shapes are known. */
function decodeOperation(op: number, value: Cbor): Operation {
  if (op === OP.draft) {
    const [kind, source, wallMicros, monoMicros, body] = value as readonly [KindNumber, string, number, number, Cbor];
    return { op: 'draft', draft: { kind, source, wallMicros, monoMicros, body } };
  }
  if (op === OP.cursor) {
    const [name, index] = value as readonly [string, number];
    return { op: 'cursor', name, index };
  }
  if (op === OP.learn) {
    const [topic, payload] = value as readonly [string, Uint8Array];
    return { op: 'learn', topic, payload };
  }
  if (op === OP.pending) return { op: 'pending', payload: value as Uint8Array };
  if (op === OP.head) return { op: 'head' };
  if (op === OP.drain) return { op: 'drain' };
  const [sequence, payload, cose, evidence, pcrAfter, resetCount] = value as readonly [number, Uint8Array, Uint8Array, Uint8Array, Uint8Array | null, number | null];
  return { op: 'block', block: { sequence, payload, cose, evidence, ...(pcrAfter ? { pcrAfter } : {}), ...(resetCount === null ? {} : { resetCount }) } };
}

/** An entry's keys, version and boot epoch, which a draft does not have. */
const ENTRY_FRAME_BYTES = 32;

/** Throws `entry.too_large`, and `core.invariant` for what no entry can hold. */
export function encodeDraft(draft: Draft): Buffer {
  invariant(Number.isSafeInteger(draft.wallMicros) && Number.isSafeInteger(draft.monoMicros), 'times are integers');
  const encoded = encodeOperation({ op: 'draft', draft });
  if (encoded.length > LIMITS.entryBytesMax - ENTRY_FRAME_BYTES) throw new TenzroError('entry.too_large', `a draft of ${encoded.length} bytes does not fit an entry`);
  return encoded;
}
