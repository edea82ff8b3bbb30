/**
 * The application bundle: magic, length of the statement (u32, big-endian), the statement (COSE_Sign1 with ML-DSA-65 over the manifest, JSON), then the contents of all
 * files in the manifest's order as one Brotli stream. There is no archive format inside: paths stand in the signed manifest, links and modes do not exist.
 */
import { createHash, type Hash } from 'node:crypto';
import { TenzroError, invariant, messageOf } from '#runtime/core/errors.ts';
import { parseSign1, sign1, verifySign1 } from './cose.ts';
import type { Signer } from './mldsa.ts';

/** What bundles for this machine must say. `cpu` as Node names it. */
export const compatibleOf = (cpu: string): string => `tenzro-edge-app-${cpu === 'x64' ? 'amd64' : cpu}`;

export interface BundleFile {
  /** From the application's folder; `/` between names. */
  readonly path: string;
  readonly bytes: number;
  /** Hexadecimal. */
  readonly sha256: string;
  /** It may be executed. */
  readonly isRun: boolean;
}

export interface BundleManifest {
  readonly compatible: string;
  /** Debian's version of the package whose /opt/tenzro-edge it is. */
  readonly version: string;
  /** Of the payload as it lies in the file, compressed. */
  readonly payload: { readonly bytes: number; readonly sha256: string };
  readonly files: readonly BundleFile[];
}

const MAGIC = Buffer.from('TENZRO-APP-1\r\n\0\n', 'latin1');
export const BUNDLE_HEAD_BYTES = MAGIC.length + 4;
/** Thirty times what an application of today needs, and less than a board has. */
export const BUNDLE_LIMITS = { statementBytes: 8 * 2 ** 20, payloadBytes: 512 * 2 ** 20, unpackedBytes: 2 ** 30, files: 20_000, pathChars: 400 } as const;

const SHA256_HEX = /^[0-9a-f]{64}$/;
const NAME = /^(?!\.{1,2}$)[\w@.+,=~-]+$/;
/** Debian Policy 5.6.12, without epochs. */
const VERSION = /^\d[\w.+~-]{0,127}$/;
const COMPATIBLE = /^[a-z0-9-]{1,64}$/;

const wrong = (why: string, cause?: unknown): TenzroError => new TenzroError('update.bundle', `the application bundle ${why}`, { cause });

/** Head and statement; the payload follows. */
export function encodeHead(manifest: BundleManifest, signer: Signer): Buffer {
  const files = manifest.files.map(({ path, bytes, sha256, isRun }) => [path, bytes, sha256, isRun]);
  const statement = sign1(signer, new Map(), Buffer.from(JSON.stringify({ ...manifest, files })));
  invariant(statement.length <= BUNDLE_LIMITS.statementBytes, 'a manifest fits its limit');
  const length = Buffer.alloc(4);
  length.writeUInt32BE(statement.length);
  return Buffer.concat([MAGIC, length, statement]);
}

/** Length of the statement, from the first `BUNDLE_HEAD_BYTES`. Throws `update.bundle`. */
export function statementLength(head: Uint8Array): number {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  if (bytes.length < BUNDLE_HEAD_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw wrong('does not begin like one');
  const length = bytes.readUInt32BE(MAGIC.length);
  if (length === 0 || length > BUNDLE_LIMITS.statementBytes) throw wrong(`claims a statement of ${length} bytes`);
  return length;
}

/** The manifest that one of `keys` signed. Throws `update.signature`, `update.bundle`. Nothing in it is looked at before the signature is good. */
export function openStatement(statement: Uint8Array, keys: readonly Uint8Array[]): BundleManifest {
  const message = attempt('has no statement', () => parseSign1(statement));
  if (!keys.some((key) => verifySign1(message, key))) throw new TenzroError('update.signature', `none of ${keys.length} release keys signed the bundle`);
  return manifestOf(attempt('has a manifest that is no JSON', () => JSON.parse(Buffer.from(message.payload).toString('utf8')) as unknown));
}

function attempt<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    throw wrong(`${what}: ${messageOf(cause)}`, cause);
  }
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === 'object' && value !== null && !Array.isArray(value);
const isCount = (value: unknown, max: number): value is number => typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value <= max;
const isText = (value: unknown, pattern: RegExp): value is string => typeof value === 'string' && pattern.test(value);

function manifestOf(value: unknown): BundleManifest {
  if (!isRecord(value) || Object.keys(value).toSorted().join() !== 'compatible,files,payload,version') throw wrong('has a manifest with other members');
  const { compatible, version, payload, files } = value;
  if (!isText(compatible, COMPATIBLE) || !isText(version, VERSION)) throw wrong('does not say what it is');
  if (!isRecord(payload) || !isCount(payload['bytes'], BUNDLE_LIMITS.payloadBytes) || !isText(payload['sha256'], SHA256_HEX)) throw wrong('has no bounded payload');
  if (!Array.isArray(files) || files.length === 0 || files.length > BUNDLE_LIMITS.files) throw wrong('lists no files, or too many');
  const listed = files.map(fileOf);
  if (new Set(listed.map(({ path }) => path)).size !== listed.length) throw wrong('names a file twice');
  if (unpackedBytes(listed) > BUNDLE_LIMITS.unpackedBytes) throw wrong(`would unpack to ${unpackedBytes(listed)} bytes`);
  return { compatible, version, payload: { bytes: payload['bytes'], sha256: payload['sha256'] }, files: listed };
}

function fileOf(value: unknown): BundleFile {
  const [path, bytes, sha256, isRun, ...more] = Array.isArray(value) ? value as readonly unknown[] : [];
  if (typeof path !== 'string' || path.length > BUNDLE_LIMITS.pathChars || !path.split('/').every((name) => NAME.test(name))) throw wrong(`names a file that it may not: ${JSON.stringify(path)?.slice(0, 80)}`);
  if (!isCount(bytes, BUNDLE_LIMITS.unpackedBytes) || !isText(sha256, SHA256_HEX) || typeof isRun !== 'boolean' || more.length > 0) throw wrong(`does not describe ${path}`);
  return { path, bytes, sha256, isRun };
}

export const unpackedBytes = (files: readonly BundleFile[]): number => files.reduce((sum, { bytes }) => sum + bytes, 0);

export interface Piece {
  readonly file: BundleFile;
  readonly bytes: Uint8Array;
  /** The last one, and the digest is right. */
  readonly isWhole: boolean;
}

/** Cuts the unpacked stream into files, in order; every file gets at least one piece. Throws `update.bundle`; what it gives is never more than the manifest says. */
export async function* splitFiles(files: readonly BundleFile[], stream: AsyncIterable<Uint8Array>): AsyncGenerator<Piece> {
  const remaining = files.values();
  let open = nextFile(remaining);
  const give = (bytes: Uint8Array, { file, hash, left }: OpenFile): Piece => {
    hash.update(bytes);
    const isWhole = left === bytes.length;
    if (isWhole && hash.digest('hex') !== file.sha256) throw wrong(`holds another ${file.path} than was signed`);
    return { file, bytes, isWhole };
  };
  for await (const chunk of stream) {
    for (let rest = chunk; rest.length > 0;) {
      if (open === undefined) throw wrong('unpacks to more than was signed');
      const bytes = rest.subarray(0, open.left);
      rest = rest.subarray(bytes.length);
      const piece = give(bytes, open);
      open = piece.isWhole ? nextFile(remaining) : { ...open, left: open.left - bytes.length };
      yield piece;
    }
  }
  for (; open !== undefined; open = nextFile(remaining)) {
    if (open.left > 0) throw wrong('ends too early');
    yield give(new Uint8Array(0), open);
  }
}

interface OpenFile {
  readonly file: BundleFile;
  readonly hash: Hash;
  readonly left: number;
}

function nextFile(remaining: Iterator<BundleFile>): OpenFile | undefined {
  const next = remaining.next();
  return next.done === true ? undefined : { file: next.value, hash: createHash('sha256'), left: next.value.bytes };
}
