import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { probeMachine, probeMeasuredBoot, type Finding } from '#runtime/cli/probes.ts';
import { skipBecause } from '#test/support/skips.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

describe('cli: doctor probes', () => {
  let dir: TempDir;
  beforeEach(() => { dir = tempDir('probes'); });
  afterEach(() => { dir[Symbol.dispose](); });

  const put = (path: string, text = ''): string => {
    const file = join(dir.path, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
    return file;
  };
  const probe = (): ReadonlyMap<string, Finding> =>
    new Map(probeMachine({ root: dir.path, path: join(dir.path, 'bin'), dataDir: join(dir.path, 'not/there/yet') }).map((finding) => [finding.area, finding]));

  it('says what each absence on a bare machine means', () => {
    const found = probe();
    for (const area of ['tpm', 'i2c', 'spi', 'gpio', 'serial', '1-wire', 'iio', 'clock.rtc', 'clock.ntp']) {
      assert.equal(found.get(area)?.state, 'absent', area);
      assert.notEqual(found.get(area)?.means, '', area);
    }
    assert.match(found.get('tpm')?.means ?? '', /'software'/);
    assert.match(found.get('disk')?.detail ?? '', /not\/there\/yet on /, 'a data directory that is not made yet is judged by what holds it');
  });

  it('tells an emulator from a TPM', () => {
    put('bin/swtpm');
    assert.match(probe().get('tpm')?.means ?? '', /'emulated'/);
    put('dev/tpmrm0');
    assert.equal(probe().get('tpm')?.state, 'ok');
  });

  it('finds buses by what the kernel calls them, and nothing else', () => {
    for (const path of ['dev/i2c-1', 'dev/i2c-stub', 'dev/gpiochip0', 'dev/ttyACM0', 'dev/ttyS0', 'sys/bus/w1/devices/28-0316a2795fff/name', 'sys/bus/w1/devices/w1_bus_master1/name', 'sys/class/rtc/rtc0/name', 'run/chrony/chronyd.pid']) put(path);
    const found = probe();
    for (const [area, detail] of [['i2c', 'i2c-1'], ['gpio', 'gpiochip0'], ['serial', 'ttyACM0'], ['1-wire', '28-0316a2795fff'], ['clock.rtc', 'rtc0'], ['clock.ntp', 'chronyd runs']] as const) {
      assert.deepEqual([found.get(area)?.state, found.get(area)?.detail], ['ok', detail], area);
    }
    assert.equal(found.get('spi')?.state, 'absent');
  });

  it('says whether boot and files are measured, and what it means where they are not', async () => {
    const bare = await probeMeasuredBoot(dir.path);
    assert.deepEqual(bare.map(({ area, state }) => [area, state]), [['boot.log', 'absent'], ['boot.ima', 'absent']]);
    assert.ok(bare.every(({ detail, means }) => detail !== '' && means !== ''));
    put('sys/kernel/security/tpm0/binary_bios_measurements', 'log');
    put('sys/kernel/security/ima/binary_runtime_measurements', 'list');
    assert.deepEqual((await probeMeasuredBoot(dir.path)).map(({ state, detail }) => [state, detail.slice(0, 7)]), [['ok', '3 bytes'], ['ok', '4 bytes']]);
  });

  it('names the group where the device is there but closed', function () {
    if (process.geteuid?.() === 0) skipBecause(this, 'runs as root, to whom nothing is closed');
    chmodSync(put('dev/i2c-1'), 0o000);
    assert.match(probe().get('i2c')?.means ?? '', /group i2c/);
  });
});
