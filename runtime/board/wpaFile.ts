/** Networks of the boot partition in wpa_supplicant.conf(5), beside those that an owner handed over and others wrote. Pure. */
import type { BoardNetwork } from './wishes.ts';

/** What only `id_str` of these begins with; an owner's begin with `tenzro-` (drivers/network/wpaConfig.ts). */
const NAME = 'boot-';
const OURS = new RegExp(String.raw`^\s*id_str="${NAME}`);
const OPENS = /^\s*network=\{\s*(?:#.*)?$/;
const CLOSES = /^\s*\}\s*(?:#.*)?$/;
const COUNTRY = /^\s*country=/;
/** Owners' networks have 100 and less, downwards; these come behind them. */
const HIGHEST_PRIORITY = 50;
const RAW_KEY = /^[0-9a-f]{64}$/i;

/** The file with these networks for the ones that an earlier boot file named; without a country the one that stands there stays. */
export function withBootNetworks(text: string, country: string | undefined, networks: readonly BoardNetwork[]): string {
  const blocks = networks.map((network, at) => `network={\n${fieldsOf(network, at).map(([name, value]) => `\t${name}=${value}\n`).join('')}}\n`);
  const rest = without(text, { country: country !== undefined, networks: networks.length > 0 });
  const head = country === undefined ? '' : `country=${country}\n`;
  return `${head}${rest}${rest === '' || rest.endsWith('\n') ? '' : '\n'}${blocks.join('')}`;
}

function fieldsOf({ ssid, passphrase, hidden }: BoardNetwork, at: number): readonly (readonly [string, string])[] {
  const security = passphrase === '' ? [['key_mgmt', 'NONE']] as const
    // From a key alone SAE cannot be done.
    : RAW_KEY.test(passphrase) ? [['key_mgmt', 'WPA-PSK'], ['psk', passphrase]] as const
      : [['key_mgmt', 'WPA-PSK SAE'], ['ieee80211w', '1'], ['psk', `"${passphrase}"`]] as const;
  return [['id_str', `"${NAME}${at + 1}"`], ['ssid', Buffer.from(ssid).toString('hex')], ...hidden ? [['scan_ssid', '1'] as const] : [], ['priority', String(HIGHEST_PRIORITY - at)], ...security];
}

function without(text: string, drop: { readonly country: boolean; readonly networks: boolean }): string {
  const kept: string[] = [];
  let open: string[] | undefined;
  for (const line of text.split(/(?<=\n)/)) {
    if (open) open.push(line);
    else if (OPENS.test(line)) open = [line];
    else if (!drop.country || !COUNTRY.test(line)) kept.push(line);
    if (!open || !CLOSES.test(line)) continue;
    if (!drop.networks || !open.some((field) => OURS.test(field))) kept.push(...open);
    open = undefined;
  }
  return [...kept, ...open ?? []].join('');
}
