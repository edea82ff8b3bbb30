/** The locks of the tools and of the card's Debian, and what is made of them: no root, no network. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { CROSS_LOCK, crossPackages, HEADERS_LOCK, headersPackage } from '#image/base/emulatedTpm.ts';
import { isRegistered } from '#image/base/emulation.ts';
import { BASE_LOCK, installedFaults, kernelVersionOf } from '#image/base/tree.ts';
import { debsFromUris, epochSecondsOf, formatLock, keyOf, parseLock, type PackageLock } from '#image/tools/lock.ts';
import { BASE_PACKAGES, TOOL_PACKAGES } from '#image/tools/packages.ts';
import { BuildProblem } from '#image/tools/problem.ts';
import { plainDeb } from '#image/tools/repository.ts';
import { enterArguments } from '#image/tools/room.ts';
import { TOOLS_LOCK } from '#image/tools/tools.ts';
import { tempDir } from '#test/support/temp.ts';

const HASH = 'ab'.repeat(32);
const SMALL: PackageLock = {
  architecture: 'arm64', snapshot: '20261123T103100Z', requested: ['zstd'],
  packages: [
    { name: 'linux-image-6.12.1+deb13-arm64', version: '6.12.1-1', architecture: 'arm64', sha256: HASH, sizeBytes: 5, path: 'debian-security/pool/main/l/linux/linux-image_6.12.1-1_arm64.deb' },
    { name: 'zstd', version: '1:1.5.7+dfsg-1', architecture: 'all', sha256: HASH, sizeBytes: 7, path: 'debian/pool/main/libz/libzstd/zstd_1.5.7+dfsg-1_all.deb' },
  ],
};

/** The small lock with one value of its last package replaced. */
const spoilt = (change: Readonly<Record<string, unknown>>): string => JSON.stringify({ ...SMALL, packages: [SMALL.packages[0], { ...SMALL.packages[1], ...change }] });

const refusal = (text: string): string => {
  try { parseLock(text, 'the.lock'); } catch (error) {
    assert.ok(error instanceof BuildProblem && error.kind === 'lock');
    return error.message;
  }
  throw new assert.AssertionError({ message: 'taken' });
};

const lockIn = (file: string): PackageLock => parseLock(readFileSync(file, 'utf8'), file);
const kernel = kernelVersionOf(lockIn(BASE_LOCK));

describe('image: package locks', () => {
  for (const [file, architecture, names] of [
    [TOOLS_LOCK, 'amd64', TOOL_PACKAGES], [BASE_LOCK, 'arm64', BASE_PACKAGES], [CROSS_LOCK, 'amd64', crossPackages(kernel)], [HEADERS_LOCK, 'arm64', [headersPackage(kernel)]],
  ] as const) {
    it(`lock all that is asked for in ${basename(file)} of ${basename(dirname(file))}, as they would be written`, () => {
      const lock = lockIn(file);
      assert.equal(lock.architecture, architecture);
      assert.deepEqual(new Set(lock.requested), new Set(names));
      assert.equal(formatLock(lock), readFileSync(file, 'utf8'));
    });
  }

  it('carry no ssh server, no apt and no NetworkManager to the card', () => {
    const names = lockIn(BASE_LOCK).packages.map(({ name }) => name);
    assert.deepEqual(names.filter((name) => ['apt', 'openssh-server', 'network-manager', 'sudo'].includes(name)), []);
  });

  it('go through text and back', () => { assert.deepEqual(parseLock(formatLock(SMALL), 'the.lock'), SMALL); });

  it('are refused by the entry that is wrong', () => {
    const wrong = [{ sha256: HASH.toUpperCase() }, { sha256: 'ab' }, { architecture: 'amd64' }, { version: '1 && reboot' }, { name: '../zstd' }, { name: 'Zstd' }, { sizeBytes: -1 }, { sizeBytes: 1e12 }, { sizeBytes: 1.5 },
      { path: 'debian/pool/../../etc/x.deb' }, { path: '/debian/pool/main/z.deb' }, { path: 'http://evil/pool/z.deb' }, { path: undefined }];
    for (const change of wrong) assert.match(refusal(spoilt(change)), /^the\.lock: packages\[1\] is no locked package for arm64\n.*--update-lock/, JSON.stringify(change));
  });

  it('are refused as a whole', () => {
    for (const [text, why] of [
      ['{', 'no JSON'], ['[]', 'no object'], [JSON.stringify({ ...SMALL, architecture: 'riscv64' }), 'architecture'], [JSON.stringify({ ...SMALL, snapshot: 'today' }), 'snapshot'],
      [JSON.stringify({ ...SMALL, packages: [] }), 'packages'], [JSON.stringify({ ...SMALL, packages: SMALL.packages.toReversed() }), 'sorted'],
      [JSON.stringify({ ...SMALL, packages: [SMALL.packages[1], SMALL.packages[1]] }), 'each once'], [JSON.stringify({ ...SMALL, requested: ['curl'] }), 'curl is requested'],
    ] as const) assert.ok(refusal(text).includes(why), why);
  });

  it('name results by every input, and by where one ends', () => {
    const keys = [keyOf(['a', 'b']), keyOf(['ab', '']), keyOf(['b', 'a']), keyOf(['a']), keyOf([formatLock(SMALL)]), keyOf([formatLock({ ...SMALL, snapshot: '20261123T103101Z' })])];
    assert.equal(new Set(keys).size, keys.length);
    assert.equal(keyOf(['a', 'b']), keyOf([Buffer.from('a'), 'b']));
  });

  it('say the kernel, and the newest time of a file', () => {
    assert.equal(kernelVersionOf(SMALL), '6.12.1+deb13-arm64');
    assert.equal(epochSecondsOf(SMALL), Date.UTC(2026, 10, 23, 10, 31) / 1_000);
    assert.throws(() => kernelVersionOf({ ...SMALL, packages: [] }), /no kernel is locked/);
  });

  it('are read from what apt prints', () => {
    const printed = `'http://m/debian/pool/main/r/rauc/rauc_1.13-3%2bdeb13u1_arm64.deb' rauc_1%3a1.13-3+deb13u1_arm64.deb 184760 SHA256:${HASH}\n`
      + `'http://other/debian/pool/main/x/x/x_1_arm64.deb' x_1_arm64.deb 1 SHA256:${HASH}\n'http://m/debian/pool/main/y/y/y_1_arm64.deb' y_1_arm64.deb 1 MD5Sum:00\n`;
    assert.deepEqual(debsFromUris(printed, 'http://m'), [{ name: 'rauc', version: '1:1.13-3+deb13u1', architecture: 'arm64', sha256: HASH, sizeBytes: 184_760, path: 'debian/pool/main/r/rauc/rauc_1.13-3+deb13u1_arm64.deb' }]);
  });

  it('are held against what dpkg installed', () => {
    const status = 'Package: zstd\nStatus: install ok installed\nVersion: 1:1.5.7+dfsg-1\n\nPackage: bash\nStatus: install ok installed\nVersion: 5\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n';
    assert.deepEqual(installedFaults(status, SMALL), ['bash 5', 'linux-image-6.12.1+deb13-arm64 6.12.1-1']);
  });
});

describe('image: the tools', () => {
  it('unpack packages once, so that dpkg reads them still', function unpacking() {
    this.timeout(20_000);
    using dir = tempDir('plain-deb');
    const tarOf = (name: string, text: string): Buffer => {
      writeFileSync(join(dir.path, name), text);
      return execFileSync('tar', ['--owner=0', '--group=0', '-C', dir.path, '-c', `./${name}`], { maxBuffer: 2 ** 20 });
    };
    const file = join(dir.path, 'plain.deb');
    writeFileSync(file, plainDeb(tarOf('control', 'Package: odd\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: odd\n'), tarOf('odd', 'x')));
    assert.equal(execFileSync('dpkg-deb', ['--field', file, 'Package'], { encoding: 'utf8' }), 'odd\n');
    assert.match(execFileSync('dpkg-deb', ['--contents', file], { encoding: 'utf8' }), / \.\/odd\n$/);
  });

  it('see host folders nowhere but under /mnt', () => {
    for (const inside of ['/etc', '/mnt', '/mnt/../etc', '/mnt/a/b']) assert.throws(() => enterArguments('/r', 'true', [], { binds: { [inside]: '/x' } }), BuildProblem, inside);
    const args = enterArguments('/r', 'rauc', ['--version'], { binds: { '/mnt/out': '/x y' }, env: { A: 'b c' } });
    assert.deepEqual(args.slice(args.indexOf('/r')), ['/r', '/', '/mnt/out', '/x y', '--', '-i', 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'HOME=/tmp', 'LC_ALL=C.UTF-8', 'A=b c', 'rauc', '--version']);
  });

  it('know their own emulator from a foreign, stale or switched off one', () => {
    const entry = (state: string, interpreter: string, flags: string): string => `${state}\ninterpreter ${interpreter}\nflags: ${flags}\noffset 0\nmagic 7f45\n`;
    assert.equal(isRegistered(entry('enabled', '/t/qemu', 'F'), '/t/qemu'), true);
    for (const [told, why] of [[entry('disabled', '/t/qemu', 'F'), 'off'], [entry('enabled', '/old/qemu', 'F'), 'stale'], [entry('enabled', '/t/qemu', 'OC'), 'not held open'], ['', 'none']] as const) assert.equal(isRegistered(told, '/t/qemu'), false, why);
  });
});
