/** The image as it is downloaded: packed, with a map of which blocks hold anything. */
import type { Workshop } from '../disk/workshop.ts';

/** Blocks of a fixed size are packed by themselves, so that any number of threads gives the same bytes. Levels by measurement: docs/operate/image.md. */
const XZ = { final: '-2', draft: '-0' } as const;
const XZ_BLOCK = '24MiB';

/** Makes `CARD.bmap`: which blocks hold anything, each with its digest. */
export async function mapCard(workshop: Workshop, card: string): Promise<void> {
  await workshop.run('bmaptool', ['-q', 'create', '-o', `${card}.bmap`, card]);
}

/** Makes `CARD.xz` beside the image, which stays. */
export async function packCard(workshop: Workshop, card: string, compression: keyof typeof XZ): Promise<void> {
  await workshop.run('xz', ['--keep', '--threads=2', '--check=crc64', `--block-size=${XZ_BLOCK}`, XZ[compression], card]);
}
