/** Owner and operator keys as files: the public one is PEM as every tool knows it (RFC 9881). */
import { createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { COMMAND_TYPES, type Operator } from '#runtime/core/command.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { Owner } from '#runtime/core/fleet.ts';
import type { FleetSettings } from '#runtime/core/settings.ts';
import { thumbprintOf } from '#runtime/crypto/jws.ts';
import { rawPublicKeyOf } from '#runtime/crypto/mldsa.ts';

/** Owner keys may everything that the gateway's own settings consent to. */
export const operatorsOf = ({ ownerKeys }: Owner): readonly Operator[] =>
  ownerKeys.map((publicKey, at) => ({ name: `owner-${at + 1}`, publicKey, kid: thumbprintOf(publicKey), may: COMMAND_TYPES }));

/** A file that cannot be read costs its operator, not the gateway: `onFault` hears of it. */
export function readOperators({ operators }: Pick<FleetSettings, 'operators'>, onFault: (error: TenzroError) => void): readonly Operator[] {
  return operators.flatMap(({ name, publicKeyFile, may }) => {
    try {
      const publicKey = readPublicKey(publicKeyFile);
      return [{ name, publicKey, kid: thumbprintOf(publicKey), may }];
    } catch (cause) {
      onFault(new TenzroError('fleet.key', `operator ${name}: ${messageOf(cause)}`, { cause }));
      return [];
    }
  });
}

/** 1952 bytes. Throws `fleet.key`. */
function readPublicKey(file: string): Buffer {
  try {
    const raw = rawPublicKeyOf(createPublicKey(readFileSync(file)));
    if (raw) return raw;
  } catch (cause) {
    throw new TenzroError('fleet.key', `${file}: ${messageOf(cause)}`, { cause });
  }
  throw new TenzroError('fleet.key', `${file} holds no ML-DSA-65 key`);
}
