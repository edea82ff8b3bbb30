import assert from 'node:assert/strict';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { chainIdOf } from '#runtime/ledger/block.ts';
import { BUNDLE_MAGIC, decodeBundleBody, encodeBundle, openBundle, type Bundle } from '#runtime/ledger/bundle.ts';
import { buildProof } from '#runtime/ledger/proofBuilder.ts';
import { CHECKS, type CheckCode } from '#runtime/verify/checks.ts';
import { DEFAULT_POLICY, parsePolicy, type Policy } from '#runtime/verify/policy.ts';
import { renderReport, type Report } from '#runtime/verify/report.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { MemoryChain, softChain, SoftSealer, testReading } from '#test/support/memoryChain.ts';

const SOFTWARE: Policy = parsePolicy({ version: 1, accept: ['software'] });

const open = (file: Uint8Array): Bundle => decodeBundleBody(openBundle(file).body);
const failures = ({ checks }: Report): CheckCode[] => checks.filter(({ result }) => result === 'fail').map(({ code }) => code);
/** A file with the digest recomputed, as a forger would. */
const enclose = (body: Uint8Array): Buffer => encodeCbor([BUNDLE_MAGIC, sha256(body), body]);

function assertRefuted(file: Uint8Array, code: CheckCode, policy: Policy = SOFTWARE): void {
  const report = verifyBundle(file, policy);
  assert.equal(report.outcome, 'refuted', JSON.stringify(report.checks, null, 1));
  assert.ok(failures(report).includes(code), `${failures(report).join()} instead of ${code}`);
  assert.equal(report.trust.level, 'none');
}

describe('verify a chain without a TPM', () => {
  const { chain } = softChain(4, 3);
  const file = buildProof(chain, 7);

  it('accepts it under a policy that allows software, with every check told in order', () => {
    const report = verifyBundle(file, SOFTWARE);
    assert.equal(report.outcome, 'verified', JSON.stringify(report.checks, null, 1));
    assert.deepEqual(report.checks.map(({ code }) => code), [...CHECKS]);
    assert.equal(report.trust.level, 'software');
    assert.equal(report.subject.device, 'workshop');
    assert.deepEqual(report.subject.entries.map(({ index, kind, source }) => [index, kind, source]), [[7, 'reading', 'device/motor//']]);
    assert.deepEqual(report.subject.entries[0]?.body, { topic: 'te/device/motor///m/env', payload: '{"temperature":20.875}', values: [{ channel: 'temperature', value: 20.875, unit: 'Cel' }], flags: [] });
    assert.match(renderReport(report, { colour: false }).join('\n'), /^VERIFIED\ntrust {3}software: .*\n[^]*✓ entry\.inclusion[^]*\? tail/);
  });

  it('refuses software by default, and says how to allow it', () => {
    const report = verifyBundle(file, DEFAULT_POLICY);
    assert.equal(report.outcome, 'refuted');
    assert.deepEqual(failures(report), ['trust.policy']);
    assert.equal(report.trust.level, 'software');
    assert.match(report.checks.find(({ code }) => code === 'trust.policy')?.detail ?? '', /list 'software' under accept/);
  });

  it('refuses another device than the policy pins, and accepts the pinned one', () => {
    const own = Buffer.from(chainIdOf(chain.block(0).payload)).toString('hex');
    assert.equal(verifyBundle(file, { ...SOFTWARE, device: own }).outcome, 'verified');
    assert.deepEqual(failures(verifyBundle(file, { ...SOFTWARE, device: 'ab'.repeat(32) })), ['trust.policy']);
  });

  it('proves every entry, alone and in ranges, also under the genesis', () => {
    for (let index = 0; index < chain.entries.length; index++) assert.equal(verifyBundle(buildProof(chain, index), SOFTWARE).outcome, 'verified', `entry ${index}`);
    const report = verifyBundle(buildProof(chain, 2, 10), SOFTWARE);
    assert.equal(report.outcome, 'verified');
    assert.deepEqual(report.subject.entries.map(({ index }) => index), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert.equal(open(buildProof(chain, 0)).head, undefined, 'the genesis covers entry 0');
  });

  it('refutes every flipped byte of the file', () => {
    for (let at = 0; at < file.length; at++) {
      const flipped = Buffer.from(file);
      flipped.writeUInt8((flipped[at] ?? 0) ^ (1 << (at % 8)), at);
      assert.equal(verifyBundle(flipped, SOFTWARE).outcome, 'refuted', `byte ${at}`);
    }
  });

  it('never verifies a flipped byte of the body, also with the digest recomputed', function () {
    this.timeout(60_000);
    const { body } = openBundle(buildProof(softChain(1, 2).chain, 1));
    for (let at = 0; at < body.length; at++) {
      const flipped = Buffer.from(body);
      flipped.writeUInt8((flipped[at] ?? 0) ^ (1 << (at % 8)), at);
      assert.notEqual(verifyBundle(enclose(flipped), SOFTWARE).outcome, 'verified', `byte ${at}`);
    }
  });

  it('never verifies a sampled flip in a bundle of several blocks', function () {
    this.timeout(60_000);
    const { body } = openBundle(buildProof(chain, 7, 8));
    for (let at = 0; at < body.length; at += 13) {
      const flipped = Buffer.from(body);
      flipped.writeUInt8((flipped[at] ?? 0) ^ (1 << (at % 7)), at);
      assert.notEqual(verifyBundle(enclose(flipped), SOFTWARE).outcome, 'verified', `byte ${at}`);
    }
  });

  it('refutes truncation and growth at any length, and never throws on noise', () => {
    for (let length = 0; length < file.length; length += 97) assert.equal(verifyBundle(file.subarray(0, length), SOFTWARE).outcome, 'refuted');
    assert.equal(verifyBundle(Buffer.concat([file, Uint8Array.of(0)]), SOFTWARE).outcome, 'refuted');
    for (const noise of ['', '9b00ffffffffffffff', 'bf', '81'.repeat(5000), '836c74656e7a726f2d70726f6f664040']) assert.equal(verifyBundle(Buffer.from(noise, 'hex'), SOFTWARE).outcome, 'refuted');
  });
});

describe('verify refuses a rearranged bundle', () => {
  const { chain } = softChain(6, 3);
  const good = open(buildProof(chain, 13, 14));
  const forged = (change: Partial<Bundle>): Buffer => encodeBundle({ ...good, ...change });
  const [first, second] = good.entries;
  assert.ok(first && second && good.head && good.links.length === 3);
  const [a, b, c] = good.links;
  assert.ok(a && b && c);

  it('an entry swapped, moved, altered or of another chain', () => {
    assertRefuted(forged({ entries: [{ ...first, bytes: second.bytes }, { ...second, bytes: first.bytes }] }), 'entry.inclusion');
    assertRefuted(forged({ entries: [{ ...first, index: 12 }] }), 'entry.inclusion');
    assertRefuted(forged({ entries: [{ ...first, index: 14 }] }), 'entry.inclusion');
    assertRefuted(forged({ entries: [{ ...first, bytes: testReading(99) }] }), 'entry.inclusion');
    assertRefuted(forged({ entries: [second, first] }), 'bundle.format');
    assertRefuted(forged({ entries: [] }), 'bundle.format');
    assertRefuted(forged({ entries: [{ ...first, path: first.path.slice(1) }] }), 'entry.inclusion');
    assertRefuted(forged({ entries: [{ ...first, path: [...first.path, new Uint8Array(32)] }] }), 'entry.inclusion');
  });

  it('an entry that was dropped from the log', () => {
    const dropped = new MemoryChain();
    for (const bytes of chain.entries.toSpliced(5, 1)) dropped.append(bytes);
    assertRefuted(forged({ entries: [{ index: 12, bytes: first.bytes, path: dropped.inclusionPath(12, 15) }] }), 'entry.inclusion');
  });

  it('a block dropped, swapped, repeated or of another chain', () => {
    const foreign = softChain(6, 3, sha256(Buffer.from('another device'))).chain;
    assertRefuted(forged({ links: [a, c] }), 'chain.previous');
    assertRefuted(forged({ links: [b, a, c] }), 'chain.previous');
    assertRefuted(forged({ links: [a, b, b] }), 'chain.previous');
    assertRefuted(forged({ links: [] }), 'chain.previous');
    assertRefuted(forged({ links: [a, b, c, c] }), 'chain.previous');
    assertRefuted(forged({ links: [a, foreign.block(2).payload, c] }), 'chain.previous');
    assertRefuted(forged({ genesis: foreign.block(0) }), 'identity.genesis');
    assertRefuted(forged({ head: foreign.block(4) }), 'identity.genesis');
    assertRefuted(forged({ genesis: chain.block(1) }), 'identity.genesis');
    assertRefuted(forged({ start: chain.block(3) }), 'chain.previous');
  });

  it('a start block that does not continue the genesis', () => {
    const restarted = open(buildProof(chain, 13));
    const start = chain.block(2);
    assert.equal(verifyBundle(encodeBundle({ ...restarted, start, links: [chain.block(3).payload] }), SOFTWARE).outcome, 'verified');
    assertRefuted(encodeBundle({ ...restarted, start, links: [chain.block(3).payload, chain.block(4).payload] }), 'chain.previous');
  });

  it('evidence of another block, and evidence invented later', () => {
    const other = new SoftSealer(new MemoryChain()).seal({}, { evidence: { kind: 'none', reason: 'the TPM was cleared' } });
    assert.ok(good.head);
    assertRefuted(forged({ head: { ...good.head, evidence: other.evidence } }), 'signature.header');
    assertRefuted(forged({ genesis: { ...good.genesis, evidence: other.evidence } }), 'signature.header');
  });
});

describe('verify refuses what a wrong signer or sealer made', () => {
  const stranger = signerOfSeed(sha256(Buffer.from('stranger')));
  const sealed = (...bend: Parameters<SoftSealer['seal']>): Buffer => {
    const { chain, sealer } = softChain(1, 1);
    chain.append(testReading(1));
    sealer.seal(...bend);
    return buildProof(chain, 1);
  };

  it('a signature by another key, with and without its kid', () => {
    assertRefuted(sealed({}, { signer: stranger }), 'signature.mldsa');
    assertRefuted(sealed({}, { signer: stranger, keyId: sha256(stranger.publicKey) }), 'signature.header');
  });

  it('a header over other evidence', () => assertRefuted(sealed({}, { evidenceDigest: new Uint8Array(32) }), 'signature.header'));
  it('a second genesis identity', () => assertRefuted(sealed({ identity: { signingKey: stranger.publicKey } }), 'identity.genesis'));
  it('a log that shrinks', () => {
    const { chain, sealer } = softChain(2, 2);
    sealer.seal({ treeSize: 1, root: chain.rootAt(1) });
    const bundle = open(buildProof(chain, 0));
    assertRefuted(encodeBundle({ ...bundle, head: chain.block(2), links: [chain.block(1).payload], entries: [{ index: 0, bytes: chain.entry(0), path: [] }] }), 'chain.previous');
  });
  it('TPM evidence without an attestation key in the genesis', () => {
    const empty = new Uint8Array(0);
    assertRefuted(sealed({}, { evidence: { kind: 'tpm2', quote: { attest: empty, signature: empty }, pcrs: [] } }), 'ak.attributes');
  });
});

describe('verify judges only what it can read', () => {
  const { body } = openBundle(buildProof(softChain(2, 1).chain, 1));
  const changed = (key: number, value: Cbor): Buffer => enclose(encodeCbor(new Map([...(decodeCbor(body) as ReadonlyMap<number, Cbor>), [key, value]])));

  it('leaves a newer version with an intact digest undecided', () => {
    const report = verifyBundle(changed(1, 2), SOFTWARE);
    assert.equal(report.outcome, 'undecided');
    assert.match(report.checks[0]?.detail ?? '', /version 2.*at least as new/);
  });

  it('refutes unknown keys and a missing version', () => {
    assertRefuted(changed(9, 0), 'bundle.format');
    assertRefuted(changed(1, 'one'), 'bundle.format');
  });

  it('leaves a chain longer than the policy judges undecided', () => {
    const { chain } = softChain(5, 1);
    assert.equal(verifyBundle(buildProof(chain, 4), { ...SOFTWARE, maxLinks: 2 }).outcome, 'undecided');
    assert.equal(verifyBundle(buildProof(chain, 4), { ...SOFTWARE, maxLinks: 3 }).outcome, 'verified');
  });

  it('refuses a swarm of tiny items and a bundle beyond the bound before decoding them', () => {
    const swarm = Buffer.alloc(LIMITS.bundleItemsMax + 10);
    swarm.writeUInt8(0x9a, 0);
    swarm.writeUInt32BE(LIMITS.bundleItemsMax + 5, 1);
    assertRefuted(enclose(swarm), 'bundle.format');
    assertRefuted(Buffer.alloc(LIMITS.bundleBytesMax + 1), 'bundle.format');
    const heavy = Buffer.alloc(LIMITS.entryBytesMax, 0x01);
    const chain = new MemoryChain();
    for (let i = 0; i < 3; i++) chain.append(heavy);
    new SoftSealer(chain).seal();
    assert.throws(() => buildProof(chain, 0, 2), (error: unknown) => error instanceof TenzroError && error.code === 'bundle.too_large');
    const bundle = open(buildProof(chain, 0));
    const leaves = [0, 1, 2].map((index): Cbor => [index, heavy, chain.inclusionPath(index, 3)]);
    assertRefuted(enclose(encodeCbor(new Map<number, Cbor>([[1, 1], [2, leaves], [3, [bundle.genesis.cose, bundle.genesis.evidence]], [5, []]]))), 'bundle.format');
  });
});
