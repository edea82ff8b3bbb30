/** The YAML files of a boot partition: our `board.yaml`, and what cloud-init reads (`user-data`, `network-config`), as Raspberry Pi Imager 2 writes them. Pure. */
import { WishReader, type FileReading, type Place } from './wishes.ts';

/** One YAML document with the places of its keys, as `runtime/config/document.ts` makes it. */
export interface BootDocument {
  readonly value: unknown;
  readonly faults: readonly { readonly message: string; readonly place: Place }[];
  placeOfKey(path: readonly (string | number)[]): Place;
}

export type Nearest = (word: string, known: readonly string[]) => string | undefined;

type Fields = Readonly<Record<string, unknown>>;
const isFields = (value: unknown): value is Fields => typeof value === 'object' && value !== null && !Array.isArray(value);
const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value as readonly unknown[] : []);

/** Keys of board.yaml; unknown ones are errors, as in tenzro.yaml. */
const BOARD_KEYS = ['hostname', 'timezone', 'wifi'];
const WIFI_KEYS = ['country', 'networks'];
const NETWORK_KEYS = ['ssid', 'passphrase', 'hidden'];

export function readBoardYaml(document: BootDocument, nearest: Nearest): FileReading {
  const reader = readerOf(document);
  const known = (key: string, value: unknown, keys: readonly string[]): Fields => {
    if (!isFields(value)) {
      reader.problem(key, 'expected a map of keys and values');
      return {};
    }
    for (const name of Object.keys(value).filter((found) => !keys.includes(found))) {
      const meant = nearest(name, keys);
      reader.problem(key === '' ? name : `${key}.${name}`, 'unknown key', meant === undefined ? {} : { hint: `did you mean ${meant}?` });
    }
    return value;
  };
  if (document.faults.length > 0 || document.value === undefined) return reader.reading;
  const { hostname, timezone, wifi } = known('', document.value, BOARD_KEYS);
  if (hostname !== undefined) reader.hostname('hostname', hostname);
  if (timezone !== undefined) reader.timezone('timezone', timezone);
  if (wifi === undefined) return reader.reading;
  const { country, networks } = known('wifi', wifi, WIFI_KEYS);
  if (country !== undefined) reader.country('wifi.country', country);
  if (networks !== undefined && !Array.isArray(networks)) reader.problem('wifi.networks', 'expected a list, each item with - before it');
  for (const [at, item] of listOf(networks).entries()) {
    const key = `wifi.networks.${at}`;
    const { ssid, passphrase = '', hidden = false } = known(key, item, NETWORK_KEYS);
    reader.network(key, { ssid, passphrase, hidden });
  }
  return reader.reading;
}

/** cloud-init, "Module reference": what is not one of these it does, and this image does not. */
const USER_DATA_SILENT = new Set(['manage_etc_hosts', 'packages', 'apt', 'keyboard', 'locale', 'runcmd']);

export function readUserData(document: BootDocument): FileReading {
  const reader = readerOf(document);
  if (!isFields(document.value)) return reader.reading;
  const { hostname, timezone, ...others } = document.value;
  if (hostname !== undefined) reader.hostname('hostname', hostname);
  if (timezone !== undefined) reader.timezone('timezone', timezone);
  if (['users', 'user', 'password', 'chpasswd'].some((key) => key in others)) reader.ignore(IGNORED.user);
  if (['enable_ssh', 'ssh_pwauth', 'ssh_authorized_keys'].some((key) => others[key] !== undefined && others[key] !== false)) reader.ignore(IGNORED.ssh);
  if (others['rpi'] !== undefined) reader.ignore('interfaces (rpi): buses are set in config.txt');
  for (const key of Object.keys(others)) {
    if (!USER_DATA_SILENT.has(key) && !/user|passw|ssh|^rpi$/.test(key)) reader.ignore(`${key} of cloud-init`);
  }
  return reader.reading;
}

/** What Imager offers and a gateway that nobody logs in to has no use for. */
export const IGNORED = {
  user: 'user and password: nobody logs in to this system',
  ssh: 'SSH: it is not part of this system',
  keyboard: 'keyboard layout: nobody types here',
} as const;

/** netplan's YAML, version 2: `network:` around it or not. Other things than Wi-Fi are DHCP here, always. */
export function readNetworkConfig(document: BootDocument): FileReading {
  const reader = readerOf(document);
  if (!isFields(document.value)) return reader.reading;
  const [root, prefix] = isFields(document.value['network']) ? [document.value['network'], 'network.'] : [document.value, ''];
  const { wifis, ethernets } = root;
  for (const [name, device] of Object.entries(isFields(ethernets) ? ethernets : {})) {
    if (isFields(device) && device['addresses'] !== undefined) reader.ignore(`addresses of ${name}: cables get theirs by DHCP`);
  }
  for (const [name, device] of Object.entries(isFields(wifis) ? wifis : {})) {
    if (isFields(device)) readRadio(reader, `${prefix}wifis.${name}`, device);
  }
  return reader.reading;
}

function readRadio(reader: WishReader, key: string, device: Fields): void {
  if (device['regulatory-domain'] !== undefined) reader.country(`${key}.regulatory-domain`, device['regulatory-domain']);
  if (device['addresses'] !== undefined) reader.ignore('addresses of the Wi-Fi: it gets its own by DHCP');
  const points = device['access-points'];
  for (const [ssid, point] of Object.entries(isFields(points) ? points : {})) {
    const { password, hidden = false, auth } = isFields(point) ? point : {};
    const inner = isFields(auth) ? auth['password'] : undefined;
    reader.network(`${key}.access-points.${ssid}`, { ssid, passphrase: password ?? inner ?? '', hidden });
  }
}

function readerOf(document: BootDocument): WishReader {
  const reader = new WishReader((key) => document.placeOfKey(key.split('.').map((step) => (/^\d+$/.test(step) ? Number(step) : step))));
  for (const { message, place } of document.faults) reader.problem('', message.split('\n')[0] ?? '', { place });
  if (document.faults.length === 0 && document.value !== undefined && !isFields(document.value)) reader.problem('', 'expected a map of keys and values');
  return reader;
}
