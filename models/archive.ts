/**
 * A model package on its way: a plain tar (POSIX.1-2017 pax, "ustar Interchange Format") of its files and of nothing else. Strict and uncompressed: what it
 * says is as large as what arrived, and no name leads anywhere.
 */
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';

/** The files of a package, and the most that each may have. */
const FILES: Readonly<Record<string, number>> = { 'manifest.json': LIMITS.modelManifestBytesMax, 'model.onnx': LIMITS.modelBytesMax, 'MODEL_CARD.md': LIMITS.modelCardBytesMax };
const REQUIRED = ['manifest.json', 'model.onnx'];
const BLOCK = 512;
/** Offsets and lengths in the header (ustar Header Block). */
const FIELD = { name: [0, 100], size: [124, 12], checksum: [148, 8], type: [156, 1], magic: [257, 5], prefix: [345, 155] } as const;
/** Two empty blocks end it, and tar fills its last record of 10 KiB. */
const PADDING_BYTES_MAX = 20 * BLOCK + 2 * BLOCK;

/** Largest archive that can hold a package. */
export const ARCHIVE_BYTES_MAX = Object.values(FILES).reduce((sum, bytes) => sum + bytes + 2 * BLOCK, PADDING_BYTES_MAX);

/** Files by name, as views of `archive`. Throws `model.archive`. */
export function readArchive(archive: Buffer): ReadonlyMap<string, Buffer> {
  const files = new Map<string, Buffer>();
  let at = 0;
  while (at + BLOCK <= archive.length && !isEmpty(archive.subarray(at, at + BLOCK))) {
    const { name, size } = headerOf(archive.subarray(at, at + BLOCK));
    const from = at + BLOCK;
    if (files.has(name)) throw wrong(`${name} is there twice`);
    if (from + size > archive.length) throw wrong(`${name} is cut short`);
    files.set(name, archive.subarray(from, from + size));
    at = from + Math.ceil(size / BLOCK) * BLOCK;
  }
  if (archive.length - at > PADDING_BYTES_MAX || !isEmpty(archive.subarray(at))) throw wrong('something follows its end');
  for (const name of REQUIRED) if (!files.has(name)) throw wrong(`${name} is missing`);
  return files;
}

function headerOf(header: Buffer): { readonly name: string; readonly size: number } {
  const field = (key: keyof typeof FIELD): string => {
    const bytes = header.subarray(FIELD[key][0], FIELD[key][0] + FIELD[key][1]);
    const end = bytes.indexOf(0);
    return bytes.toString('latin1', 0, end < 0 ? bytes.length : end);
  };
  if (field('magic') !== 'ustar' || octal(field('checksum')) !== checksumOf(header)) throw wrong('no ustar header stands where one should');
  const name = field('name').replace(/^\.\//, '');
  const bytesMax = Object.hasOwn(FILES, name) ? FILES[name] : undefined;
  if (bytesMax === undefined || field('prefix') !== '' || !['', '0'].includes(field('type'))) throw wrong(`it holds ${JSON.stringify(field('name').slice(0, 100))}, which is no file of a package`);
  const size = octal(field('size'));
  if (size > bytesMax) throw new TenzroError('model.too_large', `${name} has ${size} bytes; the limit is ${bytesMax}`);
  return { name, size };
}

/** The unsigned sum of the header with its own field as spaces. */
function checksumOf(header: Buffer): number {
  const [from, length] = FIELD.checksum;
  return header.reduce((sum, byte, i) => sum + (i >= from && i < from + length ? 0x20 : byte), 0);
}

function octal(text: string): number {
  const digits = text.trim();
  if (!/^[0-7]{1,11}$/.test(digits)) throw wrong('a number of a header is not octal');
  return Number.parseInt(digits, 8);
}

const isEmpty = (bytes: Buffer): boolean => bytes.every((byte) => byte === 0);
const wrong = (why: string): TenzroError => new TenzroError('model.archive', `package: ${why}`);
