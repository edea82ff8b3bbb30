/** `tenzro fleet keygen`: the key pair of an owner or operator. Needs no gateway and no data directory. */
import { writeFileSync } from 'node:fs';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { thumbprintOf } from '#runtime/crypto/jws.ts';
import { newOwnerKey } from '#runtime/crypto/ownerKey.ts';
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
  const { privatePem, publicPem, publicKey } = newOwnerKey(passphrase);
  passphrase.fill(0);
  const publicKeyFile = `${output}.pub`;
  writeNew(output, privatePem, OWNER_ONLY);
  writeNew(publicKeyFile, publicPem);
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
