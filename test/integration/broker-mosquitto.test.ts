import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { openTestBroker } from '#test/support/brokerHarness.ts';
import { requirePeer } from '#test/support/peers.ts';

const run = promisify(execFile);

describe('broker: mosquitto clients', () => {
  it('serves mosquitto_pub and mosquitto_sub at every QoS, over a durable session', async function () {
    const [pub, sub] = [requirePeer(this, 'mosquitto_pub'), requirePeer(this, 'mosquitto_sub')];
    await using door = await openTestBroker();
    const at = ['-h', '127.0.0.1', '-p', String(door.port)];
    const durable = [...at, '-i', 'durable', '-c', '-q', '2', '-t', 'm/#', '-v'];
    // -E: leave once the subscription stands
    await run(sub, [...durable, '-E']);
    for (const qos of ['0', '1', '2']) await run(pub, [...at, '-q', qos, '-t', `m/${qos}`, '-m', `at ${qos}`]);
    const { stdout } = await run(sub, [...durable, '-C', '2', '-W', '5']);
    assert.deepEqual(stdout.trim().split('\n').toSorted(), ['m/1 at 1', 'm/2 at 2']);
    assert.deepEqual(door.intake.accepted.map(({ topic, qos }) => [topic, qos]), [['m/0', 0], ['m/1', 1], ['m/2', 2]]);
  });
});
