/**
 * What the TPM said along a whole chain: every quote and certification is by the genesis' attestation key and over its block, PCR 14 folds from block to
 * block, and the counters of the anchors follow one another without a gap. What does not is a fault (nobody honest makes it) or a finding (blocks may be
 * missing there). Pure.
 */
import type { KeyObject } from 'node:crypto';
import { equalBytes } from '#runtime/core/bytes.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { parseAttest, parseNvPublic, publicKeyOf, verifyAttestSignature } from '#runtime/crypto/tpmEvidence.ts';
import { anchorAfter, missingSince, readCounter, type CounterStatement } from './anchors.ts';
import { foldPcr, type AnchorMark, type BlockPayload } from './block.ts';
import type { Attestation, Evidence, TpmEvidence } from './evidence.ts';

export interface Gap {
  /** The anchor before, and the one that found the gap. */
  readonly after: number;
  readonly at: number;
  readonly missing: bigint;
}

const BLOCK_PCR = 14;
/** Blocks without evidence between two quotes leave open which of them PCR 14 holds; more are not tried. */
const CANDIDATES_MAX = 64;

export class AnchorWalk {
  #ak: KeyObject | undefined;
  #name: Uint8Array | undefined;
  #mark: AnchorMark | undefined;
  #anchors = 0;
  #resetCount: number | undefined;
  /** What PCR 14 may hold behind the last block. */
  #pcrs: readonly Uint8Array[] = [];
  readonly gaps: Gap[] = [];
  /** Blocks that found PCR 14 extended, within one boot of the TPM, by what is no block. */
  readonly moves: number[] = [];
  /** Last blocks of the TPM's boots but the newest. */
  readonly ends: Pick<BlockPayload, 'sequence' | 'treeSize'>[] = [];
  #last: BlockPayload | undefined;

  get mark(): AnchorMark | undefined { return this.#mark; }
  get anchors(): number { return this.#anchors; }
  get counterName(): Uint8Array | undefined { return this.#name; }
  get resetCount(): number | undefined { return this.#resetCount; }
  get pcrs(): readonly Uint8Array[] { return this.#pcrs; }

  /** Blocks come in order. Throws what the parsers throw. Returns what nobody honest makes. */
  note(block: BlockPayload, hash: Uint8Array, evidence: Evidence): readonly string[] {
    const faults: string[] = [];
    if (block.sequence === 0 && block.identity?.akPublic) this.#ak = publicKeyOf(block.identity.akPublic);
    if (!sameMark(block.anchor, this.#mark)) faults.push('it states another last anchor than the chain holds');
    if (evidence.kind === 'none') this.#pcrs = withFold(this.#pcrs, hash);
    else {
      faults.push(...this.#noteQuote(block, hash, evidence));
      if (evidence.counter) faults.push(...this.#noteCounter(block, hash, evidence.counter));
    }
    this.#mark = anchorAfter({ ...block, ...(this.#mark ? { anchor: this.#mark } : {}) }, evidence);
    this.#last = block;
    return faults;
  }

  #noteQuote(block: BlockPayload, hash: Uint8Array, { quote, pcrs }: TpmEvidence): string[] {
    const { attested, clockInfo: { resetCount } } = parseAttest(quote.attest);
    const value = pcrs.find(([index]) => index === BLOCK_PCR)?.[1];
    const faults = this.#isOurs(quote, hash) ? [] : ['its quote is not by the genesis\' attestation key over this block'];
    if (attested.kind !== 'quote' || !equalBytes(attested.pcrDigest, sha256(...pcrs.map(([, pcr]) => pcr)))) faults.push('the PCR values are not those that were quoted');
    const before = block.pcrStart ? [block.pcrStart] : this.#pcrs;
    if (!value || !before.some((pcr) => equalBytes(foldPcr(pcr, hash), value))) faults.push('PCR 14 as quoted is not what the blocks fold to');
    const { pcrStart } = block;
    if (!pcrStart && this.#resetCount !== undefined && resetCount !== this.#resetCount) faults.push('the TPM was reset before it, and it does not state where PCR 14 began anew');
    if (pcrStart && resetCount === this.#resetCount && !this.#pcrs.some((pcr) => equalBytes(pcr, pcrStart))) this.moves.push(block.sequence);
    if (this.#last && this.#resetCount !== undefined && resetCount !== this.#resetCount) this.ends.push(this.#last);
    this.#resetCount = resetCount;
    this.#pcrs = value ? [value] : [];
    return faults;
  }

  #noteCounter(block: BlockPayload, hash: Uint8Array, counter: CounterStatement): string[] {
    if (!this.#isOurs(counter, hash)) return ['its counter is not certified by the genesis\' attestation key over this block'];
    const { name, value } = readCounter(counter);
    this.#name ??= name;
    if (!equalBytes(name, this.#name) || !equalBytes(name, parseNvPublic(counter.nvPublic).name)) return ['its counter is another NV index than that of the first anchor'];
    const missing = missingSince(this.#mark, value);
    if (missing < 0n) return [`its counter says ${value}, and said ${this.#mark?.counter ?? ''} at block ${this.#mark?.sequence ?? ''}`];
    if (block.challenge) return [];
    this.#anchors += 1;
    if (this.#mark && missing > 0n) this.gaps.push({ after: this.#mark.sequence, at: block.sequence, missing });
    return [];
  }

  #isOurs({ attest, signature }: Attestation, hash: Uint8Array): boolean {
    return this.#ak !== undefined && verifyAttestSignature(this.#ak, attest, signature) && equalBytes(parseAttest(attest).extraData, hash);
  }
}

const sameMark = (a: AnchorMark | undefined, b: AnchorMark | undefined): boolean => a?.sequence === b?.sequence && a?.counter === b?.counter && a?.missing === b?.missing;

/** PCR 14 where this hash may or may not have been extended. */
export const withFold = (pcrs: readonly Uint8Array[], hash: Uint8Array): readonly Uint8Array[] => [...pcrs, ...pcrs.map((pcr) => foldPcr(pcr, hash))].slice(0, CANDIDATES_MAX);
