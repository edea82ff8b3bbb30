/** One build: base, the gateway's package and the system become a slot, a card, a bundle and what is published beside them. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import type { BaseTree } from '#image/base/tree.ts';
import type { Tools } from '#image/tools/tools.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { makeBundle } from './bundle/bundle.ts';
import type { Signer } from './bundle/keys.ts';
import { buildPackage } from './deb/package.ts';
import { collectBootFiles } from './disk/bootFiles.ts';
import { makeCard } from './disk/card.ts';
import { addEmulation } from './disk/emulation.ts';
import { makeBootPartition, makeSlot } from './disk/fileSystems.ts';
import { completeTree } from './disk/slotTree.ts';
import { Steps, type Step } from './disk/steps.ts';
import { chrootWorkshop, type Workshop } from './disk/workshop.ts';
import { CARD_BYTES } from './layout.ts';
import { imagerList } from './release/imager.ts';
import { mapCard, packCard } from './release/pack.ts';
import { billOfImage } from './release/sbom.ts';
import { SIGNATURE, SUMS, fileDigest, writeSums } from './release/sums.ts';

const run = promisify(execFile);
const REPOSITORY = join(import.meta.dirname, '..');
const MODEL = 'tenzro-edge-pi64';

export interface ImageOptions {
  readonly tools: Tools;
  readonly base: Pick<BaseTree, 'tar'>;
  /** Absolute: where a folder with the results goes. */
  readonly out: string;
  /** Anything that git takes for a commit. */
  readonly commit: string;
  readonly compression: 'final' | 'draft';
  /** The Debian packages of both processors beside the image. */
  readonly hasPackages: boolean;
  readonly signer: Signer;
  /** The kernel module that emulated boards need; undefined for real ones. */
  readonly emulatedTpm: string | undefined;
  /** Where the files will be downloaded from, with a slash at the end: for Imager's list. */
  readonly url: string;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
}

export interface BuiltImage {
  readonly folder: string;
  readonly name: string;
  readonly steps: readonly Step[];
  /** Bytes by file name. */
  readonly sizes: Readonly<Record<string, number>>;
  /** Of a slot. */
  readonly usedBytes: number;
}

/** What the steps hand on. Files lie in the workshop's folder under these names. */
interface Job extends ImageOptions {
  readonly workshop: Workshop;
  readonly steps: Steps;
  readonly version: string;
  readonly name: string;
}

const FILES = { tree: 'tree', boot: 'boot', slot: 'rootfs.ext4', fat: 'boot.vfat' } as const;

/** As root. The result appears in `out` when all of it is made; what is cut short leaves at most a hidden folder there. */
export async function buildImage(options: ImageOptions): Promise<BuiltImage> {
  await mkdir(options.out, { recursive: true });
  const folder = await mkdtemp(join(options.out, '.build-'));
  try {
    const steps = new Steps(options.say);
    await checkCheckout(options);
    const deb = await steps.step('package of the gateway', async () => buildPackage({ arch: 'arm64', out: folder, commit: options.commit, compression: 'draft' }));
    const { version, epochSeconds } = deb.release;
    const name = [`${MODEL}_${version}`, ...(options.emulatedTpm === undefined ? [] : ['EMULATION']), ...(options.signer.isDevelopment ? ['DEVELOPMENT'] : [])].join('_');
    const workshop = chrootWorkshop(options.tools, { folder, epochSeconds, signal: options.signal });
    const job: Job = { ...options, workshop, steps, version, name };
    const usedBytes = await makeSystem(job, basename(deb.file));
    const published = await publish(job);
    const target = join(options.out, name);
    await rm(target, { recursive: true, force: true });
    await rename(join(folder, name), target);
    return { folder: target, name, steps: steps.done, sizes: Object.fromEntries(await Promise.all(published.map(async (file) => [file, (await stat(join(target, file))).size] as const))), usedBytes };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Slot, card, bundle. Returns the bytes that the slot's files take. */
async function makeSystem(job: Job, deb: string): Promise<number> {
  const { workshop, steps, name, version } = job;
  const tree = join(workshop.folder, FILES.tree);
  await steps.step('base', async () => {
    await mkdir(tree);
    await run('tar', ['--extract', '--numeric-owner', '--same-permissions', '--xattrs', '--xattrs-include=*', '-C', tree, '-f', job.base.tar], { signal: job.signal });
  });
  await steps.step('system', async () => {
    if (job.emulatedTpm !== undefined) await addEmulation(tree, job.emulatedTpm);
    await completeTree(workshop, { tree: FILES.tree, deb, version, signer: job.signer, isEmulated: job.emulatedTpm !== undefined });
  });
  const { usedBytes } = await steps.step('slot (ext4)', async () => makeSlot(workshop, FILES.tree, FILES.slot));
  await steps.step('boot partition (FAT)', async () => {
    const bootFiles = await collectBootFiles(workshop, { tree: FILES.tree, folder: FILES.boot });
    await makeBootPartition(workshop, FILES.boot, FILES.fat);
    await mkdir(join(workshop.folder, name));
    const bill = await billOfImage({ root: tree, name: MODEL, version, epochSeconds: workshop.epochSeconds, bootFiles });
    await writeFile(join(workshop.folder, name, `${name}.cdx.json`), bill);
  });
  await steps.step('card', async () => makeCard(workshop, { boot: FILES.fat, slot: FILES.slot, card: `${name}/${name}.img` }));
  await steps.step('bundle (RAUC)', async () => makeBundle(workshop, {
    slot: FILES.slot, file: `${name}/${name}.raucb`, version, description: name, compression: job.compression, signer: job.signer,
  }));
  return usedBytes;
}

/** What is downloaded; an image for emulation stays as it is. Returns the names in the result's folder. */
async function publish(job: Job): Promise<string[]> {
  const { workshop, steps, name } = job;
  const result: Workshop = { ...workshop, folder: join(workshop.folder, name), run: async (program, args, input) => workshop.run('env', ['-C', name, program, ...args], input) };
  const files = [`${name}.raucb`, `${name}.cdx.json`];
  if (job.emulatedTpm === undefined) {
    const digest = await steps.step('packing (xz)', async () => {
      await mapCard(result, `${name}.img`);
      await packCard(result, `${name}.img`, job.compression);
      return fileDigest(join(result.folder, `${name}.img`));
    });
    const packed = join(result.folder, `${name}.img.xz`);
    await writeFile(join(result.folder, `${name}.imager.json`), imagerList({
      version: job.version, url: new URL(encodeURIComponent(`${name}.img.xz`), job.url).href, extractBytes: CARD_BYTES, extractSha256: digest,
      downloadBytes: (await stat(packed)).size, downloadSha256: await fileDigest(packed), epochSeconds: workshop.epochSeconds, remark: job.signer.isDevelopment ? ' DEVELOPMENT' : '',
    }));
    await rm(join(result.folder, `${name}.img`));
    files.push(`${name}.img.xz`, `${name}.img.bmap`, `${name}.imager.json`);
  } else {
    files.push(`${name}.img`);
  }
  if (job.hasPackages) files.push(...await steps.step('packages (.deb)', async () => addPackages(job, result.folder)));
  await steps.step('checksums', async () => writeSums(result, files, job.signer));
  return [...files, SUMS, SIGNATURE].toSorted();
}

/** Both at once: each packs on one core. Returns their names. */
async function addPackages({ commit, compression }: Job, out: string): Promise<string[]> {
  const built = await Promise.all((['amd64', 'arm64'] as const).map(async (arch) => buildPackage({ arch, out, commit, compression })));
  return built.map(({ file }) => basename(file));
}

/** The package is of a commit; so must be what image/ lays around it, but in a draft. */
async function checkCheckout({ commit, compression }: ImageOptions): Promise<void> {
  const git = async (args: readonly string[], problem: string): Promise<void> => {
    await run('git', args, { cwd: REPOSITORY }).catch((cause: unknown) => { throw new TenzroError('image.usage', problem, { cause }); });
  };
  await git(['rev-parse', '--verify', '--quiet', `${commit}^{commit}`], `there is no commit ${commit} here`);
  if (compression === 'final') await git(['diff', '--quiet', commit, '--', 'image', 'package-lock.json'], `image/ of the working tree is not that of ${commit}: check that commit out, or build a --draft`);
}
