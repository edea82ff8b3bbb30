import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Gateway, logLines, tenzro } from '#test/support/gateway.ts';
import type { Ran } from '#test/support/process.ts';
import { publishPacket, RawClient, TYPE } from '#test/support/rawMqtt.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const TOPIC = 'te/device/motor///m/current';
const POLICY = join(import.meta.dirname, '../../docs/policies/allow-software.yaml');
const CONFIGURATION = `
system: { enabled: false }
infer: { enabled: false }
attest: { intervalMs: 1000, tpm: { mode: none } }
ingest: { record: [{ topic: ${TOPIC}, mode: every, confidential: true }] }
confidential: { recipients: [{ name: owner, publicKeyFile: owner.key.pub }] }
`;

interface Opened { readonly outcome: string; readonly subject: { readonly entries: readonly { readonly index: number; readonly kind: string; readonly body: Readonly<Record<string, unknown>> }[] } }

/** From the microcontroller over a kill to the owner's screen, through the real gateway and the real command. */
describe('gateway: confidential entries', function () {
  this.timeout(60_000);
  let dir: TempDir;
  const file = (name: string): string => join(dir.path, name);
  const dataDir = (): string => file('data');
  const start = (): Promise<Gateway> => Gateway.start({ dataDir: dataDir(), configFile: file('tenzro.yaml') });
  const command = (...args: string[]): Promise<Ran> => tenzro(dataDir(), args, { configFile: file('tenzro.yaml') });

  /** Acknowledged, that is flushed. */
  async function publish(gateway: Gateway, payload: string, id: number, dup = false): Promise<void> {
    using client = await RawClient.open(await gateway.port(), 'motor');
    client.send(publishPacket(TOPIC, payload, { qos: 1, id, dup }));
    await client.next(TYPE.puback);
  }

  before(async () => {
    dir = tempDir('gateway-confidential');
    writeFileSync(file('tenzro.yaml'), CONFIGURATION);
    const made = await command('confidential', 'keygen', '-o', file('owner.key'));
    assert.equal(made.code, 0, made.output);
    assert.ok(!made.output.includes(readFileSync(file('owner.key'), 'utf8').split('\n')[1] ?? '?'), 'the private key is in the file alone');
  });
  after(() => dir[Symbol.dispose]());

  it('keeps keys to their owner, and overwrites none', async () => {
    assert.equal(statSync(file('owner.key')).mode & 0o777, 0o600);
    const before = readFileSync(file('owner.key'), 'utf8');
    assert.equal((await command('confidential', 'keygen', '-o', file('owner.key'))).code, 2);
    assert.equal(readFileSync(file('owner.key'), 'utf8'), before);
  });

  it('records, over a kill, what the gateway cannot read and the owner can, each message once', async () => {
    await using first = await start();
    await publish(first, '{"amps": 17.125}', 5);
    await first.kill();
    await using second = await start();
    await publish(second, '{"amps": 17.125}', 5, true);
    await publish(second, '{"amps": 18.375}', 5, true);
    const { counters } = await second.until('the counts', (status) => status.counters['ingest.confidential'] === 1);
    assert.equal(counters['ingest.duplicate'], 1);

    const lines = await logLines(dataDir(), ['--kind', 'reading,keyEpoch']);
    assert.deepEqual(lines.map(({ kind }) => kind), ['keyEpoch', 'reading', 'keyEpoch', 'reading']);
    const [one, last] = [lines[1]?.index, lines[3]?.index];
    assert.ok(one !== undefined && last !== undefined);
    assert.match((await command('log', '--kind', 'reading')).stdout, /confidential, \d+ bytes sealed/);
    const store = readFileSync(join(dataDir(), 'ledger/chain/data.mdb'));
    for (const secret of ['amps', '17.125']) assert.ok(!store.includes(secret), `${secret} is nowhere on the disk`);

    assert.equal((await command('proof', `${one}..${last}`, '-o', file('p.tzp'), '--wait')).code, 0);
    const opened = await command('confidential', 'open', file('p.tzp'), '--key', file('owner.key'), '--policy', POLICY, '--json');
    assert.equal(opened.code, 0, opened.output);
    const { outcome, subject } = JSON.parse(opened.stdout) as Opened;
    assert.equal(outcome, 'verified');
    assert.deepEqual(subject.entries.map(({ index, body }) => [index, body['payload'], body['values'], body['flags']]), [
      [one, '{"amps": 17.125}', [{ channel: 'amps', value: 17.125, unit: '' }], []], [last, '{"amps": 18.375}', [{ channel: 'amps', value: 18.375, unit: '' }], ['duplicate']],
    ]);
    assert.equal(await second.stop(), 0);
  });

  it('brings the key entry along in the proof of a single entry, in which strangers see that something is sealed', async () => {
    const [, index] = (await logLines(dataDir(), ['--kind', 'reading'])).map((line) => line.index);
    assert.equal((await command('proof', String(index), '-o', file('one.tzp'))).code, 0);
    const verified = await command('verify', file('one.tzp'), '--policy', POLICY, '--json');
    assert.equal(verified.code, 0, verified.output);
    assert.ok((JSON.parse(verified.stdout) as Opened).subject.entries.some(({ kind }) => kind === 'keyEpoch'));
    assert.ok(!verified.stdout.includes('18.375'));
    const people = await command('confidential', 'open', file('one.tzp'), '--key', file('owner.key'), '--policy', POLICY);
    assert.match(people.stdout, /VERIFIED[^]*amps 18\.375/);
  });

  it('opens nothing to another key, nothing that does not verify, and nothing with what is no key', async () => {
    await command('confidential', 'keygen', '-o', file('stranger.key'));
    const stranger = await command('confidential', 'open', file('one.tzp'), '--key', file('stranger.key'), '--policy', POLICY);
    assert.equal(stranger.code, 2);
    assert.match(stranger.output, /sealed to owner, not to this key \(confidential\.not_recipient\)/);
    const untrusted = await command('confidential', 'open', file('one.tzp'), '--key', file('owner.key'));
    assert.equal(untrusted.code, 1);
    assert.match(untrusted.output, /Nothing was opened/);
    const damaged = readFileSync(file('one.tzp'));
    damaged.writeUInt8(damaged.readUInt8(200) ^ 1, 200);
    writeFileSync(file('damaged.tzp'), damaged);
    assert.equal((await command('confidential', 'open', file('damaged.tzp'), '--key', file('owner.key'), '--policy', POLICY)).code, 1);
    for (const wrong of ['owner.key.pub', 'tenzro.yaml']) {
      const ran = await command('confidential', 'open', file('one.tzp'), '--key', file(wrong), '--policy', POLICY);
      assert.equal(ran.code, 2);
      assert.match(ran.output, /confidential\.key/);
    }
  });

  it('does not start with a recipient whose key is none', async () => {
    writeFileSync(file('owner.key.pub'), 'nothing');
    await assert.rejects(start(), /confidential\.key/);
  });
});
