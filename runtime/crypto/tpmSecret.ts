/** A secret made here and readable only by the TPM that holds a given key: TCG TPM 2.0 Library, Part 1, annexes B.10 (RSA) and C.6 (ECC). */
import { constants, createECDH, publicEncrypt, randomBytes } from 'node:crypto';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { publicKeyOf, type TpmPublic } from './tpmEvidence.ts';
import { kdfe, labelOf } from './tpmKdf.ts';

const SECRET_BYTES = 32;
const P256_BYTES = 32;
/** SEC 1 §2.3.3. */
const UNCOMPRESSED_POINT = Buffer.of(4);

/** What the secret is for: the label keeps one use from passing for another (annex B.10.2 and .3). */
export type SecretUse = 'SECRET' | 'IDENTITY';

export interface SharedSecret {
  /** 32 bytes; the caller zeroes it. */
  readonly secret: Buffer;
  /** Contents of the TPM2B_ENCRYPTED_SECRET (Part 2 §11.4.3) that carries it. */
  readonly encrypted: Buffer;
}

/** `key`: a SHA-256 storage key, P-256 or RSA. Throws `tpm.structure` for a point that is not on the curve and for other kinds of key. */
export function shareSecret({ key, area }: TpmPublic, use: SecretUse): SharedSecret {
  if (key.kind === 'rsa') {
    const secret = randomBytes(SECRET_BYTES);
    return { secret, encrypted: publicEncrypt({ key: publicKeyOf(area), padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256', oaepLabel: labelOf(use) }, secret) };
  }
  if (key.kind !== 'ecc') throw new TenzroError('tpm.structure', 'TPMT_PUBLIC: a secret is shared with a P-256 or RSA key only');
  const ephemeral = createECDH('prime256v1');
  const point = ephemeral.generateKeys();
  const [x, y] = [point.subarray(1, 1 + P256_BYTES), point.subarray(1 + P256_BYTES)];
  const z = agree(() => ephemeral.computeSecret(Buffer.concat([UNCOMPRESSED_POINT, key.x, key.y])));
  const secret = kdfe(z, use, x, key.x);
  z.fill(0);
  return { secret, encrypted: Buffer.concat([sized(x), sized(y)]) }; // TPMS_ECC_POINT, Part 2 §11.2.5.2
}

function agree(compute: () => Buffer): Buffer {
  try {
    return compute();
  } catch (cause) {
    throw new TenzroError('tpm.structure', `TPMT_PUBLIC: not a public key: ${messageOf(cause)}`, { cause });
  }
}

/** TPM2B, Part 2 §10.4.1. */
export function sized(bytes: Uint8Array): Buffer {
  const head = Buffer.allocUnsafe(2);
  head.writeUInt16BE(bytes.length);
  return Buffer.concat([head, bytes]);
}
