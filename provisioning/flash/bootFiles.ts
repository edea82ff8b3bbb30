/**
 * Files for the first start, laid onto the FAT boot partition of what was written, by mtools and without mounting anything. Which names the image reads is its own
 * business: Raspberry Pi OS its `ssh`, `userconf.txt` and `custom.toml`, cloud-init its `user-data`.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';

/** Where the partition begins, in bytes. */
export interface BootPlace {
  readonly offset: number;
  /** The disk is laid out as our image is, whose first start reads `board.yaml`. */
  readonly isOurs: boolean;
}

export interface BootFile {
  readonly name: string;
  /** May hold a secret: whoever is done with it zeroes it. */
  readonly bytes: Buffer;
}

/** Of an image, for `bootPartition`. */
export const HEAD_BYTES = 1024 * 1024;
const FILE_BYTES_MAX = 1024 * 1024;
const SAID_BYTES_MAX = 2 * FILE_BYTES_MAX;
const MTOOLS_MS = 60_000;
/** What every FAT and every shell take alike. */
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/;
const SECTOR_BYTES = 512;
/** UEFI 2.10 §5.2.3: four entries of 16 bytes from 446 on, then a signature. Types: FAT12, FAT16 (small, large, LBA), FAT32 (CHS, LBA), EFI system, GPT. */
const MBR = { entries: 446, entryBytes: 16, count: 4, signature: 510 } as const;
const FAT_TYPES = new Set([0x01, 0x04, 0x06, 0x0e, 0x0b, 0x0c, 0xef]);
const GPT_TYPE = 0xee;
/** UEFI 2.10 §5.3: header in sector 1. Entries: type at 0, first sector at 32, name at 56 in 72 bytes of UTF-16. */
const GPT = { magic: 'EFI PART', entriesAt: 72, entryCount: 80, entrySize: 84, entryCountMax: 128, entryBytesMax: 512 } as const;
/** UEFI 2.10 §5.3.3: EFI system partition; Microsoft's basic data, as Raspberry Pi images have it. Stored with the first three fields turned. */
const GPT_TYPES = new Set(['28732ac11ff8d211ba4b00a0c93ec93b', 'a2a0d0ebe5b9334487c068b6b72699c7']);

/** Only our image has it (image/layout.ts). */
const OUR_PARTITION = 'bootstate';

/** Those of the paths behind the ones that are made already. Throws `flash.boot_files`, and `flash.program` before anything is written. */
export async function readBootFiles(made: readonly BootFile[], paths: readonly string[], signal: AbortSignal): Promise<readonly BootFile[]> {
  const files = [...made];
  if (files.length + paths.length > 0) await mtool('mtools', ['--version'], Buffer.alloc(0), signal);
  for (const path of paths) {
    const name = basename(path);
    if (!NAME.test(name)) throw wrong(`the name of ${path} is not one for every FAT: letters, digits, - _ and . only`);
    if (files.some((file) => file.name.toLowerCase() === name.toLowerCase())) throw wrong(`${name} is named twice`);
    try {
      if ((await stat(path)).size > FILE_BYTES_MAX) throw wrong(`${path} is larger than ${FILE_BYTES_MAX} bytes`);
      files.push({ name, bytes: await readFile(path) });
    } catch (cause) {
      throw cause instanceof TenzroError ? cause : wrong(`${path} cannot be read: ${messageOf(cause)}`, cause);
    }
  }
  return files;
}

/** The first FAT partition of a disk that begins with these bytes (`HEAD_BYTES` of them), with sectors of 512 bytes. Pure. Throws `flash.boot_files`. */
export function bootPartition(head: Buffer): BootPlace {
  if (head.length < 2 * SECTOR_BYTES || head.readUInt16BE(MBR.signature) !== 0x55aa) throw wrong('the image has no partition table');
  const entries = Array.from({ length: MBR.count }, (_, at) => head.subarray(MBR.entries + at * MBR.entryBytes));
  const partitions = entries.some((entry) => entry[4] === GPT_TYPE) ? gptEntries(head) : [];
  const sector = partitions.length > 0 ? gptSector(partitions) : entries.find((entry) => FAT_TYPES.has(entry[4] ?? 0))?.readUInt32LE(8);
  if (sector === undefined) throw wrong('the image has no FAT partition');
  return { offset: sector * SECTOR_BYTES, isOurs: partitions.some((entry) => entry.toString('utf16le', 56, 128).replace(/\0.*$/s, '') === OUR_PARTITION) };
}

function gptSector(entries: readonly Buffer[]): number | undefined {
  const boot = entries.find((entry) => GPT_TYPES.has(entry.toString('hex', 0, 16)));
  return boot && Number(boot.readBigUInt64LE(32));
}

function gptEntries(head: Buffer): readonly Buffer[] {
  const header = head.subarray(SECTOR_BYTES);
  if (header.toString('latin1', 0, 8) !== GPT.magic) throw wrong('its GPT is damaged');
  const at = Number(header.readBigUInt64LE(GPT.entriesAt)) * SECTOR_BYTES;
  const [entryCount, entryBytes] = [header.readUInt32LE(GPT.entryCount), header.readUInt32LE(GPT.entrySize)];
  if (entryCount > GPT.entryCountMax || entryBytes < 128 || entryBytes > GPT.entryBytesMax || at + entryCount * entryBytes > head.length) throw wrong('its GPT is of a form that is not read here');
  return Array.from({ length: entryCount }, (_, number) => head.subarray(at + number * entryBytes, at + (number + 1) * entryBytes));
}

/** Takes the place of files of the same name; reads each back. Rejects with `flash.boot_files`, `flash.program`. */
export async function putBootFiles(path: string, { offset }: BootPlace, files: readonly BootFile[], signal: AbortSignal): Promise<void> {
  const drive = `${path}@@${offset}`;
  for (const { name, bytes } of files) {
    await mtool('mcopy', ['-o', '-i', drive, '-', `::${name}`], bytes, signal);
    const back = await mtool('mtype', ['-i', drive, `::${name}`], Buffer.alloc(0), signal);
    const isSame = equalBytes(back, bytes);
    back.fill(0);
    if (!isSame) throw new TenzroError('flash.verify', `${path} does not hold ${name} as it was written`);
  }
}

/** What it prints. Bytes go through its standard input, never through arguments. */
async function mtool(program: string, args: readonly string[], input: Buffer, signal: AbortSignal): Promise<Buffer> {
  const child = spawn(program, args, { signal: AbortSignal.any([signal, AbortSignal.timeout(MTOOLS_MS)]), stdio: 'pipe', env: { PATH: process.env['PATH'] ?? '', LC_ALL: 'C.UTF-8', MTOOLS_SKIP_CHECK: '1' } });
  const printed: Buffer[] = [];
  let bytes = 0;
  let said = '';
  child.stdout.on('data', (part: Buffer) => { if ((bytes += part.length) <= SAID_BYTES_MAX) printed.push(part); });
  child.stderr.setEncoding('utf8').on('data', (text: string) => { said = (said + text).slice(0, 500); });
  child.stdin.on('error', () => undefined).end(input); // it may have ended: its exit says why
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    if (code !== 0) throw wrong(`${program}: ${said.trim() || 'was ended'}`);
    return Buffer.concat(printed);
  } catch (cause) {
    signal.throwIfAborted();
    if (cause instanceof TenzroError) throw cause;
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') throw new TenzroError('flash.program', `${program} is not installed here, which writes into the boot partition: sudo apt install mtools`, { cause });
    throw wrong(`${program}: ${messageOf(cause)}`, cause);
  }
}

const wrong = (why: string, cause?: unknown): TenzroError => new TenzroError('flash.boot_files', `no files for the first start: ${why}`, { cause });
