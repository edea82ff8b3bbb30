/**
 * Block maps of bmaptool, format 2.0: which blocks of an image hold anything, with a SHA-256 per range and one of the map itself. The format is described by the comments
 * that bmaptool writes into each map and by its reader (bmap-tools 3.6, BmapCopy.py). Pure.
 */
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { sha256 } from '#runtime/crypto/hash.ts';

/** Mapped bytes of the image, in ascending order, not touching. */
export interface Extent {
  readonly offset: number;
  readonly sizeBytes: number;
  /** Of these bytes in the image; undefined where nobody has said. */
  readonly sha256: Uint8Array | undefined;
}

export interface Bmap {
  readonly imageBytes: number;
  readonly extents: readonly Extent[];
}

/** Far above what an image of a full 2 TB card has. */
export const BMAP_BYTES_MAX = 16 * 1024 * 1024;
const BLOCK_BYTES_MAX = 64 * 1024 * 1024;
const CHECKSUM = 'BmapFileChecksum';

/** Throws `flash.bmap`. */
export function parseBmap(bytes: Uint8Array): Bmap {
  if (bytes.length > BMAP_BYTES_MAX) throw wrong(`it is larger than ${BMAP_BYTES_MAX} bytes`);
  const text = Buffer.from(bytes).toString('latin1');
  const xml = uncommented(text);
  const version = /<bmap version="(\d+)\.\d+">/.exec(xml)?.[1];
  if (version === undefined) throw wrong('it is no block map');
  if (version !== '2') throw wrong(`it has version ${version}, this one reads 2.0`);
  const kind = element(xml, 'ChecksumType');
  if (kind !== 'sha256') throw wrong(`its checksums are ${kind.slice(0, 20)}, this one reads sha256`);
  checkItself(text, element(xml, CHECKSUM));
  const imageBytes = count(element(xml, 'ImageSize'), 'ImageSize');
  const blockBytes = count(element(xml, 'BlockSize'), 'BlockSize');
  if (imageBytes === 0 || blockBytes < 512 || blockBytes > BLOCK_BYTES_MAX || blockBytes % 512 !== 0) throw wrong('its sizes cannot be');
  const extents = extentsOf(xml, imageBytes, blockBytes);
  const mapped = extents.reduce((sum, { sizeBytes }) => sum + Math.ceil(sizeBytes / blockBytes), 0);
  if (mapped !== count(element(xml, 'MappedBlocksCount'), 'MappedBlocksCount')) throw wrong('its ranges are not as many blocks as it says');
  return { imageBytes, extents };
}

function extentsOf(xml: string, imageBytes: number, blockBytes: number): readonly Extent[] {
  const extents: Extent[] = [];
  let nextBlock = 0;
  for (const [, attributes = '', range = ''] of xml.matchAll(/<Range([^<>]{0,200})>([^<]{1,100})<\/Range>/g)) {
    const [, from = '', to = from] = /^\s*(\d+)(?:-(\d+))?\s*$/.exec(range) ?? [];
    const [first, last] = [count(from, 'Range'), count(to, 'Range')];
    if (first < nextBlock || last < first || last * blockBytes >= imageBytes) throw wrong(`its range ${first}-${last} cannot be`);
    const hex = /\bchksum="([^"]*)"/.exec(attributes)?.[1];
    const offset = first * blockBytes;
    extents.push({ offset, sizeBytes: Math.min((last + 1) * blockBytes, imageBytes) - offset, sha256: hex === undefined ? undefined : digest(hex) });
    nextBlock = last + 1;
  }
  return extents;
}

/** XML 1.0 §2.5. No expression: one that never ends would be looked for again and again. */
function uncommented(text: string): string {
  let kept = '';
  for (let at = 0; ;) {
    const start = text.indexOf('<!--', at);
    const end = start < 0 ? -1 : text.indexOf('-->', start);
    if (end < 0) return kept + text.slice(at);
    kept += text.slice(at, start);
    at = end + 3;
  }
}

/** Computed with zeros in its own place. */
function checkItself(text: string, hex: string): void {
  const stated = digest(hex);
  const blanked = text.replace(hex, '0'.repeat(hex.length));
  if (!equalBytes(sha256(Buffer.from(blanked, 'latin1')), stated)) throw wrong('its own checksum is wrong');
}

function element(xml: string, name: string): string {
  const value = new RegExp(`<${name}>\\s{0,20}([^<\\s]{1,100})\\s{0,20}</${name}>`).exec(xml)?.[1];
  if (value === undefined) throw wrong(`it has no ${name}`);
  return value;
}

function count(text: string, what: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (!Number.isSafeInteger(value)) throw wrong(`its ${what} is no number`);
  return value;
}

function digest(hex: string): Buffer {
  if (!/^[0-9a-f]{64}$/i.test(hex)) throw wrong('a checksum in it has the wrong form');
  return Buffer.from(hex, 'hex');
}

const wrong = (why: string): TenzroError => new TenzroError('flash.bmap', `the block map cannot be used: ${why}`);
