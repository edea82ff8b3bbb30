import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { planFirstBoot, type FoundFile } from '#runtime/board/firstBoot.ts';
import { bootTools } from '#runtime/boarding.ts';
import { diskImageIn, IMAGE_BYTES, ran, type DiskImage } from '#test/support/diskImage.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run, type Ran } from '#test/support/process.ts';
import { skipBecause } from '#test/support/skips.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const TENZRO = join(import.meta.dirname, '../../runtime/cli/tenzro.js');
const flash = (...args: readonly string[]): Promise<Ran> => run(process.execPath, [TENZRO, 'flash', ...args]);

/** A loop device, partitions and all, gone at the end. */
class Loop implements Disposable {
  readonly path: string;
  readonly sizeBytes: number;
  constructor(file: string, sizeBytes: number) {
    writeFileSync(file, '');
    truncateSync(file, sizeBytes);
    this.path = ran('losetup', ['--find', '--show', '--partscan', file]).trim();
    this.sizeBytes = sizeBytes;
  }

  holds(image: string): boolean {
    return readFileSync(this.path).subarray(0, IMAGE_BYTES).equals(readFileSync(image));
  }

  [Symbol.dispose](): void { ran('losetup', ['--detach', this.path]); }
}

describe('flash: against the programs of others', () => {
  let folder: TempDir;
  let image: DiskImage;
  before(function () {
    this.timeout(60_000);
    for (const peer of ['sfdisk', 'mformat', 'bmaptool', 'xz'] as const) requirePeer(this, peer);
    folder = tempDir('flash');
    image = diskImageIn(folder.path);
  });
  after(() => { folder[Symbol.dispose](); });
  const at = (name: string): string => join(folder.path, name);

  it('writes a file as it is, packed or not, with a block map of bmaptool or without', async () => {
    for (const [number, args] of [[image.plain], [image.packed], [image.packed, '--no-bmap'], [image.plain, '--no-bmap']].entries()) {
      const [from = '', ...flags] = args;
      const copy = at(`copy-${number}.img`);
      const { code, output } = await flash(from, copy, ...flags);
      assert.equal(code, 0, output);
      assert.ok(readFileSync(copy).equals(readFileSync(image.plain)), args.join(' '));
    }
  }).timeout(60_000);

  it('writes with a block map as little as bmaptool does, to the same bytes', async () => {
    ran('bmaptool', ['copy', '--bmap', image.bmap, image.packed, at('theirs.img')]);
    const { stdout } = await flash(image.packed, at('ours.img'), '--json');
    assert.ok(readFileSync(at('ours.img')).equals(readFileSync(at('theirs.img'))));
    const mapped = Number(/<MappedBlocksCount>\s*(\d+)/.exec(readFileSync(image.bmap, 'utf8'))?.[1]) * 4096;
    const told = JSON.parse(stdout) as { readonly writtenBytes: number; readonly verified: boolean };
    assert.deepEqual([told.writtenBytes, told.verified], [mapped, true]);
    assert.ok(statSync(at('ours.img')).blocks * 512 < IMAGE_BYTES / 2, 'what the map leaves out takes no room');
  }).timeout(60_000);

  it('leaves nothing of a longer file that was there', async () => {
    writeFileSync(at('old.img'), Buffer.alloc(IMAGE_BYTES + 8192, 7));
    assert.equal((await flash(image.plain, at('old.img'))).code, 2, 'nobody was asked');
    assert.equal(statSync(at('old.img')).size, IMAGE_BYTES + 8192);
    const { code, output } = await flash(image.plain, at('old.img'), '--yes');
    assert.equal(code, 0, output);
    assert.ok(readFileSync(at('old.img')).equals(readFileSync(image.plain)));
  }).timeout(60_000);

  it('lays files onto the boot partition, which others then read, and leaves the others there', async function () {
    const name = 'custom.toml';
    writeFileSync(at(name), 'wifi = "a passphrase"\n');
    const { code, output } = await flash(image.packed, at('put.img'), '--put', at(name), at('SECOND.TXT'));
    assert.deepEqual([code, output.includes('(flash.boot_files)'), existsSync(at('put.img'))], [2, true, false], output);
    writeFileSync(at('SECOND.TXT'), '');
    const put = await flash(image.packed, at('put.img'), '--put', at(name), at('SECOND.TXT'));
    assert.equal(put.code, 0, put.output);
    assert.ok(!put.output.includes('passphrase'));
    const inside = (file: string): Buffer => execFileSync(requirePeer(this, 'mtype'), ['-i', `${at('put.img')}@@1M`, `::${file}`], { maxBuffer: IMAGE_BYTES, stdio: ['ignore', 'pipe', 'pipe'] });
    assert.equal(inside(name).toString(), 'wifi = "a passphrase"\n');
    assert.equal(inside('SECOND.TXT').length, 0);
    assert.ok(inside('content.bin').equals(readFileSync(at('content.bin'))));
    assert.equal(ran(requirePeer(this, 'fsck.fat'), ['-n', '-v', fatOf(at('put.img'))]).includes('differ'), false);
  }).timeout(60_000);

  it('takes no file that no boot partition has room for', async () => {
    writeFileSync(at('large.bin'), Buffer.alloc(1024 * 1024 + 1));
    const large = await flash(image.packed, at('full.img'), '--put', at('large.bin'));
    assert.match(large.output, /larger than 1048576 bytes \(flash\.boot_files\)/);
    assert.ok(!existsSync(at('full.img')));
  }).timeout(60_000);

  describe('what makes a card of our image this one', () => {
    const SECRET = 'eight or more "quoted" \\ signs';
    const settings = ['--wifi', 'hall: "3" ü', '--country', 'de', '--hostname', 'hall-3', '--timezone', 'Europe/Berlin'];
    let ours = '';
    before(() => {
      ours = at('ours-plain.img');
      writeFileSync(ours, readFileSync(image.plain));
      ran('sfdisk', ['--quiet', '--part-label', ours, '2', 'bootstate']);
      writeFileSync(at('secret'), `${SECRET}\n`, { mode: 0o600 });
      writeFileSync(at('hall.yaml'), 'version: 1\nupdate: { commitOffline: true }\n');
    });

    it('lies on its boot partition as its first start reads it', async function () {
      const { code, output } = await flash(ours, at('hall.img'), ...settings, '--wifi-file', at('secret'), '--config', at('hall.yaml'));
      assert.equal(code, 0, output);
      assert.ok(!output.includes(SECRET));
      const found = ['board.yaml', 'tenzro.yaml'].map((name) => ({ name, bytes: execFileSync(requirePeer(this, 'mtype'), ['-i', `${at('hall.img')}@@1M`, `::${name}`]) }));
      const { wishes, config, reports } = planFirstBoot(found as readonly FoundFile[], [], bootTools('/opt/tenzro-edge'));
      assert.deepEqual(reports, []);
      assert.deepEqual(wishes, { hostname: 'hall-3', timezone: 'Europe/Berlin', country: 'DE', networks: [{ ssid: 'hall: "3" ü', passphrase: SECRET, hidden: false }] });
      assert.equal(config, readFileSync(at('hall.yaml'), 'utf8'));
    }).timeout(60_000);

    const refused: readonly (readonly [string, readonly string[], RegExp])[] = [
      ['a host name that is none', ['--hostname', '-x'], /board\.yaml:1:\d+: hostname: .*\(flash\.boot_files\)/],
      ['a passphrase that others can read', ['--wifi', 'hall', '--wifi-file', 'open'], /mode 644/],
      ['a passphrase that is too short', ['--wifi', 'hall', '--wifi-file', 'short'], /8 to 63 .*\(flash\.boot_files\)/],
      ['a passphrase of no network', ['--wifi-file', 'secret'], /--wifi .*\(cli\.usage\)/],
      ['a configuration with an error', ['--config', 'wrong.yaml'], /tenzro\.yaml:1:1: .*\(flash\.boot_files\)/],
      ['a configuration that is not there', ['--config', 'absent.yaml'], /absent\.yaml cannot be read.*\(flash\.boot_files\)/],
    ];
    for (const [what, flags, about] of refused) {
      it(`is not ${what}: nothing is written`, async () => {
        writeFileSync(at('open'), 'long enough\n', { mode: 0o644 });
        writeFileSync(at('short'), 'short77\n', { mode: 0o600 });
        writeFileSync(at('wrong.yaml'), 'updates: {}\n');
        const { code, output } = await flash(ours, at('refused.img'), ...flags.map((flag, index) => (/file|config/.test(flags[index - 1] ?? '') ? at(flag) : flag)));
        assert.deepEqual([code, existsSync(at('refused.img'))], [2, false], output);
        assert.match(output, about);
        assert.ok(!output.includes('short77'));
      }).timeout(60_000);
    }

    it('is not laid onto an image that would not read it', async () => {
      const { code, output } = await flash(image.plain, at('refused.img'), '--hostname', 'hall-3');
      assert.deepEqual([code, existsSync(at('refused.img'))], [2, false], output);
      assert.match(output, /nothing would read board\.yaml.*--put/);
    }).timeout(60_000);

    it('is warned of where it comes as a file of its own', async () => {
      writeFileSync(at('board.yaml'), 'hostnam: hall-3\n');
      const { code, output } = await flash(ours, at('warned.img'), '--put', at('board.yaml'));
      assert.equal(code, 0, output);
      assert.match(output, /will not take over board\.yaml:1:1: hostnam: unknown key \(did you mean hostname\?\)/);
    }).timeout(60_000);
  });

  /** The FAT alone, as fsck.fat reads it. */
  function fatOf(path: string): string {
    writeFileSync(at('fat.img'), readFileSync(path).subarray(1024 * 1024, 17 * 1024 * 1024));
    return at('fat.img');
  }

  describe('on a loop device', () => {
    before(function () {
      if (process.getuid?.() !== 0) skipBecause(this, 'loop devices are root\'s to make');
      requirePeer(this, 'losetup');
      try {
        using probe = new Loop(at('probe.card'), 1024 * 1024);
        assert.ok(statSync(probe.path).isBlockDevice());
      } catch (cause) {
        skipBecause(this, `this machine makes no loop devices: ${String(cause).slice(0, 120)}`);
      }
    });

    it('writes a disk whole, whose file system others then read', async function () {
      using card = new Loop(at('card'), 64 * 1024 * 1024);
      const { code, output } = await flash(image.packed, card.path, '--force-fixed', '--yes', '--no-bmap');
      assert.equal(code, 0, output);
      assert.ok(card.holds(image.plain));
      writeFileSync(at('ssh'), '');
      const put = await flash(image.packed, card.path, '--force-fixed', '--yes', '--put', at('ssh'));
      assert.equal(put.code, 0, put.output);
      assert.match(ran(requirePeer(this, 'mdir'), ['-b', '-i', `${card.path}@@1M`, '::']), /ssh/);
      assert.match(ran('sfdisk', ['--dump', card.path]), /name="boot"/);
      assert.ok(execFileSync(requirePeer(this, 'mtype'), ['-i', `${card.path}@@1M`, '::content.bin'], { maxBuffer: IMAGE_BYTES, stdio: ['ignore', 'pipe', 'pipe'] }).equals(readFileSync(at('content.bin'))));
    }).timeout(60_000);

    it('overwrites no built-in, too small, partitioned-off or held disk, and says which it is', async () => {
      using card = new Loop(at('fixed.card'), 64 * 1024 * 1024);
      ran('sfdisk', ['--quiet', card.path], 'label: gpt\nstart=2048, size=20480\n');
      const before = readFileSync(card.path);
      const refused = async (code: string, ...args: readonly string[]): Promise<string> => {
        const { code: exit, output } = await flash(image.plain, ...args, '--yes');
        assert.deepEqual([exit, output.includes(`(${code})`)], [2, true], output);
        return output;
      };
      await refused('flash.fixed', card.path);
      using small = new Loop(at('small.card'), 16 * 1024 * 1024);
      assert.match(await refused('flash.target', small.path, '--force-fixed'), /16777216 bytes, the image has 25165824/);
      assert.match(await refused('flash.target', `${small.path}-none`, '--force-fixed'), /would only fill/);
      assert.ok(readFileSync(card.path).equals(before));
    }).timeout(60_000);

    it('overwrites no mounted disk, also where lsblk cannot see the mount', async function () {
      using card = new Loop(at('mounted.card'), 64 * 1024 * 1024);
      ran(requirePeer(this, 'mke2fs'), ['-q', '-t', 'ext4', card.path]);
      const place = at('mounted');
      ran('mkdir', [place]);
      const command = `${process.execPath} ${TENZRO} flash ${image.plain} ${card.path} --force-fixed --yes`;
      const { code, output } = await run('unshare', ['--mount', 'sh', '-c', `mount -t ext4 ${card.path} ${place} && exec ${command}`]);
      if (/^mount: /m.test(output)) skipBecause(this, `this kernel mounts no ext4: ${output.slice(0, 120)}`);
      assert.equal(code, 2, output);
      assert.match(output, /umount .*mounted/);
      const held = await run('unshare', ['--mount', 'sh', '-c', `mount -t ext4 ${card.path} ${place} && nsenter --mount=/proc/${process.pid}/ns/mnt ${command}`]);
      assert.equal(held.code, 2, held.output);
      assert.match(held.output, /another container.*flash\.target/);
    }).timeout(60_000);

    it('tells a medium that refuses a write from one that is finished, and leaves it without a system', async function () {
      const narrow = at('narrow');
      ran('mkdir', [narrow]);
      ran('mount', ['-t', 'tmpfs', '-o', 'size=6m', 'tmpfs', narrow]); // a disk that says 64 MiB and has room for 6
      try {
        using card = new Loop(join(narrow, 'card'), 64 * 1024 * 1024);
        const { code, output } = await flash(image.plain, card.path, '--force-fixed', '--yes', '--no-bmap');
        assert.equal(code, 2, output);
        assert.match(output, /flash\.(?:medium|verify)\)/);
        assert.ok(readFileSync(card.path).subarray(0, 4096).every((byte) => byte === 0));
      } finally {
        ran('umount', [narrow]);
      }
    }).timeout(60_000);
  });
});
