import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { OwnedGateway, Requester, readMessage, type Message } from '#test/support/commandGateway.ts';
import { logLines, type Gateway } from '#test/support/gateway.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const NONCE = '00112233445566778899aabbccddeeff';

/** The commands of one id, as the chain tells them. */
async function told(dataDir: string, type: string, id: string): Promise<readonly string[]> {
  const lines = await logLines(dataDir, ['--kind', 'command,result', '--limit', '10000']);
  return lines.map(({ kind, body }) => ({ kind, body: body as Message })).filter(({ body }) => body['type'] === type && body['id'] === id).map(({ kind, body }) => String(kind === 'command' ? 'command' : body['state']));
}

/** The real gateway, commanded by mosquitto's clients with what `tenzro fleet sign` prints. */
describe('gateway: signed commands', function () {
  this.timeout(60_000);
  let dir: TempDir;
  let owned: OwnedGateway;
  let gateway: Gateway;
  let requester: Requester;

  const start = async (env: NodeJS.ProcessEnv = {}): Promise<void> => {
    gateway = await owned.start({ env });
    requester = await Requester.of(gateway);
  };
  const command = async (type: string, id: string, parameters: Message = {}, isDryRun = false): Promise<Message> => {
    await requester.publish(type, id, owned.sign(type, id, { parameters, isDryRun }));
    return requester.ended(type, id);
  };

  before(async function () {
    requirePeer(this, 'mosquitto_pub');
    requirePeer(this, 'mosquitto_sub');
    dir = tempDir('commands');
    owned = new OwnedGateway(dir.path);
    await owned.prepare();
    await start();
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  it('says what it can do', async () => {
    assert.deepEqual(await requester.capabilities(), ['attest', 'cancel', 'config_update', 'diagnostics', 'log_upload', 'model_install', 'restart', 'sync_time']);
  });

  it('attests over a fresh nonce, and shows each state on the topic', async () => {
    await using watch = requester.watch();
    await until('the watcher to see', () => watch.output.includes('cmd/attest '));
    await requester.publish('attest', '1', await owned.signByCommandLine('attest', '1', ['--params', JSON.stringify({ nonce: NONCE })]));
    const { result } = await requester.ended('attest', '1') as unknown as { result: { sequence: number; bundle_sha256: string; nonce: string } };
    assert.equal(result.nonce, NONCE);
    assert.match(result.bundle_sha256, /^[0-9a-f]{64}$/);
    assert.ok(result.sequence >= 1);
    const states = [...watch.output.matchAll(/attest\/1 \{"status":"(\w+)"/g)].map(([, state]) => state);
    assert.deepEqual(states, ['init', 'executing', 'successful']);
    assert.deepEqual(await told(owned.dataDir, 'attest', '1'), ['command', 'executing', 'successful']);
  });

  it('answers diagnostics and signed time, refuses wrong parameters, and says what it does not do', async () => {
    const diagnostics = await command('diagnostics', 'd1');
    assert.equal((diagnostics['result'] as Message)['node'], 'gw1');
    const time = await command('sync_time', 't1');
    assert.equal((time['result'] as Message)['clock_behind_s'], 0);
    assert.match(String((await command('attest', 'bad', { nonce: '12' }))['reason']), /^command\.parameters/);
    assert.match(String((await command('software_update', 'm1'))['reason']), /^command\.unsupported/);
    assert.equal((await command('cancel', 'c1', { type: 'attest', id: '1' }))['status'], 'failed');
  });

  it('keeps a scheduled command waiting, and cancels it', async () => {
    const notBefore = Math.floor(Date.now() / 1_000) + 600;
    await requester.publish('diagnostics', 'later', owned.sign('diagnostics', 'later', { ttlSeconds: 3_600, notBefore }));
    await until('it to be scheduled', async () => (await requester.retained('diagnostics', 'later'))?.['status'] === 'scheduled');
    assert.equal((await command('cancel', 'c2', { type: 'diagnostics', id: 'later' }))['status'], 'successful');
    assert.match(String((await requester.ended('diagnostics', 'later'))['reason']), /^command\.cancelled/);
  });

  it('does nothing for what is not signed, altered, meant for others, or too much, and records why', async () => {
    const file = owned.sign('attest', 'forged', { parameters: { nonce: NONCE } });
    const good = readMessage(file);
    const { signature: _signature, ...unsigned } = good;
    const forgeries: readonly (readonly [id: string, code: string, text: string])[] = [
      ['f1', 'command.unsigned', JSON.stringify(unsigned)],
      ['f2', 'command.target', JSON.stringify(good)],
      ['forged', 'command.signature', JSON.stringify({ ...good, parameters: { nonce: NONCE.replace('0', 'f') } })],
      ['f4', 'command.malformed', JSON.stringify(good).slice(0, 300)],
      ['f5', 'command.malformed', JSON.stringify({ ...good, filling: 'x'.repeat(70_000) })],
      ['f6', 'command.version', JSON.stringify({ ...good, version: 99 })],
    ];
    for (const [id, code, text] of forgeries) {
      writeFileSync(owned.path('forgery.json'), text);
      await requester.publish('attest', id, owned.path('forgery.json'));
      assert.match(String((await requester.ended('attest', id))['reason']), new RegExp(`^${code.replace('.', '\\.')}`));
      assert.deepEqual(await told(owned.dataDir, 'attest', id), ['refused']);
    }
    assert.equal((await gateway.status())?.counters['fleet.refused.command.version'], 1);
  });

  it('gives its answer again to a command that is delivered again, and does nothing twice', async () => {
    const before = await requester.retained('attest', '1');
    await requester.publish('attest', '1', owned.path('attest-1.json'));
    await until('the answer to be back', async () => (await requester.retained('attest', '1'))?.['status'] === 'successful');
    assert.deepEqual(await requester.retained('attest', '1'), before);
    writeFileSync(owned.path('lie.json'), JSON.stringify({ ...before, status: 'failed', reason: 'a lie' }));
    await requester.publish('attest', '1', owned.path('lie.json'));
    await until('the truth to be back', async () => (await requester.retained('attest', '1'))?.['status'] === 'successful');
    assert.deepEqual(await told(owned.dataDir, 'attest', '1'), ['command', 'executing', 'successful']);
  });

  it('lets the requester clear a finished command, and says no more of it', async () => {
    await requester.clear('attest', '1');
    await gateway.stop();
    await start();
    assert.equal(await requester.retained('attest', '1'), undefined);
    await requester.publish('attest', '1', owned.path('attest-1.json'));
    assert.equal((await requester.ended('attest', '1'))['status'], 'successful');
    assert.deepEqual(await told(owned.dataDir, 'attest', '1'), ['command', 'executing', 'successful']);
  });

  it('checks a configuration before it takes it, keeps the one before, and cannot be locked out', async () => {
    const update = async (id: string, config: string, isDryRun = false): Promise<Message> => command('config_update', id, { config }, isDryRun);
    const before = readFileSync(owned.configFile, 'utf8');
    for (const [id, config] of [['bad', 'mqtt: { prot: 1 }'], ['bare', 'version: 1\n'], ['moved', owned.configuration('dataDir: elsewhere\n')]] as const) {
      assert.match(String((await update(id, config))['reason']), /^command\.config/);
      assert.equal(readFileSync(owned.configFile, 'utf8'), before);
    }
    const next = owned.configuration('log: { level: warn }\n');
    assert.deepEqual((await update('dry', next, true))['result'], { dry_run: true });
    assert.equal(readFileSync(owned.configFile, 'utf8'), before);
    assert.equal((await update('good', next))['status'], 'successful');
    assert.equal(readFileSync(owned.configFile, 'utf8'), next);
    assert.equal(readFileSync(`${owned.configFile}.before`, 'utf8'), before);
  });

  it('restarts once, where somebody starts it again', async () => {
    await gateway.stop();
    await start({ TENZRO_SUPERVISED: '1' });
    const file = owned.sign('restart', 'r1');
    await requester.publish('restart', 'r1', file);
    assert.equal(await gateway.exited(), 75);
    await start({ TENZRO_SUPERVISED: '1' });
    assert.equal((await requester.ended('restart', 'r1'))['status'], 'successful');
    await requester.publish('restart', 'r1', file);
    await until('the answer to be back', async () => (await requester.retained('restart', 'r1'))?.['status'] === 'successful');
    assert.deepEqual(await told(owned.dataDir, 'restart', 'r1'), ['command', 'executing', 'successful']);
  });

  it('obeys nobody without operators, and says so', async () => {
    await gateway.stop();
    writeFileSync(owned.configFile, owned.configuration().replace(/fleet:.*\n/, ''));
    await start();
    assert.deepEqual(await requester.capabilities(), []);
    assert.match(String((await command('diagnostics', 'nobody'))['reason']), /^command\.no_operators/);
    assert.equal((await requester.retained('restart', 'r1'))?.['status'], 'successful');
  });
});
