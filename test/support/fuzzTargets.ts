/** Every decoder that takes bytes from outside, with valid samples to bend. A target throws a typed error or takes the input; nothing else. */
import { strict as assert } from 'node:assert';
import { createSecretKey } from 'node:crypto';
import { encodeBase38 } from '#provisioning/claim/base38.ts';
import { claimKeyDigest, decodeClaimCode, encodeClaimCode, newClaimCode } from '#provisioning/claim/code.ts';
import { sizeOfImage } from '#provisioning/claim/imageSize.ts';
import { modulesOf, pngOf } from '#provisioning/claim/qr.ts';
import { KIND, READING_BODY, type Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { CborWriter } from '#runtime/crypto/cborWriter.ts';
import { parseSign1, verifySign1 } from '#runtime/crypto/cose.ts';
import { parseEventLog, replayEventLog } from '#runtime/crypto/eventLog.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { findImaPrefix, parseImaLog, subjectOf } from '#runtime/crypto/imaLog.ts';
import { parseAttest, parseNvPublic, parsePublic, publicKeyOf, verifyAttestSignature } from '#runtime/crypto/tpmEvidence.ts';
import { groupOfSession } from '#runtime/crypto/tls.ts';
import { exchangeKeyOfSeed } from '#runtime/crypto/xwing.ts';
import { decodeBlock, encodeBlock } from '#runtime/ledger/block.ts';
import { decodeBlockHeader } from '#runtime/ledger/blockHeader.ts';
import { BUNDLE_MAGIC, decodeBundleBody, openBundle } from '#runtime/ledger/bundle.ts';
import { contentKeyOf, contextOf, isSealed, keyEpochBody, keyEpochOf, openBody, sealBody } from '#runtime/ledger/confidential.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import { decodeEvidence, encodeEvidence } from '#runtime/ledger/evidence.ts';
import { decodeMeasurement, encodeMeasurement } from '#runtime/ledger/measurement.ts';
import { buildProof } from '#runtime/ledger/proofBuilder.ts';
import { DEFAULT_POLICY, TRUST_LEVELS } from '#runtime/verify/policy.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { softChain } from './memoryChain.ts';
import { FLEET_TARGETS } from './fuzzFleet.ts';
import { TRUST_TARGETS } from './fuzzTrust.ts';
import { EVERY_EVENT, SOME_FILES, writeEventLog, writeImaList, writeOldEventLog } from './measuredLogs.ts';
import { AK, CERTIFY, NV, QUOTE, QUOTE_SIGNATURE } from './tpmVectors.ts';

export interface FuzzTarget {
  /** Each is taken by `run`. */
  readonly samples: readonly Buffer[];
  readonly run: (bytes: Buffer) => void | Promise<void>;
}

const ANYTHING = { ...DEFAULT_POLICY, accept: TRUST_LEVELS };
const decoder = (samples: readonly Uint8Array[], decode: (bytes: Buffer) => unknown): FuzzTarget =>
  ({ samples: samples.map((sample) => Buffer.from(sample)), run: (bytes) => { decode(bytes); } });

const chain = softChain(3, 4).chain;
const proofs = [buildProof(chain, 2), buildProof(chain, 9, 11)];
const bodies = proofs.map((proof) => Buffer.from(openBundle(proof).body));
const [firstBlock] = chain.blocks;
if (!firstBlock) throw new Error('a chain has blocks');
const evidence = encodeEvidence({ kind: 'tpm2', quote: { attest: QUOTE, signature: QUOTE_SIGNATURE }, pcrs: [[0, sha256(QUOTE)], [14, sha256(AK)]], counter: { attest: CERTIFY, signature: QUOTE_SIGNATURE, nvPublic: NV } });
const wordyBlock = encodeBlock({
  ...decodeBlock(firstBlock.payload), lease: { kind: 'none', reason: 'lapsed' }, challenge: sha256(AK), support: { enrolment: 1, lease: 2, bootLog: 3, imaLog: [4, 5], software: 6 },
});

/** The signed bytes with a header or payload that was bent, signature and all: the verifier must not be fooled by what still parses. */
function judgeBody(body: Buffer): void {
  const report = verifyBundle(encodeCbor([BUNDLE_MAGIC, sha256(body), body]), ANYTHING);
  if (report.outcome === 'verified') assert.ok(bodies.some((sound) => sound.equals(body)), 'a bent bundle verifies');
}

/** What is called sound must be a log by itself, and each event must have cost its bytes. */
function judgeEventLog(bytes: Buffer): void {
  const log = parseEventLog(bytes);
  replayEventLog(log);
  assert.ok(log.soundBytes <= bytes.length && log.events.length <= log.soundBytes / 16);
  const sound = parseEventLog(bytes.subarray(0, log.soundBytes));
  if (log.events.length > 0) assert.ok(sound.fault === undefined && sound.events.length <= log.events.length); // fewer: zeros at the end are padding
  if (log.fault) throw log.fault;
}

function judgeImaLog(bytes: Buffer): void {
  const { events, soundBytes, fault } = parseImaLog(bytes);
  for (const event of events) subjectOf(event);
  assert.equal(findImaPrefix(events, sha256(bytes)), undefined);
  assert.ok(soundBytes <= bytes.length && events.length <= soundBytes / 32);
  const sound = parseImaLog(bytes.subarray(0, soundBytes));
  assert.deepEqual([sound.fault, sound.events.length], [undefined, events.length]);
  if (fault) throw fault;
}

const contentKey = createSecretKey(sha256(AK));
const context = contextOf(1_000_000, sha256(NV).subarray(0, 8));
const recipient = exchangeKeyOfSeed(sha256(QUOTE));
const place = { kind: KIND.reading, source: 'device/a//', context, sequence: 3 };
const sealed = encodeCbor(sealBody(new Map<number, Cbor>([[READING_BODY.topic, 't'], [READING_BODY.payload, NV], [READING_BODY.flags, 1], [READING_BODY.packetId, 9]]), place, contentKey, new CborWriter(64)));
const keyEpoch = encodeCbor(keyEpochBody(context, contentKey.export(), [{ name: 'owner', publicKey: recipient.publicKey }]));

/** What was bent must not open; the key of a bent key entry must not be the real one. */
function judgeConfidential(bytes: Buffer): void {
  const body = decodeCbor(bytes);
  if (!isSealed(body)) assert.ok(contentKeyOf(keyEpochOf(body), recipient).equals(contentKey.export()), 'another key came out');
  else {
    openBody({ ...place, body }, contentKey.export());
    assert.ok(bytes.equals(sealed), 'a bent entry opens');
  }
}

const measurements = [
  encodeMeasurement({ what: 'tcg', log: writeEventLog([]), digest: sha256(AK) }), encodeMeasurement({ what: 'ima', log: writeImaList(SOME_FILES), offset: 7, digest: sha256(AK) }),
  encodeMeasurement({ what: 'ima', reason: 'no IMA' }), encodeMeasurement({ what: 'software', digest: sha256(AK), components: [['configuration', sha256(NV)]] }),
].map(encodeCbor);

const claimCode = Buffer.from(encodeClaimCode(newClaimCode(claimKeyDigest({ signingKey: sha256(AK) }), ['lan'])));
const claimBody = encodeCbor([1, 2, sha256(AK).subarray(0, 24), sha256(NV).subarray(0, 16), 77]);

/** A bent body with the checksum that belongs to it. */
function judgeClaimBody(body: Buffer): void {
  const { keyDigest, secret, discriminator } = decodeClaimCode(`TZ1:${encodeBase38(Buffer.concat([body, sha256(body).subarray(0, 2)]))}`);
  assert.ok(keyDigest.length === 24 && secret.length === 16 && discriminator <= 4095);
}

/** Built at first use: most runs ask for one. */
export const FUZZ_TARGETS: ReadonlyMap<string, () => FuzzTarget | Promise<FuzzTarget>> = new Map<string, () => FuzzTarget | Promise<FuzzTarget>>([
  ['cbor', () => decoder([...chain.entries.slice(0, 3), ...proofs, evidence], decodeCbor)],
  ['cose', () => decoder(chain.blocks.map(({ cose }) => cose), (bytes) => { const message = parseSign1(bytes); decodeBlockHeader(message.header); })],
  ['cose.signature', () => decoder(chain.blocks.map(({ cose }) => cose), (bytes) => {
    const message = parseSign1(bytes);
    const key = decodeBlock(firstBlock.payload).identity?.signingKey ?? bytes;
    if (verifySign1(message, key)) assert.ok(chain.blocks.some(({ cose }) => Buffer.from(cose).equals(bytes)), 'a bent message verifies');
  })],
  ['block', () => decoder([...chain.blocks.map(({ payload }) => payload), wordyBlock], decodeBlock)],
  ['evidence', () => decoder([evidence, encodeEvidence({ kind: 'none', reason: 'no TPM' })], decodeEvidence)],
  ['entry', () => decoder(chain.entries, decodeEntry)],
  ['bundle', () => decoder(proofs, (bytes) => { if (verifyBundle(bytes, ANYTHING).outcome === 'verified') assert.ok(proofs.some((proof) => proof.equals(bytes)), 'a bent file verifies'); })],
  ['bundle.body', () => decoder(bodies, decodeBundleBody)],
  ['bundle.mended', () => decoder(bodies, judgeBody)],
  ['eventlog', () => decoder([writeEventLog(EVERY_EVENT), writeEventLog(EVERY_EVENT, ['sha1', 'sha256', 'sha384'], AK), writeOldEventLog(EVERY_EVENT)], judgeEventLog)],
  ['imalog', () => decoder([writeImaList(SOME_FILES), writeImaList(SOME_FILES, 'ima'), writeImaList(SOME_FILES, 'ima-sig'), writeImaList(SOME_FILES, 'ima-buf')], judgeImaLog)],
  ['measurement', () => decoder(measurements, (bytes) => decodeMeasurement(decodeCbor(bytes)))],
  ['confidential', () => decoder([sealed, keyEpoch], judgeConfidential)],
  ['claim.code', () => decoder([claimCode], (bytes) => { decodeClaimCode(bytes.toString('utf8')); })],
  ['claim.body', () => decoder([claimBody], judgeClaimBody)],
  ['image.size', () => decoder([pngOf(modulesOf(claimCode.toString()), 2), Buffer.from('ffd8ffe000104a46494600010100000100010000ffc0000b080123045601011100', 'hex')], sizeOfImage)],
  ...TRUST_TARGETS,
  ...FLEET_TARGETS,
  ['tls.session', () => decoder([Buffer.from('300fa106020401020304b305020300001d', 'hex')], (bytes) => { const group = groupOfSession(bytes); assert.ok(group === undefined || group <= 0xffff_ffff); })],
  ['tpm.attest', () => decoder([QUOTE, CERTIFY], parseAttest)],
  ['tpm.public', () => decoder([AK], (bytes) => { parsePublic(bytes); publicKeyOf(bytes); })],
  ['tpm.nvPublic', () => decoder([NV], parseNvPublic)],
  ['tpm.signature', () => {
    const key = publicKeyOf(AK);
    return decoder([QUOTE_SIGNATURE], (bytes) => { if (verifyAttestSignature(key, QUOTE, bytes)) assert.ok(bytes.equals(QUOTE_SIGNATURE), 'a bent signature verifies'); });
  }],
]);
