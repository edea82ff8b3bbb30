/** What lies beside an image: its checksums, signatures of these, its block map. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { access, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { BMAP_BYTES_MAX, parseBmap, type Bmap } from './bmap.ts';
import type { Image } from './image.ts';

const SUMS = 'SHA256SUMS';
const SUMS_BYTES_MAX = 1024 * 1024;
const READ_BYTES = 1024 * 1024;
/** A signature of the checksums, and the command that checks it. Whose key is trusted is the reader's decision, so that we check none. */
const SIGNATURES = { '.minisig': `minisign -V -p KEY.pub -m ${SUMS}`, '.sig': `ssh-keygen -Y verify -f SIGNERS -I WHO -n file -s ${SUMS}.sig < ${SUMS}`, '.asc': `gpg --verify ${SUMS}.asc ${SUMS}`, '.gpg': `gpg --verify ${SUMS}.gpg ${SUMS}` } as const;

export interface Signature {
  readonly file: string;
  readonly check: string;
}

/** The digest that SHA256SUMS beside the image states (sha256sum(1): digest, blank, blank or `*`, name); undefined where there is none. Throws `flash.checksum`. */
export async function statedDigest({ path }: Image): Promise<Buffer | undefined> {
  const text = await smallFile(join(dirname(path), SUMS), SUMS_BYTES_MAX, 'flash.checksum');
  if (text === undefined) return undefined;
  for (const line of text.toString('utf8').split('\n')) {
    const [, hex = '', name] = /^([0-9a-f]{64}) [ *](.+?)\r?$/i.exec(line) ?? [];
    if (name !== undefined && basename(name) === basename(path)) return Buffer.from(hex, 'hex');
  }
  throw new TenzroError('flash.checksum', `${SUMS} beside the image does not name ${basename(path)}`);
}

/** Reads the whole file. Throws `flash.checksum` where it is another. `seen`: bytes so far. */
export async function checkDigest({ path }: Image, stated: Uint8Array, seen: (bytes: number) => void, signal: AbortSignal): Promise<void> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: READ_BYTES, signal })) {
    hash.update(chunk as Buffer);
    seen(bytes += (chunk as Buffer).length);
  }
  if (!equalBytes(hash.digest(), stated)) throw new TenzroError('flash.checksum', `${path} is not what ${SUMS} beside it states`);
}

/** Of the checksums, or of the image itself. */
export async function signaturesBeside({ path }: Image): Promise<readonly Signature[]> {
  const found: Signature[] = [];
  for (const [ending, check] of Object.entries(SIGNATURES)) {
    const file = join(dirname(path), SUMS + ending);
    if (await isThere(file)) found.push({ file, check });
  }
  return found;
}

/** The named one, or the one beside the image: `x.img.xz.bmap`, `x.img.bmap`, `x.bmap`. Throws `flash.bmap`. */
export async function bmapOf(image: Image, named: string | undefined): Promise<{ readonly path: string; readonly bmap: Bmap } | undefined> {
  const stem = image.path.replace(/\.xz$/i, '');
  for (const path of named === undefined ? new Set([image.path, stem, stem.replace(/\.img$/i, '')].map((name) => `${name}.bmap`)) : [named]) {
    const bytes = await smallFile(path, BMAP_BYTES_MAX, 'flash.bmap');
    if (bytes === undefined) continue;
    const bmap = parseBmap(bytes);
    if (bmap.imageBytes !== image.sizeBytes) throw new TenzroError('flash.bmap', `${path} is of an image of ${bmap.imageBytes} bytes, this one has ${image.sizeBytes}`);
    return { path, bmap };
  }
  if (named !== undefined) throw new TenzroError('flash.bmap', `there is no ${named}`);
  return undefined;
}

async function smallFile(path: string, bytesMax: number, code: 'flash.checksum' | 'flash.bmap'): Promise<Buffer | undefined> {
  if (!await isThere(path)) return undefined;
  try {
    if ((await stat(path)).size > bytesMax) throw new TenzroError(code, `${path} is larger than ${bytesMax} bytes`);
    return await readFile(path);
  } catch (cause) {
    throw cause instanceof TenzroError ? cause : new TenzroError(code, `${path} cannot be read: ${messageOf(cause)}`, { cause });
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
