import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { OwnedGateway, Requester, type Message } from '#test/support/commandGateway.ts';
import { logLines, tenzro } from '#test/support/gateway.ts';
import { requirePeer } from '#test/support/peers.ts';
import { randomOf } from '#test/support/random.ts';
import { tempDir } from '#test/support/temp.ts';

const RUNS = Number(process.env['TENZRO_KILL_RUNS'] ?? 5);
/** Accepting, executing and ending a command takes some 60 ms: the kill comes before, between and after. */
const LIFE_MS_MAX = 120;

/**
 * kill −9 of the real gateway while it deals with a command: whatever it had reached, after a restart the command ends once, its side effect was had once at
 * most, and the state says which.
 */
describe('commands: kill -9', function () {
  this.timeout(120_000);

  it(`ends every command once, with its effect at most once, over ${RUNS} kills`, async function () {
    requirePeer(this, 'mosquitto_pub');
    using dir = tempDir('commands-kill');
    const owned = new OwnedGateway(dir.path);
    await owned.prepare();
    const random = randomOf(20_261_123);
    for (let at = 0; at < RUNS; at++) {
      const id = `k${at}`;
      const next = owned.configuration(`# ${id}\n`);
      const file = owned.sign('config_update', id, { parameters: { config: next } });
      const before = readFileSync(owned.configFile, 'utf8');
      {
        await using gateway = await owned.start();
        const requester = await Requester.of(gateway);
        const sent = requester.publish('config_update', id, file).catch((error: unknown) => error); // the kill may come first
        await delay(random(LIFE_MS_MAX));
        await gateway.kill();
        await sent;
      }
      writeFileSync(`${owned.configFile}.before`, 'nobody replaced the configuration since');
      const wasApplied = readFileSync(owned.configFile, 'utf8') === next;
      await using gateway = await owned.start();
      const requester = await Requester.of(gateway);
      await requester.publish('config_update', id, file); // delivered again, as a broker does
      const { status } = await requester.ended('config_update', id);
      const states = await toldOf(owned.dataDir, id);
      const what = `run ${at}: ${states.join(' ')}, ${wasApplied ? 'applied before the kill' : 'not applied by then'}`;
      assert.equal(states.filter((state) => state === 'command').length, 1, what);
      assert.equal(states.filter((state) => state === 'executing').length, 1, what);
      assert.equal(states.at(-1), status, what);
      assert.equal(status === 'successful', readFileSync(owned.configFile, 'utf8') === next, what);
      if (wasApplied) assert.equal(readFileSync(`${owned.configFile}.before`, 'utf8'), 'nobody replaced the configuration since', what);
      if (status === 'failed') assert.equal(readFileSync(owned.configFile, 'utf8'), before, what);
      await gateway.stop();
    }
    const checked = await tenzro(owned.dataDir, ['fsck', '--json']);
    assert.equal(checked.code, 0, checked.output);
  });
});

async function toldOf(dataDir: string, id: string): Promise<readonly string[]> {
  const lines = await logLines(dataDir, ['--kind', 'command,result', '--limit', '10000']);
  return lines.filter(({ body }) => (body as Message)['id'] === id).map(({ kind, body }) => (kind === 'command' ? kind : String((body as Message)['state'])));
}
