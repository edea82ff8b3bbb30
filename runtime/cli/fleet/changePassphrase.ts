/** `tenzro fleet passphrase`: another passphrase for the keys of a controller's folder. */
import { printable } from '#runtime/core/printable.ts';
import { changePassphrase } from '#runtime/controllerMain.ts';
import type { KeyFile } from '#runtime/controller/passphraseChange.ts';
import type { Io } from '../io.ts';
import { readNewPassphrase, readSecret } from './passphrase.ts';
import { caller, type DirFlags } from './register.ts';

export interface PassphraseFlags extends DirFlags {
  /** Files that were carried elsewhere. */
  readonly key?: readonly string[];
  readonly passphraseFile?: string;
  readonly newPassphraseFile?: string;
}

const SAID: Readonly<Record<KeyFile['state'], string>> = {
  changes: 'opens with the new passphrase now', already: 'opened with the new passphrase already', another: 'stays as it is: neither passphrase opens it', elsewhere: 'is not here and keeps the old passphrase: --key changes it where it is',
};

/** While no controller serves: what starts it has to know the new one, too. */
export async function fleetPassphrase(io: Io, { dir, key = [], passphraseFile, newPassphraseFile, json }: PassphraseFlags): Promise<void> {
  const before = await readSecret(io, 'Old passphrase (not shown): ', passphraseFile);
  const after = await readNewPassphrase(io, newPassphraseFile, 'New passphrase (not shown): ');
  try {
    const files = await changePassphrase(dir, { before, after }, key, caller());
    if (json) return io.json({ dir, files });
    for (const { path, state } of files) io.line(`${printable(path)} ${SAID[state]}`);
  } finally {
    before.fill(0);
    after.fill(0);
  }
}
