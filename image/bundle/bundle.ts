/** What an update brings: a RAUC bundle of format verity (RAUC 1.13, docs/reference.rst, "Bundle Formats"), so that it can be streamed and is checked block by block. */
import { link, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Workshop } from '../disk/workshop.ts';
import { COMPATIBLE } from '../layout.ts';
import { withKeys, type Signer } from './keys.ts';

/** Of the squashfs in the bundle. Blocks of 1 MiB make it a tenth smaller than the 128 KiB of mksquashfs, at any level; above level 12 time grows faster than bytes shrink. */
const COMPRESSION = { final: '-comp zstd -b 1M -Xcompression-level 12', draft: '-comp zstd -b 1M -Xcompression-level 1' } as const;

export interface Bundle {
  /** In the workshop's folder. */
  readonly slot: string;
  readonly file: string;
  readonly version: string;
  readonly description: string;
  readonly compression: keyof typeof COMPRESSION;
  readonly signer: Signer;
  /** For tests: a bundle for another board. */
  readonly compatible?: string;
}

export async function makeBundle(workshop: Workshop, { slot, file, version, description, compression, signer, compatible = COMPATIBLE }: Bundle): Promise<void> {
  const content = `${file}.content`;
  await mkdir(join(workshop.folder, content));
  await link(join(workshop.folder, slot), join(workshop.folder, content, 'rootfs.ext4'));
  await writeFile(join(workshop.folder, content, 'manifest.raucm'), [
    '[update]', `compatible=${compatible}`, `version=${version}`, `description=${description}`, '', '[bundle]', 'format=verity', '', '[image.rootfs]', 'filename=rootfs.ext4', '',
  ].join('\n'));
  try {
    await withKeys(signer, workshop.folder, async ({ key, certificate, authority }) => workshop.run('rauc', [
      `--key=${key}`, `--cert=${certificate}`, `--keyring=${authority}`, `--mksquashfs-args=${COMPRESSION[compression]} -processors 2`, 'bundle', content, file,
    ]));
  } finally {
    await rm(join(workshop.folder, content), { recursive: true });
  }
}
