import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { Aedes } from 'aedes';
import { until } from '#test/support/until.ts';

const PLAYER = fileURLToPath(new URL('../../drivers/sim/player.ts', import.meta.url));
const IDS = ['cold-store', 'motor', 'power-meter'];

interface Seen { readonly client: string; readonly topic: string; readonly payload: string; readonly qos: number; readonly retain: boolean }

/** The program against a real broker, as `npm start` runs it. */
describe('sim: the player over MQTT', () => {
  let broker: Aedes;
  let server: Server;
  let seen: Seen[];
  let sockets: Socket[];
  const children: ChildProcess[] = [];

  beforeEach(async () => {
    [seen, sockets] = [[], []];
    broker = await Aedes.createBroker();
    broker.on('publish', ({ topic, payload, qos, retain }, client) => {
      if (!topic.startsWith('$SYS')) seen.push({ client: client?.id ?? '', topic, payload: String(payload), qos, retain });
    });
    server = createServer((socket) => { sockets.push(socket); broker.handle(socket); });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });

  afterEach(async () => {
    for (const child of children.splice(0)) if (child.exitCode === null && child.signalCode === null) { child.kill('SIGKILL'); await once(child, 'exit'); }
    if (server.listening) server.close();
    await new Promise<void>((resolve) => { broker.close(() => resolve()); });
  });

  function start(...args: string[]): ChildProcess {
    const { port } = server.address() as AddressInfo;
    const child = spawn(process.execPath, [PLAYER, 'workshop', '--port', String(port), ...args], { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
    children.push(child);
    return child;
  }
  const exitOf = async (child: ChildProcess): Promise<number | null> => {
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    return child.exitCode;
  };
  const of = (topic: string): Seen[] => seen.filter((one) => one.topic === topic);
  const enough = (count: number) => (): boolean => IDS.every((id) => seen.filter(({ topic }) => topic.startsWith(`te/device/${id}///m/`) && !topic.endsWith('/meta')).length >= count);

  it('registers, measures at QoS 1, says that it is simulated, and says goodbye at SIGTERM', async () => {
    const child = start('--speed', '20');
    const lines: string[] = [];
    child.stdout?.on('data', (chunk: Buffer) => lines.push(...chunk.toString().trim().split('\n')));
    await until('measurements of every device', enough(3));
    child.kill('SIGTERM');
    child.kill('SIGTERM');
    assert.equal(await exitOf(child), 0);
    assert.equal(lines.length, 3, 'one line per device, then nothing');
    for (const line of lines) assert.match(line, /^simulated device .*simulated\), MQTT client/);
    for (const id of IDS) {
      const own = seen.filter(({ client }) => client === id);
      assert.ok(own.every(({ qos, topic, payload }) => qos === 1 && topic.startsWith(`te/device/${id}//`) && (JSON.parse(payload) as { simulated?: unknown }).simulated === true));
      assert.deepEqual([own[0]?.topic, own[0]?.retain], [`te/device/${id}//`, true], 'the registration comes first');
      assert.match(own[0]?.payload ?? '', /\(simulated\)/);
      assert.ok(own.findIndex(({ topic }) => topic.endsWith('/meta')) < own.findIndex(({ topic }) => topic.includes('///m/') && !topic.endsWith('/meta')), 'units come before values');
      assert.deepEqual(of(`te/device/${id}///status/health`).map(({ payload }) => (JSON.parse(payload) as { status: string }).status), ['up', 'down']);
    }
  });

  it('lets the fault begin when told, visibly in the features', async () => {
    const child = start('--speed', '500', '--fault-after', '20');
    const kurtosis = (): number[] => of('te/device/motor///m/vibration').map(({ payload }) => (JSON.parse(payload) as { kurtosis: number }).kurtosis);
    const story = await until('a worn bearing', () => kurtosis().length > 100 && kurtosis());
    child.kill('SIGTERM');
    assert.equal(await exitOf(child), 0);
    const mean = (values: number[]): number => values.reduce((sum, one) => sum + one, 0) / values.length;
    assert.ok(Math.max(...story.slice(0, 20)) < 3.2, 'healthy first');
    assert.ok(mean(story.slice(85, 100)) > mean(story.slice(0, 20)) + 1);
  });

  it('comes back after its connections were cut, and its will speaks when it is killed', async () => {
    const child = start('--speed', '20');
    await until('measurements', enough(1));
    const cut = new Promise<void>((resolve) => { broker.once('clientDisconnect', () => resolve()); });
    for (const socket of sockets) socket.destroy();
    await cut;
    await until('a second registration of each', () => IDS.every((id) => of(`te/device/${id}//`).length >= 2));
    seen = [];
    await until('measurements again', enough(2));
    child.kill('SIGKILL');
    await until('the wills', () => IDS.every((id) => of(`te/device/${id}///status/health`).some(({ payload }) => payload.includes('down'))));
  });

  it('ends with its parent, and when the broker is gone for good', async () => {
    const withParent = start('--speed', '20');
    await until('measurements', enough(1));
    withParent.disconnect();
    assert.equal(await exitOf(withParent), 0);
    seen = [];
    const alone = start('--give-up-after', '0.3', '--speed', '100');
    await until('measurements', enough(1));
    server.close();
    for (const socket of sockets) socket.destroy();
    const [complaint] = await once(alone.stderr ?? alone, 'data') as [Buffer];
    assert.match(String(complaint), /^no broker: /);
    assert.equal(await exitOf(alone), 1);
  });
});
