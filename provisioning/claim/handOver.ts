/** What is sealed or signed inside a claim: the device's evidence, the operator's hand-over, an owner's order. Strict records, pure. */
import { timingSafeEqual } from 'node:crypto';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { MLDSA65, verifyMlDsa65, type Signer } from '#runtime/crypto/mldsa.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { CLAIM_ID_BYTES, type Order } from './messages.ts';
import { atMost, decodeRecord, encodeRecord, exactly, listOf, oneOf, optional, text, wholeNumber, type Field, type Values } from './record.ts';

/** Types beyond those of messages: a signed body can never pass for a message, nor for another body. */
const TYPE = { evidence: 32, network: 33, handOver: 34, signedHandOver: 35, order: 36, login: 37 } as const;
const HASH_BYTES = 32;
/** IEEE 802.11 §9.4.2.2. */
const SSID_BYTES_MAX = 32;
/** WPA2 takes 8 to 63 printable ASCII characters (IEEE 802.11 annex J.4.1); '' joins an open network. */
const PASSPHRASE = /^(?:|[ -~]{8,63})$/;
const BROKER = /^mqtts:\/\/[A-Za-z0-9.\-[\]:]{1,255}$/;
const EVIDENCE_SEALING_BYTES = 64;

const EVIDENCE = {
  /** The answer to the credential challenge (enrolment); absent without a TPM. */
  answer: optional(atMost(8 * 1024)),
  /** As `encodeQuote` made it; absent where no TPM quotes. */
  quote: optional(atMost(LIMITS.claimEvidenceBytesMax - 8 * 1024 - EVIDENCE_SEALING_BYTES)),
} as const;
export type DeviceEvidence = Values<typeof EVIDENCE>;
export const encodeDeviceEvidence = (evidence: DeviceEvidence): Buffer => encodeRecord(TYPE.evidence, EVIDENCE, evidence);
/** Throws `claim.malformed`. */
export const decodeDeviceEvidence = (bytes: Uint8Array): DeviceEvidence => decodeRecord(TYPE.evidence, EVIDENCE, bytes);

const NETWORK = { ssid: atMost(SSID_BYTES_MAX), passphrase: text(PASSPHRASE) } as const;
const network: Field<Values<typeof NETWORK>> = {
  write: (value) => encodeRecord(TYPE.network, NETWORK, value),
  read: (value) => decodeRecord(TYPE.network, NETWORK, atMost(256).read(value)),
};
const PASSWORD = /^[!-~]{8,128}$/;
const LOGIN = { user: text(/^[A-Za-z0-9_-]{1,64}$/), password: text(PASSWORD) } as const;
/** Whether that can be handed over as the password of a login. */
export const isBrokerPassword = (password: string): boolean => PASSWORD.test(password);
const login: Field<Values<typeof LOGIN>> = {
  write: (value) => encodeRecord(TYPE.login, LOGIN, value),
  read: (value) => decodeRecord(TYPE.login, LOGIN, atMost(256).read(value)),
};
const ownerKeys = listOf(exactly(MLDSA65.publicKeyBytes), 2, 2);

const HAND_OVER = {
  claimId: exactly(CLAIM_ID_BYTES),
  /** Of the claim's messages: it was made for this device and this session. */
  transcript: exactly(HASH_BYTES),
  /** Wi-Fi, the preferred first; none: the device has a cable. */
  networks: listOf(network, 0, 8),
  /** mqtts URL of the fleet's broker. */
  broker: text(BROKER),
  /** X.509 DER of the fleet's authority. */
  fleetCa: atMost(16 * 1024),
  /** ML-DSA-65; either may order. The first signed this. */
  ownerKeys,
  /** The operator's clock, whole seconds since 1970. */
  time: wholeNumber(),
  /** The enrolment statement, for the chain; absent without a TPM. */
  statement: optional(atMost(8 * 1024)),
  /** SHA-256 of the controller's key that signs receipts. */
  receiptKey: exactly(HASH_BYTES),
  /** Of the fleet's authority around the device's identity key, X.509 DER, and the intermediate that signed it. */
  certificates: listOf(atMost(16 * 1024), 0, 2),
  /** Where the broker asks for a name and a password instead. */
  login: optional(login),
} as const;
export type HandOver = Values<typeof HAND_OVER>;

const SIGNED = { body: atMost(LIMITS.claimHandOverBytesMax - MLDSA65.signatureBytes - EVIDENCE_SEALING_BYTES), signature: exactly(MLDSA65.signatureBytes) } as const;

/** `signer`: of the first of the two owner keys. */
export function signHandOver(handOver: HandOver, signer: Signer): Buffer {
  const body = encodeRecord(TYPE.handOver, HAND_OVER, handOver);
  return encodeRecord(TYPE.signedHandOver, SIGNED, { body, signature: signer.sign(body) });
}

/** Throws `claim.malformed`, and `claim.hand_over` when the first owner key did not sign it or there are not two keys. */
export function openHandOver(bytes: Uint8Array): HandOver {
  const { body, signature } = decodeRecord(TYPE.signedHandOver, SIGNED, bytes);
  const handOver = decodeRecord(TYPE.handOver, HAND_OVER, body);
  const [first] = twoKeys(handOver.ownerKeys, 'claim.hand_over');
  if (!verifyMlDsa65(first, body, signature)) throw new TenzroError('claim.hand_over', 'the hand-over is not signed by its first owner key');
  return handOver;
}

const ORDER = {
  verb: oneOf(['release', 'rotate']),
  /** Of the claim that made the owner, with its device: an order for one is none for another. */
  claimId: exactly(CLAIM_ID_BYTES),
  device: exactly(HASH_BYTES),
  /** The generation that it ends: each order works once. */
  generation: wholeNumber(),
  /** rotate: the keys from then on. */
  ownerKeys: optional(ownerKeys),
} as const;
export type OwnerOrder = Values<typeof ORDER>;

export function signOrder(order: OwnerOrder, signer: Signer): Order {
  const body = encodeRecord(TYPE.order, ORDER, order);
  return { kind: 'order', body, signature: signer.sign(body) };
}

export const orderDigest = ({ body }: Order): Buffer => sha256(body);

/** `keys`: of the owner; either may have signed. Throws `claim.malformed` and `claim.order`. */
export function openOrder({ body, signature }: Order, keys: readonly Uint8Array[]): OwnerOrder {
  const order = decodeRecord(TYPE.order, ORDER, body);
  if (!keys.some((key) => verifyMlDsa65(key, body, signature))) throw new TenzroError('claim.order', 'the order is signed by neither owner key');
  if ((order.verb === 'rotate') !== (order.ownerKeys !== undefined)) throw new TenzroError('claim.order', 'keys belong to a rotation, and to nothing else');
  if (order.ownerKeys) twoKeys(order.ownerKeys, 'claim.order');
  return order;
}

function twoKeys(keys: readonly Uint8Array[], code: 'claim.hand_over' | 'claim.order'): readonly [Uint8Array, Uint8Array] {
  const [first, second] = keys;
  if (!first || !second || timingSafeEqual(first, second)) throw new TenzroError(code, 'the two owner keys are not two');
  return [first, second];
}
