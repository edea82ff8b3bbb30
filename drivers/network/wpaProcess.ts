/** Which file a running wpa_supplicant reads: nothing but its command line says so. */
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { namesIn } from './system.ts';

const PROCESSES = '/proc';
/** wpa_supplicant(8): options that take a value, which may be the rest of the word or the next one. */
const WITH_VALUE = /(?<!^)[bcCDefgGiImoOpP]/;

/** `interface`'s, undefined where no wpa_supplicant has one for it: then somebody steers it over D-Bus. */
export async function configOf(interfaceName: string): Promise<string | undefined> {
  for (const pid of (await namesIn(PROCESSES)).filter((name) => /^\d+$/.test(name))) {
    const line = await readFile(join(PROCESSES, pid, 'cmdline'), 'utf8').catch(() => ''); // it has ended
    const [program = '', ...words] = line.split('\0');
    const found = basename(program) === 'wpa_supplicant' ? configIn(words, interfaceName) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}

/** `words`: behind the program's name; -N begins what is said of the next interface. */
export function configIn(words: readonly string[], interfaceName: string): string | undefined {
  let said = new Map<string, string>();
  const config = (): string | undefined => (said.get('i') === interfaceName ? said.get('c') : undefined);
  for (let at = 0; at < words.length; at += 1) {
    const word = words[at] ?? '';
    if (!word.startsWith('-')) continue;
    const valued = word.search(WITH_VALUE);
    const letters = valued < 0 ? word : word.slice(0, valued);
    if (letters.includes('N')) {
      const found = config();
      if (found !== undefined) return found;
      said = new Map();
    }
    if (valued > 0) said.set(word.charAt(valued), word.slice(valued + 1) || (words[at += 1] ?? ''));
  }
  return config();
}
