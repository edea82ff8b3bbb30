/** Whether two builds of one commit are the same bytes, and what is not, why. */
import { open, readdir, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { SIGNATURE, SUMS, fileDigest } from './sums.ts';

export interface Comparison {
  readonly file: string;
  readonly isSame: boolean;
  /** Why it may differ; undefined where it must not. */
  readonly reason: string | undefined;
}

/** Squashfs 4.0 superblock: magic, and where it says how long it is. */
const SQUASHFS = { magic: 0x73717368, lengthAt: 40, bytes: 48 } as const;
const CHUNK_BYTES = 1024 * 1024;

/** Folders with results. In byte order of the names; what only one of them has differs without a reason. */
export async function compareBuilds(first: string, second: string): Promise<Comparison[]> {
  const names = [...new Set([...await readdir(first), ...await readdir(second)])].toSorted();
  return Promise.all(names.map(async (file) => {
    const [a, b] = [join(first, file), join(second, file)];
    const [one, other] = await Promise.all([a, b].map(async (path) => fileDigest(path).catch(() => undefined)));
    const isSame = one !== undefined && one === other;
    return { file, isSame, reason: isSame || one === undefined || other === undefined ? undefined : await reasonOf(file, a, b) };
  }));
}

async function reasonOf(file: string, a: string, b: string): Promise<string | undefined> {
  if (file === SIGNATURE) return 'a signature: time and chance are part of it';
  if (file === SUMS) return 'it names the digest of the bundle';
  if (!file.endsWith('.raucb')) return undefined;
  const payloadBytes = await samePayload(a, b);
  return payloadBytes === undefined ? undefined : `its content is the same (squashfs of ${payloadBytes} bytes); behind it RAUC puts a hash tree with a random salt, and a signature`;
}

/** Length of the squashfs at the beginning of both, where it is the same. */
async function samePayload(a: string, b: string): Promise<number | undefined> {
  await using one = await open(a, 'r');
  await using other = await open(b, 'r');
  const head = await piece(one, 0, SQUASHFS.bytes);
  if (head.length < SQUASHFS.bytes || head.readUInt32LE(0) !== SQUASHFS.magic) return undefined;
  const lengthBytes = Number(head.readBigUInt64LE(SQUASHFS.lengthAt));
  for (let offset = 0; offset < lengthBytes; offset += CHUNK_BYTES) {
    const bytes = Math.min(CHUNK_BYTES, lengthBytes - offset);
    const [x, y] = await Promise.all([piece(one, offset, bytes), piece(other, offset, bytes)]);
    if (x.length !== bytes || !x.equals(y)) return undefined;
  }
  return lengthBytes;
}

async function piece(file: FileHandle, offset: number, bytes: number): Promise<Buffer> {
  const buffer = Buffer.alloc(bytes);
  return buffer.subarray(0, (await file.read(buffer, 0, bytes, offset)).bytesRead);
}
