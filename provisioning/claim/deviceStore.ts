/**
 * The device's record on disk, `claim/owner.cbor` of a data directory: who owns the gateway, which secrets are burnt. Its write is the claim's commit point.
 * Deterministic CBOR `[magic, version, record]`, then SHA-256 of it, which finds damage (it protects against nobody). One file, one encoding per record.
 */
import { join } from 'node:path';
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { MLDSA65 } from '#runtime/crypto/mldsa.ts';
import { OwnFolder } from '../ownFolder.ts';
import { BURNT_MAX, type DeviceRecord, type Ownership } from './device.ts';
import { CLAIM_ID_BYTES } from './messages.ts';
import { atMost, decodeRecord, encodeRecord, exactly, listOf, oneOf, optional, text, wholeNumber, type Field, type Shape, type Values } from './record.ts';

const NAME = 'owner.cbor';
const MAGIC = 'tenzro claim owner';
const VERSION = 1;
const HASH_BYTES = 32;
/** Magic, version and lengths around the record. */
const FRAME_BYTES_MAX = 64;
/** Types beyond those of messages and signed bodies (handOver.ts, quote.ts). */
const TYPE = { record: 48, ownership: 49, failures: 50, order: 51 } as const;

const nested = <S extends Shape>(type: number, shape: S, bytesMax: number): Field<Values<S>> => ({
  write: (values) => encodeRecord(type, shape, values),
  read: (value) => decodeRecord(type, shape, atMost(bytesMax).read(value)),
});

const OWNERSHIP = {
  claimId: exactly(CLAIM_ID_BYTES), ownerKeys: listOf(exactly(MLDSA65.publicKeyBytes), 2, 2), handOver: atMost(LIMITS.claimHandOverBytesMax), words: text(/^[a-z ]{1,128}$/),
} as const;
const FAILURES = { boot: text(/^[ -~]{1,64}$/), count: wholeNumber(1_000) } as const;
const ORDER = { digest: exactly(HASH_BYTES), claimId: exactly(CLAIM_ID_BYTES), standing: oneOf(['released', 'rotated']) } as const;
const RECORD = {
  generation: wholeNumber(),
  owner: optional(nested(TYPE.ownership, OWNERSHIP, LIMITS.claimHandOverBytesMax + 2 * MLDSA65.publicKeyBytes + 256)),
  burnt: listOf(exactly(HASH_BYTES), 0, BURNT_MAX),
  failures: nested(TYPE.failures, FAILURES, 128),
  lastOrder: optional(nested(TYPE.order, ORDER, 128)),
} as const;

export function encodeDeviceRecord(record: DeviceRecord): Buffer {
  const body = encodeCbor([MAGIC, VERSION, encodeRecord(TYPE.record, RECORD, { ...record, owner: record.owner, lastOrder: record.lastOrder })]);
  return Buffer.concat([body, sha256(body)]);
}

/** Throws `claim.state` for what is damaged, `claim.newer_version`. */
export function decodeDeviceRecord(bytes: Uint8Array): DeviceRecord {
  if (bytes.length <= HASH_BYTES) throw damaged(`it has ${bytes.length} bytes`);
  const body = bytes.subarray(0, -HASH_BYTES);
  if (!equalBytes(sha256(body), bytes.subarray(-HASH_BYTES))) throw damaged('its checksum is wrong');
  try {
    const { owner, lastOrder, ...rest } = decodeRecord(TYPE.record, RECORD, recordIn(decodeCbor(body)));
    return { ...rest, ...(owner ? { owner: owner satisfies Ownership } : {}), ...(lastOrder ? { lastOrder } : {}) };
  } catch (cause) {
    if (cause instanceof TenzroError && cause.code === 'claim.newer_version') throw cause;
    throw damaged(messageOf(cause), cause);
  }
}

function recordIn(value: Cbor): Uint8Array {
  const [magic, version, record, ...others] = Array.isArray(value) ? (value as readonly Cbor[]) : [];
  if (magic !== MAGIC || typeof version !== 'number') throw damaged('it is no record of an owner');
  if (version > VERSION) throw new TenzroError('claim.newer_version', `claim/${NAME} has version ${version}, this version reads ${VERSION}`);
  if (version !== VERSION || !(record instanceof Uint8Array) || others.length > 0) throw damaged('it is no record of an owner');
  return record;
}

const damaged = (why: string, cause?: unknown): TenzroError => new TenzroError('claim.state', `claim/${NAME} is damaged: ${why}`, cause === undefined ? {} : { cause });

/** Reads and writes come after one another, in the order in which they were asked for: a read sees every earlier write, or comes after it failed. */
export class DeviceStore {
  readonly #folder: OwnFolder;
  #last: Promise<unknown> = Promise.resolve();

  constructor(dataDir: string) {
    this.#folder = new OwnFolder(join(dataDir, 'claim'), { codes: { permissions: 'claim.state', damaged: 'claim.state', io: 'claim.store' }, fileBytesMax: LIMITS.claimMessageBytesMax + FRAME_BYTES_MAX + HASH_BYTES });
  }

  /** Undefined: nobody ever claimed it. Throws `claim.state`, `claim.store`, `claim.newer_version`. */
  read(): Promise<DeviceRecord | undefined> {
    return this.#inTurn(async () => {
      const bytes = await this.#folder.read(NAME);
      return bytes && decodeDeviceRecord(bytes);
    });
  }

  /** Whole or not at all, also over a power cut; resolves when it is flushed. Throws `claim.store`. */
  write(record: DeviceRecord): Promise<void> {
    const bytes = encodeDeviceRecord(record);
    return this.#inTurn(() => this.#folder.replace(NAME, bytes));
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work, work);
    this.#last = done.catch(() => undefined); // whoever asked has it
    return done;
  }
}
