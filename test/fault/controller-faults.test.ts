import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { toHex } from '#runtime/core/bytes.ts';
import { withChains } from '#runtime/controllerMain.ts';
import { leafHash } from '#runtime/crypto/merkle.ts';
import { openReader } from '#runtime/ledger/reader.ts';
import { hashOfLeaf } from '#runtime/ledger/shipment.ts';
import type { GatewayStatus } from '#runtime/observe/status.ts';
import { Gateway } from '#test/support/gateway.ts';
import { connectClient } from '#test/support/mqttClient.ts';
import { makeOwnFleet, type OwnFleet } from '#test/support/ownFleet.ts';
import { randomOf } from '#test/support/random.ts';
import { skipBecause } from '#test/support/skips.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

/** Its disk to the last block, of which the controller may take some meanwhile. */
function fill(ballast: string): void {
  assert.match(spawnSync('dd', ['if=/dev/zero', `of=${ballast}`, 'bs=4096'], { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } }).stderr, /No space left on device/);
}

describe('a controller with its own broker', function () {
  this.timeout(180_000);
  let dir: TempDir;
  let stack: AsyncDisposableStack;
  const at = (name: string): string => join(dir.path, name);
  const random = randomOf(20_261_123);
  beforeEach(() => { dir = tempDir('controller'); stack = new AsyncDisposableStack(); });
  afterEach(async () => { await stack.disposeAsync(); dir[Symbol.dispose](); });

  const receiptOf = ({ fleet: { upstreams: [uplink] } }: GatewayStatus): number => uplink?.receipt?.treeSize ?? 0;

  async function startGateway(fleet: OwnFleet): Promise<Gateway> {
    writeFileSync(at('gateway.yaml'), fleet.gatewayConfig('edge-1'));
    return stack.use(await Gateway.start({ dataDir: at('data'), configFile: at('gateway.yaml') }));
  }

  async function publish(gateway: Gateway, count: number, type: string): Promise<void> {
    await using client = await connectClient(await gateway.port());
    for (let i = 0; i < count; i++) await client.mqtt.publishAsync(`te/device/motor///m/${type}`, JSON.stringify({ value: i }), { qos: 1 });
  }

  const everything = (gateway: Gateway): Promise<GatewayStatus> => gateway.until('all to be receipted', (status) => status.chain.entries > 0 && receiptOf(status) >= status.chain.attestedEntries && receiptOf(status) > 0, 60_000);

  /** What the gateway holds a receipt for lies at the controller, leaf by leaf. */
  async function assertKept(fleet: OwnFleet, receipted: number): Promise<void> {
    await using reader = await openReader(at('data'));
    const kept = await withChains(fleet.home, (chains) => chains.all().flatMap(([chain]) => [...chains.leaves(chain)].map((leaf) => toHex(hashOfLeaf(leaf)))));
    assert.ok(kept.length >= receipted, `${kept.length} kept, ${receipted} receipted`);
    assert.deepEqual(kept.slice(0, receipted), Array.from(reader.read(0, receipted), ({ bytes }) => toHex(leafHash(bytes))));
  }

  it('lets a gateway in once its key is in the register, and receipts its chain', async () => {
    const fleet = await makeOwnFleet(dir.path);
    const controller = stack.use(await fleet.start());
    const gateway = await startGateway(fleet);
    await publish(gateway, 20, 'a');
    await gateway.until('a first block', ({ chain }) => chain.attestedEntries > 20, 20_000);
    await until('the stranger to be refused', async () => ((await fleet.status())['counters'] as Record<string, number>)['broker.unregistered'] ?? 0, { timeoutMs: 20_000 });
    assert.equal(receiptOf(await gateway.status() ?? assert.fail()), 0);
    await fleet.register('edge-1', at('data'));
    const { chain: { attestedEntries } } = await everything(gateway);
    const { broker } = await fleet.status();
    assert.deepEqual((broker as { users: unknown }).users, ['edge-1']);
    assert.ok(attestedEntries > 20);
    assert.equal(await gateway.stop(), 0);
    assert.equal(await controller.end('SIGTERM'), 0, controller.output);
    await assertKept(fleet, attestedEntries);
  });

  it('loses nothing that it receipted when it is killed at random moments', async () => {
    const fleet = await makeOwnFleet(dir.path);
    let controller = stack.use(await fleet.start());
    const gateway = await startGateway(fleet);
    await gateway.until('a first block', ({ chain }) => chain.attestedEntries > 0, 20_000);
    await fleet.register('edge-1', at('data'));
    for (let round = 0; round < 4; round++) {
      await publish(gateway, 100, `round${round}`);
      await sleep(random(1_500));
      await controller.end('SIGKILL');
      await assertKept(fleet, receiptOf(await gateway.status() ?? assert.fail()));
      controller = stack.use(await fleet.start());
    }
    const status = await gateway.until('all rounds to be receipted', (now) => receiptOf(now) > 400 && receiptOf(now) >= now.chain.attestedEntries, 60_000);
    assert.equal(await gateway.stop(), 0);
    assert.equal(await controller.end('SIGTERM'), 0, controller.output);
    await assertKept(fleet, receiptOf(status));
  });

  it('receipts nothing while its disk is full, serves on, and loses nothing when there is space or a kill', async function () {
    if (process.geteuid?.() !== 0) skipBecause(this, 'needs root to mount a small tmpfs');
    const home = at('fleet');
    mkdirSync(home);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m,mode=700', 'tmpfs', home], { stdio: 'pipe' });
    } catch {
      skipBecause(this, 'this root may not mount');
    }
    stack.defer(() => { execFileSync('umount', ['--lazy', home]); });
    const fleet = await makeOwnFleet(dir.path, home);
    let controller = stack.use(await fleet.start());
    const gateway = await startGateway(fleet);
    await gateway.until('a first block', ({ chain }) => chain.attestedEntries > 0, 20_000);
    await fleet.register('edge-1', at('data'));
    await everything(gateway);

    const ballast = join(home, 'ballast');
    fill(ballast);
    await publish(gateway, 200, 'full');
    await until('the controller to notice', () => controller.output.includes('no receipts until the disk takes writes'), { timeoutMs: 30_000, hopeless: () => (controller.running ? undefined : controller.output) });
    const before = receiptOf(await gateway.status() ?? assert.fail());
    await gateway.until('blocks beyond the receipt', ({ chain }) => chain.attestedEntries > before + 100, 20_000);
    assert.equal((await fleet.status())['isReady'], true, 'it answers');
    const during = receiptOf(await gateway.status() ?? assert.fail());
    assert.ok(during < before + 100, `${during} receipted on a full disk, ${before} before`);
    rmSync(ballast);
    await everything(gateway);

    await publish(gateway, 50, 'again');
    fill(ballast);
    await publish(gateway, 200, 'killed');
    await until('the controller to notice again', () => controller.output.split('no receipts until').length > 2, { timeoutMs: 30_000 });
    await controller.end('SIGKILL');
    rmSync(ballast);
    await assertKept(fleet, receiptOf(await gateway.status() ?? assert.fail()));
    controller = stack.use(await fleet.start());
    const status = await gateway.until('everything to be receipted', (now) => receiptOf(now) > 450 && receiptOf(now) >= now.chain.attestedEntries, 60_000);
    assert.equal(await gateway.stop(), 0);
    assert.equal(await controller.end('SIGTERM'), 0, controller.output);
    await assertKept(fleet, receiptOf(status));
  });

  it('ends when it is told to, also on a full disk', async function () {
    if (process.geteuid?.() !== 0) skipBecause(this, 'needs root to mount a small tmpfs');
    const home = at('fleet');
    mkdirSync(home);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m,mode=700', 'tmpfs', home], { stdio: 'pipe' });
    } catch {
      skipBecause(this, 'this root may not mount');
    }
    stack.defer(() => { execFileSync('umount', ['--lazy', home]); });
    const fleet = await makeOwnFleet(dir.path, home);
    const controller = stack.use(await fleet.start());
    fill(join(home, 'ballast'));
    assert.equal(typeof (await controller.end('SIGTERM')), 'number', controller.output);
  });
});
