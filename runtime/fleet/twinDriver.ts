/**
 * The twins of this gateway on its fleets' brokers: takes up what somebody signed who may `config_update`, and reports on every link what became of it.
 * INVARIANT: nothing is fed to a twin whose signature was not verified; whatever is refused is counted and recorded with its reason.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { toHex } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { mayCommand, type Operator } from '#runtime/core/command.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Counters, FleetLink, KeyValueStore, LinkUser, Log } from '#runtime/core/ports.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { decodeConfirmation, decodeDesired, encodeReported, TWIN_TYP, twinSigningInput, twinTopic, type Reported } from '#runtime/core/twin.ts';
import { KIND, type Draft } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { parseDetached } from '#runtime/crypto/jws.ts';
import { Refusals } from './refusals.ts';
import { TwinKeeper, type TwinPort } from './twinKeeper.ts';

export interface TwinDriverOptions {
  readonly gateway: string;
  readonly twins: ReadonlyMap<string, TwinPort>;
  readonly operators: () => readonly Operator[];
  readonly store: KeyValueStore;
  readonly ledger: { append(draft: Draft): Promise<number> };
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

/** One fleet's link, and what its broker has acknowledged of us over this connection. */
interface Audience {
  link?: FleetLink;
  readonly told: Map<string, number>;
  readonly telling: Set<string>;
}

export class TwinDriver {
  readonly #options: TwinDriverOptions;
  readonly #keepers: ReadonlyMap<string, TwinKeeper>;
  readonly #refusals: Refusals;
  readonly #audiences: Audience[] = [];

  constructor(options: TwinDriverOptions) {
    this.#options = options;
    this.#refusals = new Refusals({ ...options, record: (body) => { this.#append({ kind: KIND.result, body }); } });
    this.#keepers = new Map([...options.twins].map(([name, port]) => [name, new TwinKeeper({ ...options, name, port, onReport: () => { this.#report(name); } })]));
  }

  /** One for each link. */
  user(): LinkUser {
    const { gateway } = this.#options;
    const audience: Audience = { told: new Map(), telling: new Set() };
    this.#audiences.push(audience);
    return {
      filters: (['desired', 'confirm'] as const).map((what) => twinTopic(gateway, 'name', what).replace('/name/', '/+/')),
      receive: (topic, payload) => { this.#receive(topic, payload); },
      connected: (link) => {
        audience.link = link;
        audience.told.clear(); // the broker may have lost what it retained
        for (const name of this.#keepers.keys()) this.#tell(audience, name);
      },
    };
  }

  /** Until `signal` aborts. */
  async follow(signal: AbortSignal): Promise<void> {
    await Promise.all([...this.#keepers.values()].map((keeper) => keeper.follow(signal)).concat(this.#tellRefusals(signal)));
  }

  async #tellRefusals(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#refusals.due();
      await sleep(LIMITS.refusalIntervalMs, undefined, { signal }).catch(() => undefined); // aborted: the loop ends
    }
  }

  #receive(topic: string, payload: Uint8Array): void {
    const [name = '', what] = topic.split('/').slice(-2);
    if (payload.length === 0) return; // somebody cleared the topic
    if (!this.#refusals.mayJudge) return this.#options.counters.add('twin.unjudged');
    try {
      if (what === 'desired') this.#takeDesired(name, Buffer.from(payload));
      else this.#takeConfirmation(name, Buffer.from(payload));
    } catch (cause) {
      const error = cause instanceof TenzroError ? cause : new TenzroError('core.invariant', messageOf(cause), { cause });
      this.#refusals.add({ target: MAIN_ENTITY, type: 'twin', id: name.slice(0, LIMITS.commandIdCharsMax) }, error, payload);
    }
  }

  #takeDesired(name: string, bytes: Buffer): void {
    const { message, signature } = decodeDesired(bytes);
    const [keeper, port] = [this.#keepers.get(name), this.#options.twins.get(name)];
    if (!keeper || !port) throw new TenzroError('twin.unknown', `there is no twin ${name.slice(0, LIMITS.commandIdCharsMax)}`);
    const jws = parseDetached(signature, TWIN_TYP.desired);
    const operator = this.#options.operators().find(({ kid }) => kid === jws.kid);
    if (!operator || !mayCommand(operator, 'config_update')) throw new TenzroError('twin.operator', operator ? `${operator.name} may not config_update` : `nobody here has key ${jws.kid.slice(0, 43)}`);
    if (!jws.isSignedBy(operator.publicKey, twinSigningInput(this.#options.gateway, name, 'desired', message))) throw new TenzroError('twin.signature', `not by the key of ${operator.name}, or not for this gateway and twin`);
    if (message.version < keeper.newestVersion) throw new TenzroError('twin.stale', `version ${message.version} is behind ${keeper.newestVersion}`);
    if (message.version === keeper.newestVersion) return this.#options.counters.add('twin.redelivered');
    const fault = port.faultOf(message.value);
    keeper.feed({ kind: 'desired', desired: message, ...(fault === undefined ? {} : { fault }) }, { message: bytes, operator: operator.name, kid: operator.kid });
  }

  /** Retained ones of earlier trials come again with every connection. */
  #takeConfirmation(name: string, bytes: Buffer): void {
    const { message, key, signature } = decodeConfirmation(bytes);
    const keeper = this.#keepers.get(name);
    if (!keeper) throw new TenzroError('twin.unknown', `there is no twin ${name.slice(0, LIMITS.commandIdCharsMax)}`);
    const { probation } = keeper;
    if (probation?.trial.version !== message.version) return this.#options.counters.add('twin.redelivered');
    if (toHex(sha256(key)) !== probation.trial.confirmKey) throw new TenzroError('twin.signature', 'not by the key that may confirm this version');
    if (!parseDetached(signature, TWIN_TYP.confirm).isSignedBy(key, twinSigningInput(this.#options.gateway, name, 'confirm', message))) throw new TenzroError('twin.signature', 'the confirmation was altered, or is for another gateway or twin');
    if (message.revision < probation.sinceRevision || message.revision > keeper.report.revision) throw new TenzroError('twin.stale', `it confirms report ${message.revision}, and this trial began with ${probation.sinceRevision}`);
    keeper.feed({ kind: 'confirmed', confirmation: message }, { message: bytes });
  }

  #report(name: string): void {
    for (const audience of this.#audiences) this.#tell(audience, name);
  }

  /** Each report once over each connection, and the newest at last. */
  #tell(audience: Audience, name: string): void {
    const { link, told, telling } = audience;
    const report = this.#keepers.get(name)?.report;
    if (!report || !link?.isReady || telling.has(name) || told.get(name) === report.revision) return;
    telling.add(name);
    this.#publish(link, name, report).then((isTold) => {
      telling.delete(name);
      if (!isTold) return;
      told.set(name, report.revision);
      this.#tell(audience, name);
    }).catch((error: unknown) => { this.#options.log.error({ twin: name, error: messageOf(error) }, 'not reported'); });
  }

  /** False while the broker is away: the next connection brings it. */
  async #publish(link: FleetLink, name: string, report: Reported): Promise<boolean> {
    try {
      await link.publish(twinTopic(this.#options.gateway, name, 'reported'), encodeReported(report), { retain: true });
      return true;
    } catch (error) {
      this.#options.log.debug({ twin: name, error: messageOf(error) }, 'not reported yet');
      return false;
    }
  }

  #append({ kind, body }: Pick<Draft, 'kind' | 'body'>): void {
    const { ledger, clock, log } = this.#options;
    ledger.append({ kind, source: MAIN_ENTITY, wallMicros: clock.wallMicros(), monoMicros: clock.monoMicros(), body }).catch((error: unknown) => { log.warn({ error: messageOf(error) }, 'a refusal was not recorded'); });
  }
}
