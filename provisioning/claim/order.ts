/** An owner's order, carried to a device: which generation does it end, and did the device say, signed, that it is done? */
import { randomBytes } from 'node:crypto';
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { ClaimRecord } from './claimer.ts';
import { orderDigest } from './handOver.ts';
import type { Dial } from './lan/dial.ts';
import { decodeMessage, encodeMessage, NONCE_BYTES, type ClaimMessage, type Order, type Standing } from './messages.ts';
import { claimerSuite } from './realSuite.ts';

export interface Errand {
  readonly dial: Dial;
  readonly claim: Pick<ClaimRecord, 'claimId' | 'signingKey'>;
  /** Signed for this generation: `signOrder`. */
  readonly order: (generation: number) => Order;
}

const ANSWER_MS = 10_000;

/**
 * The device's signed word: `none` where it was not ours any more. Rejects with `claim.link`, `claim.order` and `claim.busy` as the device refuses, and
 * with `claim.timeout` where the device of that claim does not answer there. What was ordered is answered again the same way: it may be repeated.
 */
export async function giveOrder({ dial, claim, order }: Errand, signal: AbortSignal): Promise<Standing> {
  const { claimId, signingKey } = claim;
  const { promise, resolve, reject } = Promise.withResolvers<Standing>();
  const question: ClaimMessage = { kind: 'ask', claimId, nonce: randomBytes(NONCE_BYTES) };
  const sent: { digest?: Uint8Array } = {};
  const receive = (bytes: Uint8Array): void => {
    const message = decodeMessage(bytes);
    if (message.kind === 'refused' && sent.digest) return reject(new TenzroError(message.reason === 'claim.busy' ? 'claim.busy' : 'claim.order', `the gateway refused the order: ${message.reason}`));
    if (message.kind !== 'standing' || !equalBytes(message.claimId, claimId)) return;
    if (!claimerSuite.isSigned(message, signingKey)) return reject(new TenzroError('claim.timeout', 'another gateway answers there'));
    if (sent.digest && equalBytes(message.nonce, sent.digest)) return resolve(message);
    if (!equalBytes(message.nonce, question.nonce)) return;
    if (message.standing !== 'owned') return message.standing === 'none' ? resolve(message) : undefined;
    const signed = order(message.generation);
    sent.digest = orderDigest(signed);
    channel.send(encodeMessage(signed));
  };
  const late = setTimeout(() => { reject(new TenzroError('claim.timeout', 'the gateway of that claim does not answer there')); }, ANSWER_MS);
  const stop = (): void => { reject(new TenzroError('claim.abandoned', 'given up by the operator')); };
  signal.addEventListener('abort', stop, { once: true });
  promise.catch(() => undefined); // it may be rejected before it is awaited
  using channel = await dial({
    message: (bytes) => { try { receive(bytes); } catch (error) { reject(error); } },
    closed: (why) => { reject(new TenzroError('claim.link', why)); },
  }, signal);
  try {
    channel.send(encodeMessage(question));
    return await promise;
  } finally {
    clearTimeout(late);
    signal.removeEventListener('abort', stop);
  }
}
