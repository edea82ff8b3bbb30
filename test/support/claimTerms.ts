/** Ideal keys for the claim's state machines: every byte string is a name for how it came about, so that nobody can make one without its parts. */
import { TenzroError } from '#runtime/core/errors.ts';
import type { Hello, Offer, Standing } from '#provisioning/claim/messages.ts';
import type { ClaimerSuite, DeviceSuite, SessionKeys } from '#provisioning/claim/suite.ts';

type Part = string | Uint8Array | undefined;

const names = new Map<string, Buffer>();
const parts = new Map<string, readonly Part[]>();

const spelled = (part: Part): string => (part === undefined ? '-' : typeof part === 'string' ? part : Buffer.from(part).toString('latin1'));

/** The byte string for these parts: the same parts, the same bytes (four: constant-time comparison wants equal lengths). */
export function term(...made: readonly Part[]): Buffer {
  const spelling = made.map(spelled).join('\u0001');
  const known = names.get(spelling);
  if (known) return known;
  const name = Buffer.alloc(4);
  name.writeUInt32BE(names.size);
  names.set(spelling, name);
  parts.set(name.toString('latin1'), made);
  return name;
}

export const partsOf = (name: Uint8Array): readonly Part[] => parts.get(spelled(name)) ?? [];

const DEVICE_KEY = term('identity', 'device');
export const KEY_DIGEST = term('digest', DEVICE_KEY);

function keysOf(shared: Uint8Array, secret: Uint8Array, transcript: Uint8Array): SessionKeys {
  const key = term('key', shared, secret, transcript);
  return { transcript, claimerProof: term('claimer', key), deviceProof: term('device', key), toDevice: term('down', key), toClaimer: term('up', key), words: spelled(key) };
}

const helloName = ({ claimId, nonce }: Hello): Buffer => term('hello', claimId, nonce);
const signedOffer = (signingKey: Uint8Array, hello: Hello, ephemeral: Uint8Array): Buffer => term('signed offer', signingKey, helloName(hello), ephemeral);
const offerName = (offer: Offer): Buffer => term('offer', offer.signingKey, offer.ephemeral, offer.signature);
const transcriptOf = (hello: Hello, offer: Offer, ciphertext: Uint8Array): Buffer => term('transcript', helloName(hello), offerName(offer), ciphertext);
const signedStanding = (key: Uint8Array, { claimId, nonce, standing, reason, generation }: Omit<Standing, 'kind' | 'signature'>): Buffer => term('signed standing', key, claimId, nonce, standing, reason, String(generation));

export const sealed = (key: Uint8Array, plaintext: Uint8Array): Buffer => term('sealed', key, plaintext);
function opened(key: Uint8Array, box: Uint8Array): Uint8Array {
  const [kind, with_, plaintext] = partsOf(box);
  if (kind !== 'sealed' || !(with_ instanceof Uint8Array) || !(plaintext instanceof Uint8Array) || spelled(with_) !== spelled(key)) throw new TenzroError('hpke.open', 'not sealed with this key');
  return plaintext;
}

export const handOverOf = (claimer: string, claimId: Uint8Array, transcript: Uint8Array): Buffer => term('hand-over', claimer, claimId, transcript);
export const ownerKeysOf = (claimer: string): readonly Buffer[] => [term('owner', claimer, '1'), term('owner', claimer, '2')];

/** What whoever has the offer and a secret can make. `by`: whose randomness. */
export function acceptance(by: string, { hello, offer, secret }: { readonly hello: Hello; readonly offer: Offer; readonly secret: Uint8Array }): ReturnType<ClaimerSuite['accept']> {
  const ciphertext = term('ciphertext', offer.ephemeral, by);
  const keys = keysOf(term('shared', ciphertext), secret, transcriptOf(hello, offer, ciphertext));
  return { accept: { kind: 'accept', offer: offerName(offer), ciphertext, challenge: undefined, confirmation: keys.claimerProof }, keys };
}

/** `fresh`: names the next key, as if it were random. */
export function idealDevice(fresh: () => string): DeviceSuite {
  return {
    offer(hello) {
      const ephemeral = term('ephemeral', fresh());
      const offer: Offer = { kind: 'offer', signingKey: DEVICE_KEY, request: undefined, ephemeral, signature: signedOffer(DEVICE_KEY, hello, ephemeral) };
      return { offer, digest: offerName(offer), ephemeral: { decapsulate: () => ephemeral } };
    },
    agree: ({ hello, offer }, accept, secret) => {
      const [, towards] = partsOf(accept.ciphertext);
      const shared = towards === offer.ephemeral ? term('shared', accept.ciphertext) : term('rejected', offer.ephemeral, accept.ciphertext);
      return keysOf(shared, secret, transcriptOf(hello, offer, accept.ciphertext));
    },
    secretDigest: (secret) => term('burnt', secret),
    sealEvidence: (keys, evidence) => sealed(keys.toClaimer, evidence),
    openHandOver(keys, box) {
      const bytes = opened(keys.toDevice, box);
      const [, claimer, claimId, transcript] = partsOf(bytes);
      if (typeof claimer !== 'string' || !(claimId instanceof Uint8Array) || transcript !== keys.transcript) throw new TenzroError('claim.hand_over', 'for another claim');
      return { bytes, handOver: { claimId, transcript: keys.transcript, networks: [], broker: '', fleetCa: bytes, ownerKeys: ownerKeysOf(claimer), time: 0, statement: undefined, receiptKey: bytes, certificates: [], login: undefined } };
    },
    signStanding: (standing) => ({ kind: 'standing', ...standing, signature: signedStanding(DEVICE_KEY, standing) }),
    orderDigest: ({ body }) => term('digest', body),
    openOrder({ body, signature }, ownerKeys) {
      const [verb, claimId, generation, to] = partsOf(body);
      if (!ownerKeys.some((key) => term('signed order', key, body) === signature) || !(claimId instanceof Uint8Array)) throw new TenzroError('claim.order', 'by no owner');
      return { verb: verb === 'rotate' ? 'rotate' : 'release', claimId, device: DEVICE_KEY, generation: Number(generation), ownerKeys: typeof to === 'string' ? ownerKeysOf(to) : undefined };
    },
  };
}

export function idealClaimer(name: string): ClaimerSuite {
  return {
    examine(hello, offer, keyDigest) {
      if (term('digest', offer.signingKey) !== keyDigest) throw new TenzroError('claim.identity', 'other keys');
      if (signedOffer(offer.signingKey, hello, offer.ephemeral) !== offer.signature) throw new TenzroError('claim.identity', 'not signed');
    },
    accept: (hello, offer, secret) => acceptance(name, { hello, offer, secret }),
    openEvidence: (keys, box) => opened(keys.toClaimer, box),
    sealHandOver: (keys, handOver) => sealed(keys.toDevice, handOver),
    isSigned: (standing, key) => signedStanding(key, standing) === standing.signature,
  };
}
