/** An image as a card has it, made by the programs that others make theirs with: GPT (sfdisk), a FAT boot partition with a file (mtools), its block map (bmaptool), packed (xz). */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const IMAGE_BYTES = 24 * 1024 * 1024;
const FILE_BYTES = 2 * 1024 * 1024;
const SYSTEM_FOLDERS = '/usr/sbin:/sbin';

export interface DiskImage {
  readonly plain: string;
  readonly packed: string;
  readonly bmap: string;
}

/** Runs a program; throws with what it said. */
export function ran(program: string, args: readonly string[], input = ''): string {
  return execFileSync(program, args, { input, encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, PATH: `${process.env['PATH'] ?? ''}:${SYSTEM_FOLDERS}` } });
}

export function diskImageIn(folder: string): DiskImage {
  const plain = join(folder, 'card.img');
  const content = join(folder, 'content.bin');
  writeFileSync(plain, '');
  truncateSync(plain, IMAGE_BYTES);
  ran('sfdisk', ['--quiet', plain], 'label: gpt\nstart=2048, size=32768, type=uefi, name=boot\nstart=34816, name=data\n');
  ran('mformat', ['-i', `${plain}@@1M`, '-T', '32768', '-v', 'TENZROBOOT', '::']);
  writeFileSync(content, randomBytes(FILE_BYTES));
  ran('mcopy', ['-i', `${plain}@@1M`, content, '::content.bin']);
  const bmap = `${plain}.bmap`;
  ran('bmaptool', ['create', '-o', bmap, plain]);
  ran('xz', ['--keep', '-0', '--threads=0', plain]);
  return { plain, packed: `${plain}.xz`, bmap };
}
