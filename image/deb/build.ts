/** `npm run build:deb -- --arch amd64|arm64 [--out DIR] [--commit REV]`: the Debian package of a commit, HEAD where none is named. */
import { parseArgs } from 'node:util';
import { CPU_OF, buildPackage } from './package.ts';
import type { DebianArch } from './papers.ts';

const { values } = parseArgs({ options: { arch: { type: 'string' }, out: { type: 'string', default: 'dist' }, commit: { type: 'string', default: 'HEAD' }, draft: { type: 'boolean', default: false } } });
const isArch = (name: string | undefined): name is DebianArch => name !== undefined && name in CPU_OF;

if (isArch(values.arch)) {
  const { file, installedBytes, fileBytes, tookMs } = await buildPackage({ arch: values.arch, out: values.out, commit: values.commit, compression: values.draft ? 'draft' : 'final' });
  const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  process.stdout.write(`${file}\n${mib(fileBytes)}, installed ${mib(installedBytes)}; tree ${(tookMs.tree / 1_000).toFixed(1)} s, archive ${(tookMs.archive / 1_000).toFixed(1)} s\n`);
} else {
  process.stderr.write('say for which machines: --arch amd64 or --arch arm64\n');
  process.exitCode = 2;
}
