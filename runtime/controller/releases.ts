/** Who gave up its owner at a command: in the register once the gateway's own chain says so, under a block that was receipted. The broker's word is not enough. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { CommandType } from '#runtime/core/command.ts';
import { canonicalJson } from '#runtime/core/json.ts';
import type { Log } from '#runtime/core/ports.ts';
import { RESULT_BODY, type Cbor } from '#runtime/core/types.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import { CONTROLLER } from './acts.ts';
import type { Chains } from './chains.ts';
import type { Desk } from './desk.ts';
import { keyOf, type DeskRecord } from './deskRecord.ts';
import type { Register } from './register.ts';

const RELEASE: CommandType = 'release';
/** Result of a release that was not only tried. */
const RELEASED = canonicalJson({ released: true });
/** Between looks; also what the receipt of that entry has to reach its gateway, which is then let in no more. */
const LOOK_MS = 1_000;

export interface ReleasesOptions {
  readonly chains: Chains;
  readonly register: Register;
  readonly log: Log;
}

export class Releases {
  readonly #options: ReleasesOptions;
  readonly #told = new Map<string, DeskRecord>();

  constructor(options: ReleasesOptions) { this.#options = options; }

  /** Until `signal` aborts. Rejects with `ledger.*`. */
  async follow(desk: Pick<Desk, 'listen' | 'all'>, signal: AbortSignal): Promise<void> {
    const hear = (record: DeskRecord): void => { if (record.type === RELEASE && record.state === 'successful') this.#told.set(keyOf(record), record); };
    using _ = desk.listen(hear);
    for (const record of desk.all()) hear(record);
    while (!signal.aborted) {
      const attested = [...this.#told.values()].filter((record) => !this.#isPast(record) && this.#isAttested(record));
      await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined); // stopping: the next start looks again
      if (!signal.aborted) for (const record of attested) await this.#release(record);
    }
  }

  /** Nothing to be done: it is nobody's, or was claimed anew. */
  #isPast(record: DeskRecord): boolean {
    const gateway = this.#options.register.get(record.gateway);
    const isOfThisClaim = gateway?.state === 'claimed' && (gateway.claimedMicros ?? 0) <= record.submittedMicros;
    return !isOfThisClaim && this.#told.delete(keyOf(record));
  }

  #isAttested({ gateway, id }: DeskRecord): boolean {
    const { chains, register } = this.#options;
    return register.get(gateway)?.chains.some((chain) => chains.support(chain).some(({ index, bytes }) => index < (chains.record(chain)?.head?.treeSize ?? 0) && isReleaseOf(bytes, id))) ?? false;
  }

  async #release(record: DeskRecord): Promise<void> {
    if (this.#isPast(record)) return;
    const { register, log } = this.#options;
    const { gateway, id } = record;
    await register.released(gateway, CONTROLLER, `by command ${RELEASE}/${id}`);
    this.#told.delete(keyOf(record));
    log.info({ gateway, id }, `${gateway} is released: its chain says so`);
  }
}

function isReleaseOf(bytes: Uint8Array, id: string): boolean {
  const { body } = decodeEntry(bytes);
  if (!(body instanceof Map)) return false;
  const fields = body as ReadonlyMap<number, Cbor>;
  return fields.get(RESULT_BODY.type) === RELEASE && fields.get(RESULT_BODY.id) === id && fields.get(RESULT_BODY.state) === 'successful' && fields.get(RESULT_BODY.result) === RELEASED;
}
