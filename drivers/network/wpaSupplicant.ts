/**
 * Wi-Fi through wpa_supplicant where it is steered by a configuration file and a control socket. A network on trial is only in its memory, beside the others and
 * preferred to them, so that they come back by themselves when it fails; those of an owner are in the file. Every one of ours has an `id_str` that says so.
 * Passphrases go to wpa_cli's standard input.
 */
import { access, constants, readFile, realpath, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { command, inSystem, namesIn, replaceFile, temporaryOf } from './system.ts';
import { HIGHEST_PRIORITY, UP_SECONDS, type Wifi, type WifiNetwork } from './wifi.ts';
import { fieldsOf, OUR_NAME, withNetworks } from './wpaConfig.ts';
import { configOf } from './wpaProcess.ts';

const SOCKETS = '/run/wpa_supplicant';
const INTERFACES = '/sys/class/net';
/** Where configurations lie, for what is ours in them while no wpa_supplicant runs. */
const CONFIGS = '/etc/wpa_supplicant';
const TRIAL_NAME = `${OUR_NAME}trial`;
/** Before everything that is kept, ours too. */
const TRIAL_PRIORITY = 10_000;
const LOOK_MS = 500;

interface Place {
  readonly interfaceName: string;
  readonly config: string;
}

export class WpaSupplicantWifi implements Wifi {
  async whyNot(signal: AbortSignal): Promise<string | undefined> {
    try {
      await this.#place(signal);
      return undefined;
    } catch (error) {
      return messageOf(error);
    }
  }

  async try(network: WifiNetwork, signal: AbortSignal): Promise<void> {
    const { interfaceName } = await this.#place(signal);
    await this.#forget(interfaceName, (name) => name === TRIAL_NAME, signal);
    const id = (await wpaCli(interfaceName, ['add_network'], signal)).trim();
    const fields = fieldsOf(network, { name: TRIAL_NAME, priority: TRIAL_PRIORITY, hasSae: await hasSae(interfaceName, signal) });
    for (const [name, value] of fields) await (name === 'psk' ? setSecret(interfaceName, id, value, signal) : order(interfaceName, ['set_network', id, name, value], signal));
    await order(interfaceName, ['enable_network', id], signal);
    await order(interfaceName, ['reassociate'], signal);
    await this.#up(interfaceName, id, signal);
  }

  async keep(networks: readonly WifiNetwork[], signal: AbortSignal): Promise<void> {
    const { interfaceName, config } = await this.#place(signal);
    const before = await inSystem(() => readFile(config, 'utf8'));
    const sae = await hasSae(interfaceName, signal);
    const after = withNetworks(before, networks.map((network, at) => fieldsOf(network, { name: `${OUR_NAME}owner-${at}`, priority: HIGHEST_PRIORITY - at, hasSae: sae })));
    const known = await this.#ours(interfaceName, signal);
    if (after === before && known.length === networks.length && known.every(({ name }) => name !== TRIAL_NAME)) return;
    await replaceFile(config, after);
    try {
      await order(interfaceName, ['reconfigure'], signal); // forgets what is not in the file: the trial
    } catch (error) {
      await replaceFile(config, before);
      throw error;
    }
  }

  async remove(signal: AbortSignal): Promise<void> {
    const running = await Promise.all((await interfacesHere()).map(async (interfaceName) => ({ interfaceName, config: await configOf(interfaceName) })));
    const lying = (await inSystem(() => namesIn(CONFIGS))).filter((name) => name.endsWith('.conf')).map((name) => join(CONFIGS, name));
    for (const path of new Set([...running.map(({ config }) => config), ...lying])) if (path !== undefined) await this.#strip(path);
    for (const { interfaceName, config } of running) {
      if (config === undefined) continue; // nobody is behind that socket, or somebody who steers it otherwise
      if (await this.#forget(interfaceName, () => true, signal)) await order(interfaceName, ['reassociate'], signal);
    }
  }

  /** A file that we may not read has nothing of ours: what we write, we own. */
  async #strip(path: string): Promise<void> {
    const file = await realpath(path).catch(() => path);
    const text = await readFile(file, 'utf8').catch(() => '');
    const rest = withNetworks(text, []);
    if (rest !== text) await replaceFile(file, rest);
    await inSystem(() => rm(temporaryOf(file), { force: true }));
  }

  /** Rejects where there is no Wi-Fi that we may set up, with the reason: before a trial it has to be known that a network can be kept. */
  async #place(signal: AbortSignal): Promise<Place> {
    const [interfaceName] = await interfacesHere();
    if (interfaceName === undefined) throw new TenzroError('claim.network', `wpa_supplicant has no Wi-Fi device in ${SOCKETS}`);
    await wpaCli(interfaceName, ['ping'], signal);
    const config = await configOf(interfaceName);
    if (config === undefined) throw new TenzroError('claim.network', `wpa_supplicant has no configuration file for ${interfaceName}`);
    return inSystem(async () => {
      const file = await realpath(config);
      await access(file, constants.R_OK);
      await access(dirname(file), constants.W_OK);
      return { interfaceName, config: file };
    });
  }

  /** Ours in wpa_supplicant's memory. */
  async #ours(interfaceName: string, signal: AbortSignal): Promise<readonly { readonly id: string; readonly name: string }[]> {
    const listed = await wpaCli(interfaceName, ['list_networks'], signal);
    const ours: { id: string; name: string }[] = [];
    for (const [, id = ''] of listed.matchAll(/^(\d+)\t/gm)) {
      const name = /^"(.*)"$/.exec((await wpaCli(interfaceName, ['get_network', id, 'id_str'], signal)).trim())?.[1];
      if (name?.startsWith(OUR_NAME)) ours.push({ id, name });
    }
    return ours;
  }

  /** False: there was none. */
  async #forget(interfaceName: string, isMeant: (name: string) => boolean, signal: AbortSignal): Promise<boolean> {
    const meant = (await this.#ours(interfaceName, signal)).filter(({ name }) => isMeant(name));
    for (const { id } of meant) await order(interfaceName, ['remove_network', id], signal);
    return meant.length > 0;
  }

  /** A network that did not let us in is disabled for a while (`TEMP-DISABLED`), after the first attempt. */
  async #up(interfaceName: string, id: string, signal: AbortSignal): Promise<void> {
    const isOver = AbortSignal.any([signal, AbortSignal.timeout(UP_SECONDS * 1_000)]);
    while (!isOver.aborted) {
      const status = await wpaCli(interfaceName, ['status'], signal);
      if (/^wpa_state=COMPLETED$/m.test(status) && new RegExp(`^id=${id}$`, 'm').test(status)) return;
      if (new RegExp(`^${id}\\t.*\\[TEMP-DISABLED\\]`, 'm').test(await wpaCli(interfaceName, ['list_networks'], signal))) throw new TenzroError('claim.apply', 'a network did not come up: it does not take the passphrase, or us');
      await sleep(LOOK_MS, undefined, { signal: isOver }).catch(() => undefined); // over: the loop ends
    }
    throw new TenzroError('claim.apply', signal.aborted ? 'a network did not come up before the claim ended' : `a network did not come up in ${UP_SECONDS} s: it is not here, or has another kind of security`);
  }
}

/** Wi-Fi devices with a control socket, by name. Others may be wired ones that wpa_supplicant authenticates (802.1X). */
async function interfacesHere(): Promise<readonly string[]> {
  const names = await inSystem(() => namesIn(SOCKETS));
  const areWifi = await Promise.all(names.map((name) => stat(join(INTERFACES, name, 'phy80211')).then(() => true, () => false)));
  return names.filter((_, at) => areWifi[at] === true);
}

const hasSae = async (interfaceName: string, signal: AbortSignal): Promise<boolean> => (await wpaCli(interfaceName, ['get_capability', 'key_mgmt'], signal)).trim().split(' ').includes('SAE');

const wpaCli = (interfaceName: string, args: readonly string[], signal: AbortSignal): Promise<string> => command('wpa_cli', ['-p', SOCKETS, '-i', interfaceName, ...args], signal);

async function order(interfaceName: string, args: readonly string[], signal: AbortSignal): Promise<void> {
  const said = (await wpaCli(interfaceName, args, signal)).trim();
  if (said !== 'OK') throw new TenzroError('claim.network', `wpa_supplicant refuses ${args.slice(0, 3).join(' ')}: ${said}`);
}

/** Its answer may repeat the secret: it is in no message. */
async function setSecret(interfaceName: string, id: string, psk: string, signal: AbortSignal): Promise<void> {
  const said = await command('wpa_cli', ['-p', SOCKETS, '-i', interfaceName], signal, { input: `set_network ${id} psk ${psk}\nquit\n` });
  if (!/^OK\r?$/m.test(said)) throw new TenzroError('claim.network', 'wpa_supplicant refuses the passphrase');
}
