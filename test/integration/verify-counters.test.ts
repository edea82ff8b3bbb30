/** The counters of all anchors that a proof holds, as the sealer makes them on a real emulator, and what becomes of a proof that bends them. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { openAnchor } from '#drivers/tpm2/anchor.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { socketTransport } from '#drivers/tpm2/transport.ts';
import { Sealer } from '#runtime/attest/sealer.ts';
import { decodeBundleBody, encodeBundle, openBundle, type Bundle, type LinkAnchor } from '#runtime/ledger/bundle.ts';
import { buildHeadProof, buildProof } from '#runtime/ledger/proofBuilder.ts';
import type { CheckCode } from '#runtime/verify/checks.ts';
import { parsePolicy } from '#runtime/verify/policy.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { MemoryChain, testReading } from '#test/support/memoryChain.ts';
import { NEVER, sealerOptions } from '#test/support/sealHarness.ts';
import { temporaryTpm, type TemporaryTpm } from '#test/support/swtpm.ts';

const EMULATED = parsePolicy({ version: 1, accept: ['emulated'] });
const NONCE = Buffer.alloc(32, 5);

describe('verify the counters along a chain', function () {
  this.timeout(20_000);
  const chain = new MemoryChain();
  let emulator: TemporaryTpm;
  let bundle: Bundle;

  /** Blocks 0 to 7: anchors are 0, 2, 4 and 7; 5 answers a challenge, and certifies what 7 does. */
  before(async function () {
    emulator = await temporaryTpm(this);
    await using tpm = new Tpm(socketTransport(emulator.address));
    const sealer = new Sealer(sealerOptions(chain, randomBytes(32), { openAnchor: { kind: 'value', value: (signal) => openAnchor(tpm, signal) } }));
    for (const request of [{}, { counter: true }, {}, { counter: true }, { challenge: NONCE }, {}, { counter: true }]) {
      chain.append(testReading(chain.entries.length));
      await sealer.seal(request, NEVER);
    }
    bundle = decodeBundleBody(openBundle(buildProof(chain, 6)).body);
  });
  after(async () => { await emulator?.[Symbol.asyncDispose](); });

  const judge = (anchors: readonly LinkAnchor[], code: CheckCode): readonly [string, string, string] => {
    const { outcome, checks } = verifyBundle(encodeBundle({ ...bundle, anchors }), EMULATED);
    const check = checks.find((one) => one.code === code);
    return [outcome, check?.result ?? '', check?.detail ?? ''];
  };

  it('holds a certification of every anchor among the links, at a small part of what the links cost', () => {
    assert.deepEqual(bundle.anchors.map(({ sequence }) => sequence), [2, 4]);
    for (const { attest, signature } of bundle.anchors) assert.ok(attest.length + signature.length < 300);
    const [outcome, result, detail] = judge(bundle.anchors, 'counter.continuous');
    assert.deepEqual([outcome, result], ['verified', 'pass']);
    assert.match(detail, /^4 anchors from block 0 on, without a gap up to \d+ at block 7$/);
    assert.equal(judge(bundle.anchors, 'counter.increasing')[1], 'pass');
  });

  it('learns nothing where one is left out', () => {
    const [outcome, result, detail] = judge(bundle.anchors.slice(1), 'counter.continuous');
    assert.deepEqual([outcome, result], ['verified', 'unknown']);
    assert.match(detail, /block 2 is an anchor, and its certification is not in the bundle/);
  });

  it('refutes one that is forged, of another block, or of a block that is not there', () => {
    const [two, four] = bundle.anchors;
    assert.ok(two && four);
    const flipped = Buffer.from(two.signature);
    flipped.writeUInt8(flipped.readUInt8(20) ^ 1, 20);
    for (const [anchors, code] of [
      [[{ ...two, signature: flipped }, four], 'quote.signature'],
      [[{ ...four, sequence: 2 }, four], 'quote.extradata'],
      [[{ ...two, attest: two.attest.subarray(0, -1) }, four], 'quote.signature'],
      [[two, { ...four, sequence: 7 }], 'block.format'],
    ] as const) {
      const [outcome, result] = judge(anchors, code);
      assert.deepEqual([outcome, result], ['refuted', 'fail'], code);
    }
  });

  it('an answer to a challenge certifies the counter and does not spend it', () => {
    const report = verifyBundle(buildHeadProof(chain, 5), EMULATED, { nonce: NONCE });
    assert.equal(report.outcome, 'verified', JSON.stringify(report.checks.filter(({ result }) => result === 'fail')));
    const results = new Map(report.checks.map(({ code, result }) => [code, result]));
    for (const code of ['quote.fresh', 'tail', 'counter.continuous', 'counter.increasing'] as const) assert.equal(results.get(code), 'pass', code);
    assert.equal(verifyBundle(buildHeadProof(chain, 5), EMULATED, { nonce: randomBytes(32) }).outcome, 'refuted');
  });
});
