/** `npm run build:deb -- --arch amd64|arm64 [--out DIR] [--commit REV] [--sign KEY]`: the Debian package of a commit, HEAD where none is named; with a key its application bundle, too. */
import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { bundleOf, signerOfPem } from './bundle.ts';
import { CPU_OF, buildPackage } from './package.ts';
import type { DebianArch } from './papers.ts';

const { values } = parseArgs({ options: { arch: { type: 'string' }, out: { type: 'string', default: 'dist' }, commit: { type: 'string', default: 'HEAD' }, sign: { type: 'string' }, draft: { type: 'boolean', default: false } } });
/** 6 s of processor; 9 takes minutes for little. */
const BUNDLE_QUALITY = 6;
const isArch = (name: string | undefined): name is DebianArch => name !== undefined && name in CPU_OF;

if (isArch(values.arch)) {
  const { file, release, installedBytes, fileBytes, tookMs } = await buildPackage({ arch: values.arch, out: values.out, commit: values.commit, compression: values.draft ? 'draft' : 'final' });
  const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  process.stdout.write(`${file}\n${mib(fileBytes)}, installed ${mib(installedBytes)}; tree ${(tookMs.tree / 1_000).toFixed(1)} s, archive ${(tookMs.archive / 1_000).toFixed(1)} s\n`);
  if (values.sign !== undefined) {
    const bundle = await bundleOf(file, { version: release.version, arch: values.arch, signer: signerOfPem(await readFile(values.sign, 'utf8')), quality: values.draft ? 1 : BUNDLE_QUALITY });
    process.stdout.write(`${bundle.file}\n${mib(bundle.bytes)}\n`);
  }
} else {
  process.stderr.write('say for which machines: --arch amd64 or --arch arm64\n');
  process.exitCode = 2;
}
