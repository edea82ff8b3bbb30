/** Commands of a chaos run: signed by the owner and handed to the desk; some cancelled, too short-lived, handed in again, or with the id of another one; and forged ones in between. */
import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '#runtime/core/clock.ts';
import type { CommandClaims } from '#runtime/core/command.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { newSeed, signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';
import { signCommand } from '#runtime/fleet/message.ts';
import { GATEWAY, type ChaosFleet } from './chaosFleet.ts';

/** Out of 100. `restart` and `config_update` disturb: few of them. */
const TYPES = [['shell', 36], ['driver_call', 30], ['attest', 10], ['diagnostics', 8], ['log_upload', 6], ['sync_time', 4], ['config_update', 4], ['restart', 2]] as const;
const MANNERS = [['plain', 74], ['cancelled', 8], ['short', 6], ['again', 6], ['clashing', 6]] as const;
export type IssuedType = (typeof TYPES)[number][0] | 'cancel';
export type Manner = (typeof MANNERS)[number][0];

export interface Issued {
  readonly type: IssuedType;
  readonly id: string;
  readonly manner: Manner;
  readonly parameters: JsonObject;
}

const TTL_SECONDS = 900;
const SHORT_TTL_SECONDS = 2;
const FORGED_ONE_IN = 8;
const LOOK_MS = 60;
/** What the desk says while it is not there. */
const AWAY: readonly string[] = ['controller.offline', 'controller.unanswered'];

export interface CommandsOptions {
  readonly fleet: ChaosFleet;
  /** The file that shell lines write to. */
  readonly journal: string;
  readonly random: (below: number) => number;
  /** No more are under way. */
  readonly openMax: number;
}

export class Commands {
  readonly issued: Issued[] = [];
  /** Forged messages that gateway and desk got. */
  readonly forged = { gateway: 0, desk: 0 };
  /** Clashing ids that the desk refused. */
  clashes = 0;
  readonly #fleet: ChaosFleet;
  readonly #journal: string;
  readonly #openMax: number;
  readonly #random: (below: number) => number;
  readonly #stranger = signerOfSeed(newSeed());
  readonly #cancelling: Promise<void>[] = [];

  constructor({ fleet, journal, random, openMax }: CommandsOptions) {
    this.#fleet = fleet;
    this.#journal = journal;
    this.#random = random;
    this.#openMax = openMax;
  }

  /** Resolves when `count` are handed in. */
  async run(count: number, signal: AbortSignal): Promise<void> {
    while (this.issued.length < count && !signal.aborted) {
      await this.#room(signal);
      if (this.#random(FORGED_ONE_IN) === 0) await this.#forge();
      await this.#issue();
    }
    await Promise.all(this.#cancelling);
  }

  async #issue(): Promise<void> {
    const [type, manner] = [pick(TYPES, this.#random(100)), pick(MANNERS, this.#random(100))];
    const id = `k${this.issued.length}`;
    const command: Issued = { type, id, manner, parameters: this.#parametersOf(type, id, manner) };
    const message = this.#sign({ ...command, ttlSeconds: manner === 'short' ? SHORT_TTL_SECONDS : TTL_SECONDS });
    await this.#submit(command, message);
    if (manner === 'again') for (let times = 1 + this.#random(2); times > 0; times--) await this.#ask('commands.submit', message);
    if (manner === 'clashing') await this.#clash(command);
    if (manner === 'cancelled') this.#cancelling.push(delay(this.#random(1_500)).then(() => this.#cancel(command)));
  }

  #parametersOf(type: IssuedType, id: string, manner: Manner): JsonObject {
    switch (type) {
      case 'shell': return { command: `echo ${id} >> ${this.#journal}${manner === 'cancelled' ? '; sleep 2' : ''}` };
      case 'driver_call': return { driver: 'pump', operation: 'dose', parameters: { value: this.issued.length } };
      case 'attest': return { nonce: Buffer.from(id.padStart(16, '0')).toString('hex') };
      case 'config_update': return { config: this.#fleet.configuration(1 + this.issued.length) };
      default: return {};
    }
  }

  #sign({ type, id, parameters, ...over }: Pick<Issued, 'id' | 'parameters'> & Partial<CommandClaims> & { readonly type: string }, signer: Signer = this.#fleet.owner): JsonObject {
    const claims = { gateway: GATEWAY, target: MAIN_ENTITY, type, id, issued: nowSeconds(), ttlSeconds: TTL_SECONDS, isDryRun: false, parameters, ...over };
    return signCommand(signer, claims);
  }

  /** A short life may be over before the desk is there, or before it answers. */
  async #submit(command: Issued, message: JsonObject): Promise<void> {
    this.issued.push(command);
    const refusal = await this.#ask('commands.submit', message);
    if (refusal !== undefined && !(command.manner === 'short' && refusal.code === 'command.expired')) throw new Error(`the desk refuses ${command.type}/${command.id}`, { cause: refusal });
  }

  /** Until the desk answers. Resolves with its refusal. */
  async #ask(method: string, message: JsonObject): Promise<TenzroError | undefined> {
    for (;;) {
      try {
        await this.#fleet.ask(method, { commands: [{ gateway: GATEWAY, message }] });
        return undefined;
      } catch (error) {
        if (!(error instanceof TenzroError)) throw error;
        if (!AWAY.includes(error.code)) return error;
      }
      await delay(LOOK_MS);
    }
  }

  async #clash({ type, id }: Issued): Promise<void> {
    const refusal = await this.#ask('commands.submit', this.#sign({ type, id, parameters: { command: `echo clash-${id} >> ${this.#journal}` } }));
    if (refusal?.code !== 'controller.request') throw new Error(`another command as ${type}/${id}: ${refusal?.code ?? 'taken'}`);
    this.clashes++;
  }

  async #cancel({ type, id }: Issued): Promise<void> {
    const command: Issued = { type: 'cancel', id: `c-${id}`, manner: 'plain', parameters: { type, id } };
    this.issued.push(command);
    const refusal = await this.#ask('commands.cancel', this.#sign(command));
    if (refusal) throw new Error(`the desk refuses to cancel ${type}/${id}`, { cause: refusal });
  }

  /** Waits until few enough are under way. */
  async #room(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const { total } = await this.#fleet.ask('commands.list', { open: true });
        if (Number(total) < this.#openMax) return;
      } catch (error) {
        if (!(error instanceof TenzroError) || !AWAY.includes(error.code)) throw error;
      }
      await delay(LOOK_MS);
    }
  }

  /** To the gateway over its broker, and to the desk: nobody may obey. */
  async #forge(): Promise<void> {
    const id = `forged-${this.forged.gateway}`;
    const bad = this.#forgeries(id);
    const message = bad[this.#random(bad.length)] ?? {};
    const text = JSON.stringify(message);
    this.#fleet.inject(`te/${GATEWAY}/${MAIN_ENTITY}/cmd/shell/${id}`, this.#random(6) === 0 ? text.slice(0, this.#random(text.length)) : text);
    this.forged.gateway++;
    const refusal = await this.#ask('commands.submit', message);
    if (!refusal) throw new Error(`the desk took a forged command: ${text.slice(0, 300)}`);
    this.forged.desk++;
  }

  #forgeries(id: string): readonly JsonObject[] {
    const wish = { type: 'shell', id, parameters: { command: `echo ${id} >> ${this.#journal}` } };
    const { signature: _signature, ...unsigned } = this.#sign(wish);
    return [
      unsigned,
      this.#sign(wish, this.#stranger),
      { ...this.#sign({ ...wish, parameters: { command: 'true' } }), parameters: wish.parameters },
      this.#sign({ ...wish, gateway: 'edge-2' }),
      this.#sign({ ...wish, issued: nowSeconds() - 3_600, ttlSeconds: 1 }),
      { ...this.#sign(wish), version: 2 },
    ];
  }
}

const nowSeconds = (): number => Math.floor(systemClock.wallMicros() / 1_000_000);

function pick<T>(weighted: readonly (readonly [T, number])[], at: number): T {
  let sum = 0;
  for (const [what, weight] of weighted) {
    sum += weight;
    if (at < sum) return what;
  }
  throw new Error(`weights do not add up to ${at}`);
}
