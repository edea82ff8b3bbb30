import assert from 'node:assert/strict';
import { LIMITS } from '#runtime/core/limits.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { decodeBlock, encodeBlock, foldPcr, ZERO_HASH } from '#runtime/ledger/block.ts';
import { decodeBundleBody, encodeBundle, openBundle, type Bundle } from '#runtime/ledger/bundle.ts';
import { buildProof, type ProofSource } from '#runtime/ledger/proofBuilder.ts';
import { MemoryChain, softChain, SoftSealer, testReading } from '#test/support/memoryChain.ts';

const open = (file: Uint8Array): Bundle => decodeBundleBody(openBundle(file).body);
const sequencesOf = ({ links }: Bundle): number[] => links.map((payload) => decodeBlock(payload).sequence);
const code = (expected: string) => (error: unknown): boolean => error instanceof TenzroError && error.code === expected;

describe('building a proof', () => {
  const { chain, sealer } = softChain(3, 4);

  it('takes the first block that covers the entries, and every block from the genesis on', () => {
    for (const [first, last, head] of [[0, 3, 0], [0, 4, 1], [7, 7, 1], [8, 8, 2], [0, 11, 2]] as const) {
      const bundle = open(buildProof(chain, first, last));
      assert.deepEqual(Buffer.from((bundle.head ?? bundle.genesis).cose), Buffer.from(chain.block(head).cose), `${first} to ${last}`);
      assert.deepEqual(sequencesOf(bundle), head === 2 ? [1] : []);
      assert.equal(bundle.start, undefined);
    }
  });

  it('writes the same bytes again from what it reads', () => {
    const file = buildProof(chain, 2, 9);
    assert.ok(encodeBundle(open(file)).equals(file));
  });

  it('begins at the block that states PCR 14\'s start value', () => {
    const { chain: booted, sealer: boots } = softChain(2, 1);
    for (const pcrStart of [undefined, ZERO_HASH, undefined, undefined]) {
      booted.append(testReading(booted.entries.length));
      boots.seal(pcrStart ? { pcrStart } : {});
    }
    assert.equal(open(buildProof(booted, 2)).start, undefined);
    assert.deepEqual(sequencesOf(open(buildProof(booted, 2))), [1]);
    assert.deepEqual([open(buildProof(booted, 3)).start, sequencesOf(open(buildProof(booted, 3)))], [undefined, []]);
    const late = open(buildProof(booted, 5));
    assert.deepEqual(Buffer.from(late.start?.cose ?? []), Buffer.from(booted.block(3).cose));
    assert.deepEqual(sequencesOf(late), [4]);
  });

  it('begins within reach where the boot is further away, at a block with a quote of its own', () => {
    const far = new FarChain();
    const bundle = open(buildProof(far, 0));
    assert.ok(bundle.links.length <= LIMITS.proofLinksMax);
    assert.equal(sequencesOf(bundle)[0], FarChain.quoted + 1);
    assert.equal(sequencesOf(bundle).at(-1), FarChain.count - 2);
  });

  it('says why it cannot', () => {
    chain.append(testReading(12));
    assert.throws(() => buildProof(chain, 12), code('ledger.not_attested'));
    assert.throws(() => buildProof(chain, -1), code('ledger.no_entry'));
    assert.throws(() => buildProof(chain, 5, 4), code('ledger.no_entry'));
    assert.throws(() => buildProof(new MemoryChain(), 0), code('ledger.no_chain'));
    assert.ok(sealer.seal().sequence === 3 && buildProof(chain, 12).length > 0);
  });
});

/** More blocks after a boot than a bundle holds; only the last covers an entry. Two signed blocks stand in for all: the builder reads payloads. */
class FarChain implements ProofSource {
  static readonly count = LIMITS.proofLinksMax + 100;
  static readonly quoted = 120;
  readonly #chain = new MemoryChain();
  readonly #blocks: ReturnType<MemoryChain['block']>[];

  constructor() {
    const sealer = new SoftSealer(this.#chain);
    const silent = sealer.seal({ pcrStart: foldPcr(ZERO_HASH, ZERO_HASH) });
    const quoted = sealer.seal({}, { evidence: { kind: 'tpm2', quote: { attest: ZERO_HASH, signature: ZERO_HASH }, pcrs: [] } });
    this.#chain.append(testReading(0));
    const last = sealer.seal({ sequence: FarChain.count - 1 });
    this.#blocks = [silent, quoted, last];
  }

  entry(index: number): Uint8Array { return this.#chain.entry(index); }
  inclusionPath(index: number, treeSize: number): readonly Uint8Array[] { return this.#chain.inclusionPath(index, treeSize); }
  consistency(from: number, to: number): readonly Uint8Array[] { return this.#chain.consistency(from, to); }
  oldest(): number { return 0; }
  blockCount(): number { return FarChain.count; }
  block(sequence: number): ReturnType<MemoryChain['block']> {
    const [silent, quoted, last] = this.#blocks;
    assert.ok(silent && quoted && last);
    if (sequence === FarChain.count - 1) return last;
    if (sequence === 0) return silent;
    const { evidence } = sequence === FarChain.quoted ? quoted : silent;
    return { ...quoted, evidence, payload: encodeBlock({ ...decodeBlock(quoted.payload), sequence }) };
  }
}
