/** A controller's store, register, acts and intake for tests, as `registering.ts` joins them. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { toHex } from '#runtime/core/bytes.ts';
import { systemClock } from '#runtime/core/clock.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { Acts, readActs } from '#runtime/controller/acts.ts';
import { decodeAct } from '#runtime/controller/actsCodec.ts';
import { Chains } from '#runtime/controller/chains.ts';
import { Intake } from '#runtime/controller/intake.ts';
import { Refused } from '#runtime/controller/refusals.ts';
import { Register, type Candidate } from '#runtime/controller/register.ts';
import { registerApi } from '#runtime/controller/registerApi.ts';
import { Standings } from '#runtime/controller/standings.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signerOfSeed, spkiOfMlDsa65, type Signer } from '#runtime/crypto/mldsa.ts';
import { chainIdOf } from '#runtime/ledger/block.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import { decodeAnswer, type Answer } from '#runtime/ledger/receipt.ts';
import { packShipment } from '#runtime/ledger/shipment.ts';
import { checkIncrement, isSignedByGenesis } from '#runtime/verify/increment.ts';
import { parsePolicy, type Policy } from '#runtime/verify/policy.ts';
import { judgeStanding } from '#runtime/verify/standing.ts';
import { silentLog, TestCounters } from './sealHarness.ts';
import type { MemoryChain } from './memoryChain.ts';
import { tempDir, type TempDir } from './temp.ts';

export const refusalOf = async (sent: Promise<Answer>): Promise<string | undefined> => (await sent).refusal?.code;
export const controllerKey: Signer = signerOfSeed(sha256(Buffer.from('a test controller')));
export const ownerThumbprint = 'owner-of-tests';

export const candidateOf = (name: string, publicKey: Uint8Array, change: Partial<Candidate> = {}): Candidate => ({
  name, claimId: toHex(sha256(Buffer.from(name))).slice(0, 32), identityKey: toHex(sha256(publicKey)), spki: toHex(sha256(spkiOfMlDsa65(publicKey))), ownerKeys: [ownerThumbprint], ...change,
});

export class TestRegistry implements AsyncDisposable {
  readonly counters = new TestCounters();
  policy: Policy;
  #dir: TempDir;
  store!: KeyValueStore;
  acts!: Acts;
  chains!: Chains;
  register!: Register;
  standings!: Standings;
  intake!: Intake;

  private constructor(dir: TempDir, policy: object) {
    this.#dir = dir;
    this.policy = parsePolicy({ version: 1, ...policy });
  }

  static async open(policy: object = { accept: ['software'] }): Promise<TestRegistry> {
    const registry = new TestRegistry(tempDir('registry'), policy);
    await registry.#openStore();
    return registry;
  }

  async #openStore(): Promise<void> {
    this.store = await openKeyValueStore(join(this.#dir.path, 'store'), undefined, 'keep');
    this.acts = new Acts(this.store, controllerKey, systemClock);
    [this.chains, this.register] = [new Chains(this.store), new Register(this.store, this.acts, systemClock)];
    const { store, acts, chains, register, counters } = this;
    const digest = (): string => toHex(sha256(Buffer.from(JSON.stringify(this.policy.accept) + this.policy.shortfall + this.policy.lease)));
    this.standings = new Standings(store, acts, () => ({ digest: digest(), shortfall: this.policy.shortfall, judge: (_, input) => judgeStanding(input, this.policy) }));
    this.intake = new Intake({ chains, register, acts, refused: new Refused(acts, systemClock), standings: this.standings, signer: controllerKey, clock: systemClock, counters, log: silentLog, judge: { judge: checkIncrement, isSignedByGenesis } });
  }

  /** As a controller that was stopped and started. */
  async reopen(): Promise<void> {
    await this.store[Symbol.asyncDispose]();
    await this.#openStore();
  }

  /** What and about whom, in order. */
  acted(): readonly string[] { return readActs(this.store).map((cose) => decodeAct(cose)).map(({ what, about }) => `${what} ${about}`).toArray(); }

  /** As the command line asks. */
  call(method: string, parameters: JsonObject): Promise<JsonObject> {
    const found = registerApi(this)[method];
    assert.ok(found);
    return found(parameters, { emit: () => undefined, signal: new AbortController().signal });
  }

  async claim(name: string, publicKey: Uint8Array, change: Partial<Candidate> = {}): Promise<void> {
    const candidate = candidateOf(name, publicKey, change);
    await this.register.begin(candidate, ownerThumbprint);
    await this.register.claimed(name, candidate.claimId, ownerThumbprint);
  }

  /** Entries and blocks of a chain, ends not included. */
  async send(chain: MemoryChain, [from, to]: readonly [number, number], [first, end]: readonly [number, number], gateway = 'workshop'): Promise<Answer> {
    const chainId = chainIdOf(chain.block(0).payload);
    const leaves = chain.entries.slice(from, to).map((entry) => ({ entry }));
    const answer = await this.intake.take({ gateway, chain: toHex(chainId) }, await packShipment({ chainId, first: from, leaves, blocks: chain.blocks.slice(first, end) }));
    if (!answer) throw new Error('the controller answered nothing');
    return decodeAnswer(answer);
  }

  /** Everything of it. */
  async sendAll(chain: MemoryChain, gateway = 'workshop'): Promise<Answer> { return this.send(chain, [0, chain.entries.length], [0, chain.blocks.length], gateway); }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store[Symbol.asyncDispose]();
    this.#dir[Symbol.dispose]();
  }
}
