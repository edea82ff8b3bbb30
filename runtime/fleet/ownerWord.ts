/**
 * What the fleet of the owner delivers to this gateway beside commands and twins: a renewed certificate, and lists of what was revoked. Retained, so that it
 * reaches who was away. INVARIANT: whatever does not count is counted and recorded with its reason, and a flood of it is not looked at.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Counters, LinkUser, Log } from '#runtime/core/ports.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { KIND, type Cbor, type Draft } from '#runtime/core/types.ts';
import { Refusals } from './refusals.ts';

export interface OwnerWordOptions {
  readonly gateway: string;
  /** Each throws a TenzroError for what does not count. The bytes are theirs. */
  readonly certificate: (pem: Buffer) => void;
  readonly revoked: (message: Buffer) => void;
  readonly ledger: { append(draft: Draft): Promise<number> };
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

export class OwnerWord {
  readonly #options: OwnerWordOptions;
  readonly #refusals: Refusals;

  constructor(options: OwnerWordOptions) {
    this.#options = options;
    this.#refusals = new Refusals({ ...options, record: (body) => { this.#record(body); } });
  }

  /** For the link to the owner's broker. */
  user(): LinkUser {
    const { gateway } = this.#options;
    return { filters: [`te/${gateway}/certificate`, `te/${gateway}/revoked/+`], receive: (topic, payload) => { this.#receive(topic, payload); } };
  }

  /** Tells of refusals that came too fast, until `signal` aborts. */
  async follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#refusals.due();
      await sleep(LIMITS.refusalIntervalMs, undefined, { signal }).catch(() => undefined); // aborted: the loop ends
    }
  }

  #receive(topic: string, payload: Uint8Array): void {
    if (payload.length === 0) return; // somebody cleared the topic
    if (!this.#refusals.mayJudge) return this.#options.counters.add('fleet.unjudged');
    const isCertificate = topic.endsWith('/certificate');
    try {
      if (payload.length > Math.max(LIMITS.certificateChainBytesMax, LIMITS.revocationBytesMax)) throw new TenzroError(isCertificate ? 'fleet.certificate' : 'fleet.revocation', `${payload.length} bytes`);
      this.#options[isCertificate ? 'certificate' : 'revoked'](Buffer.from(payload));
    } catch (cause) {
      const error = cause instanceof TenzroError ? cause : new TenzroError('core.invariant', messageOf(cause), { cause });
      this.#refusals.add({ target: MAIN_ENTITY, type: isCertificate ? 'certificate' : 'revoked', id: isCertificate ? '' : topic.slice(topic.lastIndexOf('/') + 1).slice(0, LIMITS.commandIdCharsMax) }, error, payload);
    }
  }

  #record(body: Cbor): void {
    const { ledger, clock, log } = this.#options;
    ledger.append({ kind: KIND.result, source: MAIN_ENTITY, wallMicros: clock.wallMicros(), monoMicros: clock.monoMicros(), body }).catch((error: unknown) => { log.warn({ error: messageOf(error) }, 'a refusal was not recorded'); });
  }
}
