/** What a scenario is, and what it is given. */
import type { SlotName } from './bootModel.ts';
import type { Console } from './console.ts';
import type { Tools } from './tools.ts';

export type Tier = 'quick' | 'full';

export interface Stage {
  readonly tools: Tools;
  /** Of this scenario alone; what lies here is kept afterwards, but for cards. */
  readonly folder: string;
  /** Of all scenarios, over runs. */
  readonly shared: string;
  /** Of boot.cmd. */
  readonly bootScript: string;
  /** Built for emulation; undefined where none was named. */
  readonly image: string | undefined;
  readonly bundle: string | undefined;
  readonly seed: number;
  /** How many power cuts are replayed. */
  readonly cuts: number;
  /** One line, at once. */
  readonly say: (line: string) => void;
}

export interface Scenario {
  readonly name: string;
  readonly tier: Tier;
  readonly about: string;
  /** Resolves with what it found, in a few words. Throws what did not hold, or `Skipped`. */
  readonly run: (stage: Stage) => Promise<string>;
}

export class Skipped extends Error {}

/** Seconds of each phase of a scenario. */
export class Phases {
  readonly #startedMs = performance.now();
  readonly #entries: { readonly name: string; readonly seconds: number }[] = [];
  #lastMs = this.#startedMs;
  readonly #say: (line: string) => void;

  constructor(say: (line: string) => void) { this.#say = say; }

  /** What just ended. */
  done(name: string): void {
    const nowMs = performance.now();
    const seconds = (nowMs - this.#lastMs) / 1_000;
    this.#lastMs = nowMs;
    this.#entries.push({ name, seconds });
    this.#say(`${seconds.toFixed(1).padStart(8)} s  ${name}`);
  }

  get text(): string { return this.#entries.map(({ name, seconds }) => `${name} ${seconds.toFixed(1)} s`).join(', '); }
}

/** The lines that boot.cmd says: its choice, once that is on the card, or that it has none. */
const CHOICE = /tenzro: (?:slot ([AB]), order [^\r\n]*|no slot has tries left[^\r\n]*)\r?\n/;

/** From power to U-Boot's choice. */
const CHOICE_TIMEOUT_MS = 90_000;

export interface SeenChoice {
  readonly slot: SlotName | undefined;
  readonly line: string;
}

export async function nextChoice(line: Console, timeoutMs = CHOICE_TIMEOUT_MS, unless?: RegExp): Promise<SeenChoice> {
  const [said, slot] = await line.waitFor(CHOICE, { timeoutMs, ...(unless === undefined ? {} : { unless }) });
  return { slot: slot === 'A' || slot === 'B' ? slot : undefined, line: said.trim() };
}
