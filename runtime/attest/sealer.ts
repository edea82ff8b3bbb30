/**
 * The block procedure. Order, each step restartable after a kill:
 *   1 pending  the payload is written as pending and flushed
 *   2 extend   TPM2_PCR_Extend(14, h), h = SHA-256("tenzro/block/1" ‖ payload)
 *   3 quote    TPM2_Quote with extraData = h over the boot PCRs, 10 and 14
 *   4 counter  at a boot's first block, at orderly shutdown and every `anchorIntervalMs`, and over every challenge: NV counter certified over h;
 *              unless the block is over a challenge, the evidence is written beside the pending payload and flushed, and then the counter incremented
 *   5 commit   payload and evidence digest signed and stored, flushed, pending dropped: one transaction
 * Certified first and incremented after: a value that a block names can never be certified for another, and a kill at any point loses no increment.
 * After a kill, a pending block goes on where the TPM bears it out (resume.ts); otherwise the next payload takes its place, which states the value of
 * PCR 14 that it found (`pcrStart`) where that is not what the last block left.
 *
 * Nothing is remembered between blocks but the store: every block begins by looking there, so an error at any step is as good as a kill.
 * A TPM that is absent, fails or is not that of the genesis never holds up a block: the evidence then says why there is none.
 * MUST NOT run twice at once; `Attester` sees to it.
 */
import { equalBytes } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { BlockStore, Counters, LastBlock, Log } from '#runtime/core/ports.ts';
import type { Maybe, TreeHead } from '#runtime/core/types.ts';
import { sign1 } from '#runtime/crypto/cose.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { parseAttest } from '#runtime/crypto/tpmEvidence.ts';
import { anchorAfter, missingSince } from '#runtime/ledger/anchors.ts';
import { blockHash, chainIdOf, decodeBlock, encodeBlock, foldPcr, ZERO_HASH, type AnchorMark, type BlockPayload, type Identity, type Support } from '#runtime/ledger/block.ts';
import { encodeBlockHeader, keyIdOf } from '#runtime/ledger/blockHeader.ts';
import { decodeEvidence, encodeEvidence, type TpmEvidence } from '#runtime/ledger/evidence.ts';
import { encodePending } from '#runtime/ledger/pending.ts';
import { AnchorLink, type OpenAnchor } from './anchorLink.ts';
import { BlockCounter } from './blockCounter.ts';
import { extendedFrom, readResumable } from './resume.ts';

export type SealStep = 'pending' | 'extend' | 'quote' | 'counter' | 'evidence' | 'increment' | 'commit';

export interface BlockInfo {
  readonly sequence: number;
  readonly hash: Uint8Array;
  readonly chainId: Uint8Array;
  readonly treeSize: number;
  readonly root: Uint8Array;
  readonly wallMicros: number;
  /** Begun before a kill or an error, ended now. */
  readonly resumed: boolean;
  /** `value`: whether an NV counter stands in it; `none`: why there is no TPM evidence. */
  readonly evidence: Maybe<{ readonly counter: boolean }>;
  /** The chain's last anchor, this block included; absent while there is none. */
  readonly anchor?: AnchorMark;
  /** Found at this block, and by no kill of ours: blocks were cut from the chain, an older disk image was restored, or somebody else uses the TPM. */
  readonly findings: readonly SealFinding[];
  /** Why there is no counter in a block that should have one. */
  readonly counterFault?: string;
}

export type SealFinding =
  /** So many increments of the counter since `since`, the anchor before, are in no block. */
  | { readonly kind: 'increments'; readonly count: bigint; readonly since: AnchorMark }
  /** Within one boot of the TPM, PCR 14 was extended after block `after` by something that is no block of this chain. */
  | { readonly kind: 'extensions'; readonly after: number };

/** The gateway's own keys, in use. */
export interface IdentityKeys {
  readonly signer: Signer;
  /** X-Wing public key, 1216 bytes: goes into the genesis. */
  readonly exchangeKey: Uint8Array;
}

/** What a block says beside the head of the log. */
export interface BlockContext {
  /** SHA-256 of the lease statement in force, or why there is none; undefined where no verifier is configured. */
  readonly lease?: Maybe<Uint8Array>;
  /** SHA-256 of the controller's newest receipt; undefined while there is none. */
  readonly receipt?: Uint8Array | undefined;
  readonly support: Support;
}

export interface SealRequest {
  /** As an anchor in any case: the NV counter is certified and incremented. */
  readonly counter?: boolean;
  /** A verifier's nonce, 16 to 64 bytes: the NV counter is certified and, so that challenges do not wear it, not incremented. */
  readonly challenge?: Uint8Array;
}

export interface SealerOptions {
  readonly store: BlockStore;
  /** Asked before each block until it resolves once. Rejects with `identity.*` while the keys are locked: entries are recorded, blocks wait. */
  readonly openIdentity: () => Promise<IdentityKeys>;
  readonly context: () => BlockContext;
  /** Gateway id. */
  readonly device: string;
  readonly openAnchor: Maybe<OpenAnchor>;
  readonly softwareDigest: Uint8Array;
  readonly bootEpoch: number;
  /** SHA-256 of the model files in use. */
  readonly modelDigests: () => readonly Uint8Array[];
  readonly anchorIntervalMs: number;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
  readonly onBlock: (info: BlockInfo) => void;
  /** Told before and after each step. */
  readonly onStep?: (step: SealStep, edge: 'before' | 'after') => void;
}

/** RFC 6962 §2.1: the root of an empty tree. */
const EMPTY_HEAD: TreeHead = { size: 0, root: sha256(new Uint8Array(0)) };
const BLOCK_PCR = 14;
const FOREIGN_EXTENSIONS_MAX = 3;

interface Attested {
  readonly evidence: TpmEvidence;
  readonly counterFault?: string;
}

/** What a new block is about. */
interface Subject {
  readonly head: TreeHead;
  /** An anchor in any case. */
  readonly counter: boolean;
  readonly challenge?: Uint8Array;
}

/** A payload on its way through the steps. */
interface Work {
  readonly payload: Uint8Array;
  readonly block: BlockPayload;
  readonly last: LastBlock | undefined;
  readonly resumed: boolean;
  readonly counter: boolean;
}

/** Where sealing of a payload stands: what PCR 14 was before its extension, and whether that is done. */
interface Stand {
  readonly pcrBefore: Uint8Array;
  readonly extended: boolean;
}

export class Sealer {
  readonly #options: SealerOptions;
  readonly #link: AnchorLink;
  readonly #counter: BlockCounter;
  #keys: IdentityKeys | undefined;
  #chainId: Uint8Array | undefined;
  #akPublic: Uint8Array | undefined;

  constructor(options: SealerOptions) {
    this.#options = options;
    this.#link = new AnchorLink(options);
    this.#counter = new BlockCounter(options);
  }

  /**
   * Ends what was begun, makes the genesis where there is none, and seals the head of the log.
   * Rejects with `ledger.*` (try again: nothing is lost), `identity.*` (the keys are locked) and `attest.foreign_key`. When `signal` aborts, the TPM is not waited for.
   */
  async seal({ counter = false, challenge }: SealRequest, signal: AbortSignal): Promise<BlockInfo> {
    const { store, openIdentity } = this.#options;
    this.#keys ??= await openIdentity();
    await this.#openChain(this.#keys);
    const pending = await store.readPending();
    if (pending) await this.#resume(this.#keys, pending, counter, signal);
    if (!(await store.lastBlock())) await this.#sealNew(this.#keys, { head: EMPTY_HEAD, counter }, signal);
    if (challenge && this.#counter.isDue) await this.#sealNew(this.#keys, { head: await store.head(), counter: true }, signal);
    return this.#sealNew(this.#keys, { head: await store.head(), counter, ...(challenge ? { challenge } : {}) }, signal);
  }

  async #openChain({ signer }: IdentityKeys): Promise<void> {
    if (this.#chainId) return;
    const genesis = await this.#options.store.genesis();
    if (!genesis) return;
    const { identity } = decodeBlock(genesis);
    if (!identity || !equalBytes(identity.signingKey, signer.publicKey)) throw new TenzroError('attest.foreign_key', 'the genesis names another signing key than this gateway has');
    this.#link.pin(identity.akPublic);
    this.#akPublic = identity.akPublic;
    this.#chainId = chainIdOf(genesis);
  }

  async #resume(keys: IdentityKeys, record: Uint8Array, counter: boolean, signal: AbortSignal): Promise<void> {
    const last = await this.#options.store.lastBlock();
    const pending = readResumable(record, { last, signingKey: keys.signer.publicKey, akPublic: this.#akPublic });
    if (!pending) return;
    const work: Work = { ...pending, last, resumed: true, counter };
    if (pending.evidence) {
      await this.#commit(keys, work, { kind: 'value', value: { evidence: pending.evidence } });
      return;
    }
    const pcr = await this.#link.use((anchor) => anchor.pcr14(signal), signal);
    const before = pcr.kind === 'value' ? extendedFrom(pending, last, pcr.value) : undefined;
    if (!before) return; // the next payload takes its place
    const attested = await this.#attest(work, { kind: 'value', value: { pcrBefore: before, extended: true } }, signal);
    if (attested !== 'moved') await this.#commit(keys, work, attested);
  }

  async #sealNew(keys: IdentityKeys, subject: Subject, signal: AbortSignal): Promise<BlockInfo> {
    for (let tries = 1; ; tries += 1) {
      const last = await this.#options.store.lastBlock();
      const identity = last ? undefined : await this.#identity(keys, signal);
      const pcr = await this.#link.use((anchor) => anchor.pcr14(signal), signal);
      const start = pcr.kind === 'value' && !(last?.pcrAfter && equalBytes(last.pcrAfter, pcr.value)) ? pcr.value : undefined;
      const block = this.#describe(subject, last, start, identity);
      const work: Work = { payload: encodeBlock(block), block, last, resumed: false, counter: subject.counter || start !== undefined };
      await this.#step('pending', () => this.#options.store.writePending(encodePending(work.payload)));
      const stand = pcr.kind === 'none' ? pcr : { kind: 'value' as const, value: { pcrBefore: pcr.value, extended: false } };
      const attested = await this.#attest(work, stand, signal);
      if (attested !== 'moved') return this.#commit(keys, work, attested);
      if (tries === FOREIGN_EXTENSIONS_MAX) return this.#commit(keys, work, { kind: 'none', reason: this.#link.fail(new TenzroError('tpm.busy', 'another program extends PCR 14 all the time')) });
    }
  }

  /** A chain that begins without its TPM stays without: see `attest.foreign_tpm`. */
  async #identity({ signer, exchangeKey }: IdentityKeys, signal: AbortSignal): Promise<Identity> {
    const tpm = await this.#link.use(async (anchor) => ({ akPublic: anchor.akPublic, ...(await anchor.endorsement(signal)) }), signal);
    return { signingKey: signer.publicKey, exchangeKey, ...(tpm.kind === 'value' ? tpm.value : {}) };
  }

  #describe({ head, challenge }: Subject, last: LastBlock | undefined, pcrStart: Uint8Array | undefined, identity: Identity | undefined): BlockPayload {
    const { clock, softwareDigest, bootEpoch, modelDigests, context } = this.#options;
    const { lease, receipt, support } = context();
    const anchor = last && anchorAfter(decodeBlock(last.payload), decodeEvidence(last.evidence));
    return {
      sequence: last ? last.sequence + 1 : 0, previous: last ? blockHash(last.payload) : ZERO_HASH, wallMicros: Math.max(0, clock.wallMicros()),
      treeSize: head.size, root: head.root, softwareDigest, bootEpoch, modelDigests: modelDigests(),
      ...(this.#chainId ? { chainId: this.#chainId } : {}), ...(pcrStart ? { pcrStart } : {}), ...(identity ? { identity } : {}),
      ...(lease ? { lease } : {}), ...(receipt ? { receipt } : {}), ...(challenge ? { challenge } : {}), ...(Object.keys(support).length > 0 ? { support } : {}), ...(anchor ? { anchor } : {}),
    };
  }

  /** Steps 2 to 4. `moved`: PCR 14 is not what our extension makes of it, so that the payload must be built anew. */
  async #attest(work: Work, stand: Maybe<Stand>, signal: AbortSignal): Promise<Maybe<Attested> | 'moved'> {
    if (stand.kind === 'none') return stand;
    const { pcrBefore, extended } = stand.value;
    const hash = blockHash(work.payload);
    const pcrAfter = foldPcr(pcrBefore, hash);
    const isAnchor = !work.block.challenge && (work.counter || this.#counter.isDue);
    if (work.block.challenge && work.block.pcrStart) this.#counter.postpone();
    const made = await this.#link.use(async (anchor) => {
      if (!extended) await this.#step('extend', () => anchor.extend(hash, signal));
      const { attest, signature, pcrs } = await this.#step('quote', () => anchor.quote(hash, signal));
      if (!pcrs.some(([index, value]) => index === BLOCK_PCR && equalBytes(value, pcrAfter)) || isReplayed(attest, work)) return 'moved' as const;
      const evidence: TpmEvidence = { kind: 'tpm2', quote: { attest, signature }, pcrs };
      if (!isAnchor && !work.block.challenge) return { evidence };
      const counter = await this.#step('counter', () => this.#counter.certify(anchor, hash, work.block.anchor, signal));
      return counter.kind === 'none' ? { evidence, counterFault: counter.reason } : { evidence: { ...evidence, counter: counter.value } };
    }, signal);
    if (made.kind === 'none') return made;
    if (made.value === 'moved') return 'moved';
    if (isAnchor && made.value.evidence.counter) await this.#count(work.payload, made.value.evidence, signal);
    return { kind: 'value', value: made.value };
  }

  /** The value is spent only when what it was spent on is on disk. An increment that fails is made up for at the next anchor. */
  async #count(payload: Uint8Array, evidence: TpmEvidence, signal: AbortSignal): Promise<void> {
    await this.#step('evidence', () => this.#options.store.writePending(encodePending(payload, evidence)));
    await this.#link.use((anchor) => this.#step('increment', () => anchor.increment(signal)), signal);
  }

  async #commit(keys: IdentityKeys, { payload, block, last, resumed }: Work, attested: Maybe<Attested>): Promise<BlockInfo> {
    const { store, device, onBlock } = this.#options;
    const { signer } = keys;
    const { sequence, treeSize, root, wallMicros } = block;
    const said = attested.kind === 'value' ? attested.value.evidence : attested;
    const evidence = encodeEvidence(said);
    const chainId = this.#chainId ?? chainIdOf(payload);
    const header = encodeBlockHeader({ keyId: keyIdOf(signer.publicKey), device, chainId, evidenceDigest: sha256(evidence) });
    const stand = said.kind === 'tpm2' ? standAfter(said) : {};
    await this.#step('commit', () => store.commitBlock({ sequence, payload, cose: sign1(signer, header, payload), evidence, ...stand }));
    if (sequence === 0) await this.#openChain(keys);
    const anchor = anchorAfter(block, said);
    const fault = attested.kind === 'value' ? attested.value.counterFault : undefined;
    const info: BlockInfo = {
      sequence, hash: blockHash(payload), chainId, treeSize, root, wallMicros, resumed,
      evidence: said.kind === 'none' ? said : { kind: 'value', value: { counter: said.counter !== undefined } },
      findings: findingsOf(block, last, anchor, stand.resetCount),
      ...(anchor ? { anchor } : {}), ...(fault === undefined ? {} : { counterFault: fault }),
    };
    onBlock(info);
    return info;
  }

  async #step<T>(step: SealStep, work: () => Promise<T>): Promise<T> {
    this.#options.onStep?.(step, 'before');
    const result = await work();
    this.#options.onStep?.(step, 'after');
    return result;
  }
}

/** After a reset of the TPM somebody made PCR 14 what it was before: not a boot that goes on. The next try states the value as its start. */
const isReplayed = (attest: Uint8Array, { block, last }: Work): boolean =>
  !block.pcrStart && last?.resetCount !== undefined && parseAttest(attest).clockInfo.resetCount !== last.resetCount;

/** PCR 14 and the reset count as the quote has them. */
function standAfter({ quote, pcrs }: TpmEvidence): Pick<LastBlock, 'pcrAfter' | 'resetCount'> {
  const pcrAfter = pcrs.find(([index]) => index === BLOCK_PCR)?.[1];
  return { ...(pcrAfter ? { pcrAfter } : {}), resetCount: parseAttest(quote.attest).clockInfo.resetCount };
}

function findingsOf(block: BlockPayload, last: LastBlock | undefined, anchor: AnchorMark | undefined, resetCount: number | undefined): readonly SealFinding[] {
  const findings: SealFinding[] = [];
  const count = block.anchor && anchor?.sequence === block.sequence ? missingSince(block.anchor, anchor.counter) : 0n;
  if (block.anchor && count > 0n) findings.push({ kind: 'increments', count, since: block.anchor });
  if (last?.pcrAfter && block.pcrStart && last.resetCount === resetCount) findings.push({ kind: 'extensions', after: last.sequence });
  return findings;
}
