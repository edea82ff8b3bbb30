/** What is laid over Debian, as systemd, dash and the layout of the card read it. */
import assert from 'node:assert/strict';
import { chmodSync, cpSync, lstatSync, mkdirSync, readFileSync, readdirSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BOOT_STATE_BYTES, COMPATIBLE, PARTITIONS } from '#image/layout.ts';
import { laySystem } from '#image/system/lay.ts';
import { SYSTEM, SYSTEM_ROOT } from '#image/system/manifest.ts';
import { readConfigText } from '#runtime/config/load.ts';
import { BOOT_FILES } from '#runtime/board/firstBoot.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const UNITS = 'usr/lib/systemd/system';
const ROOT = join(import.meta.dirname, '..', '..');
/** Debian's, less what it does not say to systemd-analyze. */
const FOREIGN = ['systemd-resolved.service', 'systemd-networkd.service', 'systemd-timesyncd.service', 'wpa_supplicant@.service', 'rauc.service'];
const PROGRAMS = ['usr/bin/tenzro', 'usr/bin/systemctl', 'usr/bin/rm', 'bin/sh', 'bin/mkdir', 'usr/lib/tenzro-edge/slots', 'usr/bin/systemd-notify'];
const VERIFY_MS = 60_000;
/** By `systemd-analyze security`, of 10. What has more makes mounts that others shall see, or is a shell of root by intention. */
const EXPOSURE_MAX = 3;
const EXPOSED: Readonly<Record<string, number>> = { 'tenzro-data.service': 6.5, 'tenzro-maintenance.service': 10, 'tenzro-shell@.service': 10 };

const pathsUnder = (folder: string): readonly string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => !entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1)).toSorted();
const own = (path: string): string => readFileSync(join(SYSTEM_ROOT, path), 'utf8');
const ownUnits = readdirSync(join(SYSTEM_ROOT, UNITS));

function makeTree(tree: string): void {
  cpSync('/usr/lib/systemd/system', join(tree, UNITS), { recursive: true, verbatimSymlinks: true });
  for (const unit of readdirSync(join(ROOT, 'image/deb/system')).filter((name) => /\.(?:service|path)$/.test(name))) cpSync(join(ROOT, 'image/deb/system', unit), join(tree, UNITS, unit));
  for (const unit of FOREIGN) writeFileSync(join(tree, UNITS, unit), '[Service]\nExecStart=/bin/sh\n');
  for (const path of PROGRAMS) {
    mkdirSync(join(tree, path, '..'), { recursive: true });
    writeFileSync(join(tree, path), '#!/bin/sh\n');
    chmodSync(join(tree, path), 0o755);
  }
  mkdirSync(join(tree, 'etc/ssh'), { recursive: true });
  writeFileSync(join(tree, 'etc/ssh/ssh_host_ed25519_key'), 'shared\n');
  writeFileSync(join(tree, 'etc/hostname'), 'builder\n');
  writeFileSync(join(tree, 'etc/group'), 'root:x:0:\nnetdev:x:106:\ntenzro:x:996:\ndialout:x:20:\ntss:x:107:tss\n');
  writeFileSync(join(tree, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/bash\ntenzro:x:997:996::/var/lib/tenzro-edge:/usr/sbin/nologin\n');
  writeFileSync(join(tree, 'etc/shadow'), 'root:$y$j9T$abc:20415:0:99999:7:::\ntenzro:!:20415::::::\n');
}

describe('board: the system laid over Debian', function () {
  this.timeout(VERIFY_MS);
  let dir: TempDir;
  let tree: string;

  before(async function () {
    requirePeer(this, 'systemd-analyze');
    dir = tempDir('board-system');
    tree = join(dir.path, 'tree');
    makeTree(tree);
    await laySystem(tree);
  });
  after(() => { dir?.[Symbol.dispose](); });

  it('is the same when it is laid again', async () => {
    const look = (): readonly string[] => pathsUnder(tree).map((path) => `${path} ${lstatSync(join(tree, path)).mode} ${lstatSync(join(tree, path)).isSymbolicLink() ? readlinkSync(join(tree, path)) : readFileSync(join(tree, path), 'base64')}`);
    const first = look();
    await laySystem(tree);
    assert.deepEqual(look(), first);
  });

  it('holds nothing that two cards would share, and lets nobody log in', () => {
    for (const path of ['etc/hostname', 'etc/ssh/ssh_host_ed25519_key', 'var/lib/systemd/random-seed']) assert.equal(lstatSync(join(tree, path), { throwIfNoEntry: false }), undefined, path);
    assert.equal(own('etc/machine-id'), '');
    for (const path of pathsUnder(SYSTEM_ROOT)) assert.doesNotMatch(own(path), /PRIVATE KEY|^\s*(?:psk|password)\s*=|[0-9a-f]{64}/im, path);
    assert.equal(readFileSync(join(tree, 'etc/shadow'), 'utf8'), 'root:*::0:99999:7:::\ntenzro:*::0:99999:7:::\n');
  });

  it('gives the gateway the same numbers in every version, and its groups', () => {
    assert.match(readFileSync(join(tree, 'etc/passwd'), 'utf8'), /^tenzro:x:900:900:/m);
    const groups = readFileSync(join(tree, 'etc/group'), 'utf8');
    for (const line of ['tenzro:x:900:', 'netdev:x:106:', 'dialout:x:20:tenzro', 'tss:x:107:tss,tenzro', 'gpio:x:902:tenzro']) assert.ok(groups.split('\n').includes(line), line);
    assert.match(own('etc/fstab'), /gid=900/);
  });

  it('passes systemd-analyze verify, unit by unit', async () => {
    const units = [...ownUnits.map((unit) => unit.replace('@.', '@tty2.')), 'tenzro-edge.service', 'emergency.service', 'rescue.service', 'multi-user.target'];
    const { output } = await run('systemd-analyze', ['verify', `--root=${tree}`, ...units]);
    // Newer than a Debian 12 that this may run on.
    assert.deepEqual(output.split('\n').filter((line) => line !== '' && !/Unknown key '(?:RestartSteps|RestartMaxDelaySec)'/.test(line)), []);
  });

  it('is exposed as little as each unit allows', async () => {
    const worst: string[] = [];
    for (const unit of [...ownUnits.filter((name) => name.endsWith('.service')), 'tenzro-edge.service']) {
      const { stdout } = await run('systemd-analyze', ['security', '--offline=true', '--no-pager', `--root=${tree}`, unit.replace('@.', '@tty2.')]);
      const exposure = Number(/exposure level for \S+: ([\d.]+)/.exec(stdout)?.[1] ?? assert.fail(unit));
      if (exposure > (EXPOSED[unit] ?? EXPOSURE_MAX)) worst.push(`${unit} ${exposure}`);
    }
    assert.deepEqual(worst, []);
  });

  it('enables what [Install] of each unit says, and every program that a unit starts is there', () => {
    for (const unit of ownUnits) {
      const [, target] = /^WantedBy=(\S+)$/m.exec(own(join(UNITS, unit))) ?? [];
      assert.equal((SYSTEM.enabled as Readonly<Record<string, string>>)[unit], target, unit);
      for (const [, program = ''] of own(join(UNITS, unit)).matchAll(/^Exec\w+=[-+!]*(\/usr\/lib\/tenzro-edge\/\S+)/gm)) assert.equal(statSync(join(tree, program)).mode & 0o777, 0o755, program);
    }
    for (const path of SYSTEM.masked) assert.equal(readlinkSync(join(tree, path)), '/dev/null');
  });

  it('mounts where its folders are, from where the data script makes them', () => {
    for (const unit of ownUnits.filter((name) => name.endsWith('.mount'))) {
      const text = own(join(UNITS, unit));
      const [what = '', where = ''] = [/^What=\/data\/(\S+)$/m.exec(text)?.[1], /^Where=\/(\S+)$/m.exec(text)?.[1]];
      assert.equal(unit, `${where.replaceAll('-', '\\x2d').replaceAll('/', '-')}.mount`);
      assert.ok(statSync(join(tree, where)).isDirectory(), where);
      assert.match(own('usr/lib/tenzro-edge/data'), new RegExp(`(?:folders \\d+ \\w+ |DATA/)${what}\\b`));
      assert.match(text, /^Requires=tenzro-data\.service$/m);
    }
  });

  it('agrees with the layout of the card and with itself', () => {
    const names = PARTITIONS.map(({ name }) => name as string);
    for (const path of pathsUnder(SYSTEM_ROOT)) for (const [, name = ''] of own(path).matchAll(/(?:PARTLABEL=|by-partlabel\/)([\w-]+)/g)) assert.ok(names.includes(name), `${path}: ${name}`);
    assert.equal(Number(/^\/dev\S+ 0x0 (0x\w+)$/m.exec(own('etc/fw_env.config'))?.[1]), BOOT_STATE_BYTES);
    assert.match(own('etc/rauc/system.conf'), new RegExp(`^compatible=${COMPATIBLE}$`, 'm'));
    const typeOfData = /^Type=(\S+)$/m.exec(own('usr/lib/tenzro-edge/repart.d/50-data.conf'))?.[1] ?? '';
    assert.ok(!PARTITIONS.some(({ type }) => type === typeOfData), 'repart would take a slot for the data partition');
    for (const name of BOOT_FILES) assert.match(own(join(UNITS, 'tenzro-first-boot.service')), new RegExp(`^ConditionPathExists=\\|/boot/firmware/${name.replace('.', String.raw`\.`)}$`, 'm'));
  });

  it('lets nobody claim a gateway that runs in memory, and leaves the TPM to its true chain', () => {
    const { claim, attest } = readConfigText(own('usr/lib/tenzro-edge/emergency.yaml'), '/etc/tenzro-edge/tenzro.yaml', '/opt/tenzro-edge');
    assert.deepEqual([claim.enabled, attest.tpm.mode], [false, 'none']);
  });

  it('holds scripts that a POSIX shell reads', async () => {
    for (const path of SYSTEM.executables) {
      const { code, output } = await run('sh', ['-n', join(SYSTEM_ROOT, path)]);
      assert.deepEqual([code, output], [0, ''], path);
    }
  });
});

describe('board: what one card is called', () => {
  it('keeps its machine id once, and has a host name of its own or the chosen one', async () => {
    using dir = tempDir('board-host');
    const at = (name: string): string => join(dir.path, name);
    for (const folder of ['bin', 'kernel', 'state', 'data/board']) mkdirSync(at(folder), { recursive: true });
    writeFileSync(at('bin/fw_printenv'), `#!/bin/sh\ncat ${at('env')} 2>/dev/null\n`);
    writeFileSync(at('bin/fw_setenv'), `#!/bin/sh\n[ "$1" = machine_id ] && echo "$2" > ${at('env')}\n`);
    for (const name of ['fw_printenv', 'fw_setenv']) chmodSync(at(`bin/${name}`), 0o755);
    writeFileSync(at('cmdline'), 'root=PARTLABEL=system-a ro\n');
    const start = async (id: string): Promise<string> => {
      writeFileSync(at('id'), `${id}\n`);
      const { code, output } = await run('sh', [join(SYSTEM_ROOT, 'usr/lib/tenzro-edge/host')], { env: { ...process.env, PATH: `${at('bin')}:${process.env['PATH'] ?? ''}`, DATA: at('data'), STATE: at('state'), KERNEL: at('kernel'), CMDLINE: at('cmdline'), MACHINE_ID: at('id') } });
      assert.equal(code, 0, output);
      return readFileSync(at('kernel/hostname'), 'utf8');
    };
    const name = await start('0123456789abcdef0123456789abcdef');
    assert.match(name, /^tenzro-[0-9a-f]{6}$/);
    assert.equal(readFileSync(at('env'), 'utf8').trim(), '0123456789abcdef0123456789abcdef');
    assert.notEqual(await start('fedcba9876543210fedcba9876543210'), name);
    assert.equal(readFileSync(at('env'), 'utf8').trim(), '0123456789abcdef0123456789abcdef');
    writeFileSync(at('data/board/hostname'), 'hall-3');
    writeFileSync(at('data/board/timezone'), 'Europe/Berlin');
    assert.equal(await start('0123456789abcdef0123456789abcdef'), 'hall-3');
    assert.equal(readlinkSync(at('state/localtime')), '/usr/share/zoneinfo/Europe/Berlin');
    for (const hostile of ['a/../b', '-x', 'a b', '$(reboot)']) {
      writeFileSync(at('data/board/hostname'), hostile);
      assert.match(await start('0123456789abcdef0123456789abcdef'), /^tenzro-/);
    }
  });
});

describe('board: a start that nobody has confirmed', () => {
  it('ends; without data only as long as a slot has tries left', async () => {
    using dir = tempDir('board-trial');
    const at = (name: string): string => join(dir.path, name);
    mkdirSync(at('bin'));
    writeFileSync(at('bin/systemctl'), '#!/bin/sh\necho "systemctl $*"\n', { mode: 0o755 });
    const end = async (mounted: string, left: readonly [string, string]): Promise<string> => {
      writeFileSync(at('data'), `partition=/dev/a\nmounted=${mounted}\n`);
      writeFileSync(at('bin/fw_printenv'), `#!/bin/sh\nprintf 'BOOT_A_LEFT=${left[0]}\\nBOOT_B_LEFT=${left[1]}\\n'\n`, { mode: 0o755 });
      return (await run('sh', [join(SYSTEM_ROOT, 'usr/lib/tenzro-edge/trial')], { env: { ...process.env, PATH: `${at('bin')}:${process.env['PATH'] ?? ''}`, STATE: dir.path, CONSOLE: '/dev/null' } })).output;
    };
    const again = 'systemctl --force reboot\n';
    assert.equal(await end('rw', ['0', '0']), again);
    assert.equal(await end('memory', ['0', '2']), again);
    assert.equal(await end('memory', ['0', '0']), '');
    writeFileSync(at('confirmed'), '');
    assert.equal(await end('rw', ['2', '3']), '');
  });
});
