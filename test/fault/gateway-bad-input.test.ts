import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LIMITS } from '#runtime/core/limits.ts';
import { Gateway, logLines, tenzro } from '#test/support/gateway.ts';
import { connectClient } from '#test/support/mqttClient.ts';
import { compile } from '#test/support/native.ts';
import { RawClient, connectPacket, packet, publishPacket, subscribePacket } from '#test/support/rawMqtt.ts';
import { skipBecause } from '#test/support/skips.ts';
import { temporaryTpm } from '#test/support/swtpm.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { refusal, tpmProxy } from '#test/support/tpmProxy.ts';
import { until } from '#test/support/until.ts';

const GOOD = 'te/device/good///m/count';
const HOSTILE = 'te/device/bad///m/x';
const INVALID_UTF8 = Buffer.from([0x74, 0xc3, 0x28]);
const FIFTY_YEARS_S = 50 * 365 * 86_400;
const TPM_RC_RETRY = 0x922;

/** What a client sends after its CONNECT, and under which code the gateway counts it (docs/reference/bad-input.md). */
const HOSTILE_PACKETS: readonly (readonly [code: string, bytes: Buffer])[] = [
  ['broker.malformed', Buffer.from([0x30, 0x80, 0x80, 0x80, 0x80, 1])],
  ['broker.malformed', publishPacket('a/+', 'x', { qos: 1 })],
  ['broker.malformed', subscribePacket('a/b#', 1)],
  ['broker.packet_too_large', Buffer.from([0x30, 0xff, 0xff, 0xff, 0x7f])],
  ['broker.topic_invalid', publishPacket(INVALID_UTF8, 'x', { qos: 1 })],
  ['broker.topic_reserved', publishPacket('$SYS/broker/uptime', 'x', { qos: 1 })],
  ['ingest.unrecorded', publishPacket('nobody/knows/this', 'x', { qos: 1 })],
  ['ingest.rejected.topic.invalid', publishPacket('te/device/bad', '{"a":1}', { qos: 1 })],
  ['ingest.rejected.ingest.utf8', publishPacket(HOSTILE, INVALID_UTF8, { qos: 1 })],
  ['ingest.rejected.ingest.depth', publishPacket(HOSTILE, '['.repeat(200_000), { qos: 1 })],
  ['ingest.rejected.ingest.json', publishPacket(HOSTILE, '{"a":NaN}', { qos: 1 })],
  ['ingest.rejected.ingest.json', publishPacket(HOSTILE, '{"a":-Infinity}', { qos: 1 })],
  ['ingest.rejected.ingest.range', publishPacket(HOSTILE, '{"a":1e999}', { qos: 1 })],
  ['ingest.rejected.ingest.too_many_channels', publishPacket(HOSTILE, JSON.stringify(Object.fromEntries(Array.from({ length: LIMITS.channelsPerReadingMax + 1 }, (_, at) => [`c${at}`, at]))), { qos: 1 })],
  ['ingest.rejected.ingest.not_a_number', publishPacket(HOSTILE, '{"a":"21"}', { qos: 1 })],
];

/** The gateway as its users run it; what each case must leave alone is a good client beside it, and the chain. */
describe('gateway: what bad input gets', function () {
  this.timeout(60_000);
  let dir: TempDir;
  beforeEach(() => { dir = tempDir('bad-input'); });
  afterEach(() => dir[Symbol.dispose]());
  const dataDir = (): string => join(dir.path, 'data');

  /** Everything acknowledged under GOOD is in the log, once and in order, and the chain verifies. */
  async function assertUnharmed(acknowledged: number): Promise<void> {
    const readings = await logLines(dataDir(), ['--source', 'device/good//', '--kind', 'reading', '--limit', '100000']);
    assert.deepEqual(readings.map(({ body }) => (body as { payload: string }).payload), Array.from({ length: acknowledged }, (_, at) => `{"n":${at}}`));
    const checked = await tenzro(dataDir(), ['fsck', '--json']);
    assert.equal(checked.code, 0, checked.output);
  }

  it('from hostile clients: counted under a code of its own, told on te/errors, and nobody else notices', async () => {
    await using gateway = await Gateway.start({ dataDir: dataDir() });
    const port = await gateway.port();
    await using good = await connectClient(port);
    await good.mqtt.subscribeAsync('te/errors');
    const expected = new Map<string, number>();
    let sent = 0;
    for (const [code, bytes] of HOSTILE_PACKETS) {
      using bad = await RawClient.open(port, 'bad');
      bad.send(bytes);
      expected.set(code, (expected.get(code) ?? 0) + 1);
      await gateway.until(code, ({ counters }) => (counters[code] ?? 0) >= (expected.get(code) ?? 0));
      await good.mqtt.publishAsync(GOOD, `{"n":${sent++}}`, { qos: 1 });
    }
    using first = await RawClient.open(port, 'twin');
    using second = await RawClient.open(port, 'twin');
    await first.closed();
    using silent = new RawClient(port);
    silent.send(packet(0x10, Buffer.from('half a CONNECT')).subarray(0, 5));
    await good.mqtt.publishAsync(GOOD, `{"n":${sent++}}`, { qos: 1 });
    const { counters } = await gateway.until('the takeover', (status) => status.counters['broker.takeovers'] === 1);
    assert.deepEqual([...expected.keys()].filter((code) => counters[code] === undefined), []);
    assert.ok(good.received.some(({ payload }) => payload.includes('ingest.depth') && payload.includes('hint')), 'te/errors says what was wrong');
    assert.ok(!second.ended);
    await gateway.stop();
    await assertUnharmed(sent);
  });

  it('from a flood of connections: the house is full for them, not for who is in', async () => {
    await using gateway = await Gateway.start({ dataDir: dataDir() });
    const port = await gateway.port();
    await using good = await connectClient(port);
    const flood = Array.from({ length: LIMITS.connectionsMax + 50 }, () => new RawClient(port));
    try {
      await gateway.until('the house to be full', ({ counters }) => (counters['broker.too_many_connections'] ?? 0) >= 50);
      await good.mqtt.publishAsync(GOOD, '{"n":0}', { qos: 1 });
    } finally {
      for (const client of flood) client[Symbol.dispose]();
    }
    await gateway.until('room again', ({ counters }) => (counters['broker.connections'] ?? Infinity) < 10);
    using late = new RawClient(port);
    late.send(connectPacket('late'));
    assert.deepEqual([...(await late.next(2)).body], [0, 0]);
    await gateway.stop();
    await assertUnharmed(1);
  });

  it('from a full disk: QoS 1 waits, a stop ends, a start serves, and all goes on when there is space', async function () {
    if (process.geteuid?.() !== 0) skipBecause(this, 'needs root to mount a small tmpfs');
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', dir.path], { stdio: 'pipe' });
    } catch {
      skipBecause(this, 'this root may not mount');
    }
    const ballast = join(dir.path, 'ballast');
    try {
      {
        await using gateway = await Gateway.start({ dataDir: dataDir() });
        await using good = await connectClient(await gateway.port());
        await good.mqtt.publishAsync(GOOD, '{"n":0}', { qos: 1 });
        fill(ballast);
        good.mqtt.publish(GOOD, '{"lost":1}', { qos: 1 }, () => undefined);
        const full = await gateway.until('the full disk', ({ ready, counters }) => !ready && (counters['ledger.disk_full'] ?? 0) > 0);
        assert.equal(full.health.ok, true);
        assert.equal(await gateway.stop(), 0);
      }
      await using gateway = new Gateway({ dataDir: dataDir() });
      await gateway.until('a start on the full disk', ({ counters }) => (counters['ledger.disk_full'] ?? 0) > 0);
      await using good = await connectClient(await gateway.port());
      const waiting = good.mqtt.publishAsync(GOOD, '{"n":1}', { qos: 1, retain: true });
      await gateway.until('the message to wait', ({ counters }) => (counters['ledger.pending_bytes'] ?? 0) > 0);
      rmSync(ballast);
      await waiting;
      await gateway.until('writing again', ({ ready }) => ready);
      assert.equal(await gateway.stop(), 0);
      await assertUnharmed(2);
    } finally {
      execFileSync('umount', ['--lazy', dir.path]);
    }
  });

  it('from a damaged store of sessions: it is set aside, and the chain is not touched', async () => {
    {
      await using gateway = await Gateway.start({ dataDir: dataDir() });
      await using good = await connectClient(await gateway.port());
      await good.mqtt.publishAsync(GOOD, '{"n":0}', { qos: 1, retain: true });
      await gateway.kill();
    }
    truncateSync(join(dataDir(), 'broker', 'data.mdb'), 5_000);
    await using gateway = await Gateway.start({ dataDir: dataDir() });
    assert.equal((await gateway.status())?.counters['ledger.corrupt'], 1);
    assert.ok(existsSync(join(dataDir(), 'broker.damaged')));
    await gateway.stop();
    await assertUnharmed(1);
  });

  it('from a truncated chain, a truncated model and a place without a control socket: set aside, left out, done without', async () => {
    const configFile = join(dir.path, 'tenzro.yaml');
    const models = join(dir.path, 'models');
    cpSync(join(import.meta.dirname, '..', '..', 'models', 'motor-vibration'), join(models, 'motor-vibration'), { recursive: true });
    truncateSync(join(models, 'motor-vibration', 'model.onnx'), 1_000);
    writeFileSync(configFile, `infer: { modelsDir: ${models} }\n`);
    {
      await using gateway = await Gateway.start({ dataDir: dataDir() });
      await gateway.stop();
    }
    truncateSync(join(dataDir(), 'ledger', 'chain', 'data.mdb'), 20_000);
    {
      await using gateway = await Gateway.start({ dataDir: dataDir(), configFile });
      await using good = await connectClient(await gateway.port());
      await good.mqtt.publishAsync(GOOD, '{"n":0}', { qos: 1 });
      const status = await gateway.until('the model to be refused', ({ counters }) => counters['infer.models_refused'] === 1);
      assert.equal(status.counters['ledger.corrupt'], 1);
      assert.match(JSON.stringify(status.models), /model\.digest/);
      await gateway.stop();
    }
    mkdirSync(join(dataDir(), 'control.sock', 'in-the-way'), { recursive: true });
    const gateway = new Gateway({ dataDir: dataDir(), configFile });
    try {
      await until('a start without its socket', () => gateway.output.includes('control.unavailable') && gateway.output.includes('"ready"'));
      assert.equal(await gateway.stop(), 0);
    } finally {
      await gateway[Symbol.asyncDispose]();
    }
    const [epoch] = await logLines(dataDir(), ['--kind', 'epoch']);
    assert.match(JSON.stringify(epoch?.body), /ledger\.corrupt/);
    await assertUnharmed(1);
  });

  it('from a clock that steps by 50 years, both ways: entries, and blocks go on', async () => {
    const offset = join(dir.path, 'offset');
    const step = (seconds: number): void => { const bytes = Buffer.alloc(8); bytes.writeBigInt64LE(BigInt(seconds)); writeFileSync(offset, bytes, { flag: 'r+' }); };
    writeFileSync(offset, Buffer.alloc(8));
    const configFile = join(dir.path, 'tenzro.yaml');
    writeFileSync(configFile, 'attest: { intervalMs: 1000 }\n');
    const env = { LD_PRELOAD: compile('test/fault/clockstep.c', join(dir.path, 'clockstep.so'), ['-shared', '-fPIC', '-ldl']), CLOCKSTEP_FILE: offset };
    await using gateway = await Gateway.start({ dataDir: dataDir(), configFile, env });
    await using good = await connectClient(await gateway.port());
    let sent = 0;
    for (const seconds of [FIFTY_YEARS_S, -FIFTY_YEARS_S, 0]) {
      step(seconds);
      await good.mqtt.publishAsync(GOOD, `{"n":${sent++}}`, { qos: 1 });
      const { chain } = await gateway.until('status', () => true);
      await gateway.until('a block after the step', (status) => status.chain.blocks > chain.blocks);
    }
    assert.equal(await gateway.stop(), 0);
    const steps = await logLines(dataDir(), ['--kind', 'clockStep', '--limit', '10']);
    assert.equal(steps.length, 3, JSON.stringify(steps));
    await assertUnharmed(sent);
  });

  it('from a TPM that is busy and disappears: blocks go on and say why; that comes back as another: its keys stay locked, entries are recorded', async function () {
    const configFile = join(dir.path, 'tenzro.yaml');
    await using stack = new AsyncDisposableStack();
    const [tpm, other] = [stack.use(await temporaryTpm(this)), stack.use(await temporaryTpm(this))];
    const proxy = stack.use(await tpmProxy(tpm.address));
    const configure = (path: string): void => writeFileSync(configFile, `attest: { intervalMs: 1000, tpm: { mode: socket, path: '${path}' } }\n`);
    configure(proxy.address);
    {
      await using gateway = await Gateway.start({ dataDir: dataDir(), configFile });
      await using good = await connectClient(await gateway.port());
      await gateway.until('a block of the TPM', ({ trust }) => trust.level === 'tpm');
      proxy.faults.push(refusal(TPM_RC_RETRY), refusal(TPM_RC_RETRY));
      await good.mqtt.publishAsync(GOOD, '{"n":0}', { qos: 1 });
      const before = await gateway.until('a block in spite of RETRY', ({ trust, chain }) => trust.level === 'tpm' && proxy.faults.length === 0 && chain.attestedEntries > 0);
      await tpm.stop();
      await good.mqtt.publishAsync(GOOD, '{"n":1}', { qos: 1 });
      const gone = await gateway.until('a block without the TPM', ({ trust, chain }) => trust.level === 'software' && chain.blocks > before.chain.blocks);
      assert.ok(Object.keys(gone.counters).some((name) => name.startsWith('attest.') && name.includes('tpm.')), JSON.stringify(gone.counters));
      await gateway.stop();
    }
    configure(other.address);
    await using gateway = await Gateway.start({ dataDir: dataDir(), configFile });
    const foreign = await gateway.until('keys that a foreign TPM does not open', ({ identity }) => identity.state === 'locked', 15_000);
    assert.equal(foreign.identity.code, 'identity.tpm_foreign');
    assert.ok((foreign.counters['identity.tpm_foreign'] ?? 0) > 0 && (foreign.counters['attest.error.identity.tpm_foreign'] ?? 0) > 0, JSON.stringify(foreign.counters));
    await gateway.stop();
    await assertUnharmed(2);
  });

  it('refuses to start on what it must not touch, with a code and what to do', async () => {
    {
      await using gateway = await Gateway.start({ dataDir: dataDir() });
      await using good = await connectClient(await gateway.port());
      await good.mqtt.publishAsync(GOOD, '{"n":0}', { qos: 1 });
      const second = await tenzro(dataDir(), ['run']);
      assert.equal(second.code, 2);
      assert.match(second.output, /ledger\.locked[^]*stop it first/);
      const taken = await tenzro(join(dir.path, 'other'), ['run'], { port: await gateway.port() });
      assert.equal(taken.code, 2);
      assert.match(taken.output, /broker\.port_in_use[^]*TENZRO_MQTT_PORT/);
      await gateway.stop();
    }
    const refuse = async (path: string, damage: (bytes: Buffer) => Buffer, code: RegExp): Promise<void> => {
      const before = readFileSync(join(dataDir(), path));
      writeFileSync(join(dataDir(), path), damage(Buffer.from(before)));
      const { code: exit, output } = await tenzro(dataDir(), ['run']);
      writeFileSync(join(dataDir(), path), before);
      assert.equal(exit, 2);
      assert.match(output, code);
    };
    await refuse(join('ledger', 'chain', 'data.mdb'), (bytes) => { for (const page of [0, 4096]) bytes.writeUInt32LE(3, page + 28); return bytes; }, /ledger\.newer_version/);
    await assertUnharmed(1);
  });

  it('from damaged keys: records on without blocks, says so, and blocks cover it once they are back', async () => {
    const path = join(dataDir(), 'identity', 'sealed.cbor');
    {
      await using gateway = await Gateway.start({ dataDir: dataDir() });
      await gateway.until('a block', ({ chain }) => chain.blocks > 1);
      await gateway.stop();
    }
    const good = readFileSync(path);
    writeFileSync(path, good.subarray(1));
    let recorded = 0;
    {
      await using gateway = await Gateway.start({ dataDir: dataDir() });
      await using client = await connectClient(await gateway.port());
      const { identity } = await gateway.until('locked keys', (status) => status.identity.state === 'locked');
      assert.equal(identity.code, 'identity.damaged');
      await client.mqtt.publishAsync(GOOD, '{"n":0}', { qos: 1 });
      recorded = (await gateway.status())?.chain.entries ?? 0;
      assert.equal(await gateway.stop(), 0);
    }
    writeFileSync(path, good);
    {
      await using gateway = await Gateway.start({ dataDir: dataDir() });
      await gateway.until('blocks over all of it', ({ chain }) => recorded > 0 && chain.attestedEntries >= recorded);
      await gateway.stop();
    }
    await assertUnharmed(1);
  });
});

/** Until not even a page fits. */
function fill(path: string): void {
  for (let bytes = 1024 * 1024; bytes >= 4096; bytes /= 2) {
    try {
      for (;;) writeFileSync(path, Buffer.alloc(bytes), { flag: 'a' });
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
    }
  }
}

