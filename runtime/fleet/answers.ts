/** What is said of commands, and where: on every broker that retains the command, and on no other. Somebody else's word on a topic of ours does not stay. */
import { equalBytes } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { Credit } from '#runtime/core/credit.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Counters } from '#runtime/core/ports.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import type { Known } from './book.ts';
import type { decodeCommandEntry } from './entries.ts';
import type { Place } from './judge.ts';
import { parseMessage, type CommandMessage } from './message.ts';

/** A broker that commands come over, and where their states are told. */
export interface CommandSource {
  /** Says the state on the command's topic, retained. MUST NOT throw. */
  announce(place: Place, message: CommandMessage): void;
}

export interface AnswersOptions {
  /** Undefined where the entry is gone. */
  readonly read: (index: number) => ReturnType<typeof decodeCommandEntry>;
  readonly clock: Clock;
  readonly counters: Counters;
}

export const placeOf = ({ type, id }: Pick<Known, 'type' | 'id'>): Place => ({ target: MAIN_ENTITY, type, id });

export class Answers {
  readonly #options: AnswersOptions;
  /** Keys of the commands that each source retains: where one was cleared, or never was, nothing is said of it. */
  readonly #held = new Map<CommandSource, Set<string>>();
  readonly #credit: Credit;

  constructor(options: AnswersOptions) {
    this.#options = options;
    this.#credit = new Credit(LIMITS.forgeriesAtOnceMax, LIMITS.forgeryIntervalMs, options.clock.monoMicros());
  }

  hold(source: CommandSource, key: string): void {
    const held = this.#held.get(source);
    if (held) held.add(key);
    else this.#held.set(source, new Set([key]));
  }

  /** The requester took the command away there. */
  clear(source: CommandSource, key: string): void { this.#held.get(source)?.delete(key); }

  forget(source: CommandSource): void { this.#held.delete(source); }

  /** Nothing more will be said of the other ones. */
  keep(isKnown: (key: string) => boolean): void {
    for (const held of this.#held.values()) for (const key of held) if (!isKnown(key)) held.delete(key);
  }

  /** To a command delivered again, a state that was forged, an answer that was overtaken. A flood of them is not looked at. */
  restate(source: CommandSource, known: Known, payload: Uint8Array): void {
    const { clock, counters } = this.#options;
    this.hold(source, known.key);
    if (known.state === 'init') return;
    if (!this.#credit.has(clock.monoMicros())) return counters.add('fleet.unjudged');
    const message = this.#messageOf(known);
    if (equalBytes(Buffer.from(JSON.stringify(message)), payload)) return;
    this.#credit.spend(clock.monoMicros());
    source.announce(placeOf(known), message);
  }

  announce(known: Known): void {
    const message = this.#messageOf(known);
    for (const [source, held] of this.#held) if (held.has(known.key)) source.announce(placeOf(known), message);
  }

  /** The message as it was signed, with what became of it in place of the signature. */
  #messageOf(known: Known): CommandMessage {
    const command = this.#options.read(known.commandIndex);
    const said = this.#options.read(known.stateIndex);
    const original = command?.kind === 'command' && command.body.id === known.id ? parseMessage(command.body.message) : { type: known.type, id: known.id };
    const { signature: _signature, ...members } = original;
    const { reason, code, result } = said?.kind === 'result' ? said.body : {};
    return {
      ...members, status: known.state, ...(code === undefined ? {} : { reason: `${code}: ${reason ?? ''}` }),
      ...(result === undefined ? {} : { result: JSON.parse(result) as CommandMessage }),
    };
  }
}
