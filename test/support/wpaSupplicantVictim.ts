/** Runs inside namespaces of its own, beside a real wpa_supplicant without a radio: does what it is told and says what wpa_supplicant and its file then hold. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { AccessPoint } from '#drivers/network/accessPoint.ts';
import { MachineWifi } from '#drivers/network/machineWifi.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { until } from './until.ts';

const [device = '', config = ''] = process.argv.slice(2);
const SIGNAL = AbortSignal.timeout(20_000);
const TRIAL_MS = 3_000;
const FIRST = { ssid: Buffer.from([0, 255, 34, 92, 10, 195, 188, 35]), passphrase: ' corr\\ect="horse"; #b\'attery$ ' };
const NETWORKS = [FIRST, { ssid: Buffer.from('open'), passphrase: '' }];

const cli = (...args: readonly string[]): string => execFileSync('wpa_cli', ['-i', device, ...args], { encoding: 'utf8' }).trim();
const held = (): readonly string[] => cli('list_networks').split('\n').slice(1).map((line) => line.split('\t').slice(0, 2).join(' '));
const field = (id: number, name: string): string => cli('get_network', String(id), name);
const outcome = (work: Promise<void>): Promise<string> => work.then(() => 'done', (error: unknown) => (error instanceof TenzroError ? error.code : String(error)));
const inode = (): number => statSync(config).ino;

execFileSync('wpa_supplicant', ['-B', '-Dwired', '-i', device, '-c', config]);
const wifi = new MachineWifi();
const before = readFileSync(config, 'utf8');
const said: Record<string, unknown> = { why: await wifi.whyNot(SIGNAL) ?? null };

said['tried'] = await outcome(wifi.try(FIRST, AbortSignal.timeout(TRIAL_MS)));
said['onTrial'] = [held(), field(1, 'id_str'), field(1, 'ssid'), field(1, 'psk'), field(1, 'priority'), readFileSync(config, 'utf8') === before];
await wifi.keep(NETWORKS, SIGNAL);
const first = inode();
await wifi.keep(NETWORKS, SIGNAL);
said['kept'] = [held(), [1, 2].map((id) => field(id, 'id_str')), field(1, 'ssid'), [1, 2].map((id) => field(id, 'priority')), field(2, 'key_mgmt'), inode() === first];
said['mode'] = (statSync(config).mode & 0o777).toString(8);
said['saved'] = cli('save_config');
said['refused'] = [await outcome(wifi.keep([{ ssid: FIRST.ssid, passphrase: 'short' }], SIGNAL)), held().length, readFileSync(config, 'utf8').includes('short')];
await wifi.keep([FIRST], SIGNAL);
said['fewer'] = held();
writeFileSync(config, before); // as if killed between the file and the program: only that one knows ours
const torn = join(dirname(config), `.${basename(config)}.tenzro`);
writeFileSync(torn, 'as if the power was cut');
await wifi.remove(SIGNAL);
said['removed'] = [held(), readFileSync(config, 'utf8') === before, existsSync(torn)];

const opening = outcome(new AccessPoint().open('Tenzro-ABC234', 'abcd-efgh-jkmn', AbortSignal.timeout(TRIAL_MS)));
const last = await until('the access point in its memory', () => held().at(-1)?.startsWith('0 ') === false && Number(held().at(-1)?.split(' ')[0]));
await until('its last field', () => field(last, 'psk') === '*');
said['opening'] = [['id_str', 'ssid', 'mode', 'frequency', 'proto', 'key_mgmt', 'pairwise', 'group'].map((name) => field(last, name)), readFileSync(config, 'utf8') === before];
said['opened'] = [await opening, held(), cli('list_networks').includes('DISABLED'), readFileSync(config, 'utf8') === before];
process.stdout.write(JSON.stringify(said));
