/**
 * What is known of commands: a fold over their entries, kept beside the chain so that a start need not read it all and pruning forgets no id.
 * INVARIANT: an id that was taken is known until its key's horizon has passed it, so that no signed message is ever obeyed twice.
 */
import { COMMAND_STATES, hasEnded, type CommandState } from '#runtime/core/command.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import type { Cbor, Entry } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { decodeCommandEntry } from './entries.ts';
import { parseMessage } from './message.ts';

export interface Known {
  readonly key: string;
  readonly type: string;
  readonly id: string;
  readonly kid: string;
  /** Seconds since 1970. */
  readonly issued: number;
  readonly expiresMicros: number;
  /** Index of the command's entry, and of the one that said the state. */
  readonly commandIndex: number;
  readonly stateIndex: number;
  readonly state: CommandState;
  /** Of the run that said the state. */
  readonly bootEpoch: number;
}

const PREFIX = 'command\u0001';
const KNOWN = `${PREFIX}k\u0001`;
const HORIZON = `${PREFIX}h\u0001`;
const BEGUN = `${PREFIX}begun`;
const FIELD = { type: 1, id: 2, kid: 3, issued: 4, expiresMicros: 5, commandIndex: 6, stateIndex: 7, state: 8, bootEpoch: 9 } as const;

export const keyOf = (type: string, id: string): string => `${type}/${id}`;

export class CommandBook {
  readonly #kv: KeyValueStore;
  readonly #known = new Map<string, Known>();
  /** Greatest `issued` that was forgotten, by key. */
  readonly #horizons = new Map<string, number>();
  /** False for a new or damaged book: the chain has to be read from its beginning. */
  readonly isFound: boolean;

  constructor(kv: KeyValueStore) {
    this.#kv = kv;
    this.isFound = [...kv.range(BEGUN)].length > 0 && this.#read();
  }

  /** False where something in it does not decode. */
  #read(): boolean {
    let isWhole = true;
    for (const { value } of this.#kv.range(KNOWN)) {
      const known = decodeKnown(value);
      if (known) this.#known.set(known.key, known);
      else isWhole = false;
    }
    for (const { key, value } of this.#kv.range(HORIZON)) {
      const horizon = cborOf(value);
      if (typeof horizon === 'number') this.#horizons.set(key.slice(HORIZON.length), horizon);
      else isWhole = false;
    }
    return isWhole;
  }

  get(key: string): Known | undefined { return this.#known.get(key); }
  all(): Iterable<Known> { return this.#known.values(); }
  open(): readonly Known[] { return [...this.#known.values()].filter(({ state }) => !hasEnded(state)); }
  horizonOf(kid: string): number { return this.#horizons.get(kid) ?? -1; }

  /** The chain is read up to here: a loss of the book would show from now on. */
  begin(): void { this.#kv.put(BEGUN, encodeCbor(true)); }

  /** Resolves when what was folded is on disk. */
  async flushed(): Promise<void> { await this.#kv.flushed(); }

  /** Entries in their order; one that was folded before changes nothing. Returns what the command is now. */
  fold(index: number, entry: Entry): Known | undefined {
    const decoded = decodeCommandEntry(entry);
    if (!decoded || (decoded.kind === 'result' && decoded.body.state === 'refused')) return undefined;
    const key = keyOf(decoded.body.type, decoded.body.id);
    const before = this.#known.get(key);
    if (decoded.kind === 'result') return before && (hasEnded(before.state) ? before : this.#put({ ...before, state: decoded.body.state, stateIndex: index, bootEpoch: entry.bootEpoch }));
    if (before) return before;
    const { type, id, kid, message, expiresMicros } = decoded.body;
    const { issued } = parseMessage(message);
    if (typeof issued !== 'number' || issued <= this.horizonOf(kid)) return undefined;
    const known = this.#put({ key, type, id, kid, issued, expiresMicros, commandIndex: index, stateIndex: index, state: 'init', bootEpoch: entry.bootEpoch });
    this.#forgetBeyondLimit(kid);
    return known;
  }

  #put(known: Known): Known {
    this.#known.set(known.key, known);
    this.#kv.put(KNOWN + known.key, encodeKnown(known));
    return known;
  }

  #forgetBeyondLimit(kid: string): void {
    const own = [...this.#known.values()].filter((known) => known.kid === kid);
    if (own.length <= LIMITS.commandsRememberedMax) return;
    const [oldest] = own.filter(({ state }) => hasEnded(state)).toSorted((a, b) => a.issued - b.issued);
    if (!oldest) return;
    const horizon = Math.max(this.horizonOf(kid), oldest.issued);
    this.#horizons.set(kid, horizon);
    this.#kv.put(HORIZON + kid, encodeCbor(horizon));
    this.#known.delete(oldest.key);
    this.#kv.remove(KNOWN + oldest.key);
  }
}

const encodeKnown = (known: Known): Buffer => encodeCbor(new Map<number, Cbor>(Object.entries(FIELD).map(([name, number]) => [number, known[name as keyof typeof FIELD]])));

function cborOf(bytes: Uint8Array): Cbor | undefined {
  try {
    return decodeCbor(bytes);
  } catch {
    return undefined; // whoever reads it falls back on the chain
  }
}

function decodeKnown(bytes: Uint8Array): Known | undefined {
  const value = cborOf(bytes);
  if (!(value instanceof Map)) return undefined;
  const fields = value as ReadonlyMap<number, Cbor>;
  const text = (key: number): string => { const field = fields.get(key); return typeof field === 'string' ? field : ''; };
  const state = COMMAND_STATES.find((name) => name === fields.get(FIELD.state));
  if (!state) return undefined;
  return {
    key: keyOf(text(FIELD.type), text(FIELD.id)), type: text(FIELD.type), id: text(FIELD.id), kid: text(FIELD.kid), issued: countOf(fields.get(FIELD.issued)), expiresMicros: countOf(fields.get(FIELD.expiresMicros)),
    commandIndex: countOf(fields.get(FIELD.commandIndex)), stateIndex: countOf(fields.get(FIELD.stateIndex)), state, bootEpoch: countOf(fields.get(FIELD.bootEpoch)),
  };
}

const countOf = (value: Cbor | undefined): number => (typeof value === 'number' ? value : 0);
