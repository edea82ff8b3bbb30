/** tenzro-data.service's own script on a real disk: a loop device with the partitions of a card, in a name space of its own. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, openSync, readFileSync, readSync, closeSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { parseDataState, dataFaults, type DataState } from '#runtime/board/dataState.ts';
import { SYSTEM_ROOT } from '#image/system/manifest.ts';
import { requirePeer } from '#test/support/peers.ts';
import { skipBecause } from '#test/support/skips.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const LIB = join(SYSTEM_ROOT, 'usr/lib/tenzro-edge');
const MIB = 1024 * 1024;
const SECTOR = 512;
/** Of what is looked at; the partition is a little larger. */
const DATA_BYTES = 160 * MIB;
/** Each start runs a dozen programs of the system. */
const START_MS = 30_000;
const SBIN = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;

const ran = (program: string, args: readonly string[], input?: string): string =>
  execFileSync(program, [...args], { encoding: 'utf8', env: { ...process.env, PATH: SBIN }, ...(input === undefined ? { stdio: ['ignore', 'pipe', 'pipe'] } : { input, stdio: ['pipe', 'pipe', 'pipe'] }) });

describe('board: the data partition', function () {
  this.timeout(START_MS);
  let dir: TempDir;
  let card: string;
  let loop: string | undefined;
  let unshare: string;

  before(function () {
    if (process.getuid?.() !== 0) skipBecause(this, 'loop devices and mounts are root\'s to make');
    unshare = requirePeer(this, 'unshare');
    for (const peer of ['losetup', 'sfdisk', 'mke2fs', 'systemd-repart'] as const) requirePeer(this, peer);
    try {
      ran('losetup', ['--find']);
    } catch (cause) {
      skipBecause(this, `this machine makes no loop devices: ${String(cause).slice(0, 120)}`);
    }
  });

  beforeEach(() => {
    dir = tempDir('board-data');
    card = join(dir.path, 'card.img');
    writeFileSync(card, '');
    truncateSync(card, 64 * MIB);
    ran('sfdisk', ['--quiet', card], 'label: gpt\nsize=8M,type=uefi,name=boot\nsize=1M,type=linux,name=bootstate\nsize=8M,type=linux,name=system-a\nsize=8M,type=linux,name=system-b\n');
    makeHybrid(card);
    truncateSync(card, 192 * MIB);
    insert();
  });
  afterEach(() => {
    pull();
    dir[Symbol.dispose]();
  });

  function insert(): void { loop = ran('losetup', ['--find', '--show', '--partscan', card]).trim(); }
  function pull(): void {
    if (loop !== undefined) ran('losetup', ['--detach', loop]);
    loop = undefined;
  }

  /** One start; `then` is a shell script that sees the mounts. `path`: programs that come first. */
  function start(then = '', path = ''): { readonly state: DataState; readonly said: string; readonly out: string } {
    ran('partx', ['--update', loop ?? assert.fail('no card')]); // kernels without GPT, as of small virtual machines, take it from there
    const state = join(dir.path, 'state');
    rmSync(state, { recursive: true, force: true });
    mkdirSync(join(dir.path, 'data'), { recursive: true });
    writeFileSync(join(dir.path, 'passwd'), `${readFileSync('/etc/passwd', 'utf8')}tenzro:x:900:900::/:/bin/false\n`);
    writeFileSync(join(dir.path, 'group'), `${readFileSync('/etc/group', 'utf8')}tenzro:x:900:\n`);
    const script = `mount --bind passwd /etc/passwd && mount --bind group /etc/group && { sh ${LIB}/data >&2; cd "$DATA"; ${then}\n}`;
    const { stdout, stderr: all } = spawnSync(unshare, ['--mount', '--propagation', 'private', 'sh', '-c', script], {
      cwd: dir.path, encoding: 'utf8', timeout: START_MS,
      env: { ...process.env, PATH: `${path}${SBIN}`, DISK: loop, DATA: join(dir.path, 'data'), STATE: state, LIB, CONSOLE: join(dir.path, 'console') },
    });
    const stderr = all.slice(-2_000);
    const found = parseDataState(readFileSync(join(state, 'data'), 'utf8'));
    assert.ok(found, stderr);
    return { state: found, said: stderr, out: stdout };
  }

  const startOfData = (): number => Number(/start= *(\d+).*name="data"/.exec(ran('sfdisk', ['--dump', card]))?.[1] ?? assert.fail('no data partition')) * SECTOR;

  it('is made on the first start, found on the next, and grows with the card; the hybrid MBR stays to the byte', () => {
    const mbr = readFileSync(card).subarray(0, SECTOR);
    const first = start('echo acknowledged > tenzro/entry && stat -c "%U %a" tenzro config network && findmnt -no OPTIONS .');
    assert.equal(first.state.mounted, 'rw', first.said);
    assert.match(first.out, /^tenzro 700\ntenzro 750\ntenzro 700\n.*nosuid,nodev,noexec.*errors=remount-ro/);
    const second = start('cat tenzro/entry');
    assert.match(second.out, /acknowledged/, second.said);
    pull();
    truncateSync(card, 256 * MIB);
    insert();
    const grown = start('cat tenzro/entry');
    assert.match(grown.out, /acknowledged/);
    assert.ok(Number(/size= *(\d+).*name="data"/.exec(ran('sfdisk', ['--dump', card]))?.[1]) * SECTOR > 200 * MIB);
    assert.deepEqual(readFileSync(card).subarray(0, SECTOR), mbr);
    assert.deepEqual(dataFaults(grown.state), []);
  });

  it('is made anew when making it was cut short: until its file system is whole it is in no table', () => {
    const bin = join(dir.path, 'bin');
    mkdirSync(bin);
    writeFileSync(join(bin, 'mkfs.ext4'), '#!/bin/sh\nfor last; do :; done\nhead -c 2000000 /dev/urandom | dd of="$last" conv=notrunc status=none\nkill -9 $PPID\n');
    chmodSync(join(bin, 'mkfs.ext4'), 0o755);
    const cut = start('', `${bin}:`);
    assert.deepEqual([cut.state.mounted, cut.state.partition], ['memory', ''], cut.said);
    assert.equal(start().state.mounted, 'rw');
  });

  it('comes back from a superblock that is gone, with what was on it', () => {
    start('echo acknowledged > tenzro/entry');
    write(card, startOfData(), Buffer.alloc(4_096));
    const { state, out, said } = start('cat tenzro/entry');
    assert.equal(state.mounted, 'rw', said);
    assert.match(out, /acknowledged/);
    assert.deepEqual(dataFaults(state).map(({ code }) => code), ['board.data_repaired']);
  });

  it('is left as it is when nothing of it can be used: the gateway runs in memory, owned by nobody', () => {
    start();
    const from = startOfData();
    write(card, from, Buffer.alloc(DATA_BYTES, 0xa5));
    const before = sample(card, from);
    const { state, out, said } = start('findmnt -no FSTYPE . && stat -c "%U %a" tenzro config/tenzro.yaml && cat config/tenzro.yaml');
    assert.equal(state.mounted, 'memory', said);
    assert.match(out, /^tmpfs\ntenzro 700\ntenzro 640\n[^]*claim:\n  enabled: false/);
    assert.match(readFileSync(join(dir.path, 'console'), 'utf8'), /the data partition is not as it should be/);
    assert.deepEqual(dataFaults(state).map(({ code }) => code), ['board.data_emergency']);
    assert.deepEqual(sample(card, from), before);
  });

  it('does not begin anew what a repair leaves empty', () => {
    start('echo acknowledged > tenzro/entry');
    write(card, startOfData(), Buffer.alloc(64 * MIB, 0xa5));
    const { state, said } = start();
    assert.equal(state.mounted, 'memory', said);
    assert.deepEqual(dataFaults(state).map(({ code }) => code), ['board.data_emergency']);
  });

  it('is formatted only when the operator says so, and only while it is not in use', () => {
    const bin = join(dir.path, 'bin');
    mkdirSync(bin);
    writeFileSync(join(bin, 'systemctl'), '#!/bin/sh\necho "systemctl $*"\n', { mode: 0o755 });
    const reset = (): { readonly status: number | null; readonly stdout: string } => spawnSync('sh', [join(LIB, 'reset-data')], { encoding: 'utf8', env: { ...process.env, PATH: `${bin}:${SBIN}`, STATE: join(dir.path, 'state') } });
    start('echo acknowledged > tenzro/entry');
    assert.deepEqual([reset().status, start('cat tenzro/entry').out], [1, 'acknowledged\n']);
    write(card, startOfData(), Buffer.alloc(DATA_BYTES, 0xa5));
    assert.equal(start().state.mounted, 'memory');
    assert.equal(reset().stdout, 'systemctl reboot\n');
    assert.equal(start().state.mounted, 'rw');
  });

  it('is only read where the card takes no writes', () => {
    start('echo acknowledged > tenzro/entry');
    pull();
    loop = ran('losetup', ['--find', '--show', '--partscan', '--read-only', card]).trim();
    const { state, out, said } = start('cat tenzro/entry');
    assert.deepEqual([state.mounted, state.isLocked], ['ro', true], said);
    assert.match(out, /acknowledged/);
  });
});

function makeHybrid(file: string): void {
  const entry = (type: number, from: number, sectors: number): Buffer => {
    const bytes = Buffer.alloc(16);
    bytes.writeUInt8(type, 4);
    bytes.writeUInt32LE(from, 8);
    bytes.writeUInt32LE(sectors, 12);
    return bytes;
  };
  write(file, 446, Buffer.concat([entry(0x0c, 2_048, 8 * MIB / SECTOR), entry(0xee, 1, 2_047)]));
}

function write(file: string, at: number, bytes: Buffer): void {
  const handle = openSync(file, 'r+');
  writeSync(handle, bytes, 0, bytes.length, at);
  closeSync(handle);
}

function sample(file: string, at: number): Buffer {
  const [handle, bytes] = [openSync(file, 'r'), Buffer.alloc(DATA_BYTES)];
  readSync(handle, bytes, 0, bytes.length, at);
  closeSync(handle);
  return bytes;
}
