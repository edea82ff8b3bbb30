import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { openSystemDriver, SYSTEM_GROUPS, toMessages, type SystemSample } from '#drivers/system/driver.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { KIND, READING_BODY, type Cbor } from '#runtime/core/types.ts';
import { createDecoder } from '#runtime/ingest/decoder.ts';
import { inbound } from '#test/support/messages.ts';

/** What a Raspberry Pi's kernel shows, cut to what is read; `stat2` is what /proc/stat says later. */
const PI = {
  'sys/class/thermal/thermal_zone0/type': 'cpu-thermal\n', 'sys/class/thermal/thermal_zone0/temp': '51608\n',
  'sys/class/thermal/thermal_zone1/type': 'pmic\n', 'sys/class/thermal/thermal_zone1/temp': '-274000\n',
  'sys/class/thermal/cooling_device0/type': 'fan\n',
  'sys/class/hwmon/hwmon0/name': 'cpu-thermal\n', 'sys/class/hwmon/hwmon0/temp1_input': '51608\n',
  'sys/class/hwmon/hwmon1/name': 'nvme\n', 'sys/class/hwmon/hwmon1/temp1_input': '38850\n', 'sys/class/hwmon/hwmon1/temp1_label': 'Composite\n',
  'sys/class/hwmon/hwmon1/temp2_input': 'garbage\n', 'sys/class/hwmon/hwmon1/temp3_input': '41000',
  'sys/class/hwmon/hwmon2/name': 'rpi_volt\n', 'sys/class/hwmon/hwmon2/in0_lcrit_alarm': '1\n',
  'sys/class/hwmon/hwmon10/name': 'nvme\n', 'sys/class/hwmon/hwmon10/temp1_input': '-5125\n', 'sys/class/hwmon/hwmon10/temp1_label': 'Composite\n',
  'proc/loadavg': '0.52 0.58 0.59 1/467 12345\n', 'proc/uptime': '35012.47 130410.77\n',
  'proc/stat': 'cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3 4\n',
  'proc/meminfo': 'MemTotal:        1000 kB\nMemFree:          10 kB\nMemAvailable:     250 kB\nSwapTotal:         0 kB\nSwapFree:          0 kB\nHugePages_Total:       0\n',
  'proc/self/status': 'Name:\tnode\nVmRSS:\t   81234 kB\n',
  'sys/class/net/lo/statistics/rx_bytes': '99\n', 'sys/class/net/veth1a/statistics/rx_bytes': '99\n',
  'sys/class/net/wlan0/operstate': 'down\n', 'sys/class/net/wlan0/statistics/rx_bytes': '7\n',
  'sys/class/net/eth0.5/operstate': 'up\n', 'sys/class/net/eth0.5/statistics/rx_bytes': '123456789012\n', 'sys/class/net/eth0.5/statistics/tx_errors': '0\n',
  'sys/class/power_supply/BAT0/capacity': '87\n', 'sys/class/power_supply/BAT0/voltage_now': '12345000\n', 'sys/class/power_supply/BAT0/current_now': '-1500000\n', 'sys/class/power_supply/AC/online': '1\n',
};

describe('system driver', () => {
  let root: string;
  beforeEach(async () => { root = await mkdtemp(join(tmpdir(), 'tenzro-system-')); });
  afterEach(async () => { await rm(root, { recursive: true, force: true }); });

  async function plant(tree: Readonly<Record<string, string>>): Promise<void> {
    for (const [path, text] of Object.entries(tree)) {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), text);
    }
  }

  /** The first `count` samples, with `between` done after each. */
  async function samples(count: number, between = async (): Promise<void> => undefined, options: { root?: string; dataDir?: string } = {}): Promise<SystemSample[]> {
    const stop = new AbortController();
    const taken: SystemSample[] = [];
    for await (const sample of openSystemDriver({ root, dataDir: root, intervalMs: 1, clock: systemClock, signal: stop.signal, ...options })) {
      taken.push(sample);
      await between();
      if (taken.length === count) stop.abort();
    }
    return taken;
  }
  const valuesOf = (sample: SystemSample | undefined, group: keyof SystemSample['groups']): unknown => Object.fromEntries(sample?.groups[group].map(({ channel, value, unit }) => [channel, `${value} ${unit}`]) ?? []);

  it('reads a machine', async () => {
    await plant(PI);
    const [first, second] = await samples(2, () => plant({ 'proc/stat': 'cpu  130 0 60 840 70 0 0 0 0 0\n' }));
    assert.deepEqual(valuesOf(first, 'temperature'), { 'cpu-thermal': '51.608 °C', nvme_Composite: '38.85 °C', nvme_temp3: '41 °C', nvme_Composite_2: '-5.125 °C' });
    assert.deepEqual(valuesOf(first, 'load'), { load_1: '0.52 1', load_5: '0.58 1', load_15: '0.59 1', uptime: '35012.47 s' }, 'no processor share from one look');
    assert.deepEqual(valuesOf(second, 'load'), { load_1: '0.52 1', load_5: '0.58 1', load_15: '0.59 1', cpu: '40 %', uptime: '35012.47 s' });
    assert.deepEqual(valuesOf(first, 'memory'), { total: '1024000 B', available: '256000 B', used: '75 %', swap_total: '0 B', swap_free: '0 B', process_rss: '83183616 B' });
    assert.deepEqual(valuesOf(first, 'network'), { 'eth0_5.rx_bytes': '123456789012 B', 'eth0_5.tx_errors': '0 1' });
    assert.deepEqual(valuesOf(first, 'power'), { 'AC.online': '1 1', 'BAT0.capacity': '87 %', 'BAT0.voltage': '12.345 V', 'BAT0.current': '-1.5 A', under_voltage: '1 1' });
    assert.deepEqual(Object.keys(valuesOf(first, 'disk') as object).slice(0, 3), ['total', 'free', 'used']);
  });

  it('prefers the firmware\'s word about the supply', async () => {
    await plant({ ...PI, 'sys/devices/platform/soc/soc:firmware/get_throttled': '50004\n' });
    assert.deepEqual(Object.entries(valuesOf((await samples(1))[0], 'power') as object).slice(-2), [['under_voltage', '0 1'], ['throttled', '1 1']]);
  });

  it('a machine that shows nothing gives nothing, not zeros', async () => {
    const [sample] = await samples(1, undefined, { dataDir: join(root, 'missing') });
    for (const group of SYSTEM_GROUPS) assert.deepEqual(sample?.groups[group], [], group);
    assert.ok(sample && toMessages(sample).length === 0);
  });

  it('damaged files are absent channels', async () => {
    await plant(Object.fromEntries(Object.keys(PI).map((path) => [path, '\u0000 not what it was\n'])));
    const [sample] = await samples(1, undefined, { dataDir: join(root, 'missing') });
    for (const group of SYSTEM_GROUPS) assert.deepEqual(sample?.groups[group], [], group);
  });

  it('says its units once, and again when a channel comes', async () => {
    await plant(PI);
    const [first, same, more] = await samples(3, async () => undefined).then(async (taken) => {
      await plant({ 'sys/class/net/usb0/statistics/rx_bytes': '1\n' });
      return [taken[1], taken[2], (await samples(1))[0]];
    });
    assert.ok(first && same && more);
    const topics = (messages: ReturnType<typeof toMessages>): string[] => messages.filter(({ retain }) => retain).map(({ topic }) => topic);
    assert.equal(topics(toMessages(first)).length, SYSTEM_GROUPS.length);
    assert.deepEqual(topics(toMessages(same, first)), []);
    assert.ok(topics(toMessages(more, same)).includes('te/device/main///m/network/meta'));
  });

  it('this machine\'s own sample passes the door, with units', async () => {
    const decoder = createDecoder({ registration: 'explicit', mappings: [], record: [] });
    const [, sample] = await samples(2, undefined, { root: '/', dataDir: tmpdir() });
    assert.ok(sample);
    const groups = new Set<string>();
    for (const { topic, payload, retain } of toMessages(sample)) {
      const outcome = decoder.decode(inbound(topic, payload, { retain }));
      assert.ok(outcome.kind === 'record', `${topic} ${payload}: ${JSON.stringify(outcome)}`);
      if (outcome.entryKind !== KIND.reading) continue;
      groups.add(topic.split('/').at(-1) ?? '');
      const values = (outcome.body as ReadonlyMap<number, Cbor>).get(READING_BODY.values) as readonly (readonly [string, number, string])[];
      assert.ok(values.every(([, , unit]) => unit !== ''), payload);
    }
    for (const group of ['load', 'memory', 'disk']) assert.ok(groups.has(group), group);
  });
});
