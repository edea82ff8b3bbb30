/**
 * Takes shipments of the gateways in the register, verifies what is new in them, keeps it, and answers with a receipt. Idempotent: a shipment that comes again,
 * late or after a kill gets the same receipt. INVARIANT: one shipment per chain, and per gateway, at a time; another that comes meanwhile is left to be sent again.
 */
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError, invariant, messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Counters, Log } from '#runtime/core/ports.ts';
import { parseSign1 } from '#runtime/crypto/cose.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { decodeBlock, type BlockPayload } from '#runtime/ledger/block.ts';
import type { BundleBlock } from '#runtime/ledger/bundle.ts';
import { decodeEvidence } from '#runtime/ledger/evidence.ts';
import { encodeAnswer, signReceiptAside } from '#runtime/ledger/receipt.ts';
import { shipmentId, unpackShipment, type Shipment } from '#runtime/ledger/shipment.ts';
import { CONTROLLER, type ActBook } from './acts.ts';
import { admitChain, nextKeyIn, type Admitted } from './admission.ts';
import type { Chains, SupportEntry } from './chains.ts';
import { growBy, openArrivals, type Arrival } from './growth.ts';
import type { ChainRecord } from './record.ts';
import type { RefusalBook } from './refusals.ts';
import type { Register, RegisteredGateway } from './register.ts';
import type { Standings } from './standings.ts';
import { droppedSupport, supportIn } from './support.ts';

/** The verifier, seen from here. */
export interface BlockJudge {
  /** `before`: the newest block that was judged; absent where the genesis is new. */
  judge(increment: { readonly genesis: BundleBlock; readonly before?: BundleBlock; readonly blocks: readonly BundleBlock[] }): {
    readonly fault?: { readonly check: string; readonly detail: string };
    readonly device: string;
    readonly chainId: Uint8Array;
  };
  isSignedByGenesis(genesis: BundleBlock, block: BundleBlock): boolean;
}

export interface IntakeOptions {
  readonly chains: Chains;
  readonly judge: BlockJudge;
  /** Absent: the fleet is open, and any chain that the broker lets in is taken. */
  readonly register?: Register;
  readonly standings?: Standings;
  readonly acts?: ActBook;
  readonly refused?: RefusalBook;
  readonly signer: Signer;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

/** Whence a shipment came, by its topic. */
export interface Sender {
  readonly gateway: string;
  /** Chain id, hexadecimal. */
  readonly chain: string;
}

/** What is judged at once: the rest waits in memory, up to `intakeBytesMax`. */
const SLOTS = 16;
/** What a link that loses things brings about; and what an act told of when it froze. */
const UNREMARKABLE: ReadonlySet<ErrorCode> = new Set(['controller.gap', 'controller.fork']);

export class Intake {
  readonly #options: IntakeOptions;
  readonly #busy = new Set<string>();
  readonly #waiting: (() => void)[] = [];
  #running = 0;
  #heldBytes = 0;

  constructor(options: IntakeOptions) { this.#options = options; }

  /** The answer; undefined where there is none, and the gateway sends again. Rejects with `ledger.*` only: the controller's own disk. */
  async take(sender: Sender, packed: Uint8Array): Promise<Buffer | undefined> {
    const { counters } = this.#options;
    const isForeign = this.#isForeign(sender);
    const turns = [`gateway/${sender.gateway}`, ...(isForeign ? [] : [`chain/${sender.chain}`])]; // who may not add to a chain does not keep its gateway waiting
    if (turns.some((turn) => this.#busy.has(turn)) || this.#heldBytes + packed.length > LIMITS.intakeBytesMax) {
      counters.add('controller.busy');
      return undefined;
    }
    for (const turn of turns) this.#busy.add(turn);
    this.#heldBytes += packed.length;
    await this.#slot();
    try {
      return await this.#receive(sender, packed, isForeign);
    } catch (error) {
      return await this.#refuse(sender, packed, this.#told(sender, error));
    } finally {
      for (const turn of turns) this.#busy.delete(turn);
      this.#heldBytes -= packed.length;
      this.#running--;
      this.#waiting.shift()?.();
    }
  }

  /** Why it is refused, counted. A fault of ours that a shipment brings out is its refusal, and not the end of everybody's controller. Throws what the disk says. */
  #told(sender: Sender, error: unknown): TenzroError {
    const { counters, log, refused } = this.#options;
    if (error instanceof TenzroError && error.code.startsWith('ledger.')) throw error;
    const told = error instanceof TenzroError ? error : new TenzroError('core.invariant', messageOf(error), { cause: error });
    counters.add(told.code);
    if (!UNREMARKABLE.has(told.code)) refused?.add(sender.gateway, told);
    if (told.class === 'bug') log.error({ ...sender, code: told.code, stack: error instanceof Error ? error.stack : undefined }, told.message);
    else log.warn({ ...sender, code: told.code }, told.message);
    return told;
  }

  async #slot(): Promise<void> {
    if (this.#running >= SLOTS) await new Promise<void>((resolve) => { this.#waiting.push(resolve); });
    this.#running++;
  }

  async #receive(sender: Sender, packed: Uint8Array, isForeign: boolean): Promise<Buffer> {
    const { chains, counters } = this.#options;
    const gateway = this.#gatewayOf(sender);
    const shipment = await unpackShipment(packed);
    if (toHex(shipment.chainId) !== sender.chain) throw new TenzroError('uplink.shipment', 'the shipment is of another chain than its topic');
    const before = chains.record(sender.chain);
    if (before?.fork) throw forkError(before.fork.sequence);
    if (isForeign || (gateway && before && !this.#isOf(gateway, sender.chain, before))) throw new TenzroError('controller.unclaimed', `chain ${sender.chain} is another gateway's`);
    if (!before && chains.size >= LIMITS.controllerChainsMax) throw new TenzroError('controller.full', `${chains.size} chains are kept already`);
    const arrivals = openArrivals(shipment.blocks);
    const nextBlock = nextBlockOf(before);
    const other = before && this.#findFork(sender.chain, before, arrivals);
    if (before && other) return this.#freeze(sender, before, other);
    const fresh = arrivals.filter(({ payload }) => payload.sequence >= nextBlock);
    const hole = fresh.find(({ payload }, at) => payload.sequence !== nextBlock + at);
    if (hole) throw new TenzroError('controller.gap', `block ${nextBlock} comes next, not ${hole.payload.sequence}`);
    const after = await this.#grow(sender, before ?? EMPTY, shipment, fresh);
    counters.add(after === before ? 'controller.duplicates' : 'controller.shipments');
    return this.#answer(sender.chain, packed, after);
  }

  /** Throws `controller.unclaimed`, `controller.revoked` and `controller.fork`; undefined in an open fleet. */
  #gatewayOf({ gateway: name }: Sender): RegisteredGateway | undefined {
    const { register } = this.#options;
    if (!register) return undefined;
    const gateway = register.get(name);
    if (!gateway || gateway.state === 'released') throw new TenzroError('controller.unclaimed', `no gateway is claimed as '${name}'`);
    if (gateway.state === 'revoked') throw new TenzroError('controller.revoked', `${name} was revoked${gateway.why === '' ? '' : `: ${gateway.why}`}`);
    if (gateway.frozen) throw new TenzroError('controller.fork', `${name} is frozen: ${gateway.frozen.why}`);
    return gateway;
  }

  async #grow(sender: Sender, before: ChainRecord, shipment: Shipment, fresh: readonly Arrival[]): Promise<ChainRecord> {
    const { chains, signer, clock, counters } = this.#options;
    const growth = growBy(before, shipment, fresh);
    if (growth.size === before.size && fresh.length === 0) return before;
    this.#judge(sender, before, fresh);
    const seenMicros = clock.wallMicros();
    const last = fresh.at(-1);
    const grown = { ...before, gateway: last ? sender.gateway : before.gateway || sender.gateway, size: growth.size, edge: growth.edge, waitingBytes: growth.waitingBytes, seenMicros };
    const support = supportIn(growth.stretches);
    if (!last || !growth.headEdge) {
      if (before === EMPTY) this.#makeRoom(sender.gateway);
      await chains.commit(sender.chain, { record: grown, stretches: growth.stretches, support });
      return grown;
    }
    const { payload: { sequence, treeSize, root, wallMicros }, hash, block } = last;
    const receipt = await signReceiptAside(signer, { chainId: shipment.chainId, sequence, blockHash: hash, treeSize, root, wallMicros: seenMicros });
    const gateway = this.#gatewayOf(sender); // as it is now: from here on all stands in one turn
    const genesis = before.head ? chains.block(sender.chain, 0) : fresh[0]?.block ?? last.block;
    const admitted = gateway && this.#admit(gateway, sender.chain, genesis, last);
    if (admitted?.kind === 'clone') return this.#freezeGateway(sender, admitted.why);
    const known = [...chains.support(sender.chain), ...support];
    const noteStanding = this.#options.standings?.judge(sender.chain, sender.gateway, { genesis, head: last.block, support: known });
    const record: ChainRecord = { ...grown, head: { sequence, blockHash: hash, treeSize, root, wallMicros, edge: growth.headEdge, evidence: decodeEvidence(block.evidence).kind } };
    noteStanding?.();
    this.#noteAdmitted(sender, admitted, nextKeyIn(known.filter(({ index }) => index < treeSize)));
    const unsupport = before.head ? droppedSupport(openBlock(chains.block(sender.chain, before.head.sequence)).support, last.payload.support) : [];
    await chains.commit(sender.chain, { record, stretches: growth.stretches, receipt, support, unsupport, blocks: fresh.map((arrival) => ({ sequence: arrival.payload.sequence, block: arrival.block })) });
    counters.add('controller.blocks', fresh.length);
    counters.add('controller.receipts');
    counters.add('controller.entries', treeSize - (before.head?.treeSize ?? 0));
    return record;
  }

  /** What no block covers costs a gateway nothing to invent. */
  #makeRoom(gateway: string): void {
    const { chains, counters } = this.#options;
    const blockless = chains.all().filter(([, record]) => record.gateway === gateway && !record.head).toSorted(([, a], [, b]) => b.seenMicros - a.seenMicros);
    for (const [chain] of blockless.slice(LIMITS.gatewayBlocklessChainsMax - 1)) {
      chains.forget(chain);
      counters.add('controller.blockless_forgotten');
    }
  }

  #isForeign({ gateway, chain }: Sender): boolean {
    const { register, chains } = this.#options;
    const [registered, record] = [register?.get(gateway), chains.record(chain)];
    return register !== undefined && record !== undefined && !(registered && this.#isOf(registered, chain, record));
  }

  /** Whose leaves it holds; a gateway that was claimed under another name brings its chain along. */
  #isOf(gateway: RegisteredGateway, chain: string, before: ChainRecord): boolean {
    if (before.gateway === gateway.name) return true;
    const { identity } = before.head ? openBlock(this.#options.chains.block(chain, 0)) : {};
    return identity !== undefined && toHex(sha256(identity.signingKey)) === gateway.identityKey;
  }

  /** Of blocks that were verified. Throws `controller.unclaimed`, `controller.full`. */
  #admit(gateway: RegisteredGateway, chain: string, genesis: BundleBlock, last: Arrival): Admitted {
    const { chains, register } = this.#options;
    const newestId = gateway.chains.at(-1);
    const hasNewest = newestId !== undefined && newestId !== chain && chains.record(newestId)?.head !== undefined;
    const admitted = admitChain(gateway, { chain, genesis: openBlock(genesis), last, ...(hasNewest ? { newest: { genesis: openBlock(chains.block(newestId, 0)), support: this.#covered(newestId) } } : {}) });
    if (admitted.kind === 'successor' && register?.isTaken(admitted.keys.spki, gateway.name)) throw new TenzroError('controller.unclaimed', 'the key that follows is in the register as another gateway\'s');
    return admitted;
  }

  /** Entries under the head of a chain. */
  #covered(chain: string): readonly SupportEntry[] {
    const { chains } = this.#options;
    return chains.support(chain).filter(({ index }) => index < (chains.record(chain)?.head?.treeSize ?? 0));
  }

  /** In the turn in which the chain is stored. */
  #noteAdmitted({ gateway, chain }: Sender, admitted: Admitted | undefined, next: string | undefined): void {
    const { register } = this.#options;
    if (admitted?.kind === 'successor') register?.noteSuccessor(gateway, admitted.keys);
    if (admitted?.kind === 'successor' || admitted?.kind === 'chain') register?.noteChain(gateway, chain);
    if (next !== undefined && register?.get(gateway)?.chains.at(-1) === chain) register.noteNext(gateway, next);
  }

  async #freezeGateway({ gateway, chain }: Sender, why: string): Promise<never> {
    const { register, chains, counters, log } = this.#options;
    register?.noteFrozen(gateway, why);
    await chains.flushed();
    counters.add('controller.clones');
    log.error({ gateway, chain, code: 'controller.fork' }, `${gateway} shows up twice: ${why}; nothing more is taken of it`);
    throw new TenzroError('controller.fork', `${gateway} is frozen: ${why}`);
  }

  /** Throws `controller.block`. */
  #judge({ gateway, chain }: Sender, { head }: ChainRecord, fresh: readonly Arrival[]): void {
    const { chains, judge } = this.#options;
    const [first] = fresh;
    if (!first) return;
    const genesis = head ? chains.block(chain, 0) : first.block;
    const { fault, device, chainId } = judge.judge({ genesis, blocks: fresh.map(({ block }) => block), ...(head ? { before: chains.block(chain, head.sequence) } : {}) });
    if (fault) throw new TenzroError('controller.block', `${fault.check}: ${fault.detail}`);
    if (toHex(chainId) !== chain) throw new TenzroError('controller.block', 'the genesis is that of another chain');
    if (device !== gateway) throw new TenzroError('controller.block', `the blocks are of gateway '${device}', and came on the topic of '${gateway}'`);
  }

  /** A block, signed by the chain's own key, that cannot stand beside what was taken. */
  #findFork(chain: string, { head }: ChainRecord, arrivals: readonly Arrival[]): Arrival | undefined {
    const { chains, judge } = this.#options;
    if (!head) return undefined;
    const other = arrivals.find(({ payload: { sequence, previous }, hash }) => {
      if (sequence > head.sequence) return sequence === head.sequence + 1 && !equalBytes(previous, head.blockHash);
      const [ours] = openArrivals([chains.block(chain, sequence)]);
      return ours !== undefined && !equalBytes(ours.hash, hash);
    });
    if (!other) return undefined;
    if (!judge.isSignedByGenesis(chains.block(chain, 0), other.block)) throw new TenzroError('controller.block', `block ${other.payload.sequence} is not signed by the key of the chain`);
    return other;
  }

  async #freeze({ gateway, chain }: Sender, before: ChainRecord, { payload: { sequence }, hash, block }: Arrival): Promise<Buffer> {
    const { chains, register, acts, clock, counters, log } = this.#options;
    const [at] = openArrivals([chains.block(chain, Math.min(sequence, before.head?.sequence ?? 0))]);
    invariant(at, 'a chain with a head has its blocks');
    acts?.note({ who: CONTROLLER, what: 'chain.forked', about: chain, detail: `gateway ${gateway}: blocks ${toHex(at.hash)} and ${toHex(hash)} with number ${sequence}` });
    register?.noteFrozen(before.gateway, `two blocks ${sequence} of chain ${chain} are signed with its key`);
    await chains.commit(chain, { record: { ...before, fork: { sequence, ours: at.hash, theirs: hash, foundMicros: clock.wallMicros() } }, forked: block });
    counters.add('controller.forks');
    log.error({ gateway, chain, sequence, code: 'controller.fork' }, 'the chain forked: its gateway was cloned, or restored from an old copy; nothing more is taken of it');
    throw forkError(sequence);
  }

  /** What came since the last block did not fit: the gateway sends it again from there. */
  async #refuse({ chain }: Sender, packed: Uint8Array, error: TenzroError): Promise<Buffer | undefined> {
    const { chains, clock } = this.#options;
    let record = chains.record(chain);
    if (error.code === 'uplink.shipment' || error.code === 'uplink.newer_version') return record && this.#answer(chain, packed, record, error);
    if (record && error.code === 'controller.root') {
      const { size, edge } = record.head ? { size: record.head.treeSize, edge: record.head.edge } : { size: 0, edge: [] };
      record = { ...record, size, edge, waitingBytes: 0, seenMicros: clock.wallMicros() };
      await chains.commit(chain, { record, dropFrom: size });
    }
    return this.#answer(chain, packed, record ?? EMPTY, error);
  }

  #answer(chain: string, packed: Uint8Array, record: ChainRecord, error?: TenzroError): Buffer {
    const { head, size } = record;
    return encodeAnswer({
      about: shipmentId(packed), next: size, nextBlock: nextBlockOf(record),
      ...(head ? { receipt: this.#options.chains.receipt(chain, head.sequence) } : {}), ...(error ? { refusal: { code: error.code, detail: error.message } } : {}),
    });
  }
}

const openBlock = ({ cose }: BundleBlock): BlockPayload => decodeBlock(parseSign1(cose).payload);
const EMPTY: ChainRecord = { gateway: '', size: 0, edge: [], waitingBytes: 0, seenMicros: 0 };
const nextBlockOf = (record: ChainRecord | undefined): number => (record?.head ? record.head.sequence + 1 : 0);
const forkError = (sequence: number): TenzroError => new TenzroError('controller.fork', `two blocks ${sequence} of this chain are signed with its key: the chain is frozen`);
