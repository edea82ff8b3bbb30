/** The gateway's side: opens an enroller's credential with its TPM and answers for its own keys only. */
import { createHmac } from 'node:crypto';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { Activator } from '#runtime/core/ports.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { answerDigest, answerMessage, decodeChallenge, encodeAnswer } from './messages.ts';

/**
 * Challenge in, answer out. `request`: the bytes that were sent; `signer`: of the identity key in it. Throws `enrol.challenge` for what does not parse or
 * was not made for this TPM's EK and AK; other errors of the TPM pass through.
 */
export async function answerChallenge(request: Uint8Array, challenge: Uint8Array, { activator, signer }: { readonly activator: Activator; readonly signer: Signer }, signal: AbortSignal): Promise<Uint8Array> {
  const { nonce, blob, secret } = decodeChallenge(challenge);
  const activated = await open(activator, blob, secret, signal);
  const digest = answerDigest(request, challenge);
  const proof = createHmac('sha256', activated).update(digest).digest();
  activated.fill(0);
  return encodeAnswer({ nonce, proof, signature: signer.sign(answerMessage(digest)) });
}

async function open(activator: Activator, blob: Uint8Array, secret: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
  try {
    return await activator.activate(blob, secret, signal);
  } catch (cause) {
    if (cause instanceof TenzroError && cause.code === 'tpm.refused') throw new TenzroError('enrol.challenge', `the TPM does not open the credential: ${messageOf(cause)}`, { cause });
    throw cause;
  }
}
