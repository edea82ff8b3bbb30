import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream';
import { connect, createServer } from 'node:tls';
import type { LedgerReader } from '#runtime/core/ports.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { withChains } from '#runtime/controllerMain.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { rawPublicKeyOf } from '#runtime/crypto/mldsa.ts';
import { pinningServerOptions } from '#runtime/crypto/tls.ts';
import { decodeBlock } from '#runtime/ledger/block.ts';
import type { GatewayStatus } from '#runtime/observe/status.ts';
import { openReader } from '#runtime/ledger/reader.ts';
import { hashOfLeaf } from '#runtime/ledger/shipment.ts';
import { leafHash } from '#runtime/crypto/merkle.ts';
import { gatewayConfig, makeBroker, makeController, type Controller, type FleetBroker } from '#test/support/fleet.ts';
import { Gateway, tenzro } from '#test/support/gateway.ts';
import { connectClient } from '#test/support/mqttClient.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run, type Program } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

describe('a gateway and its fleet controller', function () {
  this.timeout(120_000);
  let dir: TempDir;
  let broker: FleetBroker;
  let controller: Controller;
  const at = (name: string): string => join(dir.path, name);

  beforeEach(async function () {
    dir = tempDir('uplink');
    broker = await makeBroker(this, dir.path);
    controller = await makeController(dir.path);
  });
  afterEach(() => { dir[Symbol.dispose](); });

  const startGateway = async (options: Parameters<typeof gatewayConfig>[3] = {}): Promise<Gateway> => {
    writeFileSync(at('gateway.yaml'), gatewayConfig('edge-1', broker, controller.receiptKey, options));
    return Gateway.start({ dataDir: at('data'), configFile: at('gateway.yaml') });
  };
  const receipted = (entries: number) => ({ fleet: { upstreams: [uplink] } }: Pick<GatewayStatus, 'fleet'>): boolean => (uplink?.receipt?.treeSize ?? 0) >= entries;

  async function publish(gateway: Gateway, count: number, type: string): Promise<void> {
    await using client = await connectClient(await gateway.port());
    for (let i = 0; i < count; i++) await client.mqtt.publishAsync(`te/device/motor///m/${type}`, JSON.stringify({ value: i }), { qos: 1 });
  }

  /** Everything under the controller's last block is, leaf by leaf, what the gateway has. */
  async function assertNothingLost(least: number): Promise<void> {
    await using reader = await openReader(at('data'));
    const [view] = await controller.ls();
    assert.ok(view && view.entries >= least, `${JSON.stringify(view)}, ${least} expected`);
    const kept = await withChains(controller.dir, (chains) => [...chains.leaves(view.chain)].map((leaf) => toHex(hashOfLeaf(leaf))));
    assert.deepEqual(kept.slice(0, view.entries), Array.from((reader as LedgerReader).read(0, view.entries), ({ bytes }) => toHex(leafHash(bytes))));
  }

  it('delivers in order and under receipts that blocks name, and keeps on the site what policy keeps there', async () => {
    await using stack = new AsyncDisposableStack();
    stack.use(await broker.start());
    const serving = stack.use(await controller.start(broker));
    await using gateway = await startGateway({ more: 'forward: [{ topic: te/device/motor///m/secret, mode: never }]' });
    await publish(gateway, 30, 'open');
    await publish(gateway, 5, 'secret');
    const size = (await gateway.status())?.chain.entries ?? 0;
    const { fleet: { upstreams: [uplink] } } = await gateway.until('a receipt', receipted(size), 30_000);
    assert.deepEqual([uplink?.connected, uplink?.fault, serving.stdout.includes(controller.receiptKey)], [true, null, true]);
    assert.match(uplink?.keyExchange ?? '', /^(?:x25519|X25519MLKEM768)$/);
    const human = await tenzro(at('data'), ['status'], { configFile: at('gateway.yaml') });
    assert.match(human.output, /fleet +fleet at mqtts:\/\/localhost:\d+: connected, \S+; \d+ entries receipted at/);
    await assertNothingLost(size);
    writeFileSync(at('policy.yaml'), `version: 1\naccept: [software]\nreceiptKeys: ["${controller.receiptKey}"]\n`);
    const proven = await tenzro(at('data'), ['proof', '0', '-o', at('proof.tzp'), '--receipted', '--wait'], { configFile: at('gateway.yaml') });
    assert.equal(proven.code, 0, proven.output);
    await gateway.stop();
    const judged = await tenzro(at('data'), ['verify', at('proof.tzp'), '--policy', at('policy.yaml'), '--json']);
    const { checks } = JSON.parse(judged.stdout) as { readonly checks: readonly { readonly code: string; readonly result: string }[] };
    assert.deepEqual([judged.code, checks.find(({ code }) => code === 'receipt')?.result], [0, 'pass'], judged.output);
    const shown = await tenzro(at('data'), ['fleet', 'show', 'edge-1', '--dir', controller.dir, '--json']);
    assert.equal((JSON.parse(shown.stdout) as readonly { readonly withheld: number }[])[0]?.withheld, 5);
    await using reader = await openReader(at('data'));
    const named = Array.from({ length: reader.blockCount() }, (_, sequence) => decodeBlock(reader.block(sequence).payload).receipt);
    assert.ok(named.some((receipt) => receipt !== undefined), 'no block names a receipt');
  });

  it('verifies what a TPM says, over a reset of it and a kill of the gateway too', async function () {
    requirePeer(this, 'swtpm');
    await using stack = new AsyncDisposableStack();
    stack.use(await broker.start());
    stack.use(await controller.start(broker));
    for (const end of ['stop', 'kill', 'stop'] as const) {
      await using gateway = await startGateway({ tpm: 'emulated' });
      await publish(gateway, 5, 'open');
      const { entries } = (await gateway.status())?.chain ?? { entries: 0 };
      const { fleet: { upstreams: [uplink] } } = await gateway.until('a receipt', receipted(entries), 60_000);
      assert.equal(uplink?.fault, null);
      await gateway[end]();
    }
    const [view] = await controller.ls();
    assert.deepEqual([view?.evidence, view?.fork], ['tpm2', null]);
  });

  it('loses nothing over kill -9 of broker, controller and gateway, and answers what it had with the same receipt', async () => {
    await using stack = new AsyncDisposableStack();
    let [brokerNow, serving, gateway]: [Program, Program, Gateway] = [stack.use(await broker.start()), stack.use(await controller.start(broker)), stack.use(await startGateway())];
    for (const victim of ['controller', 'broker', 'gateway'] as const) {
      await publish(gateway, 40, 'load');
      if (victim === 'controller') { await serving.end('SIGKILL'); serving = stack.use(await controller.start(broker)); }
      if (victim === 'broker') { await brokerNow.end('SIGKILL'); brokerNow = stack.use(await broker.start()); }
      if (victim === 'gateway') { await gateway.kill(); gateway = stack.use(await startGateway()); }
    }
    await publish(gateway, 10, 'load');
    const size = (await gateway.status())?.chain.entries ?? 0;
    await gateway.until('everything to be receipted', receipted(size), 60_000);
    await assertNothingLost(size);
    assert.ok(brokerNow.running && serving.running);
  });

  it('works offline, and delivers when the broker comes', async () => {
    await using gateway = await startGateway();
    await publish(gateway, 50, 'load');
    const size = (await gateway.status())?.chain.entries ?? 0;
    const offline = await gateway.until('a fault to be told', ({ fleet: { upstreams: [uplink] } }) => uplink?.fault !== null && !uplink?.connected);
    assert.equal(offline.fleet.upstreams[0]?.receipt, null);
    await using stack = new AsyncDisposableStack();
    stack.use(await broker.start());
    await gateway.until('the silence to be told', ({ fleet: { upstreams: [uplink] } }) => uplink?.connected === true && uplink.fault?.startsWith('no answer') === true, 60_000);
    stack.use(await controller.start(broker));
    const { fleet: { upstreams: [uplink] } } = await gateway.until('everything to be receipted', receipted(size), 60_000);
    assert.equal(uplink?.fault, null);
    await assertNothingLost(size);
  });

  it('believes no controller but the one whose key it pins', async () => {
    await using stack = new AsyncDisposableStack();
    stack.use(await broker.start());
    stack.use(await controller.start(broker));
    const { receiptKey } = controller;
    controller = { ...controller, receiptKey: receiptKey.replace(/^./, (digit) => (digit === '0' ? '1' : '0')) };
    await using gateway = await startGateway();
    const told = await gateway.until('a refused receipt', ({ counters }) => (counters['uplink.receipt'] ?? 0) > 0, 30_000);
    assert.equal(told.fleet.upstreams[0]?.receipt, null);
  });

  it('tells of a password that the broker refuses, and connects when it is put right', async function () {
    const passwd = requirePeer(this, 'mosquitto_passwd');
    await using stack = new AsyncDisposableStack();
    const serving = stack.use(await broker.start());
    writeFileSync(at('own.password'), 'another password\n', { mode: 0o600 });
    broker = { ...broker, passwordFile: at('own.password') };
    await using gateway = await startGateway();
    await gateway.until('a refusal', ({ fleet: { upstreams: [uplink] } }) => /Not authorized/.test(uplink?.fault ?? ''), 30_000);
    assert.equal((await run(passwd, ['-b', at('users'), 'fleet', 'another password'])).code, 0);
    serving.signal('SIGHUP'); // mosquitto reads its users again
    await gateway.until('a connection', ({ fleet: { upstreams: [uplink] } }) => uplink?.connected === true && uplink.fault === null, 30_000);
  });

  it('shows its identity key to a broker that asks for a certificate, over X25519MLKEM768', async () => {
    await using stack = new AsyncDisposableStack();
    stack.use(await broker.start());
    stack.use(await controller.start(broker));
    const shown: string[] = [];
    const { caFile, port } = broker;
    const tls = { cert: readFileSync(caFile), key: readFileSync(at('broker.key')) };
    const front = createServer({ ...pinningServerOptions(), ...tls }, (socket) => { // mosquitto's OpenSSL does not know ML-DSA
      const key = socket.getPeerX509Certificate()?.publicKey;
      shown.push(key ? toHex(sha256(rawPublicKeyOf(key) ?? Buffer.alloc(0))) : 'none');
      pipeline(socket, connect({ host: 'localhost', port, ca: tls.cert }), socket, () => undefined);
    }).listen(0, 'localhost');
    stack.defer(() => { front.close(); });
    await once(front, 'listening');
    broker = { ...broker, url: `mqtts://localhost:${(front.address() as AddressInfo).port}` };
    await using gateway = await startGateway({ more: 'certificate: true' });
    const { fleet: { upstreams: [uplink] }, identity } = await gateway.until('a receipt', receipted(1), 30_000);
    assert.equal(uplink?.keyExchange, 'X25519MLKEM768');
    assert.deepEqual(shown, [identity.signingKeyDigest]);
  });

  it('stops at a broker that it cannot trust, and says so', async function () {
    await using stack = new AsyncDisposableStack();
    stack.use(await broker.start());
    const stranger = stack.use(tempDir('stranger'));
    const { caFile } = await makeBroker(this, stranger.path);
    broker = { ...broker, caFile };
    await using gateway = await startGateway();
    const told = await gateway.until('a fault', ({ fleet: { upstreams: [uplink] } }) => /certificate/.test(uplink?.fault ?? ''), 30_000);
    assert.equal(told.fleet.upstreams[0]?.connected, false);
  });
});
