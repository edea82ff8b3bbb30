/**
 * The block procedure. Order, each step restartable after a kill:
 *   1 pending  the payload is written as pending and flushed
 *   2 extend   TPM2_PCR_Extend(14, h), h = SHA-256("tenzro/block/1" ‖ payload)
 *   3 quote    TPM2_Quote with extraData = h over the boot PCRs, 10 and 14
 *   4 counter  at a boot's first block, on demand and every `anchorIntervalMs`: NV counter incremented and certified over h
 *   5 commit   payload and evidence digest signed and stored, flushed, pending dropped: one transaction
 * After a kill, PCR 14 tells whether step 2 had happened: it holds the value before it, the one after it, or (TPM reset, or another program
 * extended it) neither; then the pending payload is replaced by one that states the value found (`pcrStart`).
 *
 * Nothing is remembered between blocks but the store: every block begins by looking there, so an error at any step is as good as a kill.
 * A TPM that is absent, fails or is not that of the genesis never holds up a block: the evidence then says why there is none.
 * MUST NOT run twice at once; `Attester` sees to it.
 */
import { equalBytes } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { invariant, TenzroError } from '#runtime/core/errors.ts';
import type { Anchor, BlockStore, Counters, LastBlock, Log } from '#runtime/core/ports.ts';
import type { Maybe, TreeHead } from '#runtime/core/types.ts';
import { sign1 } from '#runtime/crypto/cose.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { parseAttest } from '#runtime/crypto/tpmEvidence.ts';
import { blockHash, chainIdOf, decodeBlock, encodeBlock, foldPcr, ZERO_HASH, type Identity, type Support } from '#runtime/ledger/block.ts';
import { encodeBlockHeader, keyIdOf } from '#runtime/ledger/blockHeader.ts';
import { encodeEvidence, type TpmEvidence } from '#runtime/ledger/evidence.ts';
import { AnchorLink, type OpenAnchor } from './anchorLink.ts';

export type SealStep = 'pending' | 'extend' | 'quote' | 'counter' | 'commit';

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
}

/** The gateway's own keys, in use. */
export interface IdentityKeys {
  readonly signer: Signer;
  /** X-Wing public key, 1216 bytes: goes into the genesis. */
  readonly exchangeKey?: Uint8Array;
}

/** What a block says beside the head of the log. */
export interface BlockContext {
  /** SHA-256 of the lease statement in force, or why there is none; undefined where no verifier is configured. */
  readonly lease?: Maybe<Uint8Array>;
  readonly support: Support;
}

export interface SealRequest {
  /** With the NV counter in any case. */
  readonly counter?: boolean;
  /** A verifier's nonce, 16 to 64 bytes; implies the counter. */
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
const REFUSALS: ReadonlySet<string> = new Set(['tpm.refused', 'tpm.unsupported']);

interface Attested {
  readonly evidence: TpmEvidence;
  readonly pcrAfter: Uint8Array;
  readonly resetCount: number;
}

/** What a new block is about. */
interface Subject {
  readonly head: TreeHead;
  readonly counter: boolean;
  readonly challenge?: Uint8Array;
}

/** Where sealing of a payload stands: what PCR 14 was before its extension, and whether that is done. */
interface Stand {
  readonly pcrBefore: Uint8Array;
  readonly extended: boolean;
}

export class Sealer {
  readonly #options: SealerOptions;
  readonly #link: AnchorLink;
  #keys: IdentityKeys | undefined;
  #chainId: Uint8Array | undefined;
  #counterMicros: number | undefined;

  constructor(options: SealerOptions) {
    this.#options = options;
    this.#link = new AnchorLink(options);
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
    return this.#sealNew(this.#keys, { head: await store.head(), counter: counter || challenge !== undefined, ...(challenge ? { challenge } : {}) }, signal);
  }

  async #openChain({ signer }: IdentityKeys): Promise<void> {
    if (this.#chainId) return;
    const genesis = await this.#options.store.genesis();
    if (!genesis) return;
    const { identity } = decodeBlock(genesis);
    if (!identity || !equalBytes(identity.signingKey, signer.publicKey)) throw new TenzroError('attest.foreign_key', 'the genesis names another signing key than this gateway has');
    this.#link.pin(identity.akPublic);
    this.#chainId = chainIdOf(genesis);
  }

  async #resume(keys: IdentityKeys, pending: Uint8Array, counter: boolean, signal: AbortSignal): Promise<void> {
    const last = await this.#options.store.lastBlock();
    const { sequence, pcrStart } = decodeBlock(pending);
    invariant(sequence === nextSequence(last), `block ${sequence} is pending after ${last?.sequence ?? 'nothing'}`);
    const pcr = await this.#link.use((anchor) => anchor.pcr14(signal), signal);
    const stand = pcr.kind === 'none' ? pcr : standOf(pending, pcr.value, pcrStart ?? last?.pcrAfter);
    if (!stand) return; // the next payload takes its place
    const attested = await this.#attest(pending, stand, counter, signal);
    if (attested !== 'moved') await this.#commit(keys, pending, attested, true);
  }

  async #sealNew(keys: IdentityKeys, subject: Subject, signal: AbortSignal): Promise<BlockInfo> {
    for (let tries = 1; ; tries += 1) {
      const last = await this.#options.store.lastBlock();
      const identity = last ? undefined : await this.#identity(keys, signal);
      const pcr = await this.#link.use((anchor) => anchor.pcr14(signal), signal);
      const start = pcr.kind === 'value' && !(last?.pcrAfter && equalBytes(last.pcrAfter, pcr.value)) ? pcr.value : undefined;
      const payload = this.#build(subject, last, start, identity);
      await this.#step('pending', () => this.#options.store.writePending(payload));
      const stand = pcr.kind === 'none' ? pcr : { kind: 'value' as const, value: { pcrBefore: pcr.value, extended: false } };
      const attested = await this.#attest(payload, stand, subject.counter || start !== undefined, signal);
      if (attested !== 'moved') return this.#commit(keys, payload, attested, false);
      if (tries === FOREIGN_EXTENSIONS_MAX) return this.#commit(keys, payload, { kind: 'none', reason: this.#link.fail(new TenzroError('tpm.busy', 'another program extends PCR 14 all the time')) }, false);
    }
  }

  /** A chain that begins without its TPM stays without: see `attest.foreign_tpm`. */
  async #identity({ signer, exchangeKey }: IdentityKeys, signal: AbortSignal): Promise<Identity> {
    const tpm = await this.#link.use(async (anchor) => ({ akPublic: anchor.akPublic, ...(await anchor.endorsement(signal)) }), signal);
    return { signingKey: signer.publicKey, ...(exchangeKey ? { exchangeKey } : {}), ...(tpm.kind === 'value' ? tpm.value : {}) };
  }

  #build({ head, challenge }: Subject, last: LastBlock | undefined, pcrStart: Uint8Array | undefined, identity: Identity | undefined): Uint8Array {
    const { clock, softwareDigest, bootEpoch, modelDigests, context } = this.#options;
    const { lease, support } = context();
    return encodeBlock({
      sequence: nextSequence(last), previous: last ? blockHash(last.payload) : ZERO_HASH, wallMicros: Math.max(0, clock.wallMicros()),
      treeSize: head.size, root: head.root, softwareDigest, bootEpoch, modelDigests: modelDigests(),
      ...(this.#chainId ? { chainId: this.#chainId } : {}), ...(pcrStart ? { pcrStart } : {}), ...(identity ? { identity } : {}),
      ...(lease ? { lease } : {}), ...(challenge ? { challenge } : {}), ...(Object.keys(support).length > 0 ? { support } : {}),
    });
  }

  /** Steps 2 to 4. `moved`: PCR 14 is not what our extension makes of it, so that the payload must be built anew. */
  async #attest(payload: Uint8Array, stand: Maybe<Stand>, counter: boolean, signal: AbortSignal): Promise<Maybe<Attested> | 'moved'> {
    if (stand.kind === 'none') return stand;
    const { pcrBefore, extended } = stand.value;
    const hash = blockHash(payload);
    const pcrAfter = foldPcr(pcrBefore, hash);
    const made = await this.#link.use(async (anchor) => {
      if (!extended) await this.#step('extend', () => anchor.extend(hash, signal));
      const { attest, signature, pcrs } = await this.#step('quote', () => anchor.quote(hash, signal));
      if (!pcrs.some(([index, value]) => index === BLOCK_PCR && equalBytes(value, pcrAfter))) return 'moved' as const;
      const counted = counter || this.#counterDue() ? await this.#count(anchor, hash, signal) : undefined;
      const evidence: TpmEvidence = { kind: 'tpm2', quote: { attest, signature }, pcrs, ...(counted ? { counter: counted } : {}) };
      return { evidence, pcrAfter, resetCount: parseAttest(attest).clockInfo.resetCount };
    }, signal);
    if (made.kind === 'none') return made;
    return made.value === 'moved' ? 'moved' : { kind: 'value', value: made.value };
  }

  #counterDue(): boolean {
    const { clock, anchorIntervalMs } = this.#options;
    return this.#counterMicros === undefined || clock.monoMicros() - this.#counterMicros >= anchorIntervalMs * 1_000;
  }

  /** A counter that the TPM refuses (no NV space, a password on the owner hierarchy) costs the counter, not the quote; it is tried again when next due. */
  async #count(anchor: Anchor, hash: Uint8Array, signal: AbortSignal): Promise<TpmEvidence['counter']> {
    const { clock, counters, log } = this.#options;
    this.#counterMicros = clock.monoMicros();
    try {
      const { attest, signature, nvPublic } = await this.#step('counter', () => anchor.counter(hash, signal));
      return { attest, signature, nvPublic };
    } catch (error) {
      if (!(error instanceof TenzroError) || !REFUSALS.has(error.code)) throw error;
      counters.add(`attest.error.${error.code}`);
      log.warn({ code: error.code, hint: error.hint }, `no NV counter: ${error.message}`);
      return undefined;
    }
  }

  async #commit(keys: IdentityKeys, payload: Uint8Array, attested: Maybe<Attested>, resumed: boolean): Promise<BlockInfo> {
    const { store, device, onBlock } = this.#options;
    const { signer } = keys;
    const { sequence, treeSize, root, wallMicros } = decodeBlock(payload);
    const evidence = encodeEvidence(attested.kind === 'value' ? attested.value.evidence : attested);
    const chainId = this.#chainId ?? chainIdOf(payload);
    const header = encodeBlockHeader({ keyId: keyIdOf(signer.publicKey), device, chainId, evidenceDigest: sha256(evidence) });
    const anchored = attested.kind === 'value' ? { pcrAfter: attested.value.pcrAfter, resetCount: attested.value.resetCount } : {};
    await this.#step('commit', () => store.commitBlock({ sequence, payload, cose: sign1(signer, header, payload), evidence, ...anchored }));
    if (sequence === 0) await this.#openChain(keys);
    const info: BlockInfo = {
      sequence, hash: blockHash(payload), chainId, treeSize, root, wallMicros, resumed,
      evidence: attested.kind === 'none' ? attested : { kind: 'value', value: { counter: attested.value.evidence.counter !== undefined } },
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

const nextSequence = (last: LastBlock | undefined): number => (last ? last.sequence + 1 : 0);

/** Where a pending payload stands by PCR 14; undefined when its TPM was reset, or another program extended it, or there was no TPM when it was built. */
function standOf(pending: Uint8Array, pcr: Uint8Array, pcrBefore: Uint8Array | undefined): Maybe<Stand> | undefined {
  if (!pcrBefore) return undefined;
  if (equalBytes(pcr, pcrBefore)) return { kind: 'value', value: { pcrBefore, extended: false } };
  if (equalBytes(pcr, foldPcr(pcrBefore, blockHash(pending)))) return { kind: 'value', value: { pcrBefore, extended: true } };
  return undefined;
}
