import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { hashPassword } from '#runtime/broker/auth.ts';
import { filesOf } from '#runtime/controller/house.ts';
import { writePerson } from '#runtime/controller/people.ts';
import { OTHER_BROKERS, PASSWORD, type User } from '#test/support/fleetBrokers.ts';
import { earFor, makeHouse, newSigner, openFleetDoor } from '#test/support/fleetDoor.ts';
import { FLEET_TOPICS } from '#test/support/fleetTopics.ts';
import { closed, connectClient, type TestClient } from '#test/support/mqttClient.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

type Who = Exclude<User, 'fleet'>;

/** One broker with the two gateways, somebody who looks on, and the fleet. */
interface Entrance {
  readonly connect: (who: Who) => Promise<TestClient>;
  /** As the controller. */
  readonly say: (topic: string, payload: string) => Promise<void>;
  /** Whether the controller, who hears everything below te/, heard that. */
  readonly heard: (payload: string) => boolean;
}

interface Case {
  readonly who: Who;
  readonly does: 'says' | 'hears';
  readonly topic: string;
  readonly isAllowed: boolean;
}

const CASES: readonly Case[] = [
  ...FLEET_TOPICS.flatMap(([topic, isItsOwnWord]): readonly Case[] => [
    { who: 'edge-1', does: 'says', topic: `te/edge-1/${topic}`, isAllowed: isItsOwnWord },
    { who: 'edge-1', does: 'says', topic: `te/edge-2/${topic}`, isAllowed: false },
    { who: 'anna', does: 'says', topic: `te/edge-1/${topic}`, isAllowed: false },
    { who: 'edge-1', does: 'hears', topic: `te/edge-1/${topic}`, isAllowed: true },
    { who: 'edge-1', does: 'hears', topic: `te/edge-2/${topic}`, isAllowed: false },
    { who: 'anna', does: 'hears', topic: `te/edge-1/${topic}`, isAllowed: true },
  ]),
  ...['te/edge-10/status', 'te/edge/status', 'te/Edge-1/status', 'te/status'].map((topic): Case => ({ who: 'edge-1', does: 'says', topic, isAllowed: false })),
];

/** Who hands in signed commands by a program of its own: the fleet's own broker has the controller's socket for that. */
const DESK_CASES: readonly Case[] = (['te/edge-1/device/main///cmd/restart/1', 'te/edge-1/device/main///cmd/restart', 'te/edge-1/status', 'te/edge-1/device/main///twin/config/desired'] as const)
  .map((topic, at) => ({ who: 'desk', does: 'says', topic, isAllowed: at === 0 }));

/** The same list of (who, topic, action), asked of each broker from outside. */
describe('who may what on the broker of a fleet', function () {
  this.timeout(30_000);
  let dir: TempDir;
  let opened: AsyncDisposableStack;
  beforeEach(() => { [dir, opened] = [tempDir('fleet-permissions'), new AsyncDisposableStack()]; });
  afterEach(async () => {
    await opened.disposeAsync();
    dir[Symbol.dispose]();
  });

  it('its own', async () => {
    const home = join(dir.path, 'fleet');
    const house = await makeHouse(home);
    await writePerson(filesOf(home).users, 'anna', await hashPassword(PASSWORD));
    const [ear, signers] = [earFor('te/#'), { 'edge-1': newSigner(), 'edge-2': newSigner() }];
    const door = opened.use(await openFleetDoor(home, house, [ear]));
    for (const [name, signer] of Object.entries(signers)) door.register.add(name, signer);
    assert.deepEqual(await wrongIn({
      connect: (who) => (who === 'edge-1' || who === 'edge-2' ? door.connectAs(signers[who]) : door.connect({ username: who, password: PASSWORD })),
      say: async (topic, payload) => { await ear.links[0]?.publish(topic, Buffer.from(payload), { retain: false }); },
      heard: (payload) => ear.heard.some((line) => line.endsWith(` ${payload}`)),
    }, CASES), []);
  });

  for (const [name, make, keepsIdsApart] of [['mosquitto', OTHER_BROKERS.mosquitto, true], ['nats-server', OTHER_BROKERS['nats-server'], false]] as const) {
    it(name, async function () {
      const broker = await make(this, dir.path);
      opened.use(await broker.start());
      const connect = (username: User, more: Parameters<typeof connectClient>[1] = {}) => connectClient(broker.port, { protocol: 'mqtts', host: 'localhost', ca: readFileSync(broker.caFile, 'utf8'), username, password: PASSWORD, ...more });
      await assert.rejects(connect('anna', { password: 'another' }), /Not authorized|closed/);
      const [first, second] = [opened.use(await connect('edge-1', { clientId: 'te-edge-1' })), opened.use(await connect('edge-2', { clientId: 'te-edge-1' }))];
      await second.mqtt.publishAsync('te/edge-2/status', 'up', { qos: 1 });
      if (!keepsIdsApart) await closed(first);
      assert.equal(first.mqtt.connected, keepsIdsApart, 'as the page says');
      const fleet = opened.use(await connect('fleet'));
      await fleet.mqtt.subscribeAsync('te/#', { qos: 0 });
      assert.deepEqual(await wrongIn({
        connect, say: async (topic, payload) => { await fleet.mqtt.publishAsync(topic, payload, { qos: 1 }); },
        heard: (payload) => heardBy(fleet, payload),
      }, [...CASES, ...DESK_CASES]), []);
    });
  }

  /** Cases that went otherwise than they should, and what is retained though nobody might say it. Each has one connection at most, as some brokers want it. */
  async function wrongIn({ connect, say, heard }: Entrance, cases: readonly Case[]): Promise<readonly string[]> {
    const clients = new Map<Who, { readonly client: TestClient; readonly gone: Promise<void> }>();
    const clientOf = async (who: Who) => {
      const known = clients.get(who);
      if (known?.client.mqtt.connected) return known;
      const client = opened.use(await connect(who)); // anew where it was cut for what it said
      for (const filter of ['te/#', 'te/edge-1/#']) await client.mqtt.subscribeAsync(filter, { qos: 0 }).catch(() => undefined); // some refuse what others filter
      const entered = { client, gone: closed(client) };
      clients.set(who, entered);
      return entered;
    };
    const wrong: string[] = [];
    for (const [at, { who, does, topic, isAllowed }] of cases.entries()) {
      const { client, gone } = await clientOf(who);
      const [word, fence] = [`word ${at}`, `fence ${at}`];
      const reached = (payload: string): boolean => (does === 'says' ? heard(payload) : heardBy(client, payload));
      if (does === 'hears') await say(topic, word);
      else await Promise.race([client.mqtt.publishAsync(topic, word, { qos: 1, retain: true }).catch(() => undefined), gone]);
      await say('te/edge-1/device/main///cmd/fence/1', fence);
      await until(fence, () => reached(fence), { intervalMs: 1 });
      if (reached(word) !== isAllowed) wrong.push(`${who} ${does} ${topic}`);
    }
    await clients.get('anna')?.client[Symbol.asyncDispose]();
    clients.delete('anna');
    const { client: late } = await clientOf('anna');
    await say('te/edge-1/device/main///cmd/fence/1', 'last');
    await until('the last word', () => heardBy(late, 'last'));
    const retained = late.received.map(({ payload }) => cases[Number(payload.replace('word ', ''))]).filter((one) => one !== undefined);
    assert.ok(retained.length > 0, 'nothing is retained');
    return [...wrong, ...retained.filter(({ isAllowed }) => !isAllowed).map(({ topic }) => `retained: ${topic}`)];
  }
});

const heardBy = ({ received }: TestClient, wanted: string): boolean => received.some(({ payload }) => payload === wanted);
