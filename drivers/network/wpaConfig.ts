/** Networks in the words of wpa_supplicant.conf(5), which are those of its control interface too. Pure. */
import { toHex } from '#runtime/core/bytes.ts';
import type { WifiNetwork } from './wifi.ts';

export interface NetworkTerms {
  /** For `id_str`: says whose it is, in memory and in the file, also after wpa_supplicant wrote the file itself. */
  readonly name: string;
  readonly priority: number;
  /** Whether its program and driver have WPA3: a file with a word that it does not know is refused as a whole. */
  readonly hasSae: boolean;
}

/** What only `id_str` of ours begins with. */
export const OUR_NAME = 'tenzro-';
/** Our access point, in memory only. */
export const ACCESS_POINT_NAME = `${OUR_NAME}access-point`;
/** What only `id_str` of a network begins with that was handed over at the access point. */
export const HANDED_NAME = 'portal-';
/** As wpa_supplicant reads lines: blanks and comments at the end do not count (src/utils/config_file.c, wpa_config_get_line). */
const OPENS = /^\s*network=\{\s*(?:#.*)?$/;
const CLOSES = /^\s*\}\s*(?:#.*)?$/;

/** Name and value. The SSID in hex can be any bytes; a quoted passphrase ends at the last quote of its line, so quotes and # in it are its own. */
export function fieldsOf({ ssid, passphrase }: WifiNetwork, { name, priority, hasSae }: NetworkTerms): readonly (readonly [string, string])[] {
  const security = passphrase === '' ? [['key_mgmt', 'NONE']] as const
    : [['key_mgmt', hasSae ? 'WPA-PSK SAE' : 'WPA-PSK'], ...hasSae ? [['ieee80211w', '1'] as const] : [], ['psk', `"${passphrase}"`]] as const;
  return [['id_str', `"${name}"`], ['ssid', toHex(ssid)], ['priority', String(priority)], ...security];
}

/** The file with these networks for the ones whose `id_str` begins with `name`; everything else stays to the byte. */
export function withNetworks(text: string, networks: readonly (readonly (readonly [string, string])[])[], name: typeof OUR_NAME | typeof HANDED_NAME = OUR_NAME): string {
  const blocks = networks.map((fields) => `network={\n${fields.map(([field, value]) => `\t${field}=${value}\n`).join('')}}\n`);
  const rest = without(text, new RegExp(`^\\s*id_str="${name}[^"]*"`));
  return rest + (blocks.length > 0 && rest !== '' && !rest.endsWith('\n') ? '\n' : '') + blocks.join('');
}

function without(text: string, meant: RegExp): string {
  const kept: string[] = [];
  let open: string[] | undefined;
  for (const line of text.split(/(?<=\n)/)) {
    if (open) open.push(line);
    else if (OPENS.test(line)) open = [line];
    else kept.push(line);
    if (!open || !CLOSES.test(line)) continue;
    if (!open.some((field) => meant.test(field))) kept.push(...open);
    open = undefined;
  }
  return [...kept, ...open ?? []].join('');
}
