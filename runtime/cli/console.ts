/** What `tenzro run` shows people: calm, a few lines a second at most. What it prints depends on its events alone, never on a clock of its own. */
import { toHex } from '#runtime/core/bytes.ts';
import type { GatewayEvent } from '#runtime/core/gatewayEvent.ts';
import { printable } from '#runtime/core/printable.ts';
import { INFERENCE_BODY, KIND, REGISTRATION_BODY, kindName, type Cbor, type Entry } from '#runtime/core/types.ts';
import { summaryOf, textOf } from './render.ts';

export interface ConsoleOptions {
  /** Takes one line without its end. */
  readonly write: (line: string) => void;
  readonly color: boolean;
  /** How a person calls the command where they stand, with what must stand before it: `npx tenzro`, `TENZRO_DATA=/srv/t npx tenzro`. */
  readonly command: string;
  /** Folder of the policy files, as the person would write it. */
  readonly policies: string;
}

/** Readings are a sample, in which every source has its turn; what is rare is shown at once, unless it comes in floods. */
const READING_INTERVAL_MICROS = 500_000;
const SOURCE_INTERVAL_MICROS = 5_000_000;
const RARE_PER_SECOND_MAX = 5;
/** Sources and models that are remembered as seen. */
const SEEN_MAX = 1_000;
const NAME_WIDTH = 22;

export class LiveConsole {
  readonly #options: ConsoleOptions;
  /** Monotonic µs of the last reading shown of each source. */
  readonly #sources = new Map<string, number>();
  readonly #verdicts = new Map<string, string>();
  #lastReadingMicros = Number.NEGATIVE_INFINITY;
  #secondStart = Number.NEGATIVE_INFINITY;
  #rareInSecond = 0;
  #covered = 0;
  #firstInference: number | undefined;
  #isHinted = false;

  constructor(options: ConsoleOptions) { this.#options = options; }

  show(event: GatewayEvent): void {
    switch (event.type) {
      case 'ready':
        this.#line('bold', 'Tenzro Edge', `${event.version} · ${event.node} · ready after ${Math.round(event.afterMs)} ms`);
        for (const listener of event.listeners) this.#line('dim', 'listening', listener);
        this.#line('dim', 'data', event.dataDir);
        return;
      case 'trust': this.#line(event.level === 'software' || event.level === 'emulated' ? 'yellow' : 'green', `trust: ${event.level}`, event.reason); return;
      case 'model': this.#line('dim', 'model', `${event.name} on ${event.provider}, sha256 ${event.digest.slice(0, 16)}…`); return;
      case 'entry': this.#entry(event.index, event.entry); return;
      case 'block': this.#block(event); return;
      case 'note': this.#line('dim', '', event.text); return;
    }
  }

  #entry(index: number, entry: Entry): void {
    switch (entry.kind) {
      case KIND.reading: this.#reading(index, entry); return;
      case KIND.inference: this.#inference(index, entry); return;
      case KIND.registration: this.#registration(entry); return;
      default: this.#rare(entry, entry.kind === KIND.alarm || entry.kind === KIND.gap ? 'yellow' : 'dim', entry.source, `${kindName(entry.kind) ?? entry.kind}: ${summaryOf(index, entry)}`);
    }
  }

  #reading(index: number, entry: Entry): void {
    const last = this.#sources.get(entry.source);
    if (last === undefined && this.#sources.size >= SEEN_MAX) return;
    const isDue = isOlder(this.#lastReadingMicros, entry.monoMicros, READING_INTERVAL_MICROS) && isOlder(last ?? Number.NEGATIVE_INFINITY, entry.monoMicros, SOURCE_INTERVAL_MICROS);
    if (!isDue) return;
    this.#sources.set(entry.source, entry.monoMicros);
    this.#lastReadingMicros = entry.monoMicros;
    this.#line('plain', entry.source, summaryOf(index, entry));
  }

  #registration(entry: Entry): void {
    const fields = entry.body instanceof Map ? (entry.body as ReadonlyMap<number, Cbor>) : new Map<number, Cbor>();
    const how = fields.get(REGISTRATION_BODY.how);
    if (how === 'metadata') return;
    const name = fields.get(REGISTRATION_BODY.name) ?? fields.get(REGISTRATION_BODY.type);
    this.#rare(entry, 'cyan', entry.source, `${how === 'removed' ? 'removed' : 'new device'}${name === undefined ? '' : `: ${textOf(name)}`}`);
  }

  /** The first verdict of a model on a source, and every change of it. */
  #inference(index: number, entry: Entry): void {
    this.#firstInference ??= index;
    const fields = entry.body instanceof Map ? (entry.body as ReadonlyMap<number, Cbor>) : new Map<number, Cbor>();
    const verdict = textOf(fields.get(INFERENCE_BODY.verdict));
    const key = `${entry.source} ${textOf(fields.get(INFERENCE_BODY.model))}`;
    if (this.#verdicts.get(key) === verdict || (!this.#verdicts.has(key) && this.#verdicts.size >= SEEN_MAX)) return;
    this.#verdicts.set(key, verdict);
    this.#rare(entry, verdict === 'normal' ? 'green' : 'red', entry.source, `${summaryOf(index, entry)} · entry ${index}`);
  }

  #block({ sequence, treeSize, root, level }: GatewayEvent & { type: 'block' }): void {
    const fresh = Math.max(0, treeSize - this.#covered);
    this.#covered = treeSize;
    this.#line('bold', `block ${sequence}`, `+${fresh} entries, ${treeSize} in all · root ${toHex(root).slice(0, 16)}… · ${level}`);
    const index = this.#firstInference;
    if (this.#isHinted || index === undefined || index >= treeSize) return;
    this.#isHinted = true;
    const { command, policies } = this.#options;
    this.#line('cyan', '', `Entry ${index} is an inference under an attested block. Prove it to a stranger, in another shell:`);
    this.#line('bold', '', `  ${command} proof ${index} -o reading.tzp`);
    this.#line('bold', '', `  ${command} verify reading.tzp${policyFlag(level, policies)}`);
  }

  #rare(entry: Entry, style: StyleName, name: string, text: string): void {
    if (isOlder(this.#secondStart, entry.monoMicros, 1_000_000)) {
      this.#secondStart = entry.monoMicros;
      this.#rareInSecond = 0;
    }
    if (++this.#rareInSecond <= RARE_PER_SECOND_MAX) this.#line(style, name, text);
  }

  #line(style: StyleName, name: string, text: string): void {
    const left = printable(name).padEnd(NAME_WIDTH);
    const code = STYLE[style];
    const head = this.#options.color && code !== 0 ? `\u001b[${code}m${left}\u001b[0m` : left;
    this.#options.write(name === '' ? printable(text) : `${head} ${printable(text)}`);
  }
}

/** Also true after a restart, when monotonic time begins anew. */
const isOlder = (thenMicros: number, nowMicros: number, ageMicros: number): boolean => nowMicros < thenMicros || nowMicros - thenMicros >= ageMicros;

/** Without a policy the verifier accepts certified and enrolled TPMs only. */
function policyFlag(level: string, policies: string): string {
  if (level === 'dtpm' || level === 'enrolled') return '';
  return ` --policy ${policies}/${level === 'software' ? 'allow-software' : 'allow-emulated'}.yaml`;
}

/** ECMA-48 select graphic rendition. */
const STYLE = { plain: 0, bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;
type StyleName = keyof typeof STYLE;
