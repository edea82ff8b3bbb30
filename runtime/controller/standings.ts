/**
 * What the fleet's policy says of each chain: judged when blocks come, stored beside the chain in the same transaction, and judged again when the policy is
 * another. Whether a chain is whole is not asked here: what is not whole is never taken.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { TenzroError } from '#runtime/core/errors.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import type { BundleBlock } from '#runtime/ledger/bundle.ts';
import { fieldReaders } from '#runtime/ledger/fields.ts';
import { CONTROLLER, type ActBook } from './acts.ts';
import type { Chains, SupportEntry } from './chains.ts';

export interface Standing {
  /** Trust level that the evidence is worth under the policy. */
  readonly level: string;
  readonly reason: string;
  /** Nothing is against the policy. */
  readonly meets: boolean;
  readonly findings: readonly { readonly check: string; readonly result: 'fail' | 'unknown'; readonly detail: string }[];
}

/** The policy in force, seen from here. */
export interface PolicyInForce {
  /** SHA-256 of the file, hexadecimal. */
  readonly digest: string;
  readonly shortfall: 'keep' | 'refuse';
  judge(gateway: string, input: { readonly genesis: BundleBlock; readonly head: BundleBlock; readonly support: readonly SupportEntry[] }): Standing;
}

const PREFIX = 'standing/';
const VERSION = 1;
const FINDINGS_MAX = 16;
const TEXT_MAX = 1_024;

export class Standings {
  readonly #store: KeyValueStore;
  readonly #acts: ActBook;
  readonly #policy: () => PolicyInForce;
  /** Of each chain: digest of the policy that it was judged under, and whether it meets it. */
  readonly #judged = new Map<string, { readonly policy: string; readonly meets: boolean }>();
  #digest: string | undefined;

  /** Throws `ledger.corrupt`. */
  constructor(store: KeyValueStore, acts: ActBook, policy: () => PolicyInForce) {
    [this.#store, this.#acts, this.#policy] = [store, acts, policy];
    for (const { key, value } of store.range(PREFIX)) {
      const { policy: digest, meets } = decodeStored(value);
      this.#judged.set(key.slice(PREFIX.length), { policy: digest, meets });
    }
    for (const { value } of store.range(POLICY_KEY)) this.#digest = Buffer.from(value).toString();
  }

  /** Chains that fall short of the policy. */
  get short(): number { return this.#judged.values().filter(({ meets }) => !meets).reduce((count) => count + 1, 0); }

  /** Throws `controller.policy` where the policy refuses what falls short. */
  judge(chain: string, gateway: string, input: Parameters<PolicyInForce['judge']>[1]): () => void {
    const policy = this.#policy();
    const standing = policy.judge(gateway, input);
    const fault = standing.meets || policy.shortfall === 'keep' ? undefined : standing.findings.find(({ result }) => result === 'fail');
    if (fault) throw new TenzroError('controller.policy', `${fault.check}: ${fault.detail}`);
    return () => { this.#write(chain, policy.digest, standing); };
  }

  /** Judges again whatever was judged under another policy, a chain a turn; resolves when all is on disk. To be called at the start and when the policy changes. */
  async renew(chains: Chains, signal: AbortSignal): Promise<number> {
    const { digest } = this.#policy();
    if (digest !== this.#digest) this.#notePolicy(digest);
    let renewed = 0;
    for (const [chain, { head, gateway }] of chains.all()) {
      if (signal.aborted) break;
      if (!head || this.#judged.get(chain)?.policy === digest) continue;
      const policy = this.#policy();
      this.#write(chain, policy.digest, policy.judge(gateway, { genesis: chains.block(chain, 0), head: chains.block(chain, head.sequence), support: chains.support(chain) }));
      renewed++;
      await nextTurn();
    }
    await this.#store.flushed();
    return renewed;
  }

  #notePolicy(digest: string): void {
    this.#store.put(POLICY_KEY, Buffer.from(digest));
    this.#acts.note({ who: CONTROLLER, what: 'policy.taken', about: digest, detail: this.#digest === undefined ? '' : `instead of ${this.#digest}` });
    this.#digest = digest;
  }

  #write(chain: string, policy: string, standing: Standing): void {
    this.#store.put(`${PREFIX}${chain}`, encodeStored(policy, standing));
    this.#judged.set(chain, { policy, meets: standing.meets });
  }
}

const POLICY_KEY = 'policy';

/** By chain, beside a running controller too. Throws `ledger.corrupt`. */
export function standingsIn(store: KeyValueStore): ReadonlyMap<string, Standing & { readonly policy: string }> {
  return new Map(Array.from(store.range(PREFIX), ({ key, value }) => [key.slice(PREFIX.length), decodeStored(value)]));
}

const encodeStored = (policy: string, { level, reason, meets, findings }: Standing): Buffer =>
  encodeCbor([VERSION, policy, level, reason.slice(0, TEXT_MAX), meets, findings.slice(0, FINDINGS_MAX).map(({ check, result, detail }) => [check, result, detail.slice(0, TEXT_MAX)])]);

function decodeStored(bytes: Uint8Array): Standing & { readonly policy: string } {
  const [version, policy, level, reason, meets, findings] = listOf(decodeCbor(bytes));
  if (version !== VERSION || typeof meets !== 'boolean') throw corrupt();
  return {
    policy: textOf(policy), level: textOf(level), reason: textOf(reason), meets,
    findings: listOf(findings).map((finding) => {
      const [check, result, detail] = listOf(finding);
      if (result !== 'fail' && result !== 'unknown') throw corrupt();
      return { check: textOf(check), result, detail: textOf(detail) };
    }),
  };
}

const corrupt = (): TenzroError => new TenzroError('ledger.corrupt', 'a standing in the controller\'s store does not decode');
const { listOf } = fieldReaders(corrupt);
function textOf(value: Cbor | undefined): string {
  if (typeof value !== 'string') throw corrupt();
  return value;
}
