/**
 * Wi-Fi through wpa_supplicant where it is steered by a configuration file and a control socket. A network on trial is only in its memory, beside the others and
 * preferred to them, so that they come back by themselves when it fails; those of an owner are in the file. Every one of ours has an `id_str` that says so.
 * Passphrases go to wpa_cli's standard input.
 */
import { access, constants, readFile, realpath, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { inSystem, namesIn, replaceFile, temporaryOf } from './system.ts';
import { HIGHEST_PRIORITY, UP_SECONDS, type Wifi, type WifiNetwork } from './wifi.ts';
import { addNetwork, forget, interfacesHere, networksIn, order, SOCKETS, wpaCli } from './wpaCli.ts';
import { ACCESS_POINT_NAME, fieldsOf, HANDED_NAME, OUR_NAME, withNetworks } from './wpaConfig.ts';
import { configOf } from './wpaProcess.ts';

/** Where configurations lie, for what is ours in them while no wpa_supplicant runs. */
const CONFIGS = '/etc/wpa_supplicant';
const TRIAL_NAME = `${OUR_NAME}trial`;
/** Before everything that is kept, ours too. */
const TRIAL_PRIORITY = 10_000;
/** Behind an owner's; before those of the boot partition, of which nobody saw that they work. */
const HANDED_PRIORITY = 60;
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
    await forget(interfaceName, (name) => name === TRIAL_NAME || name === ACCESS_POINT_NAME, signal); // one radio
    const id = await addNetwork(interfaceName, fieldsOf(network, { name: TRIAL_NAME, priority: TRIAL_PRIORITY, hasSae: await hasSae(interfaceName, signal) }), signal);
    await order(interfaceName, ['enable_network', id], signal);
    await order(interfaceName, ['reassociate'], signal);
    await this.#up(interfaceName, id, signal);
  }

  async keep(networks: readonly WifiNetwork[], signal: AbortSignal): Promise<void> {
    const { interfaceName, config } = await this.#place(signal);
    const before = await inSystem(() => readFile(config, 'utf8'));
    const sae = await hasSae(interfaceName, signal);
    const after = withNetworks(before, networks.map((network, at) => fieldsOf(network, { name: `${OUR_NAME}owner-${at}`, priority: HIGHEST_PRIORITY - at, hasSae: sae })));
    const known = (await networksIn(interfaceName, signal)).filter(({ name }) => name !== undefined);
    if (after === before && known.length === networks.length && known.every(({ name }) => name !== TRIAL_NAME)) return;
    await this.#replace({ interfaceName, config }, before, after, signal);
  }

  /** Nobody's but the machine's, as those of the boot partition are: stays over restarts, claims and releases, in the place of the one before. The trial ends. */
  async keepHanded(network: WifiNetwork, signal: AbortSignal): Promise<void> {
    const place = await this.#place(signal);
    const before = await inSystem(() => readFile(place.config, 'utf8'));
    const fields = fieldsOf(network, { name: `${HANDED_NAME}1`, priority: HANDED_PRIORITY, hasSae: await hasSae(place.interfaceName, signal) });
    await this.#replace(place, before, withNetworks(before, [fields], HANDED_NAME), signal);
  }

  async #replace({ interfaceName, config }: Place, before: string, after: string, signal: AbortSignal): Promise<void> {
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
      if (await forget(interfaceName, () => true, signal)) await order(interfaceName, ['reconfigure'], signal); // enables what an access point had disabled
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

  /** A network that did not let us in is disabled for a while (`TEMP-DISABLED`), after the first attempt. */
  async #up(interfaceName: string, id: string, signal: AbortSignal): Promise<void> {
    const isOver = AbortSignal.any([signal, AbortSignal.timeout(UP_SECONDS * 1_000)]);
    while (!isOver.aborted) {
      const state = await stateOf(interfaceName, id, signal).catch((error: unknown) => { if (signal.aborted) return 'trying'; throw error; });
      if (state === 'up') return;
      if (state === 'refused') throw new TenzroError('claim.apply', 'a network did not come up: it does not take the passphrase, or us');
      await sleep(LOOK_MS, undefined, { signal: isOver }).catch(() => undefined); // over: the loop ends
    }
    throw new TenzroError('claim.apply', signal.aborted ? 'a network did not come up before the claim ended' : `a network did not come up in ${UP_SECONDS} s: it is not here, or has another kind of security`);
  }
}

async function stateOf(interfaceName: string, id: string, signal: AbortSignal): Promise<'up' | 'trying' | 'refused'> {
  const status = await wpaCli(interfaceName, ['status'], signal);
  if (/^wpa_state=COMPLETED$/m.test(status) && new RegExp(`^id=${id}$`, 'm').test(status)) return 'up';
  return new RegExp(`^${id}\\t.*\\[TEMP-DISABLED\\]`, 'm').test(await wpaCli(interfaceName, ['list_networks'], signal)) ? 'refused' : 'trying';
}

const hasSae = async (interfaceName: string, signal: AbortSignal): Promise<boolean> => (await wpaCli(interfaceName, ['get_capability', 'key_mgmt'], signal)).trim().split(' ').includes('SAE');
