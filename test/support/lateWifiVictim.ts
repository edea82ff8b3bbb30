/** Runs inside namespaces of its own: a gateway with an owner and two networks, whose wpa_supplicant starts after it; then one whose owner is gone. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DeviceStore } from '#provisioning/claim/deviceStore.ts';
import { signHandOver } from '#provisioning/claim/handOver.ts';
import { Operator } from './claimOperator.ts';
import { Gateway } from './gateway.ts';
import { until } from './until.ts';

const [device = '', config = '', folder = ''] = process.argv.slice(2);
const START_MS = 30_000;
/** Some of the pauses after which it tries again. */
const LATE_MS = 30_000;
const dataDir = join(folder, 'data');
const configFile = join(folder, 'tenzro.yaml');
const before = readFileSync(config, 'utf8');
/** Networks that it knows. */
const inProgram = (): number => execFileSync('wpa_cli', ['-p', '/run/wpa_supplicant', '-i', device, 'list_networks'], { encoding: 'utf8' }).trim().split('\n').length - 1;
const ours = (): readonly string[] => readFileSync(config, 'utf8').match(/tenzro-owner-\d/g) ?? [];

using operator = new Operator();
const claimId = randomBytes(16);
const ownerKeys = operator.owners.map(({ publicKey }) => publicKey);
const handOver = signHandOver({
  claimId, transcript: randomBytes(32), networks: [{ ssid: Buffer.from('hall'), passphrase: 'a passphrase' }, { ssid: Buffer.from('yard'), passphrase: '' }], broker: 'mqtts://127.0.0.1:1', fleetCa: operator.fleetCa,
  ownerKeys, time: 0, statement: undefined, receiptKey: randomBytes(32), certificates: [], login: undefined,
}, operator.owners[0]);
const unowned = { burnt: [], failures: { boot: 'none', count: 0 } };
await new DeviceStore(dataDir).write({ generation: 1, owner: { claimId, ownerKeys, handOver, words: 'six words' }, ...unowned });
writeFileSync(configFile, 'attest: { intervalMs: 1000, tpm: { mode: none } }\nclaim: { host: 127.0.0.1 }\nsystem: { enabled: false }\ninfer: { enabled: false }\n');

const said: Record<string, unknown> = {};
{
  await using gateway = await Gateway.start({ dataDir, configFile });
  said['without'] = (await gateway.until('somebody to miss the network service', ({ claim }) => claim.code === 'claim.network', START_MS)).claim.state;
  execFileSync('wpa_supplicant', ['-B', '-Dwired', '-i', device, '-c', config]);
  await until('the networks in the file', () => ours().length === 2, { timeoutMs: LATE_MS });
  said['kept'] = ours();
}
await new DeviceStore(dataDir).write({ generation: 2, ...unowned });
{
  await using gateway = await Gateway.start({ dataDir, configFile });
  await gateway.until('nobody to own it', ({ claim }) => claim.state === 'unclaimed', START_MS);
  await until('the file as it was', () => readFileSync(config, 'utf8') === before, { timeoutMs: START_MS });
  await until('ours to leave the program, which comes after the file', () => inProgram() === 1, { timeoutMs: START_MS });
  said['left'] = inProgram();
}
process.stdout.write(JSON.stringify(said));
