/**
 * Wi-Fi through NetworkManager, by its keyfiles (nm-settings-keyfile(5)): one on trial lies in /run and is gone with the machine's power, those of an owner
 * lie in /etc. The files themselves say what is ours, so there is no journal that could disagree with them. Passphrases pass through files only.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';

export interface WifiNetwork {
  readonly ssid: Uint8Array;
  /** 8 to 63 printable ASCII characters; '' for an open network. */
  readonly passphrase: string;
}

const TRIAL = '/run/NetworkManager/system-connections';
const KEPT = '/etc/NetworkManager/system-connections';
const OURS = /^tenzro-(?:trial|owner-\d)\.nmconnection(?:\.new)?$/;
const OWNER_ONLY = 0o600;
const COMMAND_MS = 10_000;
const UP_SECONDS = 30;
const HIGHEST_PRIORITY = 100;

const run = promisify(execFile);

export class NetworkManagerWifi {
  /** Puts one network on trial, in the place of the one before. Rejects with `claim.apply` when it does not come up, with `claim.network` when it cannot be set up. */
  async try(network: WifiNetwork, signal: AbortSignal): Promise<void> {
    await this.#removeFrom(TRIAL);
    const { path, uuid } = await this.#write(TRIAL, 'trial', network, 0);
    await nmcli(['connection', 'load', path], signal);
    try {
      await nmcli(['--wait', String(UP_SECONDS), 'connection', 'up', 'uuid', uuid], signal, UP_SECONDS * 1_000 + COMMAND_MS);
    } catch (cause) {
      throw new TenzroError('claim.apply', `a network did not come up: ${messageOf(cause)}`, { cause });
    }
  }

  /** These stay, over restarts, the first preferred. Idempotent; the trial ends. Rejects with `claim.network`. */
  async keep(networks: readonly WifiNetwork[], signal: AbortSignal): Promise<void> {
    for (const [at, network] of networks.entries()) await this.#write(KEPT, `owner-${at}`, network, HIGHEST_PRIORITY - at);
    if (await this.#removeFrom(TRIAL) || networks.length > 0) await nmcli(['connection', 'reload'], signal);
  }

  /** None of ours is left; what was there before connects again by itself. Rejects with `claim.network`. */
  async remove(signal: AbortSignal): Promise<void> {
    const removed = [await this.#removeFrom(TRIAL), await this.#removeFrom(KEPT)];
    if (removed.includes(true)) await nmcli(['connection', 'reload'], signal);
  }

  /** Whole or not at all, also over a power cut. */
  async #write(folder: string, name: string, network: WifiNetwork, priority: number): Promise<{ readonly path: string; readonly uuid: string }> {
    const path = join(folder, `tenzro-${name}.nmconnection`);
    const uuid = uuidOf(`${folder}/${name}`, network);
    await inSystem(async () => {
      await mkdir(folder, { recursive: true });
      await rm(`${path}.new`, { force: true });
      const file = await open(`${path}.new`, 'wx', OWNER_ONLY);
      try {
        await file.writeFile(keyfileOf(`tenzro-${name}`, uuid, network, priority));
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(`${path}.new`, path);
    });
    return { path, uuid };
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

/** Where there is no such folder, or none for us, nothing of ours can be in it. */
async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && (cause.code === 'ENOENT' || cause.code === 'EACCES')) return [];
    throw cause;
  }
}

/** NetworkManager runs and has a Wi-Fi device that it manages; else why not. */
export async function whyNoWifi(signal: AbortSignal): Promise<string | undefined> {
  try {
    const devices = await nmcli(['-t', '-f', 'TYPE,STATE', 'device'], signal);
    return devices.split('\n').some((line) => line.startsWith('wifi:') && line !== 'wifi:unmanaged') ? undefined : 'NetworkManager has no Wi-Fi device here';
  } catch (error) {
    return messageOf(error);
  }
}

/** The SSID as bytes; a passphrase with GKeyFile's escapes, every blank too: the ones at either end would be lost. */
function keyfileOf(id: string, uuid: string, { ssid, passphrase }: WifiNetwork, priority: number): string {
  const security = passphrase === '' ? '' : `\n[wifi-security]\nkey-mgmt=wpa-psk\npsk=${passphrase.replaceAll('\\', '\\\\').replaceAll(' ', '\\s')}\n`;
  return `[connection]\nid=${id}\nuuid=${uuid}\ntype=wifi\nautoconnect-priority=${priority}\n\n[wifi]\nmode=infrastructure\nssid=${[...ssid].map((byte) => `${byte};`).join('')}\n${security}\n[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n`;
}

/** The same network in the same place has the same one (RFC 9562 version 8). */
function uuidOf(place: string, { ssid }: WifiNetwork): string {
  const hash = createHash('sha256').update(place).update(ssid).digest('hex');
  return `${hash.slice(0, 8)}-${hash.slice(8, 12)}-8${hash.slice(13, 16)}-a${hash.slice(17, 20)}-${hash.slice(20, 32)}`;
}

async function nmcli(args: readonly string[], signal: AbortSignal, timeoutMs = COMMAND_MS): Promise<string> {
  try {
    return (await run('nmcli', [...args], { signal, timeout: timeoutMs, env: { ...process.env, LC_ALL: 'C' } })).stdout;
  } catch (cause) {
    const said = typeof cause === 'object' && cause !== null && 'stderr' in cause ? String(cause.stderr).trim() : '';
    throw new TenzroError('claim.network', `nmcli: ${said === '' ? messageOf(cause) : said}`, { cause });
  }
}

async function inSystem<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw new TenzroError('claim.network', messageOf(cause), { cause });
  }
}
