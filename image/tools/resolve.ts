/** Makes a lock: apt on this machine says what a request comes to in Debian 13 today. Its signatures are apt's to check. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { debsFromUris, type LockArchitecture, type PackageLock } from './lock.ts';
import { BuildProblem } from './problem.ts';
import { debianMirror } from './fetch.ts';

const run = promisify(execFile);

export interface Request {
  readonly architecture: LockArchitecture;
  readonly names: readonly string[];
  /** The day of the archive: now. */
  readonly snapshot: string;
  /** Lock the named packages without what they depend on: to unpack, not to install. */
  readonly alone?: boolean;
}

/** Needs apt and debian-archive-keyring, not root. */
export async function resolveLock({ architecture, names, snapshot, alone = false }: Request): Promise<PackageLock> {
  const dir = await mkdtemp(join(tmpdir(), 'tenzro-apt-'));
  const mirror = debianMirror();
  try {
    for (const folder of ['state/lists/partial', 'cache/archives/partial']) await mkdir(join(dir, folder), { recursive: true });
    await writeFile(join(dir, 'status'), '');
    const signed = '[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]';
    await writeFile(join(dir, 'sources.list'), [
      `deb ${signed} ${mirror}/debian trixie main non-free-firmware`, `deb ${signed} ${mirror}/debian trixie-updates main`,
      `deb ${signed} ${mirror}/debian-security trixie-security main non-free-firmware`, '',
    ].join('\n'));
    const options = optionsOf(dir, architecture);
    await run('apt-get', [...options, '-qq', 'update']);
    const { stdout } = await run('apt-get', [...options, '-qq', '-y', '--no-install-recommends', '--print-uris', 'install', '?essential', ...names], { maxBuffer: 16 * 2 ** 20 });
    return { architecture, snapshot, requested: names, packages: debsFromUris(stdout, mirror).filter(({ name }) => !alone || names.includes(name)) };
  } catch (cause) {
    throw new BuildProblem('unreachable', `apt cannot resolve the packages for ${architecture}`, `Check that ${mirror} is reached and that apt and debian-archive-keyring (2023.3+deb12u2 or newer) are installed.`, { cause });
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** An apt of its own: nothing of this machine's sources, pins or packages counts. */
function optionsOf(dir: string, architecture: LockArchitecture): string[] {
  const settings: Readonly<Record<string, string>> = {
    'Dir::State': join(dir, 'state'), 'Dir::State::status': join(dir, 'status'), 'Dir::Cache': join(dir, 'cache'), 'Dir::Etc::sourcelist': join(dir, 'sources.list'),
    'Dir::Etc::sourceparts': '/dev/null', 'Dir::Etc::preferences': '/dev/null', 'Dir::Etc::preferencesparts': '/dev/null', 'Dir::Etc::parts': '/dev/null',
    'APT::Architecture': architecture, 'APT::Architectures::': architecture, 'APT::Sandbox::User': 'root', 'Acquire::Languages': 'none', 'Acquire::ForceHash': 'SHA256', 'APT::Update::Error-Mode': 'any',
    'pkgCacheGen::ForceEssential': ',',
  };
  return Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
}
