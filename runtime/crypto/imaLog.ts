/**
 * The measurement list of Linux' integrity measurement architecture (IMA): which files ran since boot, each extended into PCR 10. Format:
 * `binary_runtime_measurements` as linux/security/integrity/ima/ima_fs.c writes it (little-endian machines): PCR, SHA-1 template digest, template
 * name, template data. Since Linux 5.8 each bank is extended with its own hash of the template data; before, the SHA-256 bank with the SHA-1
 * digest and zeros. The list grows while a quote is taken, so that a quote proves a prefix of it.
 */
import { hash } from 'node:crypto';
import { asBuffer, equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { sha256 } from './hash.ts';

/** CONFIG_IMA_MEASURE_PCR_IDX; a policy rule may send single events elsewhere. */
export const IMA_PCR = 10;
const SHA1_BYTES = 20;
/** The longest that the kernel defines, `evm-sig` as a format, has 77 characters. */
const TEMPLATE_NAME_BYTES_MAX = 255;
/** IMA_EVENT_NAME_LEN_MAX + 1: template `ima` hashes file names padded with zeros to that. */
const OLD_NAME_BYTES = 256;
const PCR_BYTES = 32;
/** A file that was written while it was measured (an open-writers or a time-of-measure violation): the kernel extends this, and lists zeros. */
const VIOLATION_SHA256 = Buffer.alloc(PCR_BYTES, 0xff);
const VIOLATION_SHA1_PADDED = Buffer.concat([Buffer.alloc(SHA1_BYTES, 0xff), Buffer.alloc(PCR_BYTES - SHA1_BYTES)]);
const ZERO_SHA1 = Buffer.alloc(SHA1_BYTES);

export interface ImaEvent {
  readonly pcr: number;
  /** As listed: SHA-1 over the template data, zeros for a violation. A view. */
  readonly sha1: Uint8Array;
  /** `ima-ng`, `ima-sig`, `ima-buf` …, or a format such as `d-ng|n-ng`. */
  readonly template: string;
  /** What the template digest is made of. A view, except for template `ima`. */
  readonly data: Uint8Array;
  readonly violation: boolean;
}

export interface ImaLog {
  readonly events: readonly ImaEvent[];
  /** The first so many bytes parse. */
  readonly soundBytes: number;
  /** `ima.malformed`: why the rest does not parse; absent for a whole list. */
  readonly fault?: TenzroError;
}

/** Never throws: hostile bytes end the list where they begin. Time and memory grow with the length of `bytes` alone. */
export function parseImaLog(bytes: Uint8Array): ImaLog {
  const list = asBuffer(bytes);
  const events: ImaEvent[] = [];
  let soundBytes = 0;
  try {
    while (soundBytes < list.length) {
      const { event, end } = readEvent(list, soundBytes);
      events.push(event);
      soundBytes = end;
    }
    return { events, soundBytes };
  } catch (error) {
    if (!(error instanceof TenzroError)) throw error;
    return { events, soundBytes, fault: malformed(`event ${events.length} at byte ${soundBytes}: ${error.message}`) };
  }
}

function readEvent(list: Buffer, at: number): { readonly event: ImaEvent; readonly end: number } {
  const pcr = u32(list, at);
  const sha1 = take(list, at + 4, SHA1_BYTES);
  const name = sized(list, at + 4 + SHA1_BYTES, TEMPLATE_NAME_BYTES_MAX);
  const template = name.bytes.toString('latin1');
  const { data, end } = template === 'ima' ? readOldData(list, name.end) : readData(list, name.end);
  return { event: { pcr, sha1, template, data, violation: sha1.equals(ZERO_SHA1) }, end };
}

/** Fields with their sizes, which must fill the data exactly. */
function readData(list: Buffer, at: number): { readonly data: Buffer; readonly end: number } {
  const { bytes: data, end } = sized(list, at, list.length);
  for (let field = 0; field < data.length;) field = sized(data, field, data.length).end;
  return { data, end };
}

/** Template `ima`: SHA-1 of the file, then its name with a size; the digest is over the name padded with zeros. */
function readOldData(list: Buffer, at: number): { readonly data: Buffer; readonly end: number } {
  const digest = take(list, at, SHA1_BYTES);
  const { bytes: name, end } = sized(list, at + SHA1_BYTES, OLD_NAME_BYTES - 1);
  return { data: Buffer.concat([digest, name], SHA1_BYTES + OLD_NAME_BYTES), end };
}

function sized(list: Buffer, at: number, max: number): { readonly bytes: Buffer; readonly end: number } {
  const size = u32(list, at);
  if (size > max) throw malformed(`${size} bytes announced where at most ${max} are possible`);
  return { bytes: take(list, at + 4, size), end: at + 4 + size };
}

const u32 = (list: Buffer, at: number): number => take(list, at, 4).readUInt32LE();

function take(list: Buffer, at: number, size: number): Buffer {
  if (size > list.length - at) throw malformed(`${size} bytes wanted, ${list.length - at} left`);
  return list.subarray(at, at + size);
}

export interface ImaPrefix {
  /** Of events that stand behind the value. */
  readonly count: number;
  /** `padded-sha1`: a kernel before 5.8. Each listed digest was then held against its data. */
  readonly extension: 'sha256' | 'padded-sha1';
}

/** How many events of the list, from its beginning, make PCR 10 hold `value`; undefined where no prefix does. */
export function findImaPrefix(events: readonly ImaEvent[], value: Uint8Array): ImaPrefix | undefined {
  for (const extension of ['sha256', 'padded-sha1'] as const) {
    const count = prefixOf(events, value, extension);
    if (count !== undefined) return { count, extension };
  }
  return undefined;
}

function prefixOf(events: readonly ImaEvent[], value: Uint8Array, extension: ImaPrefix['extension']): number | undefined {
  let pcr: Buffer = Buffer.alloc(PCR_BYTES);
  if (equalBytes(pcr, value)) return 0;
  for (const [at, event] of events.entries()) {
    if (event.pcr !== IMA_PCR) continue;
    const digest = extension === 'sha256' ? templateSha256(event) : paddedSha1(event);
    if (!digest) return undefined;
    pcr = sha256(pcr, digest);
    if (equalBytes(pcr, value)) return at + 1;
  }
  return undefined;
}

const templateSha256 = ({ violation, data }: ImaEvent): Buffer => (violation ? VIOLATION_SHA256 : sha256(data));

/** Undefined where the listed digest is not that of the data: then PCR 10 would not vouch for the data. */
function paddedSha1({ violation, sha1, data }: ImaEvent): Buffer | undefined {
  if (violation) return VIOLATION_SHA1_PADDED;
  return equalBytes(sha1, hash('sha1', data, 'buffer')) ? Buffer.concat([sha1, Buffer.alloc(PCR_BYTES - SHA1_BYTES)]) : undefined;
}

/** PCR 10 of the SHA-256 bank after all events. */
export function replayImaLog(events: readonly ImaEvent[]): Uint8Array {
  let pcr: Buffer = Buffer.alloc(PCR_BYTES);
  for (const event of events) if (event.pcr === IMA_PCR) pcr = sha256(pcr, templateSha256(event));
  return pcr;
}

/** What an event is about, as far as its first two fields say it. */
export interface ImaSubject {
  /** Path of the file, or what a buffer is called (`boot_aggregate`, `kexec-cmdline`). From the machine: print it with `printable`. */
  readonly name: string;
  /** `sha256`, `sha1` …, lower case. */
  readonly algorithm: string;
  readonly digest: Uint8Array;
}

/** Undefined for templates whose first two fields are not digest and name. */
export function subjectOf({ template, data }: ImaEvent): ImaSubject | undefined {
  const bytes = asBuffer(data);
  if (template === 'ima') return { name: text(bytes.subarray(SHA1_BYTES)), algorithm: 'sha1', digest: bytes.subarray(0, SHA1_BYTES) };
  if (!/^(ima|evm)-|^d-ng(v2)?\|n-ng(\||$)/.test(template)) return undefined;
  const digestField = firstField(bytes);
  const nameField = digestField && firstField(bytes.subarray(4 + digestField.length));
  if (!digestField || !nameField) return undefined;
  // d-ng: "<algorithm>:" NUL digest; d-ngv2: "<ima or verity>:<algorithm>:" NUL digest
  const colon = digestField.indexOf(':\0');
  if (colon < 0) return undefined;
  const [algorithm = ''] = digestField.toString('latin1', 0, colon).split(':').slice(-1);
  return { name: text(nameField), algorithm, digest: digestField.subarray(colon + 2) };
}

function firstField(bytes: Buffer): Buffer | undefined {
  return bytes.length < 4 ? undefined : bytes.subarray(4, 4 + bytes.readUInt32LE());
}

const text = (bytes: Buffer): string => bytes.toString('utf8').replace(/\0.*$/s, '');

const malformed = (why: string): TenzroError => new TenzroError('ima.malformed', why);
