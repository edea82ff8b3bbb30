/** `tenzro fleet keygen`: the key pair of an owner or operator. Needs no gateway and no data directory. */
import { createPublicKey } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { thumbprintOf } from '#runtime/crypto/jws.ts';
import { newSeed, signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { encryptOwnerKey } from '#runtime/crypto/ownerKey.ts';
import type { Io } from '../io.ts';
import { readNewPassphrase } from './passphrase.ts';

const OWNER_ONLY = 0o600;

export interface KeygenFlags {
  readonly output: string;
  readonly passphraseFile?: string;
  readonly json?: boolean;
}

export async function fleetKeygen(io: Io, { output, passphraseFile, json }: KeygenFlags): Promise<void> {
  const passphrase = await readNewPassphrase(io, passphraseFile);
  const seed = newSeed();
  const { publicKey, privateKey } = signerOfSeed(seed);
  const pem = encryptOwnerKey(seed, passphrase);
  seed.fill(0);
  passphrase.fill(0);
  if (!privateKey) throw new TenzroError('fleet.key', 'this Node cannot write ML-DSA keys: use the one that npm brought');
  const publicKeyFile = `${output}.pub`;
  writeNew(output, pem, OWNER_ONLY);
  writeNew(publicKeyFile, createPublicKey(privateKey).export({ format: 'pem', type: 'spki' }).toString());
  const kid = thumbprintOf(publicKey);
  if (json) return io.json({ file: output, publicKeyFile, kid });
  io.line(`${printable(output)}: private key, under your passphrase. Whoever has both commands every gateway that knows the key: keep it off the gateways, and keep a copy.`);
  io.line(`${printable(publicKeyFile)}: public key ${kid}, for the gateways' configuration:`);
  io.line(`  fleet: { operators: [{ name: owner, publicKeyFile: ${printable(publicKeyFile)}, may: ['*'] }] }`);
}

/** A key that is there already is never overwritten: gateways may obey nothing else. */
function writeNew(path: string, text: string, mode?: number): void {
  try {
    writeFileSync(path, text, { flag: 'wx', ...(mode === undefined ? {} : { mode }) });
  } catch (cause) {
    throw new TenzroError('cli.usage', `cannot write ${path}: ${messageOf(cause)}`, { cause });
  }
}
