import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { NODE_NAME, OwnedGateway, Requester, type Message } from '#test/support/commandGateway.ts';
import { makeBroker, uplinkConfig, type FleetBroker } from '#test/support/fleet.ts';
import { logLines, type Gateway } from '#test/support/gateway.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run, type Program } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

/** Nobody answers shipments here. */
const RECEIPT_KEY = 'ab'.repeat(32);
const NONCE = '00112233445566778899aabbccddeeff';

/** The real gateway, commanded by mosquitto's clients over a mosquitto with TLS that is its fleet's broker. */
describe('gateway: commands over the fleet\'s broker', function () {
  this.timeout(60_000);
  let dir: TempDir;
  let broker: FleetBroker;
  let serving: Program;
  let owned: OwnedGateway;
  let gateway: Gateway;
  let fleet: Requester;

  const isConnected = async (): Promise<void> => { await gateway.until('the fleet\'s broker', ({ fleet: { upstreams } }) => upstreams[0]?.connected === true, 30_000); };
  const told = async (id: string): Promise<readonly string[]> => {
    const lines = await logLines(owned.dataDir, ['--kind', 'command,result', '--limit', '10000']);
    return lines.map(({ kind, body }) => ({ kind, body: body as Message })).filter(({ body }) => body['id'] === id).map(({ kind, body }) => (kind === 'command' ? kind : String(body['state'])));
  };
  const statusOf = async (): Promise<Message> => {
    const { stdout } = await run('mosquitto_sub', ['-h', 'localhost', '-p', String(broker.port), '--cafile', broker.caFile, '-u', 'fleet', '-P', 'a fleet password', '-t', `te/${NODE_NAME}/status`, '-C', '1', '-W', '2']);
    return JSON.parse(stdout) as Message;
  };

  before(async function () {
    requirePeer(this, 'mosquitto_pub');
    requirePeer(this, 'mosquitto_sub');
    dir = tempDir('fleet-commands');
    broker = await makeBroker(this, dir.path);
    owned = new OwnedGateway(dir.path);
    await owned.prepare();
    writeFileSync(owned.configFile, owned.configuration(`uplinks:\n${uplinkConfig('fleet', broker, RECEIPT_KEY)}\n`));
    serving = await broker.start();
    gateway = await owned.start();
    fleet = Requester.over(broker);
    await isConnected();
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    await serving[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  it('run once, by a message that fleet sign wrote and mosquitto_pub published, and answer there', async () => {
    await until('what it can do', async () => (await fleet.capabilities()).includes('attest'));
    const file = await owned.signByCommandLine('attest', 'a1', ['--params', JSON.stringify({ nonce: NONCE })]);
    await fleet.publish('attest', 'a1', file);
    const { status, result } = await fleet.ended('attest', 'a1');
    assert.deepEqual([status, (result as Message)['nonce']], ['successful', NONCE]);
    assert.deepEqual(await told('a1'), ['command', 'executing', 'successful']);
    assert.equal(await (await Requester.of(gateway)).retained('attest', 'a1'), undefined, 'nobody asked there');
  });

  it('are one command when they come over both brokers, and both hear of it', async () => {
    const own = await Requester.of(gateway);
    const file = owned.sign('attest', 'both', { parameters: { nonce: NONCE } });
    await Promise.all([own.publish('attest', 'both', file), fleet.publish('attest', 'both', file)]);
    assert.deepEqual((await Promise.all([own.ended('attest', 'both'), fleet.ended('attest', 'both')])).map(({ status }) => status), ['successful', 'successful']);
    assert.deepEqual(await told('both'), ['command', 'executing', 'successful']);
  });

  it('run once over a kill -9 in between, and over one of the broker', async () => {
    const file = owned.sign('attest', 'k1', { ttlSeconds: 600, parameters: { nonce: NONCE } });
    await fleet.publish('attest', 'k1', file);
    await gateway.kill();
    gateway = await owned.start();
    const { status, reason = '' } = await fleet.ended('attest', 'k1');
    assert.ok(status === 'successful' || String(reason).startsWith('command.interrupted'), JSON.stringify({ status, reason }));
    await isConnected();
    await fleet.publish('attest', 'k1', file);
    assert.equal((await fleet.ended('attest', 'k1'))['status'], status);
    await serving.end('SIGKILL'); // and with it what it retained
    serving = await broker.start();
    await isConnected();
    await fleet.publish('attest', 'k1', file);
    assert.equal((await fleet.ended('attest', 'k1'))['status'], status);
    const states = await told('k1');
    assert.deepEqual([states[0], states.filter((state) => state === 'executing').length <= 1, states.at(-1)], ['command', true, status]);
  });

  it('wait at the broker while the gateway is away', async () => {
    await gateway.stop();
    assert.deepEqual(await statusOf(), { status: 'down' });
    await fleet.publish('diagnostics', 'd1', owned.sign('diagnostics', 'd1', { ttlSeconds: 600 }));
    gateway = await owned.start();
    const { result } = await fleet.ended('diagnostics', 'd1');
    assert.equal((result as Message)['node'], NODE_NAME);
    const { status, version, chain, since, ok } = await statusOf();
    assert.deepEqual([status, ok, typeof version, Number.isNaN(Date.parse(String(since)))], ['up', true, 'string', false]);
    assert.equal(chain, (await gateway.status())?.chain.id);
  });

  it('are shown in the status while they are open', async () => {
    await fleet.publish('diagnostics', 'later', owned.sign('diagnostics', 'later', { ttlSeconds: 600, notBefore: Math.floor(Date.now() / 1_000) + 300 }));
    const { fleet: { commands, owner } } = await gateway.until('an open command', (status) => status.fleet.commands.length > 0);
    assert.deepEqual([commands, owner], [[{ type: 'diagnostics', id: 'later', state: 'scheduled' }], null]);
    await fleet.publish('cancel', 'c1', owned.sign('cancel', 'c1', { parameters: { type: 'diagnostics', id: 'later' } }));
    assert.match(String((await fleet.ended('diagnostics', 'later'))['reason']), /^command\.cancelled/);
  });
});
