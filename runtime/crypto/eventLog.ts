/**
 * The boot event log of a TCG firmware: what it measured into which PCR, and a replay of it. Formats: TCG PC Client Platform Firmware Profile
 * 1.05 (PFP) §10: TCG_PCClientPCREvent (§10.2.1) first, then TCG_PCR_EVENT2 (§10.2.2), little-endian; without TCG_EfiSpecIDEvent (§10.4.5.1) in the
 * first event it is the old format, SHA-1 only. The bytes are the operating system's claim until their replay fits what a TPM quoted; even then
 * only digests are proven, and an event's data where `dataFits`.
 */
import { hash } from 'node:crypto';
import { asBuffer, equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';

/** PFP §10.4.1, tables 27 and 28. */
const EVENT_TYPES = {
  EV_PREBOOT_CERT: 0x0, EV_POST_CODE: 0x1, EV_UNUSED: 0x2, EV_NO_ACTION: 0x3, EV_SEPARATOR: 0x4, EV_ACTION: 0x5, EV_EVENT_TAG: 0x6, EV_S_CRTM_CONTENTS: 0x7,
  EV_S_CRTM_VERSION: 0x8, EV_CPU_MICROCODE: 0x9, EV_PLATFORM_CONFIG_FLAGS: 0xa, EV_TABLE_OF_DEVICES: 0xb, EV_COMPACT_HASH: 0xc, EV_IPL: 0xd, EV_IPL_PARTITION_DATA: 0xe,
  EV_NONHOST_CODE: 0xf, EV_NONHOST_CONFIG: 0x10, EV_NONHOST_INFO: 0x11, EV_OMIT_BOOT_DEVICE_EVENTS: 0x12, EV_POST_CODE2: 0x13,
  EV_EFI_VARIABLE_DRIVER_CONFIG: 0x80000001, EV_EFI_VARIABLE_BOOT: 0x80000002, EV_EFI_BOOT_SERVICES_APPLICATION: 0x80000003, EV_EFI_BOOT_SERVICES_DRIVER: 0x80000004,
  EV_EFI_RUNTIME_SERVICES_DRIVER: 0x80000005, EV_EFI_GPT_EVENT: 0x80000006, EV_EFI_ACTION: 0x80000007, EV_EFI_PLATFORM_FIRMWARE_BLOB: 0x80000008,
  EV_EFI_HANDOFF_TABLES: 0x80000009, EV_EFI_PLATFORM_FIRMWARE_BLOB2: 0x8000000a, EV_EFI_HANDOFF_TABLES2: 0x8000000b, EV_EFI_VARIABLE_BOOT2: 0x8000000c,
  EV_EFI_GPT_EVENT2: 0x8000000d, EV_EFI_HCRTM_EVENT: 0x80000010, EV_EFI_VARIABLE_AUTHORITY: 0x800000e0,
  EV_EFI_SPDM_FIRMWARE_BLOB: 0x800000e1, EV_EFI_SPDM_FIRMWARE_CONFIG: 0x800000e2,
} as const;
type EventTypeName = keyof typeof EVENT_TYPES;
const TYPE_NAMES = new Map<number, EventTypeName>(Object.entries(EVENT_TYPES).map(([name, type]) => [type, name as EventTypeName]));

/** Types whose digest is that of their data (PFP §10.4.1). Not EV_IPL, EV_EVENT_TAG, EV_EFI_VARIABLE_BOOT and _AUTHORITY: boot loaders and firmware differ there. */
const DATA_IS_DIGESTED: ReadonlySet<number> = new Set<number>([
  EVENT_TYPES.EV_SEPARATOR, EVENT_TYPES.EV_ACTION, EVENT_TYPES.EV_S_CRTM_VERSION, EVENT_TYPES.EV_OMIT_BOOT_DEVICE_EVENTS,
  EVENT_TYPES.EV_EFI_VARIABLE_DRIVER_CONFIG, EVENT_TYPES.EV_EFI_VARIABLE_BOOT2, EVENT_TYPES.EV_EFI_GPT_EVENT, EVENT_TYPES.EV_EFI_ACTION,
]);

/** TPM_ALG_ID with digest sizes in bytes, TPM 2.0 Part 2 §6.3. A log may carry others: its header states their sizes. */
const BANKS = { sha256: { id: 0x000b, sizeBytes: 32 }, sha1: { id: 0x0004, sizeBytes: 20 } } as const;
type Bank = keyof typeof BANKS;

const SPEC_ID_AGILE = Buffer.from('Spec ID Event03\0', 'latin1');
const STARTUP_LOCALITY = Buffer.from('StartupLocality\0', 'latin1');
/** Part 1 §34.3: a hardware root of trust for measurement leaves its locality in PCR 0. */
const HCRTM_LOCALITY = 4;
const LOCALITY_MAX = 4;
/** PFP §3.2 knows 24 PCRs. */
const PCR_COUNT = 24;
/** HASH_COUNT of any known TPM is below that. */
const BANKS_MAX = 16;
const SIGNATURE_BYTES = 16;
/** Signature, platform class, version and errata, uintn size (PFP §10.4.5.1): the count of algorithms stands behind. */
const ALGORITHM_COUNT_AT = SIGNATURE_BYTES + 8;

export interface BootEvent {
  readonly pcr: number;
  readonly type: number;
  /** As the specification names it, or `0x…`. */
  readonly name: string;
  /** Of `bank`; undefined where the log has neither SHA-256 nor SHA-1. A view. */
  readonly digest: Uint8Array | undefined;
  /** A view. */
  readonly data: Uint8Array;
  /** Whether `digest` is that of `data`; undefined where the type does not promise it. */
  readonly dataFits: boolean | undefined;
}

export interface BootLog {
  readonly format: 'crypto-agile' | 'sha1';
  /** Of `digest`: SHA-256 where the log has it. */
  readonly bank: Bank | undefined;
  readonly events: readonly BootEvent[];
  /** The first so many bytes parse. */
  readonly soundBytes: number;
  /** `eventlog.malformed`: why the rest does not parse; absent for a whole log. */
  readonly fault?: TenzroError;
}

interface Format {
  readonly agile: boolean;
  /** Digest size in bytes by algorithm; empty in the old format. */
  readonly sizes: ReadonlyMap<number, number>;
  readonly bank: Bank | undefined;
}

/** Never throws: hostile bytes end the log where they begin. Time and memory grow with the length of `bytes` alone. */
export function parseEventLog(bytes: Uint8Array): BootLog {
  const reader = new LogReader(asBuffer(bytes));
  const events: BootEvent[] = [];
  let format: Format = { agile: false, sizes: new Map(), bank: 'sha1' };
  let soundBytes = 0;
  try {
    if (reader.left === 0) throw malformed('it is empty');
    const first = readOldEvent(reader);
    format = formatOf(first);
    events.push(format.agile ? { ...first, digest: undefined } : first);
    for (soundBytes = reader.offset; !reader.isPadding(); soundBytes = reader.offset) events.push(format.agile ? readEvent(reader, format) : readOldEvent(reader));
    return { format: format.agile ? 'crypto-agile' : 'sha1', bank: format.bank, events, soundBytes };
  } catch (error) {
    if (!(error instanceof TenzroError)) throw error;
    const fault = malformed(`event ${events.length} at byte ${soundBytes}: ${error.message}`);
    return { format: format.agile ? 'crypto-agile' : 'sha1', bank: format.bank, events, soundBytes, fault };
  }
}

/** TCG_PCClientPCREvent, PFP §10.2.1: PCR, type, a SHA-1 digest, size and data. */
function readOldEvent(reader: LogReader): BootEvent {
  const [pcr, type] = [reader.u32(), reader.u32()];
  const digest = reader.bytes(BANKS.sha1.sizeBytes);
  return eventOf(pcr, type, digest, reader.bytes(reader.u32()), 'sha1');
}

/** TCG_PCR_EVENT2, PFP §10.2.2: PCR, type, TPML_DIGEST_VALUES, size and data. */
function readEvent(reader: LogReader, { sizes, bank }: Format): BootEvent {
  const [pcr, type, count] = [reader.u32(), reader.u32(), reader.u32()];
  if (count > sizes.size) throw malformed(`${count} digests, and ${sizes.size} algorithms in the header`);
  const seen = new Map<number, Buffer>();
  for (let i = 0; i < count; i++) {
    const algorithm = reader.u16();
    const sizeBytes = sizes.get(algorithm);
    if (sizeBytes === undefined) throw malformed(`algorithm 0x${algorithm.toString(16)} is not in the header`);
    if (seen.has(algorithm)) throw malformed(`two digests of algorithm 0x${algorithm.toString(16)}`);
    seen.set(algorithm, reader.bytes(sizeBytes));
  }
  const digest = bank && seen.get(BANKS[bank].id);
  if (bank && !digest && type !== EVENT_TYPES.EV_NO_ACTION) throw malformed(`no ${bank} digest`);
  return eventOf(pcr, type, digest, reader.bytes(reader.u32()), bank);
}

function eventOf(pcr: number, type: number, digest: Buffer | undefined, data: Buffer, bank: Bank | undefined): BootEvent {
  if (pcr >= PCR_COUNT && type !== EVENT_TYPES.EV_NO_ACTION) throw malformed(`PCR ${pcr}`);
  const dataFits = bank && digest && DATA_IS_DIGESTED.has(type) ? digest.equals(hash(bank, data, 'buffer')) : undefined;
  return { pcr, type, name: TYPE_NAMES.get(type) ?? `0x${type.toString(16).padStart(8, '0')}`, digest, data, dataFits };
}

/** From the first event: TCG_EfiSpecIDEvent lists the algorithms and their sizes. */
function formatOf({ type, data }: BootEvent): Format {
  const isAgile = type === EVENT_TYPES.EV_NO_ACTION && equalBytes(data.subarray(0, SIGNATURE_BYTES), SPEC_ID_AGILE);
  if (!isAgile) return { agile: false, sizes: new Map(), bank: 'sha1' };
  const reader = new LogReader(asBuffer(data));
  reader.bytes(ALGORITHM_COUNT_AT);
  const count = reader.u32();
  if (count === 0 || count > BANKS_MAX) throw malformed(`a header with ${count} algorithms`);
  const sizes = new Map<number, number>();
  for (let i = 0; i < count; i++) {
    const algorithm = reader.u16();
    const sizeBytes = reader.u16();
    const known = Object.values(BANKS).find(({ id }) => id === algorithm);
    if (known && known.sizeBytes !== sizeBytes) throw malformed(`a header that gives algorithm 0x${algorithm.toString(16)} ${sizeBytes} bytes`);
    if (sizes.has(algorithm)) throw malformed(`a header that names algorithm 0x${algorithm.toString(16)} twice`);
    sizes.set(algorithm, sizeBytes);
  }
  const vendorBytes = reader.u8();
  if (reader.left !== vendorBytes) throw malformed(`a header with ${reader.left} bytes of vendor information where it announces ${vendorBytes}`);
  const bank = (['sha256', 'sha1'] as const).find((name) => sizes.has(BANKS[name].id));
  return { agile: true, sizes, bank };
}

/** PCR values that the log's events make, of `bank`; PCRs that no event extends are absent. */
export function replayEventLog({ bank, events }: Pick<BootLog, 'bank' | 'events'>): ReadonlyMap<number, Uint8Array> {
  const pcrs = new Map<number, Buffer>();
  if (!bank) return pcrs;
  let locality = 0;
  for (const { pcr, type, digest, data } of events) {
    if (pcr === 0) locality = startLocality(type, data) ?? locality;
    if (type === EVENT_TYPES.EV_NO_ACTION || !digest) continue;
    let before = pcrs.get(pcr);
    if (!before) {
      before = Buffer.alloc(BANKS[bank].sizeBytes);
      if (pcr === 0) before[before.length - 1] = locality;
    }
    pcrs.set(pcr, hash(bank, Buffer.concat([before, digest]), 'buffer'));
  }
  return pcrs;
}

/** What firmware and boot loader measure into, PFP §3.3.4. */
export const BOOT_PCRS = [0, 1, 2, 3, 4, 5, 6, 7] as const;

/** Boot PCRs whose value is not what the log replays to; PCRs that `values` leaves out are not judged. For logs with a SHA-256 bank. */
export function differingBootPcrs(log: BootLog, values: ReadonlyMap<number, Uint8Array>): readonly number[] {
  const replayed = replayEventLog(log);
  const untouched = new Uint8Array(BANKS.sha256.sizeBytes);
  return BOOT_PCRS.filter((pcr) => {
    const value = values.get(pcr);
    return value !== undefined && !equalBytes(replayed.get(pcr) ?? untouched, value);
  });
}

/** What PCR 0 starts from: TCG_EfiStartupLocalityEvent (PFP §10.4.5.3), or a hardware root that measured first. Too late after the first extension. */
function startLocality(type: number, data: Uint8Array): number | undefined {
  if (type === EVENT_TYPES.EV_EFI_HCRTM_EVENT) return HCRTM_LOCALITY;
  const isLocality = type === EVENT_TYPES.EV_NO_ACTION && data.length === SIGNATURE_BYTES + 1 && equalBytes(data.subarray(0, SIGNATURE_BYTES), STARTUP_LOCALITY);
  const locality = isLocality ? data[SIGNATURE_BYTES] : undefined;
  return locality !== undefined && locality <= LOCALITY_MAX ? locality : undefined;
}

/** Every length is held against what is left before anything is taken. */
class LogReader {
  offset = 0;
  readonly #bytes: Buffer;
  readonly #paddingFrom: number;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.#paddingFrom = paddingFrom(bytes);
  }

  get left(): number { return this.#bytes.length - this.offset; }

  u8(): number { return this.bytes(1).readUInt8(); }
  u16(): number { return this.bytes(2).readUInt16LE(); }
  u32(): number { return this.bytes(4).readUInt32LE(); }

  bytes(size: number): Buffer {
    if (size > this.left) throw malformed(`${size} bytes wanted, ${this.left} left`);
    this.offset += size;
    return this.#bytes.subarray(this.offset - size, this.offset);
  }

  /** Nothing is left but what firmware fills its log area with. */
  isPadding(): boolean { return this.offset >= this.#paddingFrom; }
}

/** Where the run of zeros or of 0xff at the end begins: found once, so that a log of empty events costs no more than another. */
function paddingFrom(bytes: Buffer): number {
  const fill = bytes.at(-1);
  if (fill !== 0 && fill !== 0xff) return bytes.length;
  let from = bytes.length;
  while (from > 0 && bytes[from - 1] === fill) from--;
  return from;
}

const malformed = (why: string): TenzroError => new TenzroError('eventlog.malformed', why);
