/** What the page's form brings: an SSID of bytes and a passphrase. Hostile until it is here. Pure. */
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { printable } from '#runtime/core/printable.ts';

/** As the air has it. */
export interface FoundNetwork {
  /** 1 to 32 bytes of any value. */
  readonly ssid: Uint8Array;
  readonly signalDbm: number;
  /** other: enterprise, WEP and what else is not done here. */
  readonly security: 'open' | 'passphrase' | 'other';
}

export interface HandedNetwork {
  readonly ssid: Uint8Array;
  /** '' for an open network. */
  readonly passphrase: string;
}

/** The names of its fields. */
export const FIELD = { token: 'token', network: 'network', name: 'name', passphrase: 'passphrase' } as const;
/** The longest name and passphrase, every byte of them escaped, with the rest. */
export const FORM_BYTES_MAX = 1_024;
const SSID_BYTES_MAX = 32;
const SSID_HEX = /^(?:[0-9a-f]{2}){1,32}$/;
/** wpa_supplicant.conf(5): 8 to 63 printable ASCII characters. */
const PASSPHRASE = /^[\u0020-\u007e]{8,63}$/;
const CONTROL = /[\u0000-\u001f\u007f]/;

/** A network, or what people have to correct. A name that was typed goes before one that was chosen. */
export function networkIn(form: URLSearchParams, found: readonly FoundNetwork[]): HandedNetwork | string {
  const ssid = ssidIn(form.get(FIELD.name) ?? '', form.get(FIELD.network) ?? '');
  if (typeof ssid === 'string') return ssid;
  const passphrase = form.get(FIELD.passphrase) ?? '';
  const known = found.find((network) => equalBytes(network.ssid, ssid));
  if (known?.security === 'other') return 'That network has a kind of security that is not possible here. Choose another one.';
  if (passphrase === '' && known?.security === 'passphrase') return 'That network wants a passphrase.';
  if (passphrase !== '' && !PASSPHRASE.test(passphrase)) return 'A passphrase has 8 to 63 characters: letters without accents, digits, blanks and common signs.';
  return { ssid, passphrase: known?.security === 'open' ? '' : passphrase };
}

function ssidIn(name: string, chosen: string): Uint8Array | string {
  if (name === '') return SSID_HEX.test(chosen) ? Buffer.from(chosen, 'hex') : 'Choose a network, or type the name of one.';
  const bytes = Buffer.from(name, 'utf8');
  return bytes.length > SSID_BYTES_MAX || CONTROL.test(name) ? 'The name of a network has at most 32 bytes.' : bytes;
}

/** For people: text where it is some, else hexadecimal. */
export function nameOf(ssid: Uint8Array): string {
  const text = Buffer.from(ssid).toString('utf8');
  return equalBytes(Buffer.from(text, 'utf8'), ssid) ? printable(text) : toHex(ssid);
}
