/** Name and passphrase of the access point: made once for each card, kept for its owner's eyes only, shown on its screen. */
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { TenzroError } from '#runtime/core/errors.ts';
import { OwnFolder } from '../ownFolder.ts';

export interface Credentials {
  readonly ssid: string;
  readonly passphrase: string;
}

const FILE = 'access-point.json';
const FILE_BYTES_MAX = 256;
/** Nothing that looks like something else on a screen; 31 characters, 12 of them: 59 bits. */
const ALPHABET = 'abcdefghjkmnpqrstuvwxyz23456789';
const GROUPS = 3;
const GROUP = 4;
const SSID = /^Tenzro-[A-Z2-9]{6}$/;
const PASSPHRASE = /^(?:[a-z2-9]{4}-){2}[a-z2-9]{4}$/;

const letters = (count: number): string => Array.from({ length: count }, () => ALPHABET.charAt(randomInt(ALPHABET.length))).join('');
const folderOf = (dataDir: string): OwnFolder => new OwnFolder(join(dataDir, 'portal'), { codes: { permissions: 'portal.state', damaged: 'portal.state', io: 'portal.state' }, fileBytesMax: FILE_BYTES_MAX });

/** Undefined where none were made yet. Throws `portal.state`. */
export async function readCredentials(dataDir: string): Promise<Credentials | undefined> {
  const bytes = await folderOf(dataDir).read(FILE);
  return bytes && decode(bytes.toString('utf8'));
}

/** Those that are kept; new ones where there are none. Throws `portal.state`. */
export async function credentialsOf(dataDir: string): Promise<Credentials> {
  const known = await readCredentials(dataDir);
  if (known) return known;
  const made = { ssid: `Tenzro-${letters(6).toUpperCase()}`, passphrase: Array.from({ length: GROUPS }, () => letters(GROUP)).join('-') };
  await folderOf(dataDir).replace(FILE, Buffer.from(`${JSON.stringify(made)}\n`));
  return made;
}

function decode(text: string): Credentials {
  try {
    const { ssid, passphrase } = JSON.parse(text) as Partial<Credentials>;
    if (typeof ssid === 'string' && SSID.test(ssid) && typeof passphrase === 'string' && PASSPHRASE.test(passphrase)) return { ssid, passphrase };
  } catch (cause) {
    throw new TenzroError('portal.state', `portal/${FILE} is no JSON`, { cause });
  }
  throw new TenzroError('portal.state', `portal/${FILE} holds no name and passphrase of an access point`);
}
