/** `npm run build:deb -- --arch amd64|arm64 [--out DIR] [--commit REV] [--sign KEY]`: the Debian package of a commit, HEAD where none is named; with a key its application bundle, too. */
import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { bundleOf, signerOfPem } from './bundle.ts';
import { CPU_OF, buildPackage } from './package.ts';
import type { DebianArch } from './papers.ts';

const HELP = `npm run build:deb -- --arch amd64|arm64 [options]

Builds the Debian package of a commit.

  --out DIR      where it goes (dist)
  --commit REV   which commit (HEAD)
  --sign KEY     its application bundle too, signed by this private key (PEM)
  --draft        packed in a fraction of the time, larger
  --help
`;

const values = wishes();
/** 6 s of processor; 9 takes minutes for little. */
const BUNDLE_QUALITY = 6;
const isArch = (name: string | undefined): name is DebianArch => name !== undefined && name in CPU_OF;

if (values?.help) {
  process.stdout.write(HELP);
} else if (values && isArch(values.arch)) {
  const { file, release, installedBytes, fileBytes, tookMs } = await buildPackage({ arch: values.arch, out: values.out, commit: values.commit, compression: values.draft ? 'draft' : 'final' });
  const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  process.stdout.write(`${file}\n${mib(fileBytes)}, installed ${mib(installedBytes)}; tree ${(tookMs.tree / 1_000).toFixed(1)} s, archive ${(tookMs.archive / 1_000).toFixed(1)} s\n`);
  if (values.sign !== undefined) {
    const bundle = await bundleOf(file, { version: release.version, arch: values.arch, signer: signerOfPem(await readFile(values.sign, 'utf8')), quality: values.draft ? 1 : BUNDLE_QUALITY });
    process.stdout.write(`${bundle.file}\n${mib(bundle.bytes)}\n`);
  }
} else {
  if (values) process.stderr.write('say for which machines: --arch amd64 or --arch arm64\n');
  process.exitCode = 2;
}

/** Undefined where they cannot be read, and why was said. */
function wishes() {
  try {
    return parseArgs({ options: { arch: { type: 'string' }, out: { type: 'string', default: 'dist' }, commit: { type: 'string', default: 'HEAD' }, sign: { type: 'string' }, draft: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } } }).values;
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\nnpm run build:deb -- --help\n`);
    return undefined;
  }
}
