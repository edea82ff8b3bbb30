/**
 * An act of the controller as it is stored and exported: COSE_Sign1 (RFC 9052) by the receipt key, which its `kid` names, over a payload that holds the
 * SHA-256 of the act before it. Pure codec and check; docs/reference/controller.md is their reference.
 */
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { COSE_HEADER, parseSign1, sign1, verifySign1, type Sign1 } from '#runtime/crypto/cose.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { MLDSA65, type Signer } from '#runtime/crypto/mldsa.ts';
import { HASH_BYTES, ZERO_HASH } from '#runtime/ledger/block.ts';

export interface Act {
  /** JWK thumbprint of the owner key that asked for it, or `CONTROLLER`. */
  readonly who: string;
  /** `room.verb`: `gateway.claimed`, `command.submitted`. */
  readonly what: string;
  /** Gateway, chain, command, roll-out: whatever it was done to. */
  readonly about: string;
  /** In words, for people. */
  readonly detail?: string;
}

export interface RecordedAct extends Required<Act> {
  readonly index: number;
  /** The controller's wall clock. */
  readonly micros: number;
  /** SHA-256 of the act before it; zeros for the first. */
  readonly previous: Uint8Array;
}

/** Who did it, where no owner asked for it. */
export const CONTROLLER = 'controller';

const VERSION = 1;
const KEY = { version: 1, index: 2, micros: 3, who: 4, what: 5, about: 6, detail: 7, previous: 8 } as const;
/** UTF-16 units; what is longer was cut when it was written. */
export const ACT_TEXT_MAX = { who: 128, what: 64, about: 256, detail: 1_024 } as const;
const ACT_BYTES_MAX = 16 * 1024;

export const digestOfAct = (cose: Uint8Array): Buffer => sha256(cose);

export function signAct(signer: Signer, { index, micros, who, what, about, detail, previous }: RecordedAct): Buffer {
  const payload = new Map<number, Cbor>([
    [KEY.version, VERSION], [KEY.index, index], [KEY.micros, micros], [KEY.who, cut(who, 'who')], [KEY.what, cut(what, 'what')], [KEY.about, cut(about, 'about')], [KEY.detail, cut(detail, 'detail')], [KEY.previous, previous],
  ]);
  return sign1(signer, new Map<number, Cbor>([[COSE_HEADER.kid, sha256(signer.publicKey)]]), encodeCbor(payload));
}

const cut = (text: string, field: keyof typeof ACT_TEXT_MAX): string => text.slice(0, ACT_TEXT_MAX[field]).toWellFormed();

/** Its signature is not judged. Throws `controller.acts`. */
export function decodeAct(cose: Uint8Array): RecordedAct & { readonly message: Sign1; readonly kid: Uint8Array } {
  try {
    if (cose.length > ACT_BYTES_MAX) throw wrong(`${cose.length} bytes, more than ${ACT_BYTES_MAX}`);
    const message = parseSign1(cose);
    const kid = message.header.get(COSE_HEADER.kid);
    const fields = decodeCbor(message.payload);
    if (message.header.size !== 2 || !(kid instanceof Uint8Array) || kid.length !== HASH_BYTES) throw wrong('its protected header is not alg and kid');
    if (!(fields instanceof Map) || fields.size !== Object.keys(KEY).length) throw wrong('its keys do not fit');
    return { ...fieldsOf(fields as ReadonlyMap<number, Cbor>), message, kid };
  } catch (cause) {
    if (cause instanceof TenzroError && cause.code === 'controller.acts') throw cause;
    throw wrong(messageOf(cause));
  }
}

function fieldsOf(fields: ReadonlyMap<number, Cbor>): RecordedAct {
  const text = (field: keyof typeof ACT_TEXT_MAX): string => {
    const value = fields.get(KEY[field]);
    if (typeof value !== 'string' || value.length > ACT_TEXT_MAX[field]) throw wrong(`${field} is no text of at most ${ACT_TEXT_MAX[field]} characters`);
    return value;
  };
  const count = (field: 'index' | 'micros'): number => {
    const value = fields.get(KEY[field]);
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw wrong(`${field} is no count`);
    return value;
  };
  const previous = fields.get(KEY.previous);
  if (fields.get(KEY.version) !== VERSION) throw wrong(`it is not of version ${VERSION}`);
  if (!(previous instanceof Uint8Array) || previous.length !== HASH_BYTES) throw wrong('it names no act before it');
  return { index: count('index'), micros: count('micros'), who: text('who'), what: text('what'), about: text('about'), detail: text('detail'), previous };
}

export interface ActsReport {
  /** Acts that hold, from the first on. */
  readonly count: number;
  /** SHA-256 of the last of them; zeros where there is none. Whoever keeps it can tell later that nothing before it was changed or cut off. */
  readonly head: Uint8Array;
  /** Where it breaks, and why; absent where all of it holds. */
  readonly broken?: { readonly index: number; readonly why: string };
}

/** `publicKey`: the controller's. `since`: an act that was the head of an earlier check. Never throws on hostile bytes. */
export function checkActs(acts: Iterable<Uint8Array>, publicKey: Uint8Array, since?: { readonly count: number; readonly head: Uint8Array }): ActsReport {
  let [count, head] = [0, ZERO_HASH];
  const kid = sha256(publicKey);
  const end = (why: string, index = count): ActsReport => ({ count, head, broken: { index, why } });
  for (const cose of acts) {
    const fault = publicKey.length === MLDSA65.publicKeyBytes ? actFault(cose, { count, head, kid, publicKey }) : 'the key is no ML-DSA-65 key';
    if (fault !== undefined) return end(fault);
    [count, head] = [count + 1, digestOfAct(cose)];
    if (since && since.count === count && !equalBytes(head, since.head)) return end(`it is another act than the one that was there: ${toHex(head)}`, count - 1);
  }
  return since && count < since.count ? end(`the log ends here; ${since.count} acts were there before`) : { count, head };
}

function actFault(cose: Uint8Array, { count, head, kid, publicKey }: { readonly count: number; readonly head: Uint8Array; readonly kid: Uint8Array; readonly publicKey: Uint8Array }): string | undefined {
  try {
    const act = decodeAct(cose);
    if (act.index !== count) return `act ${act.index} stands in its place`;
    if (!equalBytes(act.previous, head)) return 'it does not continue the act before it';
    if (!equalBytes(act.kid, kid)) return 'it names another key';
    return verifySign1(act.message, publicKey) ? undefined : 'its signature does not fit';
  } catch (error) {
    return messageOf(error);
  }
}

const FORM = 'tenzro-acts-1';

/** One line with the key, then one for each act, in base64. */
export function* exportLines(acts: Iterable<Uint8Array>, publicKey: Uint8Array): Generator<string> {
  yield `${FORM} ${Buffer.from(publicKey).toString('base64')}`;
  for (const cose of acts) yield Buffer.from(cose).toString('base64');
}

/** Exactly what `exportLines` makes, each line ended by a line feed. Throws `controller.acts`; what an act says is not judged. */
export function parseExport(text: string): { readonly publicKey: Uint8Array; readonly acts: readonly Uint8Array[] } {
  const [head = '', ...lines] = text.endsWith('\n') ? text.slice(0, -1).split('\n') : [];
  const [form, key = ''] = head.split(' ');
  if (form !== FORM || head !== `${FORM} ${key}`) throw wrong(`the first line is not ${FORM} and a key`);
  const bytesOf = (base64: string, name: string): Buffer => {
    const bytes = Buffer.from(base64, 'base64');
    if (bytes.length === 0 || bytes.toString('base64') !== base64) throw wrong(`${name} is not base64`);
    return bytes;
  };
  return { publicKey: bytesOf(key, 'the key'), acts: lines.map((line, index) => bytesOf(line, `act ${index}`)) };
}

const wrong = (why: string): TenzroError => new TenzroError('controller.acts', `acts: ${why}`);
