/** Orders to a running wpa_supplicant, through its control socket. Passphrases go to wpa_cli's standard input. Everything rejects with `claim.network`. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { TenzroError } from '#runtime/core/errors.ts';
import { command, inSystem, namesIn } from './system.ts';
import { OUR_NAME } from './wpaConfig.ts';

export const SOCKETS = '/run/wpa_supplicant';
const INTERFACES = '/sys/class/net';

/** Wi-Fi devices with a control socket, by name. Others may be wired ones that wpa_supplicant authenticates (802.1X). */
export async function interfacesHere(): Promise<readonly string[]> {
  const names = await inSystem(() => namesIn(SOCKETS));
  const areWifi = await Promise.all(names.map((name) => stat(join(INTERFACES, name, 'phy80211')).then(() => true, () => false)));
  return names.filter((_, at) => areWifi[at] === true);
}

export const wpaCli = (interfaceName: string, args: readonly string[], signal: AbortSignal): Promise<string> => command('wpa_cli', ['-p', SOCKETS, '-i', interfaceName, ...args], signal);

export async function order(interfaceName: string, args: readonly string[], signal: AbortSignal): Promise<void> {
  const said = (await wpaCli(interfaceName, args, signal)).trim();
  if (said !== 'OK') throw new TenzroError('claim.network', `wpa_supplicant refuses ${args.slice(0, 3).join(' ')}: ${said}`);
}

/** A new network with these fields, not enabled; its number there. */
export async function addNetwork(interfaceName: string, fields: readonly (readonly [string, string])[], signal: AbortSignal): Promise<string> {
  const id = (await wpaCli(interfaceName, ['add_network'], signal)).trim();
  for (const [name, value] of fields) await (name === 'psk' ? setSecret(interfaceName, id, value, signal) : order(interfaceName, ['set_network', id, name, value], signal));
  return id;
}

/** Its answer may repeat the secret: it is in no message. */
async function setSecret(interfaceName: string, id: string, psk: string, signal: AbortSignal): Promise<void> {
  const said = await command('wpa_cli', ['-p', SOCKETS, '-i', interfaceName], signal, { input: `set_network ${id} psk ${psk}\nquit\n` });
  if (!/^OK\r?$/m.test(said)) throw new TenzroError('claim.network', 'wpa_supplicant refuses the passphrase');
}

/** All networks in its memory; `name` of those that are ours. */
export async function networksIn(interfaceName: string, signal: AbortSignal): Promise<readonly { readonly id: string; readonly name: string | undefined }[]> {
  const listed = await wpaCli(interfaceName, ['list_networks'], signal);
  const networks: { id: string; name: string | undefined }[] = [];
  for (const [, id = ''] of listed.matchAll(/^(\d+)\t/gm)) {
    const name = /^"(.*)"$/.exec((await wpaCli(interfaceName, ['get_network', id, 'id_str'], signal)).trim())?.[1];
    networks.push({ id, name: name?.startsWith(OUR_NAME) ? name : undefined });
  }
  return networks;
}

/** False: there was none. */
export async function forget(interfaceName: string, isMeant: (name: string) => boolean, signal: AbortSignal): Promise<boolean> {
  const meant = (await networksIn(interfaceName, signal)).filter(({ name }) => name !== undefined && isMeant(name));
  for (const { id } of meant) await order(interfaceName, ['remove_network', id], signal);
  return meant.length > 0;
}
