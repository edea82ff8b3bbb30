/**
 * A receipt: the controller's word that it verified a chain up to a block, and keeps it on disk. COSE_Sign1 (RFC 9052) by its ML-DSA-65 key, which it
 * carries: whoever pins the key's SHA-256 needs nothing else. And the answer around it. Pure codecs; docs/reference/uplink.md is their reference.
 */
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { equalBytes } from '#runtime/core/bytes.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { parseSign1, sign1, sign1Aside, signingKeyHeader, signingKeyOf, verifySign1 } from '#runtime/crypto/cose.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { HASH_BYTES } from './block.ts';

export interface Receipt {
  readonly chainId: Uint8Array;
  /** The newest block that it covers. */
  readonly sequence: number;
  readonly blockHash: Uint8Array;
  readonly treeSize: number;
  readonly root: Uint8Array;
  /** The controller's wall clock. */
  readonly wallMicros: number;
}

/** What the controller says to a shipment. All but the receipt is a hint: it decides what is sent next, never what may be pruned. */
export interface Answer {
  /** `shipmentId`. */
  readonly about: Uint8Array;
  /** Index of the leaf, and sequence of the block, that it wants next. */
  readonly next: number;
  readonly nextBlock: number;
  /** Absent while it has no block of the chain. */
  readonly receipt?: Uint8Array;
  /** Why the shipment was not taken. */
  readonly refusal?: { readonly code: string; readonly detail: string };
}

const VERSION = 1;
const KEY = { version: 1, chainId: 2, sequence: 3, blockHash: 4, treeSize: 5, root: 6, time: 7 } as const;
const ANSWER_KEY = { version: 1, about: 2, next: 3, nextBlock: 4, receipt: 5, refusal: 6 } as const;
/** Around twice what a receipt has: ML-DSA-65 key and signature are 5,261 bytes of it. */
const ANSWER_BYTES_MAX = 16 * 1024;
const TEXT_MAX = 1_024;
const ABOUT_BYTES = 16;

/** The follower's cursor in the ledger: entries before it are receipted. Another controller begins anew. `receiptKey`: SHA-256 of its key, hex. */
export const uplinkCursor = (receiptKey: string): string => `uplink:${receiptKey.slice(0, CURSOR_DIGITS)}`;
const CURSOR_DIGITS = 16;
/** Of the keys under which a gateway keeps the newest receipt of each fleet. */
export const RECEIPTS_PREFIX = 'uplink/uplink:';

export const signReceipt = (signer: Signer, receipt: Receipt): Buffer => sign1(signer, signingKeyHeader(signer.publicKey), encodeReceipt(receipt));
/** In another thread: a controller signs hundreds in a second. */
export const signReceiptAside = (signer: Signer, receipt: Receipt): Promise<Buffer> => sign1Aside(signer, signingKeyHeader(signer.publicKey), encodeReceipt(receipt));

const encodeReceipt = ({ chainId, sequence, blockHash, treeSize, root, wallMicros }: Receipt): Buffer => encodeCbor(new Map<number, Cbor>([
  [KEY.version, VERSION], [KEY.chainId, chainId], [KEY.sequence, sequence], [KEY.blockHash, blockHash], [KEY.treeSize, treeSize], [KEY.root, root], [KEY.time, wallMicros],
]));

/** Believed only as far as `keyDigest`, SHA-256 of the controller's key. Throws `uplink.receipt`, also for another signer, and `uplink.newer_version`. */
export function openReceipt(bytes: Uint8Array, keyDigest: Uint8Array): Receipt {
  return attempt(() => {
    const message = parseSign1(bytes);
    const key = signingKeyOf(message.header);
    if (!equalBytes(sha256(key), keyDigest)) throw malformed('signed by another key than the pinned one');
    if (!verifySign1(message, key)) throw malformed('its signature does not fit');
    const fields = mapOf(decodeCbor(message.payload), KEY, []);
    return {
      chainId: hashOf(fields.get(KEY.chainId)), sequence: countOf(fields.get(KEY.sequence)), blockHash: hashOf(fields.get(KEY.blockHash)),
      treeSize: countOf(fields.get(KEY.treeSize)), root: hashOf(fields.get(KEY.root)), wallMicros: countOf(fields.get(KEY.time)),
    };
  });
}

export function encodeAnswer({ about, next, nextBlock, receipt, refusal }: Answer): Buffer {
  const map = new Map<number, Cbor>([[ANSWER_KEY.version, VERSION], [ANSWER_KEY.about, about], [ANSWER_KEY.next, next], [ANSWER_KEY.nextBlock, nextBlock]]);
  if (receipt) map.set(ANSWER_KEY.receipt, receipt);
  if (refusal) map.set(ANSWER_KEY.refusal, [refusal.code.slice(0, TEXT_MAX), refusal.detail.slice(0, TEXT_MAX)]);
  return encodeCbor(map);
}

/** The receipt in it is not judged. Throws `uplink.receipt` and `uplink.newer_version`. */
export function decodeAnswer(bytes: Uint8Array): Answer {
  return attempt(() => {
    if (bytes.length > ANSWER_BYTES_MAX) throw malformed(`${bytes.length} bytes, more than ${ANSWER_BYTES_MAX}`);
    const fields = mapOf(decodeCbor(bytes), ANSWER_KEY, [ANSWER_KEY.receipt, ANSWER_KEY.refusal]);
    const [about, receipt, refusal] = [fields.get(ANSWER_KEY.about), fields.get(ANSWER_KEY.receipt), fields.get(ANSWER_KEY.refusal)];
    if (!(about instanceof Uint8Array) || about.length !== ABOUT_BYTES) throw malformed('it is about no shipment');
    if (receipt !== undefined && !(receipt instanceof Uint8Array)) throw malformed('its receipt is not a byte string');
    return {
      about, next: countOf(fields.get(ANSWER_KEY.next)), nextBlock: countOf(fields.get(ANSWER_KEY.nextBlock)),
      ...(receipt === undefined ? {} : { receipt }), ...(refusal === undefined ? {} : { refusal: refusalOf(refusal) }),
    };
  });
}

function refusalOf(value: Cbor): { readonly code: string; readonly detail: string } {
  const parts = Array.isArray(value) ? (value as readonly Cbor[]) : [];
  const [code, detail] = parts;
  if (parts.length !== 2 || typeof code !== 'string' || typeof detail !== 'string' || code.length > TEXT_MAX || detail.length > TEXT_MAX) throw malformed('its refusal is not a code and a text');
  return { code, detail };
}

function mapOf(value: Cbor, keys: Readonly<Record<string, number>>, optional: readonly number[]): ReadonlyMap<number, Cbor> {
  if (!(value instanceof Map)) throw malformed('not a map');
  const fields = value as ReadonlyMap<number, Cbor>;
  const version = fields.get(KEY.version);
  if (typeof version === 'number' && version > VERSION) throw new TenzroError('uplink.newer_version', `version ${version}; this program reads version ${VERSION}`);
  const known = Object.values(keys);
  if (version !== VERSION || known.some((key) => !fields.has(key) && !optional.includes(key)) || [...fields.keys()].some((key) => !known.includes(key))) throw malformed('its keys do not fit');
  return fields;
}

/** What the codecs below throw is told as ours: whoever takes answers knows one code. */
function attempt<T>(step: () => T): T {
  try {
    return step();
  } catch (cause) {
    if (cause instanceof TenzroError && cause.code.startsWith('uplink.')) throw cause;
    throw new TenzroError('uplink.receipt', messageOf(cause), { cause });
  }
}

function hashOf(value: Cbor | undefined): Uint8Array {
  if (!(value instanceof Uint8Array) || value.length !== HASH_BYTES) throw malformed('a hash does not fit');
  return value;
}
function countOf(value: Cbor | undefined): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw malformed('a number is not a count');
  return value;
}
const malformed = (why: string): TenzroError => new TenzroError('uplink.receipt', `receipt: ${why}`);
