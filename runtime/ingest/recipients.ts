/** Reads the public keys of who may open confidential entries. */
import { readFileSync } from 'node:fs';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { ConfidentialSettings } from '#runtime/core/settings.ts';
import { encapsulateXWing } from '#runtime/crypto/xwing.ts';
import { publicKeyOfPem } from '#runtime/crypto/xwingPem.ts';
import type { Recipient } from '#runtime/ledger/confidential.ts';

/** Each key is tried: a message must not be the first to find out. Throws `confidential.key`. */
export function readRecipients({ recipients }: ConfidentialSettings): readonly Recipient[] {
  return recipients.map(({ name, publicKeyFile }) => {
    try {
      const publicKey = publicKeyOfPem(readFileSync(publicKeyFile, 'utf8'));
      encapsulateXWing(publicKey).sharedSecret.fill(0);
      return { name, publicKey };
    } catch (cause) {
      throw new TenzroError('confidential.key', `recipient ${name}: ${publicKeyFile}: ${messageOf(cause)}`, { cause });
    }
  });
}
