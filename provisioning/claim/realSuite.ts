/**
 * The keys of a claim: X-Wing for secrecy, ML-DSA-65 for who it is, the code's secret for who may. `K = HKDF-SHA256(salt = transcript,
 * X-Wing secret ‖ code's secret)`, one output per purpose (RFC 5869); sealed messages are AES-256-GCM, numbered by their place in their direction.
 */
import { hkdfSync } from 'node:crypto';
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { AES_256_GCM, openAead, sealAead } from '#runtime/crypto/aead.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { verifyMlDsa65, type Signer } from '#runtime/crypto/mldsa.ts';
import { encapsulateXWing, exchangeKeyOfSeed, newExchangeSeed } from '#runtime/crypto/xwing.ts';
import { decodeRequest } from '#provisioning/enrolment/messages.ts';
import { claimKeyDigest } from './code.ts';
import { openHandOver, openOrder, orderDigest } from './handOver.ts';
import { encodeMessage, type Accept, type Hello, type Offer, type Standing } from './messages.ts';
import type { ClaimerSuite, DeviceSuite, SessionKeys } from './suite.ts';
import { sixWords } from './words.ts';

const DOMAIN = 'tenzro/claim/1';
const KEY_BYTES = 32;
/** Each direction seals one message: number 0 under a key of its own. */
const FIRST_NONCE = new Uint8Array(AES_256_GCM.nonceBytes);
const UNSIGNED = new Uint8Array(3_309);

export interface DeviceIdentity {
  readonly signer: Signer;
  /** Enrolment's, of the same identity; none: without a TPM. */
  readonly request?: Uint8Array;
}

export function deviceSuite({ signer, request }: DeviceIdentity): DeviceSuite {
  return {
    offer(hello) {
      const seed = newExchangeSeed();
      const ephemeral = exchangeKeyOfSeed(seed);
      seed.fill(0);
      const unsigned: Offer = { kind: 'offer', signingKey: signer.publicKey, request, ephemeral: ephemeral.publicKey, signature: UNSIGNED };
      const offer: Offer = { ...unsigned, signature: signer.sign(offerTerms(hello, unsigned)) };
      return { offer, digest: offerDigest(offer), ephemeral };
    },
    agree: ({ hello, offer, ephemeral }, accept, secret) => sessionKeys(ephemeral.decapsulate(accept.ciphertext), secret, transcriptOf(hello, offer, accept)),
    secretDigest: (secret) => sha256(Buffer.from(`${DOMAIN}/burnt`), secret),
    sealEvidence: (keys, evidence) => seal(keys.toClaimer, evidence),
    openHandOver(keys, sealed) {
      const bytes = open(keys.toDevice, sealed);
      const handOver = openHandOver(bytes);
      if (!equalBytes(handOver.transcript, keys.transcript)) throw new TenzroError('claim.hand_over', 'the hand-over was signed for another claim');
      return { bytes, handOver };
    },
    signStanding: (standing) => ({ kind: 'standing', ...standing, signature: signer.sign(standingTerms(standing)) }),
    orderDigest,
    openOrder(order, ownerKeys) {
      const opened = openOrder(order, ownerKeys);
      if (!equalBytes(opened.device, sha256(signer.publicKey))) throw new TenzroError('claim.order', 'the order is for another device');
      return opened;
    },
  };
}

export const claimerSuite: ClaimerSuite = {
  examine(hello, offer, keyDigest) {
    const asked = offer.request && decodeRequest(offer.request);
    if (asked && !equalBytes(asked.signingKey, offer.signingKey)) throw new TenzroError('claim.identity', 'the offer is by another key than its enrolment request');
    if (keyDigest && !equalBytes(claimKeyDigest({ signingKey: sha256(offer.signingKey), ...(asked ? { ak: sha256(asked.akPublic) } : {}) }), keyDigest)) throw new TenzroError('claim.identity', 'the keys are not those of the code');
    if (!verifyMlDsa65(offer.signingKey, offerTerms(hello, offer), offer.signature)) throw new TenzroError('claim.identity', 'the offer is not signed by its identity key for this claim');
  },
  accept(hello, offer, secret, challenge) {
    const { sharedSecret, ciphertext } = encapsulateXWing(offer.ephemeral);
    const half = { offer: offerDigest(offer), ciphertext, challenge };
    const keys = sessionKeys(sharedSecret, secret, transcriptOf(hello, offer, half));
    return { accept: { kind: 'accept', ...half, confirmation: Uint8Array.from(keys.claimerProof) }, keys };
  },
  openEvidence: (keys, sealed) => open(keys.toClaimer, sealed),
  sealHandOver: (keys, handOver) => seal(keys.toDevice, handOver),
  isSigned: (standing, signingKey) => verifyMlDsa65(signingKey, standingTerms(standing), standing.signature),
};

const offerDigest = (offer: Offer): Buffer => sha256(encodeMessage(offer));
const offerTerms = (hello: Hello, offer: Offer): Buffer => Buffer.concat([Buffer.from(`${DOMAIN}/offer`), sha256(encodeMessage(hello)), offerDigest({ ...offer, signature: UNSIGNED })]);
const standingTerms = (standing: Omit<Standing, 'kind' | 'signature'>): Buffer => Buffer.concat([Buffer.from(`${DOMAIN}/standing`), sha256(encodeMessage({ ...standing, kind: 'standing', signature: UNSIGNED }))]);

/** Over the messages as they went over the wire, of the acceptance all but its confirmation. */
function transcriptOf(hello: Hello, offer: Offer, { offer: digest, ciphertext, challenge }: Omit<Accept, 'kind' | 'confirmation'>): Buffer {
  const acceptance = encodeMessage({ kind: 'accept', offer: digest, ciphertext, challenge, confirmation: new Uint8Array(KEY_BYTES) });
  return sha256(Buffer.from(`${DOMAIN}/transcript`), sha256(encodeMessage(hello)), offerDigest(offer), sha256(acceptance));
}

/** Zeroes `sharedSecret`. */
function sessionKeys(sharedSecret: Uint8Array, secret: Uint8Array, transcript: Uint8Array): SessionKeys {
  const input = Buffer.concat([sharedSecret, secret]);
  sharedSecret.fill(0);
  const derive = (purpose: string): Uint8Array => new Uint8Array(hkdfSync('sha256', input, transcript, `${DOMAIN}/${purpose}`, KEY_BYTES));
  const keys = {
    transcript, claimerProof: derive('claimer confirms'), deviceProof: derive('device confirms'), toDevice: derive('to device'), toClaimer: derive('to claimer'), words: sixWords(derive('words')),
  };
  input.fill(0);
  return keys;
}

const seal = (key: Uint8Array, plaintext: Uint8Array): Buffer => sealAead(AES_256_GCM, key, FIRST_NONCE, plaintext, new Uint8Array(0));
const open = (key: Uint8Array, sealed: Uint8Array): Buffer => openAead(AES_256_GCM, key, FIRST_NONCE, sealed, new Uint8Array(0));
