/**
 * Plain `WIFI:` codes, as access points and phones show them: `WIFI:T:WPA;S:name;P:passphrase;;`, fields in any order, `\` before `\ ; , " :`, and double quotes
 * around what could be read as hexadecimal (ZXing, wiki, "Barcode Contents: Wi-Fi Network config"). They name a network, and no owner of anything.
 */
import { TenzroError } from '#runtime/core/errors.ts';

export const WIFI_CODE = /^WIFI:/i;
const TEXT_MAX = 512;
const SSID_BYTES_MAX = 32;
const FIELD = /([A-Z0-9]{1,4}):((?:\\.|[^\\;])*);/gy;
/** IEEE 802.11i: 8 to 63 printable ASCII characters. */
const PASSPHRASE = /^[ -~]{8,63}$/;
/** WPA3 is WPA here: program and access point find out. */
const PERSONAL: ReadonlySet<string> = new Set(['WPA', 'WPA2', 'WPA3', 'SAE']);

export interface ScannedNetwork {
  readonly ssid: Uint8Array;
  /** '' for an open network. */
  readonly passphrase: string;
}

/** Throws `claim.code_malformed` for what is no such code, and `claim.apply` for networks that gateways do not join. No message holds a character of it. */
export function decodeWifiCode(text: string): ScannedNetwork {
  const fields = fieldsOf(text.trim());
  const type = (fields.get('T') ?? 'nopass').toUpperCase();
  const [ssid, passphrase] = [Buffer.from(fields.get('S') ?? ''), fields.get('P') ?? ''];
  if (ssid.length === 0 || ssid.length > SSID_BYTES_MAX) throw malformed(`its network has a name of ${ssid.length} bytes, not of 1 to ${SSID_BYTES_MAX}`);
  if (fields.get('H')?.toLowerCase() === 'true') throw new TenzroError('claim.apply', 'the network hides its name: gateways do not join such networks');
  if (type === 'NOPASS' || type === '') return { ssid, passphrase: '' };
  if (!PERSONAL.has(type)) throw new TenzroError('claim.apply', 'the network is neither open nor WPA with a passphrase: gateways join no WEP and no enterprise networks');
  if (!PASSPHRASE.test(passphrase)) throw malformed('its passphrase is not 8 to 63 printable ASCII characters');
  return { ssid, passphrase };
}

function fieldsOf(text: string): ReadonlyMap<string, string> {
  if (!WIFI_CODE.test(text) || text.length > TEXT_MAX) throw malformed(`it does not begin with WIFI:, or is longer than ${TEXT_MAX} characters`);
  const body = text.slice('WIFI:'.length);
  const fields = new Map<string, string>();
  let end = 0;
  for (const [whole, name = '', value = ''] of body.matchAll(FIELD)) {
    if (fields.has(name)) throw malformed('a field stands twice');
    fields.set(name, plain(value));
    end += whole.length;
  }
  if (fields.size === 0 || !/^;?$/.test(body.slice(end))) throw malformed('its fields have the wrong form');
  return fields;
}

function plain(value: string): string {
  const [, quoted] = /^"((?:\\.|[^\\"])*)"$/.exec(value) ?? [];
  return (quoted ?? value).replaceAll(/\\(.)/g, '$1');
}

const malformed = (why: string): TenzroError => new TenzroError('claim.code_malformed', `this is no usable WIFI: code: ${why}`);
