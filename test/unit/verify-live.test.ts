import assert from 'node:assert/strict';
import { ZERO_HASH } from '#runtime/ledger/block.ts';
import { decodeBundleBody, encodeBundle, openBundle, type Bundle } from '#runtime/ledger/bundle.ts';
import { buildHeadProof, buildProof } from '#runtime/ledger/proofBuilder.ts';
import { headSequence, verifyLive, type LiveReport } from '#runtime/verify/live.ts';
import { parsePolicy } from '#runtime/verify/policy.ts';
import { softChain, testReading, type MemoryChain, type SoftSealer } from '#test/support/memoryChain.ts';

const SOFTWARE = parsePolicy({ version: 1, accept: ['software'] });
const NONCE = Buffer.alloc(32, 1);
const open = (file: Uint8Array): Bundle => decodeBundleBody(openBundle(file).body);
const tailOf = ({ checks }: LiveReport): readonly [string, string] => {
  const tail = checks.find(({ code }) => code === 'tail');
  return [tail?.result ?? '', tail?.detail ?? ''];
};

/** Five blocks of one reading each, and a proof of the reading under block 2. */
function start(): { readonly chain: MemoryChain; readonly sealer: SoftSealer; readonly file: Uint8Array } {
  const { chain, sealer } = softChain(5, 1);
  return { chain, sealer, file: buildProof(chain, 2) };
}

/** Grows by a reading and a block over it. */
function grow({ chain, sealer }: ReturnType<typeof start>, change: Parameters<SoftSealer['seal']>[0] = {}): number {
  chain.append(testReading(chain.entries.length));
  return sealer.seal(change).sequence;
}

/** A soft chain says what its signature is worth, so the tail stays open; whether the chains are one is judged all the same. */
describe('verify against a live gateway', () => {
  it('finds the file\'s head in the chain, says what came since, and that a signature alone closes nothing', () => {
    const held = start();
    const head = grow(held, { challenge: NONCE, bootEpoch: 3 });
    assert.equal(headSequence(held.file), 2);
    const report = verifyLive(held.file, buildHeadProof(held.chain, head, 2), NONCE, SOFTWARE);
    assert.equal(report.outcome, 'verified', JSON.stringify(report.live.checks.filter(({ result }) => result === 'fail')));
    assert.deepEqual(report.since, { from: 2, to: 5, blocks: 3, entries: 3, starts: 2, resets: null, counter: { from: null, to: null }, shownBy: 'links' });
    const [result, detail] = tailOf(report);
    assert.equal(result, 'unknown');
    assert.match(detail, /block 2 of the file is in the gateway's chain, but .*no TPM says/);
    assert.equal(report.live.checks.find(({ code }) => code === 'quote.fresh')?.result, 'unknown');
  });

  it('refutes an answer to another challenge, and one to none', () => {
    for (const challenge of [Buffer.alloc(32, 2), undefined]) {
      const held = start();
      const head = grow(held, challenge ? { challenge } : {});
      const report = verifyLive(held.file, buildHeadProof(held.chain, head, 2), NONCE, SOFTWARE);
      assert.equal(report.outcome, 'refuted');
      assert.match(tailOf(report)[1], /quote\.fresh: block 5 does not answer our challenge/);
    }
  });

  it('refutes a chain that ends before the file\'s head, one that went on otherwise, and another one', () => {
    const held = start();
    const short = softChain(2, 1);
    const cut = grow({ ...short, file: held.file }, { challenge: NONCE });
    const late = buildProof(held.chain, 4);
    assert.match(tailOf(verifyLive(late, buildHeadProof(short.chain, cut, 4), NONCE, SOFTWARE))[1], /ends at block 2, before block 4 of the file: its tail was cut/);
    for (let block = 0; block < 3; block++) grow({ ...short, file: held.file }, { wallMicros: 1, challenge: NONCE });
    const forked = verifyLive(late, buildHeadProof(short.chain, 5, 4), NONCE, SOFTWARE);
    assert.deepEqual([forked.outcome, forked.since], ['refuted', null]);
    assert.match(tailOf(forked)[1], /block 4 is not that of the file/);
    const other = softChain(5, 1, Buffer.alloc(32, 9));
    const foreign = verifyLive(held.file, buildHeadProof(other.chain, grow({ ...other, file: held.file }, { challenge: NONCE }), 2), NONCE, SOFTWARE);
    assert.match(tailOf(foreign)[1], /another chain/);
  });

  it('takes a consistency proof where the blocks in between do not fit, and nothing less', () => {
    const held = start();
    grow(held, { pcrStart: ZERO_HASH });
    const head = grow(held, { challenge: NONCE });
    const near = open(buildHeadProof(held.chain, head));
    const answer = (path: readonly Uint8Array[], fromSize = 3): LiveReport => verifyLive(held.file, encodeBundle({ ...near, consistency: { fromSize, path } }), NONCE, SOFTWARE);
    const path = held.chain.consistency(3, held.chain.entries.length);
    assert.deepEqual([answer(path).outcome, answer(path).since?.shownBy], ['verified', 'consistency']);
    for (const wrong of [answer(path.slice(1)), answer([...path].toReversed()), answer(path, 2), answer([])]) {
      assert.equal(wrong.outcome, 'refuted');
      assert.match(tailOf(wrong)[1], /is not the beginning of the gateway's log/);
    }
    const silent = verifyLive(held.file, encodeBundle(near), NONCE, SOFTWARE);
    assert.deepEqual([silent.outcome, silent.since, tailOf(silent)[0]], ['verified', null, 'unknown']);
  });

  it('never throws on noise, and reads no sequence from it', () => {
    const held = start();
    const fresh = buildHeadProof(held.chain, grow(held, { challenge: NONCE }), 2);
    for (const noise of [Buffer.alloc(0), Buffer.from('noise'), Buffer.from(fresh.subarray(0, -1))]) {
      assert.equal(headSequence(noise), 0);
      assert.equal(verifyLive(noise, fresh, NONCE, SOFTWARE).outcome, 'refuted');
      assert.equal(verifyLive(held.file, noise, NONCE, SOFTWARE).outcome, 'refuted');
    }
  });
});
