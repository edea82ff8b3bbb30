/**
 * An access point of wpa_supplicant's own: one more network in its memory, of mode 2 (wpa_supplicant.conf(5)), and nothing of it in a file. While it is open the
 * other networks are disabled; the file says which of them are enabled again after it. Addresses are given by systemd-networkd.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { toHex } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { ACCESS_POINT_NAME } from './wpaConfig.ts';
import { addNetwork, forget, interfacesHere, networksIn, order, wpaCli } from './wpaCli.ts';
import { scannedIn, type ScannedNetwork } from './wpaScan.ts';

/** Channel 6 of 2.4 GHz: every country allows it, every phone has it. */
const FREQUENCY_MHZ = '2437';
const OPEN_MS = 15_000;
const SCAN_MS = 6_000;
const LOOK_MS = 500;

/** Where nothing else is said: rejects with `portal.access_point`. */
export class AccessPoint {
  /** Networks in reach. Takes six seconds; an open access point may have to say nothing meanwhile. */
  async scan(signal: AbortSignal): Promise<readonly ScannedNetwork[]> {
    return inRadio(async () => {
      const device = await deviceHere();
      await order(device, ['scan'], signal);
      await sleep(SCAN_MS, undefined, { signal });
      return scannedIn(await wpaCli(device, ['scan_results'], signal));
    });
  }

  /** WPA2 with this passphrase. Resolves when it is open; where it rejects, everything is as before. */
  async open(ssid: string, passphrase: string, signal: AbortSignal): Promise<void> {
    await inRadio(async () => {
      const device = await deviceHere();
      await forget(device, (name) => name === ACCESS_POINT_NAME, signal);
      try {
        const id = await addNetwork(device, fieldsOf(ssid, passphrase), signal);
        await order(device, ['select_network', id], signal);
        await up(device, id, signal);
      } catch (error) {
        await this.close(AbortSignal.timeout(OPEN_MS));
        throw error;
      }
    });
  }

  /** False when something else has the radio, or nothing. */
  async isOpen(ssid: string, signal: AbortSignal): Promise<boolean> {
    return inRadio(async () => {
      const status = await wpaCli(await deviceHere(), ['status'], signal);
      return /^mode=AP$/m.test(status) && status.split('\n').includes(`ssid=${ssid}`);
    });
  }

  /** Also one that a process before this one opened. Nothing happens where there is none. */
  async close(signal: AbortSignal): Promise<void> {
    await inRadio(async () => {
      for (const device of await interfacesHere()) if (await forget(device, (name) => name === ACCESS_POINT_NAME, signal)) await order(device, ['reconfigure'], signal);
    });
  }

  /** Whether networks are known that could come into reach. */
  async knowsOthers(signal: AbortSignal): Promise<boolean> {
    return inRadio(async () => (await networksIn(await deviceHere(), signal)).some(({ name }) => name === undefined));
  }
}

function fieldsOf(ssid: string, passphrase: string): readonly (readonly [string, string])[] {
  return [
    ['id_str', `"${ACCESS_POINT_NAME}"`], ['ssid', toHex(Buffer.from(ssid))], ['mode', '2'], ['frequency', FREQUENCY_MHZ],
    ['key_mgmt', 'WPA-PSK'], ['proto', 'RSN'], ['pairwise', 'CCMP'], ['group', 'CCMP'], ['psk', `"${passphrase}"`],
  ];
}

async function deviceHere(): Promise<string> {
  const [device] = await interfacesHere();
  if (device === undefined) throw new TenzroError('portal.access_point', 'wpa_supplicant has no Wi-Fi device here');
  return device;
}

async function up(device: string, id: string, signal: AbortSignal): Promise<void> {
  const isOver = AbortSignal.any([signal, AbortSignal.timeout(OPEN_MS)]);
  while (!isOver.aborted) {
    const status = await wpaCli(device, ['status'], signal);
    if (/^wpa_state=COMPLETED$/m.test(status) && /^mode=AP$/m.test(status) && new RegExp(`^id=${id}$`, 'm').test(status)) return;
    await sleep(LOOK_MS, undefined, { signal: isOver }).catch(() => undefined); // over: the loop ends
  }
  throw new TenzroError('portal.access_point', `the radio did not open it in ${OPEN_MS / 1_000} s`);
}

async function inRadio<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw cause instanceof TenzroError && cause.code === 'portal.access_point' ? cause : new TenzroError('portal.access_point', messageOf(cause), { cause });
  }
}
