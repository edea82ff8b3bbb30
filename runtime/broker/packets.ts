/** Packets as the broker's engine hands them to its persistence, their form on disk, and answers that need no promise. */
import { asBuffer } from '#runtime/core/bytes.ts';

export type Qos = 0 | 1 | 2;

/** The fields of an engine packet that matter here; unknown ones are carried along. */
export interface Packet {
  cmd?: string;
  topic: string;
  payload: Buffer | string;
  qos: Qos;
  retain: boolean;
  dup?: boolean;
  messageId?: number | undefined;
  brokerId?: string | undefined;
  brokerCounter?: number;
  clientId?: string;
}

/** What is left of an outgoing QoS 2 publish after its PUBREC. */
export interface Release { cmd: 'pubrel'; messageId: number }

export interface Subscription {
  topic: string;
  /** 128 marks a refused one (MQTT 3.1.1 §3.9.3). */
  qos: number;
  rh?: number | undefined;
  rap?: boolean | undefined;
  nl?: boolean | undefined;
}

export interface ClientRef { readonly id: string; readonly clean?: boolean }

/** The payload, no longer as a view into a 64 KiB socket buffer. */
export const ownedPayload = ({ payload }: Packet): Buffer | string => (typeof payload === 'string' ? payload : Buffer.from(payload));

export const payloadBytes = (packet: Packet): Buffer => (typeof packet.payload === 'string' ? Buffer.from(packet.payload) : packet.payload);

/** `[flags: qos | retain<<2 | release<<3][message id u16][topic length u16][topic][payload]`, integers big-endian. */
export function encodePacket(packet: Packet | Release): Buffer {
  if (isRelease(packet)) return Buffer.from([8, packet.messageId >> 8, packet.messageId & 0xff, 0, 0]);
  const topic = Buffer.from(packet.topic);
  const head = Buffer.alloc(5);
  head.writeUInt8(packet.qos | (packet.retain ? 4 : 0), 0);
  head.writeUInt16BE(packet.messageId ?? 0, 1);
  head.writeUInt16BE(topic.length, 3);
  return Buffer.concat([head, topic, payloadBytes(packet)]);
}

/** Undefined for bytes that `encodePacket` did not write. */
export function decodePacket(bytes: Uint8Array): Packet | Release | undefined {
  if (bytes.length < 5) return undefined;
  const at = asBuffer(bytes);
  const flags = at.readUInt8(0);
  const messageId = at.readUInt16BE(1) || undefined;
  if (flags === 8) return messageId === undefined ? undefined : { cmd: 'pubrel', messageId };
  const topicEnd = 5 + at.readUInt16BE(3);
  const qos = flags & 3;
  if (flags > 7 || qos === 3 || topicEnd > at.length) return undefined;
  return {
    cmd: 'publish', topic: at.toString('utf8', 5, topicEnd), payload: Buffer.from(at.subarray(topicEnd)),
    qos: qos as Qos, retain: (flags & 4) !== 0, dup: false, messageId,
  };
}

export const isRelease = (packet: Packet | Release): packet is Release => packet.cmd === 'pubrel';

/** A promise's face on an answer that is there already. The engine only calls `then` on it, so nothing is allocated and no turn is lost. */
class Settled<T> implements PromiseLike<T> {
  readonly #ok: boolean;
  readonly #value: T;
  readonly #error: Error;

  constructor(ok: boolean, value: T, error: Error) {
    this.#ok = ok;
    this.#value = value;
    this.#error = error;
  }

  // oxlint-disable-next-line unicorn/no-thenable -- being awaitable without a promise is its purpose
  then<A = T, B = never>(fulfilled?: ((value: T) => A | PromiseLike<A>) | null, rejected?: ((reason: unknown) => B | PromiseLike<B>) | null): PromiseLike<A | B> {
    if (this.#ok) fulfilled?.(this.#value);
    else rejected?.(this.#error);
    // the engine chains nothing on the result
    return NOTHING as PromiseLike<never>;
  }
}

const NO_ERROR = new Error('no error');
export const settled = <T>(value: T): PromiseLike<T> => new Settled(true, value, NO_ERROR);
const NOTHING: PromiseLike<unknown> = settled(undefined);
export const DONE = NOTHING as PromiseLike<undefined>;
export const NO_SUCH_PACKET: PromiseLike<never> = new Settled<never>(false, undefined as never, new Error('no such packet'));
