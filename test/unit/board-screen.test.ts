/** What a screen shows, and what became of the data partition in words. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { claimKeyDigest, decodeClaimCode, encodeClaimCode, newClaimCode, spacedClaimCode } from '#provisioning/claim/code.ts';
import { modulesOf, terminalLines } from '#provisioning/claim/qr.ts';
import { boardFaults } from '#runtime/boardStatus.ts';
import { dataFaults, faultOf, parseDataState, type BoardFault } from '#runtime/board/dataState.ts';
import { linesOf, pageOf, type ScreenView } from '#runtime/board/screen.ts';
import { tempDir } from '#test/support/temp.ts';

const text = encodeClaimCode(newClaimCode(claimKeyDigest({ signingKey: Buffer.alloc(32, 7) }), ['lan']));
const modules = modulesOf(text);
const qr = terminalLines(modules, 'dark');
const QR_COLUMNS = modules.length + 8;
const VIEW: ScreenView = { title: 'Tenzro Edge 0.1.0', host: 'tenzro-a1b2c3', addresses: ['192.0.2.7', '2001:db8::7'], state: 'running', lines: [], faults: [], code: undefined };
const FAULTS: readonly BoardFault[] = [faultOf('board.data_emergency', '/dev/mmcblk0p5 cannot be mounted (e2fsck: preen 8, repair 8)'), faultOf('board.boot_file', `tenzro.yaml:3:3: mqtt.prot: ${'x'.repeat(300)}`)];

describe('board: the screen', () => {
  it('fits 80 × 24 with a code beside the words, which can be typed', () => {
    for (const faults of [[], FAULTS]) {
      const page = pageOf({ ...VIEW, faults, code: { qr, text: spacedClaimCode(text) } }, QR_COLUMNS);
      assert.ok(page.length <= 24 && page.every((line) => line.length <= 80), page.join('\n'));
      const right = page.map((line) => line.slice(QR_COLUMNS).trim());
      const from = right.findIndex((line) => line.startsWith('TZ1:'));
      assert.equal(decodeClaimCode(right.slice(from, right.indexOf('', from)).join(' ')).discriminator, decodeClaimCode(text).discriminator);
    }
  });

  it('fits without a code, says that there is more, and bends no terminal', () => {
    const page = pageOf({ ...VIEW, lines: ['fleet \u001b[2J: offline', ...Array.from({ length: 30 }, (_, at) => `fleet ${at}: connected`)], faults: FAULTS }, 0);
    assert.ok(page.length === 24 && page.every((line) => line.length <= 80 && !line.includes('\u001b')));
    assert.equal(page.at(-1), '… more: tenzro status');
  });

  it('gives a serial console the code on a line of its own', () => {
    const lines = linesOf({ ...VIEW, code: { qr, text: spacedClaimCode(text) } });
    assert.ok(lines.includes(text));
    assert.equal(lines.filter((line) => qr.includes(line)).length, qr.length);
  });
});

describe('board: the data partition in words', () => {
  const codesOf = (facts: string): readonly string[] => {
    const state = parseDataState(facts);
    assert.ok(state);
    return dataFaults(state).map(({ code }) => code);
  };

  it('says nothing of one that is whole, and a word of one that was repaired', () => {
    assert.deepEqual(codesOf('repart=0\npartition=/dev/a\npreen=0\nmounted=rw\n'), []);
    assert.deepEqual(codesOf('repart=0\npartition=/dev/a\npreen=1\nmounted=rw\n'), []);
    assert.deepEqual(codesOf('repart=0\npartition=/dev/a\npreen=4\nrepair=1\nmounted=rw\n'), ['board.data_repaired']);
    assert.deepEqual(codesOf('repart=0\npartition=/dev/a\npreen=8\nrepair=8\nbackup=1\nmounted=rw\n'), ['board.data_repaired']);
  });

  it('tells the others apart', () => {
    assert.deepEqual(codesOf('repart=0\npartition=/dev/a\npreen=8\nrepair=8\nbackup=8\nbackupSmall=8\nmounted=memory\n'), ['board.data_emergency']);
    assert.deepEqual(codesOf('repart=1\npartition=\nmounted=memory\n'), ['board.data_emergency']);
    assert.deepEqual(codesOf('partition=/dev/a\nlocked=1\nmounted=ro\n'), ['board.data_readonly']);
    assert.deepEqual(codesOf('partition=/dev/a\npreen=0\nmounted=full\n'), ['board.data_full']);
    assert.deepEqual(codesOf('mounted=nothing\n'), ['board.data_emergency']);
    for (const torn of ['', 'partition=/dev/a\n', 'mounted=sideways\n', `mounted=rw\n${'x'.repeat(5_000)}`]) assert.equal(parseDataState(torn), undefined);
  });

  it('notices what the kernel and the room on it do while the gateway runs', () => {
    using dir = tempDir('board-status');
    const folders = { boot: join(dir.path, 'boot'), data: join(dir.path, 'data'), state: join(dir.path, 'state') };
    for (const folder of [join(folders.data, 'board'), folders.state]) mkdirSync(folder, { recursive: true });
    writeFileSync(join(folders.state, 'data'), 'partition=/dev/a\npreen=0\nmounted=rw\n');
    const mounts = join(dir.path, 'mountinfo');
    const boot = `23 1 179:1 / ${folders.boot} ro shared:10 - vfat /dev/b ro\n`;
    const superOptions = (options: string): void => { writeFileSync(mounts, `22 1 179:5 / ${folders.data} ro,noatime shared:9 - ext4 /dev/a ${options}\n${boot}`); };
    superOptions('rw,errors=remount-ro');
    assert.deepEqual(boardFaults(folders, mounts), []);
    superOptions('ro,errors=remount-ro');
    assert.deepEqual(boardFaults(folders, mounts).map(({ code }) => code), ['board.data_readonly']);
    writeFileSync(mounts, `22 1 179:5 / ${folders.data} rw - ext4 /dev/a rw\n`);
    assert.deepEqual(boardFaults(folders, mounts).map(({ code }) => code), ['board.boot_partition']);
    assert.deepEqual(boardFaults({ ...folders, state: join(dir.path, 'elsewhere') }, mounts), []);
  });
});
