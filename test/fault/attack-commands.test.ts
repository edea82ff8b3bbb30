import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { OwnedGateway, Requester, readMessage, type Message } from '#test/support/commandGateway.ts';
import { logLines, type Gateway } from '#test/support/gateway.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

/** Attacks of who may publish on the topics of commands: a stolen password, a hostile broker. */
describe('attacks: commands', function () {
  this.timeout(30_000);
  let dir: TempDir;
  let owned: OwnedGateway;
  let gateway: Gateway;
  let requester: Requester;

  const start = async (): Promise<void> => {
    gateway = await owned.start();
    requester = await Requester.of(gateway);
  };
  const states = async (id: string): Promise<readonly string[]> => {
    const lines = await logLines(owned.dataDir, ['--kind', 'command,result', '--limit', '1000']);
    return lines.filter(({ body }) => (body as Message)['id'] === id).map(({ kind, body }) => (kind === 'command' ? kind : String((body as Message)['state'])));
  };
  /** Publishes what somebody makes of a message, and expects nothing but a refusal. */
  const refused = async (id: string, code: string, message: Message): Promise<void> => {
    writeFileSync(owned.path('attack.json'), JSON.stringify(message));
    await requester.publish('config_update', id, owned.path('attack.json'));
    assert.match(String((await requester.ended('config_update', id))['reason']), new RegExp(`^${code.replace('.', '\\.')}: `));
    assert.deepEqual(await states(id), ['refused']);
  };

  before(async function () {
    requirePeer(this, 'mosquitto_pub');
    dir = tempDir('attack-commands');
    owned = new OwnedGateway(dir.path);
    await owned.prepare();
    await start();
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  it('stolen broker password: commands without an owner\'s signature, or altered under one, are refused, command.unsigned and command.signature', async () => {
    const before = readFileSync(owned.configFile, 'utf8');
    const { signature, ...unsigned } = readMessage(owned.sign('config_update', 'stolen', { parameters: { config: before } }));
    await refused('stolen', 'command.unsigned', unsigned);
    const altered = readMessage(owned.sign('config_update', 'altered', { parameters: { config: before } }));
    await refused('altered', 'command.signature', { ...altered, parameters: { config: owned.configuration('# mine\n') } });
    await refused('altered2', 'command.target', { ...altered, signature });
    assert.equal(readFileSync(owned.configFile, 'utf8'), before);
  });

  it('a command held back by the broker until its validity is over: refused, command.expired', async () => {
    const issued = Math.floor(Date.now() / 1_000) - 61;
    await refused('late', 'command.expired', readMessage(owned.sign('config_update', 'late', { issued, parameters: { config: owned.configuration() } })));
  });

  it('a recorded command carried to another gateway: refused, command.target', async () => {
    await refused('carried', 'command.target', readMessage(owned.sign('config_update', 'carried', { gateway: 'gw2', parameters: { config: owned.configuration() } })));
  });

  it('a recorded command replayed, after a restart too: nothing is done again, and its true state stands', async () => {
    const file = owned.sign('config_update', 'once', { ttlSeconds: 3_600, parameters: { config: owned.configuration('# once\n') } });
    await requester.publish('config_update', 'once', file);
    await requester.ended('config_update', 'once');
    writeFileSync(owned.configFile, owned.configuration());
    for (const isRestarted of [false, true]) {
      if (isRestarted) {
        await gateway.kill();
        await start();
      }
      await requester.publish('config_update', 'once', file);
      await until('its true state', async () => (await requester.retained('config_update', 'once'))?.['status'] === 'successful');
    }
    assert.deepEqual(await states('once'), ['command', 'executing', 'successful']);
    assert.equal(readFileSync(owned.configFile, 'utf8'), owned.configuration());
  });
});
