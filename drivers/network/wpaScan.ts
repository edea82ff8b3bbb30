/** What wpa_cli's `scan_results` says of the networks in reach. Their names are whatever somebody nearby sends. Pure. */
import { toHex } from '#runtime/core/bytes.ts';

export interface ScannedNetwork {
  /** 1 to 32 bytes of any value. */
  readonly ssid: Uint8Array;
  readonly signalDbm: number;
  /** other: enterprise, WEP and what else we do not set up. */
  readonly security: 'open' | 'passphrase' | 'other';
}

const NETWORKS_MAX = 64;
const SSID_BYTES_MAX = 32;
/** BSSID, frequency, signal, flags, SSID. */
const LINE = /^(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\t\d+\t(-?\d+)\t([^\t]*)\t(.*)$/;
const PASSPHRASE = /\[(?:WPA|RSN)[^\]]*\b(?:PSK|SAE)\b/;
const SECURED = /\[(?:WPA|RSN|WEP|OWE|OSEN)/;
/** src/utils/common.c, printf_encode. */
const ESCAPE: Readonly<Record<string, number>> = { '"': 0x22, '\\': 0x5c, e: 0x1b, n: 0x0a, r: 0x0d, t: 0x09 };

/** Each name once, with its strongest sender; the strongest first. Hidden networks have no name and are left out. */
export function scannedIn(text: string): readonly ScannedNetwork[] {
  const strongest = new Map<string, ScannedNetwork>();
  for (const line of text.split('\n')) {
    const [, signal = '', flags = '', name = ''] = LINE.exec(line) ?? [];
    const ssid = bytesOf(name);
    if (ssid.length === 0 || ssid.length > SSID_BYTES_MAX || ssid.every((byte) => byte === 0)) continue;
    const found = { ssid, signalDbm: Number(signal), security: PASSPHRASE.test(flags) ? 'passphrase' as const : SECURED.test(flags) ? 'other' as const : 'open' as const };
    const key = toHex(ssid);
    if (found.signalDbm > (strongest.get(key)?.signalDbm ?? -Infinity)) strongest.set(key, found);
  }
  return [...strongest.values()].toSorted((a, b) => b.signalDbm - a.signalDbm).slice(0, NETWORKS_MAX);
}

function bytesOf(text: string): Uint8Array {
  const bytes: number[] = [];
  for (let at = 0; at < text.length; at += 1) {
    const [, hex, letter] = text[at] === '\\' ? /^\\(?:x([0-9a-f]{2})|(["\\enrt]))/.exec(text.slice(at, at + 4)) ?? [] : [];
    bytes.push(...hex !== undefined ? [Number.parseInt(hex, 16)] : letter !== undefined ? [ESCAPE[letter] ?? 0] : Buffer.from(text[at] ?? '', 'utf8'));
    at += hex !== undefined ? 3 : letter !== undefined ? 1 : 0;
  }
  return Uint8Array.from(bytes);
}
