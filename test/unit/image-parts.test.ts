import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { bootState } from '#image/disk/bootState.ts';
import { BOOT_STATE_BYTES, BOOT_TRIES, CARD_BYTES, MIB, PARTITIONS, REGIONS, SECTOR_BYTES, regionOf } from '#image/layout.ts';
import { imagerList } from '#image/release/imager.ts';
import { billOfImage } from '#image/release/sbom.ts';
import { readBoardYaml } from '#runtime/board/bootYaml.ts';
import { parseDocumentText } from '#runtime/config/document.ts';
import { readConfigText } from '#runtime/config/load.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { tempDir } from '#test/support/temp.ts';

const DISK = join(import.meta.dirname, '../../image/disk');
const script = readFileSync(join(DISK, 'boot.cmd'), 'utf8');
const commands = script.split('\n').map((text) => text.trim()).filter((text) => text !== '' && !text.startsWith('#'));

describe('image: layout', () => {
  it('has partitions one behind the other on whole MiB, with room for both copies of the GPT, on a card of 4 GB', () => {
    let next = MIB;
    for (const { offsetBytes, sizeBytes } of REGIONS) {
      assert.equal(offsetBytes, next);
      assert.equal(sizeBytes % MIB, 0);
      next += sizeBytes;
    }
    assert.equal(CARD_BYTES, next + MIB);
    assert.ok(CARD_BYTES < 3_600_000_000);
    assert.equal(new Set(PARTITIONS.map(({ uuid }) => uuid)).size, PARTITIONS.length);
  });

  it('has slots of one size and a boot state that fills one sector', () => {
    assert.equal(regionOf('system-a').sizeBytes, regionOf('system-b').sizeBytes);
    assert.equal(BOOT_STATE_BYTES, SECTOR_BYTES);
    assert.throws(() => bootState({ machine_id: 'x'.repeat(600) }), /does not fit/);
  });
});

describe('image: boot script', () => {
  it('names the partitions and counts of the layout', () => {
    for (const name of ['bootstate', 'system-a', 'system-b']) assert.ok(PARTITIONS.some((partition) => partition.name === name) && script.includes(name));
    assert.equal(script.match(new RegExp(`setenv BOOT_[AB]_LEFT ${BOOT_TRIES}\\b`, 'g'))?.length, 4);
    assert.match(script, new RegExp(`env export -c -s 0x${BOOT_STATE_BYTES.toString(16)} `));
  });

  it('closes what it opens', () => {
    const count = (pattern: RegExp): number => commands.filter((text) => pattern.test(text)).length;
    assert.equal(count(/^if .*; then$/), count(/^fi$/));
    assert.equal(count(/^for .*; do$/), count(/^done$/));
    assert.equal(count(/^(?:if|for)\b/), count(/^(?:fi|done)$/));
  });

  it('takes a try and writes it down before it loads anything', () => {
    const at = (part: string): number => { const index = commands.findIndex((text) => text.includes(part)); assert.ok(index >= 0, part); return index; };
    assert.ok(at('env import -c') < at('setexpr') && at('setexpr') < at('env export -c') && at('env export -c') < at('write ${state_addr}') && at('write ${state_addr}') < at('/vmlinuz'));
    assert.equal(commands.at(-1), 'reset');
  });

  it('gives the kernel a read-only root, the slot that RAUC asks for, and a restart after a panic', () => {
    const line = commands.find((text) => text.startsWith('setenv bootargs "root='));
    for (const word of ['root=PARTLABEL=${partition}', 'ro', 'rootwait=60', 'panic=5', 'rauc.slot=${slot}']) assert.ok(line?.split(/[ "]/).includes(word), word);
  });
});

describe('image: for Raspberry Pi Imager', () => {
  const entry = { version: '1.0+a', url: 'https://x.invalid/a%2Bb.img.xz', extractBytes: CARD_BYTES, extractSha256: 'a'.repeat(64), downloadBytes: 5, downloadSha256: 'b'.repeat(64), epochSeconds: 1_795_000_000, remark: '' };
  const [item, ...others] = (JSON.parse(imagerList(entry)) as { readonly os_list: readonly Record<string, unknown>[] }).os_list;

  it('has what its schema wants, of the types that it wants', () => {
    assert.deepEqual(others, []);
    for (const key of ['name', 'description', 'icon', 'url', 'extract_sha256', 'release_date']) assert.equal(typeof item?.[key], 'string', key);
    for (const key of ['extract_size', 'image_download_size']) assert.ok(Number.isInteger(item?.[key]), key);
    assert.match(String(item?.['release_date']), /^\d{4}-\d{2}-\d{2}$/);
    assert.equal(item?.['init_format'], 'cloudinit');
  });
});

describe('image: bill of materials', () => {
  function treeIn(folder: string, files: Readonly<Record<string, string>>): void {
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), content);
    }
    symlinkSync('usr/bin', join(folder, 'bin'));
  }
  const STATUS = ['coreutils', 'tenzro-edge', 'base-files', 'dpkg'].map((name) => `Package: ${name}\nStatus: install ok installed\nArchitecture: arm64\nVersion: 1:2-3\n${name === 'base-files' ? 'Source: base (1)\n' : ''}`).join('\n');
  const TREE = {
    'usr/bin/cat': '', 'var/lib/dpkg/info/coreutils.list': '/.\n/bin\n/bin/cat\n/usr/share/doc/coreutils/copyright\n', 'var/lib/dpkg/status': STATUS,
    'usr/share/doc/coreutils/copyright': 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: GPL-3+\n',
    'usr/share/doc/tenzro-edge/sbom.cdx.json': '{"components":[{"name":"left"}],"dependencies":[]}', 'var/lib/dpkg/info/tenzro-edge.list': '/usr/share/doc/tenzro-edge/sbom.cdx.json\n',
  };
  const materials = (root: string): Parameters<typeof billOfImage>[0] => ({ root, name: 'x', version: '1', epochSeconds: 0, bootFiles: { 'u-boot.bin': '/usr/bin/cat', 'boot.scr': 'image/disk/boot.cmd' } });

  it('names each package with source, licence and how many files are its own, through the links of a merged /usr', async () => {
    using folder = tempDir('sbom');
    treeIn(folder.path, TREE);
    const bill = JSON.parse(await billOfImage(materials(folder.path))) as { readonly components: readonly Record<string, unknown>[] };
    assert.deepEqual(bill.components.map(({ name }) => name), ['base-files', 'coreutils', 'dpkg', 'tenzro-edge', 'left']);
    assert.deepEqual(bill.components[1], {
      type: 'library', 'bom-ref': 'pkg:deb/debian/coreutils@1%3A2-3?arch=arm64&distro=trixie', name: 'coreutils', version: '1:2-3', purl: 'pkg:deb/debian/coreutils@1%3A2-3?arch=arm64&distro=trixie', scope: 'required',
      licenses: [{ license: { name: 'GPL-3+' } }], externalReferences: [{ type: 'license', url: 'file:///usr/share/doc/coreutils/copyright' }],
      properties: [{ name: 'debian:source', value: 'coreutils' }, { name: 'image:files', value: '3' }], evidence: { occurrences: [{ location: 'boot:/u-boot.bin' }] },
    });
  });

  it('is not made where a file belongs to nobody, or to what is not installed', async () => {
    for (const [files, about] of [[{ 'usr/bin/stray': '' }, /1 files belong to no package.*\/usr\/bin\/stray/], [{ 'usr/bin/dog': '', 'var/lib/dpkg/info/dogutils.list': '/usr/bin/dog\n' }, /not installed: dogutils/]] as const) {
      using folder = tempDir('sbom');
      treeIn(folder.path, { ...TREE, ...files });
      await assert.rejects(billOfImage(materials(folder.path)), (error: unknown) => error instanceof TenzroError && error.code === 'image.content' && about.test(error.message));
    }
  });
});

describe('image: boot partition', () => {
  it('explains itself: every example that the text names is there, and is read without a fault', () => {
    const names = readdirSync(join(DISK, 'boot'));
    readConfigText(readFileSync(join(DISK, 'boot/tenzro.yaml.example'), 'utf8'), 'tenzro.yaml', '/opt');
    const board = readBoardYaml(parseDocumentText(readFileSync(join(DISK, 'boot/board.yaml.example'), 'utf8')), () => undefined);
    assert.deepEqual(board.problems, []);
    for (const [name] of readFileSync(join(DISK, 'boot/README.txt'), 'utf8').matchAll(/\w+\.yaml\.example/g)) assert.ok(names.includes(name), name);
  });
});
