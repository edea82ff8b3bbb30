import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { toHex } from '#runtime/core/bytes.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { newSeed, signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';
import { blockHash, decodeBlock } from '#runtime/ledger/block.ts';
import { openReader } from '#runtime/ledger/reader.ts';
import { encodeAnswer, signReceipt, type Receipt } from '#runtime/ledger/receipt.ts';
import { NODE_NAME, OwnedGateway, Requester, readMessage, type Message } from '#test/support/commandGateway.ts';
import { makeBroker, uplinkConfig, type FleetBroker } from '#test/support/fleet.ts';
import { logLines, type Gateway } from '#test/support/gateway.ts';
import { connectClient, type TestClient } from '#test/support/mqttClient.ts';
import { requirePeer } from '#test/support/peers.ts';
import type { Program } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

/** What an answer is counted as: no receipt, one about other blocks, one that counts, none that was looked at. */
const JUDGEMENTS = ['uplink.receipt', 'controller.fork', 'uplink.receipts', 'uplink.unjudged'] as const;

/** Attacks of who runs the fleet's broker: every topic is theirs, and every retained message. */
describe('attacks: the fleet\'s broker', function () {
  this.timeout(60_000);
  let dir: TempDir;
  let broker: FleetBroker;
  let serving: Program;
  let owned: OwnedGateway;
  let gateway: Gateway;
  let fleet: Requester;
  let hostile: TestClient;
  const controller = signerOfSeed(newSeed());

  const start = async (): Promise<void> => {
    gateway = await owned.start();
    await gateway.until('the fleet\'s broker', ({ fleet: { upstreams } }) => upstreams[0]?.connected === true, 30_000);
  };
  const entries = async (): Promise<readonly Message[]> => (await logLines(owned.dataDir, ['--kind', 'command,result', '--limit', '10000'])).map(({ kind, body }) => ({ kind, ...(body as Message) }));
  const say = async (rest: string, payload: string | Buffer): Promise<void> => { await hostile.mqtt.publishAsync(`te/${NODE_NAME}/${rest}`, payload, { qos: 1, retain: true }); };
  const configUpdate = (id: string): string => owned.sign('config_update', id, { ttlSeconds: 3_600, parameters: { config: `${readFileSync(owned.configFile, 'utf8')}# ${id}\n` } });

  before(async function () {
    requirePeer(this, 'mosquitto_pub');
    dir = tempDir('attack-fleet');
    broker = await makeBroker(this, dir.path);
    owned = new OwnedGateway(dir.path);
    await owned.prepare();
    writeFileSync(owned.configFile, owned.configuration(`uplinks:\n${uplinkConfig('fleet', broker, toHex(sha256(controller.publicKey)))}\n`));
    serving = await broker.start();
    hostile = await connectClient(broker.port, { protocol: 'mqtts', host: 'localhost', ca: readFileSync(broker.caFile), username: 'fleet', password: readFileSync(broker.passwordFile, 'utf8').trim() });
    fleet = Requester.over(broker);
    await start();
  });
  after(async () => {
    await hostile[Symbol.asyncDispose]();
    await gateway[Symbol.asyncDispose]();
    await serving[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  it('hostile fleet broker: unsigned and forged commands, states and receipts that nobody said change nothing and are recorded or counted, command.unsigned and command.signature', async () => {
    const before = readFileSync(owned.configFile, 'utf8');
    const { signature: _signature, ...unsigned } = readMessage(configUpdate('unsigned'));
    const forged = { ...readMessage(configUpdate('forged')), parameters: { config: owned.configuration('# theirs\n') } };
    await say('device/main///cmd/config_update/unsigned', JSON.stringify(unsigned));
    await say('device/main///cmd/config_update/forged', JSON.stringify(forged));
    for (const [id, code] of [['unsigned', 'command.unsigned'], ['forged', 'command.signature']] as const) {
      assert.ok(String((await fleet.ended('config_update', id))['reason']).startsWith(`${code}: `));
      assert.deepEqual((await entries()).filter((entry) => entry['id'] === id).map(({ state, code: told }) => [state, told]), [['refused', code]]);
    }
    const { chain: { id: chain } } = await gateway.until('a chain', (status) => status.chain.id !== null, 20_000);
    await say('device/main///cmd/config_update/nobody', '{"status":"successful"}');
    await say('device/main///cmd/config_update/bytes', Buffer.from([0xff, 0, 1]));
    await say(`chain/${chain}/receipt`, Buffer.from('a receipt'));
    const { counters, fleet: status } = await gateway.until('all of it', ({ counters: now }) => (now['fleet.ignored'] ?? 0) > 0 && (now['uplink.receipt'] ?? 0) > 0 && (now['fleet.refused.command.malformed'] ?? 0) > 0);
    assert.deepEqual([status.upstreams[0]?.receipt, status.upstreams[0]?.connected, counters['fleet.accepted'] ?? 0], [null, true, 0]);
    assert.equal(readFileSync(owned.configFile, 'utf8'), before);
  });

  it('hostile fleet broker: a retained command replayed at every connection, after a kill too, is not done again, and its true state stands', async () => {
    const file = configUpdate('once');
    await fleet.publish('config_update', 'once', file);
    await fleet.ended('config_update', 'once');
    const after = readFileSync(owned.configFile, 'utf8').replace('# once\n', '');
    writeFileSync(owned.configFile, after);
    for (const end of ['stop', 'kill'] as const) {
      await gateway[end]();
      await say('device/main///cmd/config_update/once', readFileSync(file));
      await start();
      await until('its true state', async () => (await fleet.retained('config_update', 'once'))?.['status'] === 'successful');
    }
    await say('device/main///cmd/config_update/once', JSON.stringify({ ...readMessage(file), status: 'failed', reason: 'it says' }));
    await until('its true state', async () => (await fleet.retained('config_update', 'once'))?.['status'] === 'successful');
    assert.deepEqual((await entries()).filter((entry) => entry['id'] === 'once').map(({ kind, state }) => (kind === 'command' ? kind : state)), ['command', 'executing', 'successful']);
    assert.equal(readFileSync(owned.configFile, 'utf8'), after);
  });

  it('hostile fleet broker: a receipt by another key, and one by the right key for another chain, other blocks or another tree, do not count, uplink.receipt and controller.fork', async () => {
    const { chain: { id: chain } } = await gateway.until('a block', (status) => status.chain.blocks > 0, 20_000);
    await using reader = await openReader(owned.dataDir);
    const { payload } = reader.block(0);
    const { treeSize, root } = decodeBlock(payload);
    const truth: Receipt = { chainId: Buffer.from(chain ?? '', 'hex'), sequence: 0, blockHash: blockHash(payload), treeSize, root, wallMicros: 1 };
    const other = Buffer.alloc(32, 7);
    /** As what it was counted. What nobody asked for is judged once in a while only. */
    const judged = async (signer: Signer, receipt: Receipt): Promise<string> => {
      for (;;) {
        const { counters: before } = await gateway.until('a status', () => true);
        await hostile.mqtt.publishAsync(`te/${NODE_NAME}/chain/${chain}/receipt`, encodeAnswer({ about: Buffer.alloc(16), next: 0, nextBlock: 0, receipt: signReceipt(signer, receipt) }), { qos: 1 });
        const risen = await until('it to be counted', async () => {
          const now = (await gateway.status())?.counters;
          return JUDGEMENTS.find((name) => (now?.[name] ?? 0) > (before[name] ?? 0));
        });
        if (risen !== 'uplink.unjudged') return risen;
      }
    };
    const forged: readonly (readonly [string, Signer, Receipt])[] = [
      ['uplink.receipt', signerOfSeed(newSeed()), truth], ['uplink.receipt', controller, { ...truth, chainId: other }], ['uplink.receipt', controller, { ...truth, treeSize: treeSize + 1 }],
      ['uplink.receipt', controller, { ...truth, root: other }], ['controller.fork', controller, { ...truth, blockHash: other }], ['controller.fork', controller, { ...truth, sequence: 1_000_000 }],
    ];
    for (const [at, [code, signer, receipt]] of forged.entries()) assert.equal(await judged(signer, receipt), code, `forgery ${at}`);
    assert.equal((await gateway.status())?.fleet.upstreams[0]?.receipt, null);
    assert.equal(await judged(controller, truth), 'uplink.receipts', 'a true one counts');
  });
});
