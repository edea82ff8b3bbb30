/**
 * Wi-Fi through NetworkManager, by its keyfiles (nm-settings-keyfile(5)): one on trial lies in /run and is gone with the machine's power, those of an owner
 * lie in /etc. The files themselves say what is ours, so there is no journal that could disagree with them. Passphrases pass through files only.
 */
import { createHash } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { command, inSystem, namesIn, replaceFile } from './system.ts';
import { HIGHEST_PRIORITY, UP_SECONDS, type Wifi, type WifiNetwork } from './wifi.ts';

const TRIAL = '/run/NetworkManager/system-connections';
const KEPT = '/etc/NetworkManager/system-connections';
const OURS = /^\.?tenzro-(?:trial|owner-\d)\.nmconnection(?:\.tenzro)?$/;
/** nmcli gives up a little before we do. */
const UP_MS = (UP_SECONDS + 10) * 1_000;

interface Keyfile {
  readonly path: string;
  readonly uuid: string;
  readonly text: string;
}

export class NetworkManagerWifi implements Wifi {
  /** Undefined: NetworkManager runs and has a Wi-Fi device that it manages. */
  async whyNot(signal: AbortSignal): Promise<string | undefined> {
    try {
      const devices = await nmcli(['-t', '-f', 'TYPE,STATE', 'device'], signal);
      return devices.split('\n').some((line) => line.startsWith('wifi:') && line !== 'wifi:unmanaged') ? undefined : 'NetworkManager has no Wi-Fi device here';
    } catch (error) {
      return messageOf(error);
    }
  }

  async try(network: WifiNetwork, signal: AbortSignal): Promise<void> {
    await this.#removeFrom(TRIAL);
    const { path, uuid, text } = keyfileOf(TRIAL, 'trial', network, 0);
    await replaceFile(path, text);
    await nmcli(['connection', 'load', path], signal);
    try {
      await nmcli(['--wait', String(UP_SECONDS), 'connection', 'up', 'uuid', uuid], signal, UP_MS);
    } catch (cause) {
      throw new TenzroError('claim.apply', `a network did not come up: ${messageOf(cause)}`, { cause });
    }
  }

  async keep(networks: readonly WifiNetwork[], signal: AbortSignal): Promise<void> {
    let isChanged = await this.#removeFrom(TRIAL);
    for (const [at, network] of networks.entries()) {
      const { path, text } = keyfileOf(KEPT, `owner-${at}`, network, HIGHEST_PRIORITY - at);
      if (await readFile(path, 'utf8').catch(() => undefined) === text) continue; // else it is written, or that says why not
      await replaceFile(path, text);
      isChanged = true;
    }
    if (isChanged) await nmcli(['connection', 'reload'], signal);
  }

  async remove(signal: AbortSignal): Promise<void> {
    const removed = [await this.#removeFrom(TRIAL), await this.#removeFrom(KEPT)];
    if (removed.includes(true)) await nmcli(['connection', 'reload'], signal);
  }

  /** False: there was nothing. */
  async #removeFrom(folder: string): Promise<boolean> {
    return inSystem(async () => {
      const ours = (await namesIn(folder)).filter((name) => OURS.test(name));
      for (const name of ours) await rm(join(folder, name), { force: true });
      return ours.length > 0;
    });
  }
}

/**
 * The SSID as bytes; a passphrase with GKeyFile's escapes, every blank too: the ones at either end would be lost. `wpa-psk` is WPA2 and WPA3 (SAE) by the
 * same passphrase, as the access point has it (nm-settings-nmcli(5)).
 */
function keyfileOf(folder: string, name: string, network: WifiNetwork, priority: number): Keyfile {
  const { ssid, passphrase } = network;
  const id = `tenzro-${name}`;
  const uuid = uuidOf(`${folder}/${name}`, network);
  const security = passphrase === '' ? '' : `\n[wifi-security]\nkey-mgmt=wpa-psk\npsk=${passphrase.replaceAll('\\', '\\\\').replaceAll(' ', '\\s')}\n`;
  const text = `[connection]\nid=${id}\nuuid=${uuid}\ntype=wifi\nautoconnect-priority=${priority}\n\n[wifi]\nmode=infrastructure\nssid=${[...ssid].map((byte) => `${byte};`).join('')}\n${security}\n[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n`;
  return { path: join(folder, `${id}.nmconnection`), uuid, text };
}

/** The same network in the same place has the same one (RFC 9562 version 8). */
function uuidOf(place: string, { ssid }: WifiNetwork): string {
  const hash = createHash('sha256').update(place).update(ssid).digest('hex');
  return `${hash.slice(0, 8)}-${hash.slice(8, 12)}-8${hash.slice(13, 16)}-a${hash.slice(17, 20)}-${hash.slice(20, 32)}`;
}

const nmcli = (args: readonly string[], signal: AbortSignal, timeoutMs?: number): Promise<string> => command('nmcli', args, signal, timeoutMs === undefined ? {} : { timeoutMs });
