import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findPeer } from '#test/support/peers.ts';
import { skipBecause } from '#test/support/skips.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const SCRIPT = fileURLToPath(new URL('../../image/jetson/prepare-rootfs.sh', import.meta.url));
const REFUSED = 2;
/** Only called where the suite has found it. */
const program = (name: 'dpkg-deb' | 'unshare'): string => findPeer(name) ?? name;

/** The outline of a tree on which apply_binaries.sh has run, without anything in it that could run. */
const TREE: Readonly<Record<string, string>> = {
  'flash.sh': '#!/bin/sh\n', 'apply_binaries.sh': '#!/bin/sh\n',
  'rootfs/etc/nv_tegra_release': '# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n',
  'rootfs/etc/os-release': 'ID=ubuntu\nVERSION_ID="22.04"\n',
  'rootfs/var/lib/dpkg/status': ['nvidia-l4t-core', 'dpkg'].map((name) => `Package: ${name}\nStatus: install ok installed\nArchitecture: arm64\nMaintainer: nobody\nVersion: 36.4.3\nDescription: outline\n\n`).join(''),
};

describe('jetson: prepare-rootfs.sh', () => {
  let dir: TempDir;
  before(function () { if (findPeer('dpkg-deb') === undefined || findPeer('unshare') === undefined || process.platform !== 'linux') skipBecause(this, 'needs dpkg and util-linux'); });
  beforeEach(() => { dir = tempDir('jetson'); });
  afterEach(() => { dir[Symbol.dispose](); });

  const lay = (files: Readonly<Record<string, string>>): void => {
    for (const [path, text] of Object.entries(files)) {
      const file = join(dir.path, 'l4t', path);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, text);
      if (path.endsWith('.sh')) chmodSync(file, 0o755);
    }
  };
  const run = (...args: readonly string[]): { status: number | null; out: string; err: string } => {
    const { status, stdout, stderr } = spawnSync('bash', [SCRIPT, ...args], { encoding: 'utf8' });
    return { status, out: stdout, err: stderr };
  };
  const refusal = (...more: readonly string[]): string => {
    const { status, err } = run('--l4t', join(dir.path, 'l4t'), '--dry-run', ...more);
    assert.equal(status, REFUSED, err);
    return err;
  };
  /** A package with papers and nothing else. */
  const deb = (control: string): string => {
    const folder = join(dir.path, 'deb');
    mkdirSync(join(folder, 'DEBIAN'), { recursive: true });
    writeFileSync(join(folder, 'DEBIAN/control'), `${control}Maintainer: nobody <nobody@localhost>\nDescription: outline\n`);
    const file = join(dir.path, 'package.deb');
    assert.equal(spawnSync(program('dpkg-deb'), ['--root-owner-group', '--build', folder, file]).status, 0);
    return file;
  };

  it('says how it is used, and refuses what it does not know', () => {
    const { status, out } = run('--help');
    assert.equal(status, 0);
    for (const option of ['--l4t DIR', '--deb FILE', '--dry-run']) assert.ok(out.includes(option), option);
    for (const args of [[], ['--l4t'], ['--force'], ['--l4t', join(dir.path, 'nowhere')]]) assert.equal(run(...args).status, REFUSED, args.join(' '));
  });

  it('refuses what is no tree of Jetson Linux with NVIDIA\'s part in it', () => {
    lay({ 'flash.sh': '' });
    assert.match(refusal(), /is no Linux_for_Tegra folder/);
    lay({ 'apply_binaries.sh': '' });
    assert.match(refusal(), /rootfs is no folder of its own/);
    lay({ 'rootfs/README': '' });
    assert.match(refusal(), /holds no Debian system/);
    lay({ 'rootfs/var/lib/dpkg/status': '' });
    assert.match(refusal(), /sudo \.\/apply_binaries\.sh/);
    lay({ ...TREE, 'rootfs/var/lib/dpkg/status': '' });
    assert.match(refusal(), /nvidia-l4t-core is not installed/);
  });

  it('refuses a link in place of the tree', () => {
    lay(TREE);
    rmSync(join(dir.path, 'l4t/rootfs'), { recursive: true });
    symlinkSync('/', join(dir.path, 'l4t/rootfs'));
    assert.match(refusal(), /rootfs is no folder of its own/);
  });

  it('refuses the root of the running system, mounted there a second time', function () {
    if (process.geteuid?.() !== 0) skipBecause(this, 'needs root, to mount');
    lay(TREE);
    const { status, stderr } = spawnSync(program('unshare'), ['--mount', 'sh', '-c', 'mount --bind / "$1/rootfs" && exec bash "$2" --l4t "$1"', 'sh', join(dir.path, 'l4t'), SCRIPT], { encoding: 'utf8' });
    assert.equal(status, REFUSED, stderr);
    assert.match(stderr, /is the root of the running system/);
  });

  it('refuses another JetPack, system or processor', () => {
    lay({ ...TREE, 'rootfs/etc/nv_tegra_release': '# R35 (release), REVISION: 5.0, GCID: 1\n' });
    assert.match(refusal(), /R35\.5\.0.*only R36/);
    lay({ ...TREE, 'rootfs/etc/nv_tegra_release': 'R36\n' });
    assert.match(refusal(), /unknown release/);
    lay({ ...TREE, 'rootfs/etc/os-release': 'ID=ubuntu\nVERSION_ID="20.04"\n' });
    assert.match(refusal(), /is ubuntu 20\.04/);
    lay({ ...TREE, 'rootfs/var/lib/dpkg/status': TREE['rootfs/var/lib/dpkg/status']?.replaceAll('arm64', 'amd64') ?? '' });
    assert.match(refusal(), /is not arm64 but amd64/);
  });

  it('refuses another package than ours for arm64', () => {
    lay(TREE);
    assert.match(refusal('--deb', join(dir.path, 'none.deb')), /no file/);
    assert.match(refusal('--deb', join(dir.path, 'l4t/flash.sh')), /is no tenzro-edge for arm64/);
    assert.match(refusal('--deb', deb('Package: tenzro-edge\nVersion: 1\nArchitecture: amd64\n')), /is no tenzro-edge for arm64/);
  });

  it('refuses a tree for which there is no room', () => {
    lay(TREE);
    assert.match(refusal('--deb', deb('Package: tenzro-edge\nVersion: 1\nArchitecture: arm64\nInstalled-Size: 4000000000\n')), /MiB free, \d+ are needed|lies on /);
  });

  it('leaves a tree as it is when it only looks, or has nothing to do', () => {
    lay({ ...TREE, 'rootfs/var/lib/dpkg/status': `${TREE['rootfs/var/lib/dpkg/status'] ?? ''}Package: tenzro-edge\nStatus: install ok installed\nArchitecture: arm64\nMaintainer: nobody\nVersion: 1\nDescription: outline\n\n`, 'rootfs/var/lib/dpkg/info/tenzro-edge.list': '/.\n' });
    for (const name of ['nvidia-l4t-core', 'dpkg']) lay({ [`rootfs/var/lib/dpkg/info/${name}.list`]: '/.\n' });
    const all = (): string[] => readdirSync(join(dir.path, 'l4t'), { recursive: true }).map(String).toSorted();
    const before = all();
    const { status, out, err } = run('--l4t', join(dir.path, 'l4t'), '--deb', deb('Package: tenzro-edge\nVersion: 1\nArchitecture: arm64\nInstalled-Size: 1\n'));
    assert.equal(status, 0, err);
    assert.match(out, /already, every file as packaged; nothing to do/);
    assert.deepEqual(all(), before);
  });
});
