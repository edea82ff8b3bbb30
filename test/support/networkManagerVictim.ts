/** Runs inside namespaces of its own, beside a real NetworkManager without a radio: does what it is told and says what NetworkManager then holds. */
import { execFileSync } from 'node:child_process';
import { NetworkManagerWifi } from '#drivers/network/networkManager.ts';
import { TenzroError } from '#runtime/core/errors.ts';

const SIGNAL = AbortSignal.timeout(20_000);
const NETWORKS = [{ ssid: Buffer.from('hall; 3\\ü'), passphrase: ' corr\\ect=horse; #battery ' }, { ssid: Buffer.from('open'), passphrase: '' }];
const nmcli = (...args: readonly string[]): string => execFileSync('nmcli', ['-e', 'no', '-t', ...args], { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C.UTF-8' } }).trim(); // in the C locale it prints ? for letters
const held = (): readonly string[] => nmcli('-f', 'NAME,TYPE', 'connection').split('\n').filter((line) => line.startsWith('tenzro')).toSorted();
const wifi = new NetworkManagerWifi();
const said: Record<string, unknown> = { why: await wifi.whyNot(SIGNAL) };

const [first] = NETWORKS;
if (first) said['tried'] = await wifi.try(first, SIGNAL).then(() => 'up', (error: unknown) => (error instanceof TenzroError ? error.code : String(error)));
said['onTrial'] = held();
await wifi.keep(NETWORKS, SIGNAL);
await wifi.keep(NETWORKS, SIGNAL);
said['kept'] = held();
said['ssid'] = nmcli('-g', '802-11-wireless.ssid', 'connection', 'show', 'tenzro-owner-0');
said['psk'] = execFileSync('nmcli', ['-e', 'no', '-s', '-g', '802-11-wireless-security.psk', 'connection', 'show', 'tenzro-owner-0'], { encoding: 'utf8' }).replace(/\n$/, '');
said['priority'] = nmcli('-g', 'connection.autoconnect-priority', 'connection', 'show', 'tenzro-owner-0');
await wifi.remove(SIGNAL);
said['removed'] = held();
process.stdout.write(JSON.stringify(said));
