/** One gateway, two fleets after each other, as their users run them: what the site keeps from its owner, and how an owner lets it go. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { withChains } from '#runtime/controllerMain.ts';
import { callController } from '#runtime/controller/apiClient.ts';
import { Gateway, logLines, tenzro } from '#test/support/gateway.ts';
import { connectClient } from '#test/support/mqttClient.ts';
import { makeOwnFleet, type OwnFleet } from '#test/support/ownFleet.ts';
import type { Ran } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const NAME = 'edge-1';
const SECRET = 'te/device/camera///m/people';

describe('a gateway that is let go', function () {
  this.timeout(120_000);
  let dir: TempDir;
  let stack: AsyncDisposableStack;
  let fleets: readonly [OwnFleet, OwnFleet];
  const at = (name: string): string => join(dir.path, name);

  beforeEach(async () => {
    stack = new AsyncDisposableStack();
    dir = stack.use(tempDir('gateway-release'));
    for (const name of ['north', 'south']) mkdirSync(at(name));
    fleets = [await makeOwnFleet(at('north')), await makeOwnFleet(at('south'))];
    writeFileSync(at('gateway.yaml'), `node: { name: ${NAME} }\nforward: [{ topic: '${SECRET}', mode: never }]\nattest: { intervalMs: 1000, idleIntervalMs: 1000, tpm: { mode: none } }\nclaim: { host: 127.0.0.1 }\nsystem: { enabled: false }\ninfer: { enabled: false }\n`);
  });
  afterEach(() => stack.disposeAsync());

  const cli = async (fleet: OwnFleet, ...args: readonly string[]): Promise<Ran> => {
    const ran = await tenzro(dir.path, ['fleet', ...args, '--dir', fleet.home]);
    assert.equal(ran.code, 0, ran.output);
    return ran;
  };
  const signing = ({ home }: OwnFleet): readonly string[] => ['--passphrase-file', join(home, '..', 'passphrase')];
  const start = async (): Promise<Gateway> => stack.use(await Gateway.start({ dataDir: at('data'), configFile: at('gateway.yaml') }));

  async function claim(gateway: Gateway, fleet: OwnFleet): Promise<void> {
    await gateway.until('nobody\'s gateway', ({ chain, claim: { state } }) => chain.blocks > 0 && state === 'unclaimed', 30_000);
    const { stdout } = await tenzro(at('data'), ['claim', 'show', '--json'], { configFile: at('gateway.yaml') });
    const { code } = JSON.parse(stdout) as { readonly code: string };
    const { claim: { port } } = await gateway.until('claims to be taken', ({ claim: { port: open, discriminators } }) => open !== null && discriminators.length > 0);
    await cli(fleet, 'claim', '--code', code, '--name', NAME, '--address', `127.0.0.1:${port}`, '--broker', `mqtts://localhost:${fleet.port}`, '--yes', ...signing(fleet));
  }
  async function publish(gateway: Gateway, topic: string, count: number): Promise<number> {
    await using client = await connectClient(await gateway.port());
    for (let i = 0; i < count; i++) await client.mqtt.publishAsync(topic, JSON.stringify({ value: i }), { qos: 1 });
    return (await gateway.status())?.chain.entries ?? 0;
  }
  const receipted = (gateway: Gateway, size: number) => gateway.until('the owner\'s receipt', ({ fleet: { upstreams } }) => (upstreams[0]?.receipt?.treeSize ?? 0) >= size, 30_000);
  const stateAt = async ({ home }: OwnFleet): Promise<unknown> => ((await callController(home, 'gateways.list', {}))['gateways'] as readonly { readonly name: string; readonly state: string }[]).find(({ name }) => name === NAME)?.state;
  /** How many entries its controller holds in words: whether all readings that may leave, and of the others. */
  const heldBy = async ({ home }: OwnFleet): Promise<readonly [boolean, number]> => withChains(home, (chains) => {
    const entries = chains.all().flatMap(([chain]) => [...chains.leaves(chain)]).flatMap((leaf) => ('entry' in leaf ? [Buffer.from(leaf.entry)] : []));
    return [entries.filter((entry) => entry.includes('te/device/motor///m/load')).length >= 7, entries.filter((entry) => entry.includes(SECRET)).length];
  });

  it('keeps from its owner what stays on the site, is released by a signed command, and claimed by another fleet', async () => {
    const [north, south] = fleets;
    for (const fleet of fleets) stack.use(await fleet.start());
    const gateway = await start();
    await claim(gateway, north);
    await publish(gateway, 'te/device/motor///m/load', 7);
    await receipted(gateway, await publish(gateway, SECRET, 5));
    assert.deepEqual(await heldBy(north), [true, 0]);
    const [shown] = JSON.parse((await cli(north, 'show', NAME, '--json')).stdout) as readonly { readonly withheld: number }[];
    assert.ok((shown?.withheld ?? 0) >= 5, 'its registration too');

    const { stdout } = await cli(north, 'run', NAME, 'release', '--json', ...signing(north));
    const { commands: [command] } = JSON.parse(stdout) as { readonly commands: readonly { readonly id: string }[] };
    await gateway.until('nobody', ({ claim: { state }, fleet: { owner, upstreams } }) => state === 'unclaimed' && owner === null && upstreams.length === 0, 45_000);
    const attested = JSON.parse((await cli(north, 'attested', NAME, 'release', command?.id ?? '', '--json')).stdout) as { readonly agrees: boolean; readonly attested: { readonly state: string } };
    assert.deepEqual([attested.agrees, attested.attested.state], [true, 'successful']);
    await until('the register', async () => (await stateAt(north)) === 'released', { timeoutMs: 20_000 });
    assert.match((await cli(north, 'acts')).stdout, new RegExp(`gateway\\.released .*by command release/${command?.id ?? ''}`));

    await claim(gateway, south);
    await receipted(gateway, await publish(gateway, SECRET, 3));
    assert.deepEqual([await stateAt(south), await heldBy(south)], ['claimed', [true, 0]], 'the whole chain, an old release in it');
    await cli(south, 'run', NAME, 'release', ...signing(south));
    await until('the second register', async () => (await stateAt(south)) === 'released', { timeoutMs: 45_000 });
    await claim(gateway, north); // and back
    assert.equal(await stateAt(north), 'claimed');
    const states = (await logLines(at('data'), ['--kind', 'claim'])).map(({ body }) => (body as { readonly state: string }).state);
    assert.deepEqual(states.filter((state) => state === 'owned' || state === 'released'), ['owned', 'released', 'owned', 'released', 'owned']);
  });
});
