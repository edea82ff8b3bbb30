/** `custom.toml`, which Raspberry Pi OS reads (raspberrypi-sys-mods, init_config): tables of strings, booleans and lists of strings, and no more of TOML than that. Pure. */
import { IGNORED } from './bootYaml.ts';
import { WishReader, type FileReading } from './wishes.ts';

const TABLE = /^\s*\[\s*([A-Za-z0-9_-]+)\s*\]\s*(?:#.*)?$/;
const PAIR = /^\s*([A-Za-z0-9_-]+)\s*=\s*(.*?)\s*$/;
/** TOML 1.0: basic string, literal string, boolean, integer, or a list, each with a comment behind it. */
const BASIC = /^"((?:[^"\\]|\\.)*)"\s*(?:#.*)?$/;
const LITERAL = /^'([^']*)'\s*(?:#.*)?$/;
const BARE = /^(true|false|[+-]?\d+)\s*(?:#.*)?$/;
const LIST = /^\[.*\]\s*(?:#.*)?$/;
const ESCAPES: Readonly<Record<string, string>> = { b: '\b', t: '\t', n: '\n', f: '\f', r: '\r', '"': '"', '\\': '\\' };

/** Of a list only that it is there. */
type Value = string | boolean;

export function readCustomToml(text: string): FileReading {
  const places = new Map<string, number>();
  const reader = new WishReader((key) => ({ line: places.get(key) ?? 1, column: 1 }));
  const values = new Map<string, Value>();
  let table = '';
  for (const [at, line] of text.split(/\r?\n/).entries()) {
    if (/^\s*(?:#.*)?$/.test(line)) continue;
    const [, name] = TABLE.exec(line) ?? [];
    if (name !== undefined) table = name;
    else readPair(line, at + 1);
  }
  wish();
  return reader.reading;

  function readPair(line: string, number: number): void {
    const [, name, written = ''] = PAIR.exec(line) ?? [];
    const value = name === undefined ? undefined : valueOf(written);
    const key = table === '' ? name ?? '' : `${table}.${name ?? ''}`;
    if (name === undefined || value === undefined) return reader.problem(name === undefined ? '' : key, 'not a line of custom.toml: key = "value"', { place: { line: number, column: 1 } });
    places.set(key, number);
    values.set(key, value);
  }

  function wish(): void {
    const has = (prefix: string): boolean => [...values.keys()].some((key) => key.startsWith(prefix));
    if (values.has('system.hostname')) reader.hostname('system.hostname', values.get('system.hostname'));
    if (values.has('locale.timezone')) reader.timezone('locale.timezone', values.get('locale.timezone'));
    if (values.has('wlan.country')) reader.country('wlan.country', values.get('wlan.country'));
    if (values.has('wlan.ssid')) reader.network('wlan.ssid', { ssid: values.get('wlan.ssid'), passphrase: values.get('wlan.password') ?? '', hidden: values.get('wlan.hidden') ?? false });
    if (has('user.')) reader.ignore(IGNORED.user);
    if (has('ssh.')) reader.ignore(IGNORED.ssh);
    if (values.has('locale.keymap')) reader.ignore(IGNORED.keyboard);
  }
}

/** Undefined for what is none. */
function valueOf(written: string): Value | undefined {
  const basic = BASIC.exec(written)?.[1];
  if (basic !== undefined) return basic.replaceAll(/\\(?:u([0-9A-Fa-f]{4})|(.))/g, (_whole, hex: string | undefined, char = '') => (hex === undefined ? ESCAPES[char as string] ?? '' : String.fromCharCode(Number.parseInt(hex, 16))));
  const literal = LITERAL.exec(written)?.[1];
  if (literal !== undefined) return literal;
  const bare = BARE.exec(written)?.[1];
  if (bare !== undefined) return bare === 'true' || (bare === 'false' ? false : bare);
  return LIST.test(written) || undefined;
}
