/** What refused messages may cost: signatures that are judged, answers, and entries. A flood is counted, and told of once in a while. */
import { toHex } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { Credit } from '#runtime/core/credit.ts';
import type { ErrorCode, TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Counters, Log } from '#runtime/core/ports.ts';
import { RESULT_BODY, type Cbor } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { encodeResult } from './entries.ts';
import type { Place } from './judge.ts';

/** What cost a signature, and cost whoever sent it nothing. */
const COSTLY: ReadonlySet<ErrorCode> = new Set(['command.signature', 'twin.signature', 'fleet.certificate', 'fleet.revocation']);

export interface RefusalOptions {
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
  /** An entry of kind `result`. */
  readonly record: (body: Cbor) => void;
}

interface Refusal { readonly place: Place; readonly error: TenzroError; readonly digest: Uint8Array }

export class Refusals {
  readonly #options: RefusalOptions;
  readonly #told: Credit;
  readonly #forgeries: Credit;
  /** Refused since the last entry. */
  #untold = 0;
  #last: Refusal | undefined;

  constructor(options: RefusalOptions) {
    const now = options.clock.monoMicros();
    this.#options = options;
    this.#told = new Credit(LIMITS.refusalBurst, LIMITS.refusalIntervalMs, now);
    this.#forgeries = new Credit(LIMITS.forgeriesAtOnceMax, LIMITS.forgeryIntervalMs, now);
  }

  /** False while forgeries come faster than signatures may be judged: nothing is looked at then. */
  get mayJudge(): boolean { return this.#forgeries.has(this.#options.clock.monoMicros()); }

  /** True when the sender may be answered, too. */
  add(place: Place, error: TenzroError, payload: Uint8Array): boolean {
    const { clock, counters, log } = this.#options;
    counters.add(`fleet.refused.${error.code}`);
    if (COSTLY.has(error.code)) this.#forgeries.spend(clock.monoMicros());
    this.#untold += 1;
    this.#last = { place, error, digest: sha256(payload) };
    if (!this.#told.spend(clock.monoMicros())) return false;
    log.warn({ code: error.code, type: place.type, id: place.id, hint: error.hint }, `command refused: ${error.message}`);
    this.#tell(this.#last);
    return true;
  }

  /** Tells of those that came too fast, when it is time. Returns when to ask again, monotonic µs; undefined when there is nothing to tell. */
  due(): number | undefined {
    if (this.#untold === 0 || !this.#last) return undefined;
    if (!this.#told.spend(this.#options.clock.monoMicros())) return this.#told.nextMicros;
    this.#tell(this.#last);
    return undefined;
  }

  #tell({ place, error, digest }: Refusal): void {
    this.#options.record(encodeResult(place, { state: 'refused', code: error.code, reason: error.message }, [[RESULT_BODY.count, this.#untold], [RESULT_BODY.digest, digest]]));
    this.#options.log.debug({ digest: toHex(digest), count: this.#untold }, 'refusals recorded');
    this.#untold = 0;
  }
}
