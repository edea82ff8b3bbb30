/**
 * Another passphrase for the keys of a controller's folder. Each file is replaced in one step and `server.key` is the last: a kill leaves every one of them
 * under the one passphrase or the other, and the same change again finishes what is left.
 */
import { existsSync } from 'node:fs';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { labelIn, openUnderPassphrase, sealUnderPassphrase } from '#runtime/crypto/passphraseBox.ts';
import { filesOf, keyTextIn, openHouse, replaceKeyFile } from './house.ts';

/** The caller zeroes both. */
export interface Passphrases { readonly before: Uint8Array; readonly after: Uint8Array }

export interface KeyFile {
  readonly path: string;
  /** `already`: under the new one; `another`: under neither; `elsewhere`: not in the folder. */
  readonly state: 'changes' | 'already' | 'another' | 'elsewhere';
}

export interface PassphraseChange {
  /** Of the controller. */
  readonly name: string;
  readonly signer: Signer;
  readonly files: readonly KeyFile[];
  commit(): Promise<void>;
}

interface Prepared extends KeyFile { readonly content?: string }

/**
 * Nothing is written before `commit`. `carried`: key files that are elsewhere and change too. Whoever calls keeps controllers away. Throws as `openHouse`, and
 * `fleet.key` where neither passphrase opens a file that has to change: all but the owner keys in the folder.
 */
export async function preparePassphraseChange(dir: string, passphrases: Passphrases, carried: readonly string[] = []): Promise<PassphraseChange> {
  const { server, root, owners } = filesOf(dir);
  const { name, signer } = await openHouse(dir, passphrases.before).catch((error: unknown) => {
    if (error instanceof TenzroError && error.code === 'fleet.key') return openHouse(dir, passphrases.after);
    throw error;
  });
  const files: Prepared[] = [];
  for (const path of [...owners, root]) files.push(existsSync(path) ? await prepared(path, passphrases) : { path, state: 'elsewhere' });
  for (const path of [...carried, server]) files.push(await prepared(path, passphrases));
  const stuck = files.find(({ path, state }) => state === 'another' && !owners.includes(path));
  if (stuck) throw new TenzroError('fleet.key', `neither passphrase opens ${stuck.path}`);
  return {
    name, signer, files: files.map(({ path, state }) => ({ path, state })),
    async commit() {
      for (const { path, content } of files) if (content !== undefined) await replaceKeyFile(path, content);
    },
  };
}

async function prepared(path: string, { before, after }: Passphrases): Promise<Prepared> {
  const pem = await keyTextIn(path);
  const label = labelIn(pem);
  if (label === undefined) throw new TenzroError('fleet.key', `${path} is no key under a passphrase`);
  const secret = opened(label, pem, before);
  try {
    if (secret) return { path, state: 'changes', content: sealUnderPassphrase(label, secret, after) };
  } finally {
    secret?.fill(0);
  }
  const done = opened(label, pem, after);
  done?.fill(0);
  return { path, state: done ? 'already' : 'another' };
}

function opened(label: string, pem: string, passphrase: Uint8Array): Buffer | undefined {
  try {
    return openUnderPassphrase(label, pem, passphrase);
  } catch {
    return undefined; // under another one, or damaged: the caller says which file
  }
}
