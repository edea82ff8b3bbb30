/** The topics of commands on one broker: the gateway's own, or a fleet's. */
import { COMMAND_CLASS, COMMAND_TYPES, type CommandType } from '#runtime/core/command.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import type { CommandSource } from './answers.ts';
import type { Place } from './judge.ts';
import type { CommandMessage } from './message.ts';

/** Retained; an empty payload clears what is retained. MUST NOT throw. */
export type PublishRetained = (topic: string, payload: string) => void;

export class CommandTopics implements CommandSource {
  readonly #root: string;
  readonly #publish: PublishRetained;
  /** Types that were said to be supported; undefined before anything was said. */
  #said: ReadonlySet<CommandType> | undefined;

  /** Without `gateway`: on the gateway's own broker. */
  constructor(gateway: string | undefined, publish: PublishRetained) {
    this.#root = `te/${gateway === undefined ? '' : `${gateway}/`}${MAIN_ENTITY}/cmd`;
    this.#publish = publish;
  }

  /** Of commands; capabilities do not match. */
  get filter(): string { return `${this.#root}/+/+`; }

  /** Undefined for capabilities, and for what is no topic of a command. */
  placeOf(topic: string): Place | undefined {
    const [type, id, ...others] = topic.startsWith(`${this.#root}/`) ? topic.slice(this.#root.length + 1).split('/') : [];
    return type && id && others.length === 0 ? { target: MAIN_ENTITY, type, id } : undefined;
  }

  announce({ type, id }: Place, message: CommandMessage): void { this.#publish(`${this.#root}/${type}/${id}`, JSON.stringify(message)); }

  /** What is not supported is cleared where this run, or one before it, may have said otherwise. */
  sayCapabilities(supported: ReadonlySet<CommandType>): void {
    for (const type of COMMAND_TYPES) {
      if (supported.has(type)) this.#publish(`${this.#root}/${type}`, JSON.stringify({ class: COMMAND_CLASS[type] }));
      else if (this.#said?.has(type) ?? true) this.#publish(`${this.#root}/${type}`, '');
    }
    this.#said = supported;
  }
}
