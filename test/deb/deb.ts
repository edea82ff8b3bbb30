/**
 * `npm run test:deb [-- ROOT …] [-- --from REV]`: installs the package in fresh minimal roots of Debian and Ubuntu and does the main job there, as root of this machine; one
 * line a root. Before it the package of an older commit, whose datachain has to go on.
 * Roots are made by mmdebstrap once and kept packed. ROOT: `bookworm-amd64`, `noble-arm64` …; all of amd64 without. arm64 runs under qemu-user where the kernel has it registered.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, readFile, readdir, rename, rm, stat, symlink } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { buildPackage } from '#image/deb/package.ts';
import type { DebianArch } from '#image/deb/papers.ts';
import { findPeer } from '#test/support/peers.ts';

const run = promisify(execFile);
const HERE = import.meta.dirname;
const REPOSITORY = join(HERE, '..', '..');
/** qemu-user's own registration, and the one that `npm run build:base` makes with a newer qemu. */
const ARM64_HANDLERS = ['tenzro-edge-arm64', 'qemu-aarch64'];
const ROOT_DEADLINE_MS = 900_000;

interface Distribution {
  readonly title: string;
  readonly mirror: Readonly<Record<DebianArch, string>>;
  readonly components: string;
}

const DEBIAN = { mirror: { amd64: 'http://deb.debian.org/debian', arm64: 'http://deb.debian.org/debian' }, components: 'main' };
const UBUNTU = { mirror: { amd64: 'http://archive.ubuntu.com/ubuntu', arm64: 'http://ports.ubuntu.com/ubuntu-ports' }, components: 'main' };
const DISTRIBUTIONS: Readonly<Record<string, Distribution>> = {
  bookworm: { title: 'Debian 12', ...DEBIAN }, trixie: { title: 'Debian 13', ...DEBIAN },
  jammy: { title: 'Ubuntu 22.04', ...UBUNTU }, noble: { title: 'Ubuntu 24.04', ...UBUNTU },
};

/** `--trust FILE` of Ubuntu's archive keys; Debian's lie where mmdebstrap looks. */
const UBUNTU_KEYS = '/usr/share/keyrings/ubuntu-archive-keyring.gpg';

/** Path of the packed root. Throws where the mirror is out of reach. */
async function packedRoot(suite: string, arch: DebianArch, { mirror, components }: Distribution): Promise<string> {
  const home = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'tenzro-edge-build');
  const packed = join(home, `root-${suite}-${arch}.tar`);
  if (await exists(packed)) return packed;
  await mkdir(home, { recursive: true });
  const next = packed.replace('.tar', '.next.tar');
  const signed = components === UBUNTU.components && mirror === UBUNTU.mirror ? `[signed-by=${UBUNTU_KEYS}] ` : '';
  await run('mmdebstrap', ['--mode=root', '--variant=minbase', '--include=apt', `--architectures=${arch}`, suite, next, `deb ${signed}${mirror[arch]} ${suite} ${components}`], { maxBuffer: 2 ** 26 });
  await rename(next, packed);
  return packed;
}

/** An older commit's package, by its own builder: newer ones know files that it does not have. */
async function olderPackage(arch: DebianArch, commit: string, out: string): Promise<string> {
  const clone = await mkdtemp(join(tmpdir(), 'tenzro-older-'));
  try {
    await run('git', ['clone', '--quiet', '--no-checkout', '--shared', REPOSITORY, clone]);
    await run('git', ['checkout', '--quiet', (await run('git', ['rev-parse', commit], { cwd: REPOSITORY })).stdout.trim()], { cwd: clone });
    await symlink(join(REPOSITORY, 'node_modules'), join(clone, 'node_modules'));
    const folder = join(out, 'older');
    await run(process.execPath, ['image/deb/build.ts', '--arch', arch, '--out', folder, '--draft'], { cwd: clone });
    const name = (await readdir(folder)).find((file) => file.endsWith(`_${arch}.deb`));
    if (name === undefined) throw new Error(`no package of ${commit}`);
    return join(folder, name);
  } finally {
    await rm(clone, { recursive: true, force: true });
  }
}

/** Everything in namespaces of its own: no network but loopback, and what is left running ends with them. Returns what the script says. */
async function tryIn(packed: string, deb: string, older: string): Promise<{ readonly code: number; readonly output: string; readonly facts: ReadonlyMap<string, string> }> {
  const root = await mkdtemp(join(tmpdir(), 'tenzro-root-'));
  try {
    await run('tar', ['-xpf', packed, '-C', root, '--numeric-owner']);
    await copyFile(deb, join(root, 'package.deb'));
    await copyFile(older, join(root, 'older.deb'));
    await copyFile(join(HERE, 'inside.sh'), join(root, 'inside.sh'));
    const child = spawn(findPeer('unshare') ?? '/usr/bin/unshare', ['--mount', '--net', '--pid', '--ipc', '--uts', '--fork', '--kill-child', 'bash', '-c', 'ip link set lo up && mount -t proc proc "$0/proc" && exec chroot "$0" bash /inside.sh', root], { stdio: ['ignore', 'pipe', 'pipe'], timeout: ROOT_DEADLINE_MS, killSignal: 'SIGKILL' });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => { output += text; });
    const [code] = await once(child, 'close') as [number | null];
    return { code: code ?? -1, output, facts: new Map([...output.matchAll(/^fact (\w+) ([\d.]+)$/gm)].map(([, name = '', value = '']) => [name, value])) };
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

/** Undefined where it can be tried, else why not. */
async function refusal(arch: DebianArch): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'needs root';
  if (arch === 'amd64') return process.arch === 'x64' ? undefined : 'needs an amd64 machine';
  if (process.arch === 'arm64') return undefined;
  const handlers = await Promise.all(ARM64_HANDLERS.map(async (name) => readFile(join('/proc/sys/fs/binfmt_misc', name), 'utf8').catch(() => '')));
  return handlers.some((handler) => /^flags: \w*F/m.test(handler)) ? undefined : 'the kernel has no qemu-aarch64 registered with flag F (npm run build:base registers it, or apt install qemu-user-static binfmt-support)';
}

const exists = async (path: string): Promise<boolean> => stat(path).then(() => true, () => false);
const say = (line: string): void => { process.stdout.write(`${line}\n`); };

const { values: { from }, positionals } = parseArgs({ allowPositionals: true, options: { from: { type: 'string', default: 'HEAD~25' } } });
const wanted = positionals.length > 0 ? positionals : Object.keys(DISTRIBUTIONS).map((suite) => `${suite}-amd64`);
const out = await mkdtemp(join(tmpdir(), 'tenzro-packages-'));
const packages = new Map<DebianArch, Promise<readonly [newer: string, older: string]>>();
try {
  for (const name of wanted) {
    const [suite = '', arch] = name.split('-');
    const distribution = DISTRIBUTIONS[suite];
    if (distribution === undefined || (arch !== 'amd64' && arch !== 'arm64')) throw new Error(`no such root: ${name}`);
    const why = await refusal(arch);
    if (why !== undefined) { say(`${distribution.title} ${arch}: skipped: ${why}`); continue; }
    const built = packages.get(arch) ?? buildPackage({ arch, out, compression: 'draft' }).then(async ({ file }) => [file, await olderPackage(arch, from, out)] as const);
    packages.set(arch, built);
    const packed = await packedRoot(suite, arch, distribution).catch((error: unknown) => error as Error);
    if (packed instanceof Error) { say(`${distribution.title} ${arch}: skipped: no root could be made: ${packed.message.trim().split('\n').at(-1)}`); continue; }
    const { code, output, facts } = await tryIn(packed, ...await built);
    say(`${distribution.title} ${arch}: ${code === 0 ? 'passed' : 'FAILED'}; ${[...facts].map(([key, value]) => `${key} ${value}`).join(', ')}`);
    if (code !== 0) { process.exitCode = 1; say(output); }
  }
} finally {
  await rm(out, { recursive: true, force: true });
}
