/** Writes boot event logs and IMA lists as firmware and kernel do, from the specifications and not from our parsers. */
import { createHash } from 'node:crypto';

const u8 = (value: number): Buffer => Buffer.from([value]);
const u16 = (value: number): Buffer => { const bytes = Buffer.alloc(2); bytes.writeUInt16LE(value); return bytes; };
const u32 = (value: number): Buffer => { const bytes = Buffer.alloc(4); bytes.writeUInt32LE(value); return bytes; };
const u64 = (value: number): Buffer => { const bytes = Buffer.alloc(8); bytes.writeBigUInt64LE(BigInt(value)); return bytes; };
const utf16 = (text: string): Buffer => Buffer.from(text, 'utf16le');
const digestOf = (bank: string, data: Uint8Array): Buffer => createHash(bank).update(data).digest();

/** TPM_ALG_ID. */
const BANK_IDS: Readonly<Record<string, number>> = { sha1: 0x0004, sha256: 0x000b, sha384: 0x000c, sha512: 0x000d };

export interface WrittenEvent {
  readonly pcr: number;
  readonly type: number;
  readonly data: Uint8Array;
  /** What is hashed; the data by default. */
  readonly measured?: Uint8Array;
}

/** TCG_PCClientPCREvent with TCG_EfiSpecIDEvent, then TCG_PCR_EVENT2s. */
export function writeEventLog(events: readonly WrittenEvent[], banks: readonly string[] = ['sha1', 'sha256'], vendor: Uint8Array = Buffer.alloc(0)): Buffer {
  const sizes = banks.flatMap((bank) => [u16(BANK_IDS[bank] ?? 0), u16(digestOf(bank, vendor).length)]);
  const header = Buffer.concat([Buffer.from('Spec ID Event03\0'), u32(0), u8(0), u8(2), u8(2), u8(2), u32(banks.length), ...sizes, u8(vendor.length), vendor]);
  return Buffer.concat([u32(0), u32(3), Buffer.alloc(20), u32(header.length), header, ...events.map((event) => writeEvent(event, banks))]);
}

function writeEvent({ pcr, type, data, measured = data }: WrittenEvent, banks: readonly string[]): Buffer {
  const digests = banks.flatMap((bank) => {
    const digest = digestOf(bank, measured);
    return [u16(BANK_IDS[bank] ?? 0), type === EV.noAction ? Buffer.alloc(digest.length) : digest];
  });
  return Buffer.concat([u32(pcr), u32(type), u32(banks.length), ...digests, u32(data.length), data]);
}

/** The format before TPM 2.0: SHA-1 only, no header. */
export function writeOldEventLog(events: readonly WrittenEvent[]): Buffer {
  return Buffer.concat(events.flatMap(({ pcr, type, data, measured = data }) => [u32(pcr), u32(type), digestOf('sha1', measured), u32(data.length), data]));
}

export const EV = {
  postCode: 0x1, noAction: 0x3, separator: 0x4, action: 0x5, tag: 0x6, crtmContents: 0x7, crtmVersion: 0x8, microcode: 0x9, platformFlags: 0xa, tableOfDevices: 0xb,
  compactHash: 0xc, ipl: 0xd, iplPartition: 0xe, nonhostCode: 0xf, nonhostConfig: 0x10, nonhostInfo: 0x11, omitBootDevices: 0x12,
  driverConfig: 0x80000001, variableBoot: 0x80000002, application: 0x80000003, bootDriver: 0x80000004, runtimeDriver: 0x80000005, gpt: 0x80000006, efiAction: 0x80000007,
  firmwareBlob: 0x80000008, handoff: 0x80000009, firmwareBlob2: 0x8000000a, handoff2: 0x8000000b, variableBoot2: 0x8000000c, hcrtm: 0x80000010, authority: 0x800000e0,
} as const;

export const startupLocality = (locality: number): WrittenEvent => ({ pcr: 0, type: EV.noAction, data: Buffer.concat([Buffer.from('StartupLocality\0'), u8(locality)]) });

const GLOBAL_VARIABLE = Buffer.from('61dfe48bca93d211aa0d00e098032b8c', 'hex');
const variable = (name: string, value: Uint8Array): Buffer => Buffer.concat([GLOBAL_VARIABLE, u64(name.length), u64(value.length), utf16(name), value]);
const image = (): Buffer => Buffer.concat([u64(0x1000), u64(0x2000), u64(0), u64(4), Buffer.from('7fff0400', 'hex')]);
const blob = Buffer.concat([u64(0x820000), u64(0xe0000)]);
/** EFI_LOAD_OPTION: attributes, length of the device path, description, device path. */
const loadOption = Buffer.concat([u32(1), u16(4), utf16('debian\0'), Buffer.from('7fff0400', 'hex')]);
/** EFI_PARTITION_TABLE_HEADER without partitions. */
const gpt = Buffer.concat([Buffer.from('EFI PART'), Buffer.alloc(84), u64(0)]);
const other = (text: string): Buffer => Buffer.from(`measured, and not in the log: ${text}`);

/** A boot with every class of event that the specification names, in an order that firmware could have. */
export const EVERY_EVENT: readonly WrittenEvent[] = [
  startupLocality(3),
  { pcr: 0, type: EV.crtmVersion, data: utf16('1.0\0') },
  { pcr: 0, type: EV.crtmContents, data: blob, measured: other('CRTM') },
  { pcr: 0, type: EV.postCode, data: Buffer.from('ACPI DATA'), measured: other('ACPI') },
  { pcr: 0, type: EV.firmwareBlob, data: blob, measured: other('firmware volume') },
  { pcr: 0, type: EV.firmwareBlob2, data: Buffer.concat([u8(4), Buffer.from('main'), blob]), measured: other('firmware volume 2') },
  { pcr: 0, type: EV.nonhostCode, data: Buffer.from('baseboard') },
  { pcr: 0, type: EV.nonhostInfo, data: Buffer.alloc(32, 7) },
  { pcr: 1, type: EV.microcode, data: Buffer.from('microcode'), measured: other('microcode') },
  { pcr: 1, type: EV.platformFlags, data: Buffer.from('flags') },
  { pcr: 1, type: EV.tableOfDevices, data: Buffer.from('devices') },
  { pcr: 1, type: EV.nonhostConfig, data: Buffer.from('configuration') },
  { pcr: 1, type: EV.handoff, data: Buffer.concat([u64(1), GLOBAL_VARIABLE, u64(0x3000)]), measured: other('SMBIOS') },
  { pcr: 1, type: EV.handoff2, data: Buffer.concat([u8(4), Buffer.from('smbi'), u64(1), GLOBAL_VARIABLE, u64(0x3000)]), measured: other('SMBIOS 2') },
  { pcr: 1, type: EV.variableBoot, data: variable('BootOrder', u16(0)), measured: u16(0) },
  { pcr: 1, type: EV.variableBoot, data: variable('Boot0000', loadOption), measured: loadOption },
  { pcr: 1, type: EV.variableBoot2, data: variable('BootOrder', u16(0)) },
  { pcr: 2, type: EV.bootDriver, data: image(), measured: other('option ROM') },
  { pcr: 2, type: EV.runtimeDriver, data: image(), measured: other('runtime driver') },
  { pcr: 3, type: EV.tag, data: Buffer.concat([u32(1), u32(2), u16(0)]) },
  { pcr: 4, type: EV.omitBootDevices, data: Buffer.from('BOOT ATTEMPTS OMITTED') },
  { pcr: 4, type: EV.efiAction, data: Buffer.from('Calling EFI Application from Boot Option') },
  { pcr: 4, type: EV.action, data: Buffer.from('Booting BCV device 80h') },
  { pcr: 4, type: EV.compactHash, data: u32(0), measured: other('compact hash') },
  { pcr: 4, type: EV.application, data: image(), measured: other('boot loader') },
  { pcr: 5, type: EV.gpt, data: gpt },
  { pcr: 5, type: EV.iplPartition, data: Buffer.from('partition') },
  { pcr: 7, type: EV.driverConfig, data: variable('SecureBoot', u8(1)) },
  { pcr: 7, type: EV.authority, data: variable('db', Buffer.concat([GLOBAL_VARIABLE, Buffer.from('certificate')])) },
  ...Array.from({ length: 8 }, (_, pcr) => ({ pcr, type: EV.separator, data: u32(0) })),
  { pcr: 8, type: EV.ipl, data: Buffer.from('grub_cmd: linux /vmlinuz\0'), measured: Buffer.from('linux /vmlinuz') },
  { pcr: 9, type: EV.ipl, data: Buffer.from('/vmlinuz\0'), measured: other('kernel') },
  { pcr: 14, type: EV.ipl, data: Buffer.from('MokList\0'), measured: other('MokList') },
];

export interface WrittenFile {
  readonly path: string;
  readonly content: string;
  readonly violation?: boolean;
}

export type ImaTemplate = 'ima' | 'ima-ng' | 'ima-sig' | 'ima-ngv2' | 'ima-buf' | 'ima-modsig' | 'd-ng|n-ng';

const field = (bytes: Uint8Array): Buffer => Buffer.concat([u32(bytes.length), bytes]);

/** One event of `binary_runtime_measurements`. */
export function writeImaEvent({ path, content, violation = false }: WrittenFile, template: ImaTemplate = 'ima-ng', pcr = 10): Buffer {
  const zero = Buffer.alloc(32);
  const fileDigest = (bank: string): Buffer => (violation ? zero.subarray(0, digestOf(bank, zero).length) : digestOf(bank, Buffer.from(content)));
  const name = Buffer.from(`${path}\0`);
  const digestField = field(Buffer.concat([Buffer.from(template === 'ima-ngv2' ? 'ima:sha256:\0' : 'sha256:\0'), fileDigest('sha256')]));
  const more: Readonly<Record<string, readonly Buffer[]>> = {
    'ima-sig': [field(Buffer.from(content.length % 2 === 0 ? '' : '0302'))], 'ima-buf': [field(Buffer.from(content))], 'ima-modsig': [field(Buffer.alloc(0)), field(Buffer.alloc(0)), field(Buffer.alloc(0))],
  };
  const fields = Buffer.concat([digestField, field(name), ...(more[template] ?? [])]);
  const oldName = Buffer.from(path);
  const hashed = template === 'ima' ? Buffer.concat([fileDigest('sha1'), oldName, Buffer.alloc(256 - oldName.length)]) : fields;
  const data = template === 'ima' ? Buffer.concat([fileDigest('sha1'), field(oldName)]) : field(fields);
  return Buffer.concat([u32(pcr), violation ? Buffer.alloc(20) : digestOf('sha1', hashed), field(Buffer.from(template)), data]);
}

export const writeImaList = (files: readonly WrittenFile[], template?: ImaTemplate): Buffer => Buffer.concat(files.map((file) => writeImaEvent(file, template)));

/** `boot_aggregate`, then some programs. */
export const SOME_FILES: readonly WrittenFile[] = [
  { path: 'boot_aggregate', content: 'PCRs' }, { path: '/usr/lib/systemd/systemd', content: 'init' }, { path: '/usr/bin/node', content: 'node' },
  { path: '/opt/tenzro/runtime/main.ts', content: 'tenzro' },
];
