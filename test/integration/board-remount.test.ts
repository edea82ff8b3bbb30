/** The boot partition is made writable for a moment, in a name space of its own: what its line in fstab says does not keep mount(8) from doing it. */
import assert from 'node:assert/strict';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { requirePeer } from '#test/support/peers.ts';
import { run } from '#test/support/process.ts';
import { skipBecause } from '#test/support/skips.ts';
import { tempDir } from '#test/support/temp.ts';

const ROOT = join(import.meta.dirname, '..', '..');

describe('board: the boot partition', () => {
  it('is writable while files are wiped, and read-only before and after, with nothing else loosened', async function () {
    if (process.getuid?.() !== 0) skipBecause(this, 'mounts are root\'s to make');
    const unshare = requirePeer(this, 'unshare');
    using dir = tempDir('board-remount');
    const [folder, disk] = [join(dir.path, 'boot'), join(dir.path, 'disk.img')];
    mkdirSync(folder);
    writeFileSync(disk, '');
    truncateSync(disk, 8 * 1024 * 1024);
    assert.equal((await run(requirePeer(this, 'mke2fs'), ['-q', '-t', 'ext4', disk])).code, 0);
    writeFileSync(join(dir.path, 'fstab'), `PARTLABEL=gone ${folder} ext4 ro,nofail 0 0\n`);
    writeFileSync(join(dir.path, 'work.ts'), `
      import { execFileSync } from 'node:child_process';
      import { writeFileSync } from 'node:fs';
      import { BoardCard } from '${ROOT}/runtime/boardCard.ts';
      const options = () => execFileSync('findmnt', ['-no', 'OPTIONS', '${folder}'], { encoding: 'utf8' });
      await new BoardCard({ boot: '${folder}', data: '', state: '' }).whileWritable(async () => { writeFileSync('${folder}/written', ''); process.stdout.write(options()); });
      process.stdout.write(options());
    `);
    const script = `mount --bind fstab /etc/fstab && mount -o loop ${disk} ${folder} && mount -o remount,ro "$(findmnt -no SOURCE ${folder})" ${folder} && exec ${process.execPath} work.ts`;
    const { code, stdout, output } = await run(unshare, ['--mount', '--propagation', 'private', 'sh', '-c', script], { cwd: dir.path });
    if (/loop/.test(output) && code !== 0) skipBecause(this, `this machine makes no loop devices: ${output.slice(0, 120)}`);
    assert.equal(code, 0, output);
    const [during = '', after = ''] = stdout.trim().split('\n');
    assert.match(during, /^rw,nosuid,nodev,noexec/);
    assert.match(after, /^ro,nosuid,nodev,noexec/);
  });
});
