/** The Debian package of one commit: its tree, then the archive. The same commit gives the same bytes, whoever builds it, whenever. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, cp, lstat, mkdir, mkdtemp, readFile, readdir, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { shippedPackages, type Cpu, type Lock, type LockedPackage } from './lock.ts';
import { installModules, nodePackage } from './modules.ts';
import { billOfMaterials, changelog, controlFile, copyrightFile, type DebianArch, type Release } from './papers.ts';

const REPOSITORY = join(import.meta.dirname, '..', '..');
const APP = 'opt/tenzro-edge';
const DOC = 'usr/share/doc/tenzro-edge';
/** The runtime's four folders come whole, models/training too: so the software digest that blocks name is the commit's own. */
const SHIPPED_SOURCES = ['runtime', 'drivers', 'models', 'provisioning', 'docs/policies', 'package.json', 'package-lock.json', 'LICENSE'] as const;
export const CPU_OF: Readonly<Record<DebianArch, Cpu>> = { amd64: 'x64', arm64: 'arm64' };
/** Files of image/deb/system, and where they go. */
const SYSTEM_FILES: Readonly<Record<string, string>> = {
  tenzro: 'usr/bin/tenzro',
  slots: 'usr/lib/tenzro-edge/slots',
  'tenzro-edge.service': 'usr/lib/systemd/system/tenzro-edge.service',
  'tenzro-edge-confirm.service': 'usr/lib/systemd/system/tenzro-edge-confirm.service',
  'tenzro-edge-update.path': 'usr/lib/systemd/system/tenzro-edge-update.path',
  'tenzro-edge-update.service': 'usr/lib/systemd/system/tenzro-edge-update.service',
  'lintian-overrides': 'usr/share/lintian/overrides/tenzro-edge',
  'sysusers.conf': 'usr/lib/sysusers.d/tenzro-edge.conf',
  'tmpfiles.conf': 'usr/lib/tmpfiles.d/tenzro-edge.conf',
};
const MAINTAINER_SCRIPTS = ['postinst', 'prerm', 'postrm'] as const;
/** What a Debian 12 and an Ubuntu 22.04 unpack. `draft` is for tests: a tenth of the time, a third more bytes. */
const COMPRESSION = { final: ['-Zxz', '-z6', '--threads-max=1'], draft: ['-Zzstd', '-z1', '--threads-max=1'] } as const;

const run = promisify(execFile);

export interface BuildOptions {
  readonly arch: DebianArch;
  /** Folder of the result; made where it is not there. */
  readonly out: string;
  /** Anything that git takes for a commit. */
  readonly commit?: string;
  readonly compression?: keyof typeof COMPRESSION;
}

export interface Built {
  readonly file: string;
  readonly release: Release;
  readonly installedBytes: number;
  readonly fileBytes: number;
  /** Milliseconds of each step. */
  readonly tookMs: Readonly<Record<'tree' | 'archive', number>>;
}

export async function buildPackage({ arch, out, commit = 'HEAD', compression = 'final' }: BuildOptions): Promise<Built> {
  const work = await mkdtemp(join(tmpdir(), 'tenzro-deb-'));
  try {
    const started = performance.now();
    const tree = join(work, 'tree');
    const { release, installedBytes } = await stageTree({ arch, commit, work, tree });
    const staged = performance.now();
    const file = join(out, `tenzro-edge_${release.version}_${arch}.deb`);
    await mkdir(out, { recursive: true });
    await run('dpkg-deb', ['--root-owner-group', ...COMPRESSION[compression], '--build', tree, `${file}.next`], { env: { ...process.env, SOURCE_DATE_EPOCH: String(release.epochSeconds) } });
    await rename(`${file}.next`, file);
    return { file, release, installedBytes, fileBytes: (await lstat(file)).size, tookMs: { tree: staged - started, archive: performance.now() - staged } };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

interface Stage {
  readonly arch: DebianArch;
  readonly commit: string;
  /** An empty folder of this build. */
  readonly work: string;
  /** Where the tree is made. */
  readonly tree: string;
}

/** Everything that the package holds, with DEBIAN/, as dpkg-deb wants it. */
async function stageTree({ arch, commit, work, tree }: Stage): Promise<{ readonly release: Release; readonly installedBytes: number }> {
  const source = join(work, 'source');
  const epochSeconds = await checkOut(commit, source);
  const release: Release = { version: await versionOf(commit, source, epochSeconds), arch, epochSeconds };
  const cpu = CPU_OF[arch];
  const packages = shippedPackages(JSON.parse(await readFile(join(source, 'package-lock.json'), 'utf8')) as Lock, cpu);
  await mkdir(join(tree, 'DEBIAN'), { recursive: true });
  for (const [name, path] of Object.entries(SYSTEM_FILES)) await cp(join(source, 'image/deb/system', name), join(tree, path));
  for (const name of SHIPPED_SOURCES) await cp(join(source, name), join(tree, APP, name), { recursive: true });
  await cp(join(source, 'image/pm2/ecosystem.config.cjs'), join(tree, APP, 'ecosystem.config.cjs'));
  await installModules(source, packages, cpu, join(tree, APP));
  await writeFile(join(tree, APP, 'release'), `${release.version}\n`);
  await mkdir(join(tree, APP, 'bin'));
  await rename(join(tree, APP, 'node_modules', nodePackage(cpu), 'bin/node'), join(tree, APP, 'bin/node'));
  await rm(join(tree, APP, 'node_modules', nodePackage(cpu), 'bin'), { recursive: true });
  await writePapers(tree, release, packages);
  for (const name of MAINTAINER_SCRIPTS) await cp(join(source, 'image/deb/maintainer', name), join(tree, 'DEBIAN', name));
  const files = await filesOf(tree);
  const installedBytes = files.reduce((sum, { size }) => sum + size, 0);
  await writeFile(join(tree, 'DEBIAN/control'), controlFile(release, installedBytes));
  await writeFile(join(tree, 'DEBIAN/md5sums'), (await Promise.all(files.map(async ({ path }) => `${createHash('md5').update(await readFile(join(tree, path))).digest('hex')}  ${path}\n`))).join(''));
  await normalise(tree, epochSeconds);
  return { release, installedBytes };
}

/** The commit's files and nothing that lies about. Returns its time in seconds since 1970. */
async function checkOut(commit: string, target: string): Promise<number> {
  await mkdir(target);
  const archive = `${target}.tar`;
  await run('git', ['archive', '--format=tar', '-o', archive, commit, ...SHIPPED_SOURCES, '.npmrc', 'image/deb', 'image/pm2'], { cwd: REPOSITORY });
  await run('tar', ['-xf', archive, '-C', target]);
  return Number((await run('git', ['show', '-s', '--format=%ct', commit], { cwd: REPOSITORY })).stdout);
}

/** `0.1.0+20261123.080431.a1b2c3d4`: later commits are newer. */
async function versionOf(commit: string, source: string, epochSeconds: number): Promise<string> {
  const { version } = JSON.parse(await readFile(join(source, 'package.json'), 'utf8')) as { version: string };
  const hash = (await run('git', ['rev-parse', '--short=8', `${commit}^{commit}`], { cwd: REPOSITORY })).stdout.trim();
  const [day = '', time = ''] = new Date(epochSeconds * 1_000).toISOString().replaceAll(/[-:]|\.\d+Z/g, '').split('T');
  return `${version}+${day}.${time}.${hash}`;
}

async function writePapers(tree: string, release: Release, packages: readonly LockedPackage[]): Promise<void> {
  const folder = join(tree, DOC);
  const node = nodePackage(CPU_OF[release.arch]);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'copyright'), copyrightFile(packages));
  await writeFile(join(folder, 'changelog.gz'), gzipSync(changelog(release), { level: 9 }));
  await writeFile(join(folder, 'sbom.cdx.json'), billOfMaterials(release, packages, ({ name, path }) => [`/${APP}/${path}`, ...(name === node ? [`/${APP}/bin/node`] : [])]));
}

/** Files without DEBIAN/, in byte order of their paths. */
export async function filesOf(tree: string): Promise<{ readonly path: string; readonly size: number; readonly mode: number }[]> {
  const entries = (await readdir(tree, { recursive: true, withFileTypes: true })).filter((entry) => !entry.isDirectory());
  const paths = entries.map((entry) => join(entry.parentPath, entry.name).slice(tree.length + 1)).filter((path) => !path.startsWith('DEBIAN/'));
  return Promise.all(paths.toSorted().map(async (path) => {
    const { size, mode } = await lstat(join(tree, path));
    return { path, size, mode: mode & 0o777 };
  }));
}

/** What is run may be run, all may be read by all and written by root; every time is the commit's. */
async function normalise(tree: string, epochSeconds: number): Promise<void> {
  for (const entry of await readdir(tree, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    await chmod(path, entry.isDirectory() || isRun(path.slice(tree.length + 1)) ? 0o755 : 0o644);
    await utimes(path, epochSeconds, epochSeconds);
  }
  await chmod(tree, 0o755);
}

const isRun = (path: string): boolean => path === `${APP}/bin/node` || dirname(path) === 'usr/bin' || dirname(path) === 'usr/lib/tenzro-edge' || (MAINTAINER_SCRIPTS as readonly string[]).includes(path.replace('DEBIAN/', ''));
