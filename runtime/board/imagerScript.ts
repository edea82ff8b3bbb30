/**
 * `firstrun.sh` of Raspberry Pi Imager 1: a shell script that is read and never run. Its customisations are calls of `imager_custom` with plain words
 * (rpi-imager, src/OptionsPopup.qml and src/customization_generator.cpp); the rest of the script is what Raspberry Pi OS needs. Pure.
 */
import { IGNORED } from './bootYaml.ts';
import { WishReader, type FileReading } from './wishes.ts';

const CALL = /^\s*\S*\/imager_custom\s+(\S+)\s*(.*)$/;
const USER = /^\s*\S*\/userconf\s/;
/** POSIX shell, XCU 2.2: single quotes, double quotes, bare. What needs more than that Imager does not write. */
const WORD = /'([^']*)'|"((?:[^"\\$`]|\\.)*)"|([^\s'"\\$`;&|<>()]+)|(\s+)/gy;

export function readImagerScript(text: string): FileReading {
  let line = 0;
  const reader = new WishReader(() => ({ line, column: 1 }));
  for (const [at, written] of text.split(/\r?\n/).entries()) {
    line = at + 1;
    if (USER.test(written)) reader.ignore(IGNORED.user);
    const [, call, rest = ''] = CALL.exec(written) ?? [];
    if (call !== undefined) readCall(reader, call, rest);
  }
  return reader.reading;
}

function readCall(reader: WishReader, call: string, rest: string): void {
  const words = wordsOf(rest);
  if (!words) return reader.problem(call, 'not the plain words that Raspberry Pi Imager writes');
  switch (call) {
    case 'set_hostname': return reader.hostname(call, words[0]);
    case 'set_timezone': return reader.timezone(call, words[0]);
    case 'set_keymap': return reader.ignore(IGNORED.keyboard);
    case 'enable_ssh': return reader.ignore(IGNORED.ssh);
    case 'set_wlan': return readWlan(reader, words);
    default: return reader.ignore(`${call} of Raspberry Pi Imager`);
  }
}

/** `[-h] SSID PSK COUNTRY` */
function readWlan(reader: WishReader, words: readonly string[]): void {
  const hidden = words[0] === '-h';
  const [ssid, passphrase = '', country] = hidden ? words.slice(1) : words;
  reader.network('set_wlan', { ssid, passphrase, hidden });
  if (country !== undefined && country !== '') reader.country('set_wlan', country);
}

/** Undefined for what is more than words. Neighbouring pieces are one word, as in 'it'"'"'s'. */
function wordsOf(text: string): readonly string[] | undefined {
  const words: string[] = [];
  let [word, end] = [undefined as string | undefined, 0];
  for (const [whole, single, double, bare, blank] of text.matchAll(WORD)) {
    end += whole.length;
    if (blank !== undefined) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else word = (word ?? '') + (single ?? double?.replaceAll(/\\(.)/g, '$1') ?? bare ?? '');
  }
  if (word !== undefined) words.push(word);
  return end === text.length ? words : undefined;
}
