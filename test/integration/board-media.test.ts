/** What the unit for sticks mounts, the gateway's user can read, in a name space of its own. */
import assert from 'node:assert/strict';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SYSTEM_ROOT } from '#image/system/manifest.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run } from '#test/support/process.ts';
import { skipBecause } from '#test/support/skips.ts';
import { tempDir } from '#test/support/temp.ts';

const UNIT = join(SYSTEM_ROOT, 'usr/lib/systemd/system/tenzro-update-media@.service');
/** Owns nothing on the medium, as the gateway's user does not. */
const OTHER = 65_534;

describe('board: a medium with an update', () => {
  it('is read by the gateway\'s user, read-only, under the unit\'s UMask', async function () {
    if (process.getuid?.() !== 0) skipBecause(this, 'mounts are root\'s to make');
    const unshare = requirePeer(this, 'unshare');
    using dir = tempDir('board-media');
    const disk = join(dir.path, 'disk.img');
    writeFileSync(disk, '');
    truncateSync(disk, 8 * 1024 * 1024);
    writeFileSync(join(dir.path, 'tenzro-new.raucb'), 'bundle');
    assert.equal((await run(requirePeer(this, 'mformat'), ['-i', disk, '-T', '16384', '::'])).code, 0);
    assert.equal((await run('mcopy', ['-i', disk, join(dir.path, 'tenzro-new.raucb'), '::'])).code, 0);
    const unit = readFileSync(UNIT, 'utf8');
    const steps = [...unit.matchAll(/^ExecStartPre=\+(.*)$/gm)].map(([, command = '']) => command.replaceAll('%i', '$1'));
    assert.ok(steps.length > 0);
    const look = `setpriv --reuid=${OTHER} --regid=${OTHER} --clear-groups cat /run/tenzro-media/$1/tenzro-new.raucb && findmnt -no OPTIONS /run/tenzro-media/$1`;
    writeFileSync(join(dir.path, 'unit.sh'), `mount -t tmpfs tmpfs /run && umask ${/^UMask=(.*)$/m.exec(unit)?.[1] ?? 'none'} && ${steps.join(' && ')} && ${look}\n`);
    const script = 'loop=$(losetup --find --show "$1") || { echo no loop; exit 3; }; sh unit.sh "${loop#/dev/}"; code=$?; umount "/run/tenzro-media/${loop#/dev/}" 2>/dev/null; losetup -d "$loop"; exit $code';
    const { code, stdout, output } = await run(unshare, ['--mount', '--propagation', 'private', 'sh', '-c', script, 'sh', disk], { cwd: dir.path });
    if (/no loop|unknown filesystem/.test(output) && code !== 0) skipBecause(this, `this machine mounts no FAT from a loop device: ${output.slice(0, 120)}`);
    assert.equal(code, 0, output);
    assert.match(stdout, /^bundlero,nosuid,nodev,noexec/);
  });

  it('is reached by the gateway\'s user, whatever is mounted there', async function () {
    if (process.getuid?.() !== 0) skipBecause(this, 'mounts are root\'s to make');
    const unit = readFileSync(UNIT, 'utf8');
    const folders = [...unit.matchAll(/^ExecStartPre=\+(.*mkdir.*)$/gm)].map(([, command = '']) => command.replaceAll('%i', 'sdx1'));
    const script = `mount -t tmpfs tmpfs /run && umask 0077 && ${folders.join(' && ')} && setpriv --reuid=${OTHER} --regid=${OTHER} --clear-groups ls /run/tenzro-media/sdx1`;
    const { code, output } = await run(requirePeer(this, 'unshare'), ['--mount', '--propagation', 'private', 'sh', '-c', script]);
    assert.equal(code, 0, output);
  });

  it('is FAT: an ext4 would be written to when its journal is replayed', () => {
    const rules = readFileSync(join(SYSTEM_ROOT, 'usr/lib/udev/rules.d/61-tenzro-update-media.rules'), 'utf8').split('\n').filter((line) => line.startsWith('ACTION'));
    assert.deepEqual(rules.map((rule) => /ID_FS_TYPE\}=="([^"]*)"/.exec(rule)?.[1]), ['vfat|exfat']);
  });
});
