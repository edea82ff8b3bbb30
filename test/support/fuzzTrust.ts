/** Fuzz targets of the trust between parties: certificates, enrolments, leases, the messages that carry them, and the sealed identity's file. */
import { strict as assert } from 'node:assert';
import { generateKeyPairSync } from 'node:crypto';
import { deflateRawSync } from 'node:zlib';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeDeviceEvidence, encodeDeviceEvidence, openHandOver, openOrder, signHandOver, signOrder } from '#provisioning/claim/handOver.ts';
import { decodeMessage, encodeMessage } from '#provisioning/claim/messages.ts';
import { encodeQuote, openQuote } from '#provisioning/claim/quote.ts';
import { encodeChallenge as encodeEnrolChallenge, decodeAnswer, decodeChallenge as decodeEnrolChallenge, decodeRequest, encodeAnswer, encodeRequest } from '#provisioning/enrolment/messages.ts';
import { decodeIdentityFile, encodeHeader, encodeIdentityFile } from '#provisioning/identity/sealedFile.ts';
import { encodeCbor } from '#runtime/crypto/cbor.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { selfSignedCertificate } from '#runtime/crypto/certificate.ts';
import { decodeCmw } from '#runtime/crypto/cmw.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { parseCertificate } from '#runtime/crypto/x509.ts';
import { signEnrolment, parseEnrolment } from '#runtime/ledger/enrolment.ts';
import { isSignedBy, parseLease, wrapLease } from '#runtime/ledger/lease.ts';
import { decodeAppraisalRequest, decodeChallenge, decodeChallengeRequest, decodeRefusal, encodeAppraisalRequest, encodeChallenge, encodeChallengeRequest, encodeRefusal } from '#runtime/ledger/leaseMessages.ts';
import { decodeAnswer as decodeShipmentAnswer, encodeAnswer as encodeShipmentAnswer, openReceipt, signReceipt } from '#runtime/ledger/receipt.ts';
import { decodeShipment, encodeLeaves, unpackShipment } from '#runtime/ledger/shipment.ts';
import type { FuzzTarget } from './fuzzTargets.ts';
import { signedLease, testVerifier } from './leases.ts';
import { softChain } from './memoryChain.ts';
import { AK, EK, QUOTE, QUOTE_SIGNATURE } from './tpmVectors.ts';

const HASH = sha256(AK);
const target = (samples: readonly Uint8Array[], run: FuzzTarget['run']): FuzzTarget => ({ samples: samples.map((sample) => Buffer.from(sample)), run });
const either = (...decoders: readonly ((bytes: Buffer) => unknown)[]) => (bytes: Buffer): void => {
  const errors: unknown[] = [];
  for (const decode of decoders) {
    try {
      decode(bytes);
      return;
    } catch (error) {
      errors.push(error);
    }
  }
  throw errors[0];
};

const tuple = { device: 'workshop', chainId: HASH, ek: sha256(EK), ak: HASH, signingKey: sha256(testVerifier.publicKey) };
const enrolment = signEnrolment(testVerifier, { enroller: 'test', issuedAt: 1_795_392_000, tuple, binding: { kind: 'certified', certificate: HASH, root: HASH } });
const lease = signedLease(softChain(1, 2).chain);

const receipt = signReceipt(testVerifier, { chainId: HASH, sequence: 3, blockHash: HASH, treeSize: 12, root: HASH, wallMicros: 1_795_392_000_000_000 });

/** A shipment before compression: two entries, one hash, one block. */
function shipment(): Buffer {
  const { chain } = softChain(1, 2);
  const { cose, evidence } = chain.block(0);
  const leaves = encodeLeaves([{ entry: chain.entry(0) }, { entry: chain.entry(1) }, { hash: HASH }]);
  return encodeCbor(new Map<number, Cbor>([[1, 1], [2, HASH], [3, 0], [4, leaves], [5, [[cose, evidence]]]]));
}

function certificate(): Buffer {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return selfSignedCertificate({ privateKey, commonName: 'gateway', hosts: ['127.0.0.1', 'gateway.local'], notBeforeMs: 1_795_392_000_000, notAfterMs: 1_895_392_000_000 });
}

/** The checksum is mended: what lies behind it must stand alone. */
function judgeIdentityFile(body: Buffer): void { decodeIdentityFile(Buffer.concat([body, sha256(body)])); }

/** It parses and is about something else: the sample is another claim's. */
function judgeQuote(bytes: Buffer): void {
  try {
    openQuote(bytes, AK, HASH);
  } catch (error) {
    if (!(error instanceof TenzroError && error.code === 'claim.evidence')) throw error;
  }
}

export const TRUST_TARGETS: readonly (readonly [string, () => FuzzTarget])[] = [
  ['x509', () => target([certificate(), certificate()], (bytes) => { parseCertificate(bytes); })],
  ['enrolment', () => target([enrolment], (bytes) => { if (parseEnrolment(bytes).isSigned()) assert.ok(bytes.equals(enrolment), 'a bent statement is signed'); })],
  ['enrolment.messages', () => {
    const request = encodeRequest({ device: 'workshop', chainId: HASH, ekPublic: EK, akPublic: AK, signingKey: testVerifier.publicKey, certificates: [certificate()] });
    const answer = encodeAnswer({ nonce: HASH, proof: HASH, signature: testVerifier.sign(HASH) });
    return target([request, encodeEnrolChallenge({ nonce: HASH, blob: HASH, secret: EK.subarray(0, 200) }), answer], either(decodeRequest, decodeEnrolChallenge, decodeAnswer));
  }],
  ['claim.messages', () => {
    const signature = testVerifier.sign(HASH);
    return target([
      encodeMessage({ kind: 'offer', signingKey: testVerifier.publicKey, request: EK, ephemeral: Buffer.alloc(1_216, 7), signature }),
      encodeMessage({ kind: 'accept', offer: HASH, ciphertext: Buffer.alloc(1_120, 7), challenge: EK.subarray(0, 200), confirmation: HASH }),
      encodeMessage({ kind: 'standing', claimId: HASH.subarray(0, 16), nonce: HASH, standing: 'none', reason: 'claim.apply', generation: 1, signature }),
    ], (bytes) => { assert.ok(encodeMessage(decodeMessage(bytes)).equals(bytes), 'one message has two encodings'); });
  }],
  ['claim.signed', () => {
    const ownerKeys = [testVerifier.publicKey, Buffer.alloc(1_952, 7)];
    const claimId = HASH.subarray(0, 16);
    const handOver = signHandOver({ claimId, transcript: HASH, networks: [{ ssid: HASH, passphrase: 'eight or more' }], broker: 'mqtts://fleet:8883', fleetCa: EK, ownerKeys, time: 1, statement: enrolment, receiptKey: HASH, certificates: [], login: undefined }, testVerifier);
    const order = signOrder({ verb: 'rotate', claimId, device: HASH, generation: 1, ownerKeys }, testVerifier);
    const quote = encodeQuote({ attest: QUOTE, signature: QUOTE_SIGNATURE, pcrs: [[0, HASH], [14, HASH]] });
    return target([handOver, order.body, quote, encodeDeviceEvidence({ answer: EK, quote })], either(
      openHandOver, (bytes) => { openOrder({ ...order, body: bytes }, ownerKeys); }, judgeQuote, decodeDeviceEvidence,
    ));
  }],
  ['lease', () => target([lease], (bytes) => { if (isSignedBy(parseLease(bytes), sha256(testVerifier.publicKey))) assert.ok(bytes.equals(lease), 'a bent lease is signed'); })],
  ['lease.messages', () => target(
    [wrapLease(lease), encodeChallengeRequest(HASH), encodeChallenge({ nonce: HASH, seen: 7 }), encodeAppraisalRequest({ nonce: HASH, bundle: EK }), encodeRefusal({ code: 'lease.refused', message: 'no', checks: [{ code: 'boot.pcrs', result: 'fail', detail: 'PCR 7' }] })],
    either(decodeCmw, decodeChallengeRequest, decodeChallenge, decodeAppraisalRequest, decodeRefusal),
  )],
  ['shipment', () => target([shipment()], (bytes) => { decodeShipment(bytes); })],
  ['shipment.packed', () => target([deflateRawSync(shipment())], async (bytes) => { await unpackShipment(bytes); })],
  ['receipt', () => target([receipt], (bytes) => { openReceipt(bytes, sha256(testVerifier.publicKey)); assert.ok(bytes.equals(receipt), 'a bent receipt is signed'); })],
  ['receipt.answer', () => target([encodeShipmentAnswer({ about: HASH.subarray(0, 16), next: 12, nextBlock: 4, receipt, refusal: { code: 'fleet.root', detail: 'no' } })], (bytes) => { decodeShipmentAnswer(bytes); })],
  ['identity.file', () => {
    const headerBytes = encodeHeader({ signingKeyDigest: HASH, exchangeKeyDigest: HASH, createdMicros: 1, reference: HASH.subarray(0, 16), protection: { kind: 'file', reason: 'no TPM' } });
    const file = encodeIdentityFile({ headerBytes, box: EK.subarray(0, 120), key: { kind: 'file', wrappingKey: HASH } });
    return target([file.subarray(0, file.length - HASH.length)], judgeIdentityFile);
  }],
];
