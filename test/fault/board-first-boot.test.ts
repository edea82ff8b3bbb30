/** The power is cut between any two steps of the first boot: the next start goes on, and the end is the same. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { firstBoot } from '#runtime/boarding.ts';
import { BoardCard, KEPT, type BoardFolders } from '#runtime/boardCard.ts';
import { boardFaults } from '#runtime/boardStatus.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const APP = { appRoot: '/opt/tenzro-edge', now: '2026-11-23T10:00:00.000Z' };
const SECRET = 'a-very-secret-passphrase';
const FILES = {
  'tenzro.yaml': 'version: 1\nnode:\n  name: hall-3\n',
  'board.yaml': `hostname: hall-3\nwifi:\n  country: DE\n  networks:\n    - ssid: ours\n      passphrase: ${SECRET}\n`,
};
const WIFI_BEFORE = 'ctrl_interface=DIR=/run/wpa_supplicant GROUP=netdev\n';

class PowerCut extends Error {}

/** The real card, whose power goes before the n-th thing that changes something. */
class FailingCard extends BoardCard {
  #left: number;

  constructor(folders: BoardFolders, left: number) {
    super(folders, { remount: () => Promise.resolve() });
    this.#left = left;
  }

  #cut(): void { if (this.#left-- <= 0) throw new PowerCut(); }
  override async keep(...args: Parameters<BoardCard['keep']>): Promise<void> { this.#cut(); await super.keep(...args); }
  override async forget(...args: Parameters<BoardCard['forget']>): Promise<void> { this.#cut(); await super.forget(...args); }
  override async note(...args: Parameters<BoardCard['note']>): Promise<void> { this.#cut(); await super.note(...args); }
  override async wipe(...args: Parameters<BoardCard['wipe']>): Promise<void> { this.#cut(); await super.wipe(...args); }
}

describe('board: first boot under power cuts', () => {
  let dir: TempDir;
  let folders: BoardFolders;
  let umask: number;
  beforeEach(() => {
    dir = tempDir('first-boot');
    umask = process.umask(0o077); // as the unit has it
  });
  afterEach(() => {
    process.umask(umask);
    dir[Symbol.dispose]();
  });

  function freshCard(name: string, files: Readonly<Record<string, string>> = FILES): BoardFolders {
    folders = { boot: join(dir.path, name, 'boot'), data: join(dir.path, name, 'data'), state: join(dir.path, name, 'state') };
    for (const folder of [folders.boot, folders.state, ...['config', 'network', 'board'].map((part) => join(folders.data, part))]) mkdirSync(folder, { recursive: true });
    for (const [file, text] of Object.entries(files)) writeFileSync(join(folders.boot, file), text);
    writeFileSync(join(folders.data, KEPT.wifi), WIFI_BEFORE, { mode: 0o600 });
    writeFileSync(join(folders.state, 'data'), 'partition=/dev/x\nmounted=rw\n');
    return folders;
  }
  const start = (left = Infinity): ReturnType<typeof firstBoot> => firstBoot(new FailingCard(folders, left), APP);
  const kept = (what: keyof typeof KEPT): string => readFileSync(join(folders.data, KEPT[what]), 'utf8');

  function checkEnd(): void {
    assert.equal(kept('config'), FILES['tenzro.yaml']);
    assert.equal(kept('hostname'), 'hall-3');
    assert.equal(kept('wifi').split('network={').length, 2);
    assert.equal(statSync(join(folders.data, KEPT.history)).mode & 0o777, 0o644);
    assert.ok(kept('wifi').includes(SECRET) && (statSync(join(folders.data, KEPT.wifi)).mode & 0o777) === 0o600);
    assert.deepEqual(readdirSync(folders.boot), ['taken-over.txt']);
    assert.ok(!readFileSync(join(folders.boot, 'taken-over.txt'), 'utf8').includes(SECRET));
    assert.ok(!kept('history').includes(SECRET));
    assert.equal(existsSync(join(folders.data, KEPT.record)), false);
    assert.deepEqual(boardFaults(folders, '/dev/null'), []);
  }

  it('ends alike wherever it is cut, once or on every start', async () => {
    freshCard('whole');
    const { taken } = await start();
    assert.deepEqual(taken.map(({ name }) => name), ['board.yaml', 'tenzro.yaml']);
    checkEnd();
    let cuts = 0;
    for (; cuts < 30; cuts++) {
      freshCard(`cut-${cuts}`);
      const isWhole = await start(cuts).then(() => true, () => false);
      if (isWhole) break;
      await start();
      checkEnd();
    }
    assert.ok(cuts >= 8 && cuts < 30, `${cuts} places to cut at`);
    freshCard('every');
    for (let left = 0; left < cuts; left++) await start(left).catch(() => undefined); // the power goes a little later each time
    await start();
    checkEnd();
  });

  it('does not take over again what it could not wipe, and says so', async () => {
    freshCard('locked');
    const locked = new BoardCard(folders, { remount: () => Promise.reject(new Error('write-protected')) });
    await assert.rejects(firstBoot(locked, APP), /write-protected/);
    assert.deepEqual(boardFaults(folders, '/dev/null').map(({ code }) => code), ['board.boot_partition', 'board.boot_partition']);
    writeFileSync(join(folders.data, KEPT.config), 'version: 1\n# by the fleet\n');
    await assert.rejects(firstBoot(locked, APP), /write-protected/);
    assert.match(kept('config'), /by the fleet/);
    const { taken, onlyWiped } = await start();
    assert.deepEqual([taken.length, onlyWiped.length], [0, 2]);
    assert.match(kept('config'), /by the fleet/);
  });

  it('leaves a file with errors as it is, byte for byte, and says where', async () => {
    const wrong = 'version: 1\nmqtt:\n  prot: 1883\n';
    freshCard('wrong', { 'tenzro.yaml': wrong, 'board.yaml': FILES['board.yaml'] });
    await start();
    assert.equal(readFileSync(join(folders.boot, 'tenzro.yaml'), 'utf8'), wrong);
    assert.equal(existsSync(join(folders.data, KEPT.config)), false);
    const faults = boardFaults(folders, '/dev/null');
    assert.deepEqual(faults.map(({ code }) => code), ['board.boot_file']);
    assert.match(faults[0]?.detail ?? '', /^tenzro\.yaml:3:3: mqtt\.prot: .*port/);
    writeFileSync(join(folders.boot, 'tenzro.yaml'), FILES['tenzro.yaml']);
    await start();
    checkEnd();
  });
});
