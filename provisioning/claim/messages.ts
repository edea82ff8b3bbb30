/**
 * The messages of a claim, in the order in which an undisturbed one sends them; docs/reference/claim-protocol.md is their reference. Whoever reads one holds
 * it to be hostile: everything is bounded before it is looked at.
 */
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { MLDSA65 } from '#runtime/crypto/mldsa.ts';
import { XWING } from '#runtime/crypto/xwing.ts';
import { atMost, encodeRecord, exactly, oneOf, openRecord, optional, readFields, text, typeOf, wholeNumber, type Values } from './record.ts';

export const CLAIM_ID_BYTES = 16;
export const NONCE_BYTES = 32;
const HASH_BYTES = 32;
/** TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET of our algorithms, with a nonce around them. */
const CHALLENGE_BYTES_MAX = 2_200;
/** A code of the table, and nothing that could bend a terminal. */
const REASON = text(/^[a-z0-9_.]{0,48}$/);

/**
 * What a device says of one claim. owned: it belongs to whom that claim named · pending: it is about to, ask again · none: it does not, and by that session
 * never will · released, rotated: the owner's order is carried out.
 */
export const STANDINGS = ['owned', 'pending', 'none', 'released', 'rotated'] as const;
export type StandingName = (typeof STANDINGS)[number];

const SHAPES = {
  /** Claimer: begins. */
  hello: { claimId: exactly(CLAIM_ID_BYTES), nonce: exactly(NONCE_BYTES) },
  /** Device: who it is, and a key for this claim alone, signed by the identity key. The request is enrolment's, of the same identity; absent without a TPM. */
  offer: { signingKey: exactly(MLDSA65.publicKeyBytes), request: optional(atMost(LIMITS.enrolmentMessageBytesMax)), ephemeral: exactly(XWING.publicKeyBytes), signature: exactly(MLDSA65.signatureBytes) },
  /** Claimer: answers the offer with that SHA-256; the confirmation shows that it knows the secret. The challenge is enrolment's, where there was a request. */
  accept: { offer: exactly(HASH_BYTES), ciphertext: exactly(XWING.ciphertextBytes), challenge: optional(atMost(CHALLENGE_BYTES_MAX)), confirmation: exactly(HASH_BYTES) },
  /** Device: shows that it knows the secret; sealed: that its AK lives in the TPM of its EK, and what booted. */
  proof: { confirmation: exactly(HASH_BYTES), sealed: atMost(LIMITS.claimEvidenceBytesMax) },
  /** Claimer: sealed, what the device needs to belong to a fleet. */
  handOver: { sealed: atMost(LIMITS.claimHandOverBytesMax) },
  /** Device: signed; answers a hand-over (nonce: the transcript), an `ask` (its nonce) or an order (its SHA-256). The generation is what the next order must name. */
  standing: { claimId: exactly(CLAIM_ID_BYTES), nonce: exactly(NONCE_BYTES), standing: oneOf(STANDINGS), reason: REASON, generation: wholeNumber(), signature: exactly(MLDSA65.signatureBytes) },
  /** Claimer: what became of that claim? */
  ask: { claimId: exactly(CLAIM_ID_BYTES), nonce: exactly(NONCE_BYTES) },
  /** An owner: release or rotation, signed. */
  order: { body: atMost(LIMITS.claimHandOverBytesMax), signature: exactly(MLDSA65.signatureBytes) },
  /** Device: goes no further. Not signed, so it ends an attempt and says nothing about ownership. */
  refused: { reason: REASON },
} as const;

type Kind = keyof typeof SHAPES;
export type MessageOf<K extends Kind> = { readonly kind: K } & Values<(typeof SHAPES)[K]>;
export type ClaimMessage = { readonly [K in Kind]: MessageOf<K> }[Kind];
export type Hello = MessageOf<'hello'>;
export type Offer = MessageOf<'offer'>;
export type Accept = MessageOf<'accept'>;
export type Standing = MessageOf<'standing'>;
export type Order = MessageOf<'order'>;

const KINDS = Object.keys(SHAPES) as readonly Kind[];
const typeNumber = (kind: Kind): number => KINDS.indexOf(kind) + 1;

export const encodeMessage = (message: ClaimMessage): Buffer => encodeRecord(typeNumber(message.kind), SHAPES[message.kind], message);

/** Throws `claim.malformed`. */
export function decodeMessage(bytes: Uint8Array): ClaimMessage {
  const fields = openRecord(bytes);
  const type = typeOf(fields);
  const kind = typeof type === 'number' ? KINDS[type - 1] : undefined;
  if (kind === undefined) throw new TenzroError('claim.malformed', 'claim message: of no known type');
  return { kind, ...readFields(fields, typeNumber(kind), SHAPES[kind]) } as ClaimMessage;
}
