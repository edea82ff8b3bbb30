/** What a gateway's chain says after a chaos run: of each command, of each reading, of each start. */
import { KIND, READING_BODY, type Cbor } from '#runtime/core/types.ts';
import { decodeCommandEntry } from '#runtime/fleet/entries.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import type { ChainReader } from '#runtime/ledger/reader.ts';

export interface Story {
  /** Indices of entries, in order. */
  readonly accepted: number[];
  readonly executing: number[];
  readonly ends: { readonly index: number; readonly state: 'successful' | 'failed'; readonly code: string; readonly result: string }[];
  /** Codes. */
  readonly refused: string[];
}

const READING_SOURCE = /^te\/device\/load-(\d+)\/\/\/m\/environment$/;

export class Stories {
  readonly byKey = new Map<string, Story>();
  /** Numbers of readings with their indices, by publisher, in the order of the chain. */
  readonly readings = new Map<number, { readonly seq: number; readonly index: number }[]>();
  /** Keys of config_updates that succeeded, in order. */
  readonly configured: string[] = [];
  boots = 0;
  gaps = 0;
  #next = 0;

  get(key: string): Story | undefined { return this.byKey.get(key); }
  get readTo(): number { return this.#next; }

  /** What came since. */
  read(reader: ChainReader): void {
    const size = reader.size();
    for (const { index, bytes } of reader.read(this.#next, size - this.#next)) this.#take(index, bytes);
    this.#next = size;
  }

  #take(index: number, bytes: Uint8Array): void {
    const entry = decodeEntry(bytes);
    const { kind, body } = entry;
    if (kind === KIND.boot) this.boots++;
    else if (kind === KIND.gap) this.gaps++;
    else if (kind === KIND.reading && body instanceof Map) this.#takeReading(index, body as ReadonlyMap<number, Cbor>);
    else this.#takeCommand(index, entry);
  }

  #takeReading(index: number, body: ReadonlyMap<number, Cbor>): void {
    const topic = body.get(READING_BODY.topic);
    const publisher = typeof topic === 'string' ? READING_SOURCE.exec(topic)?.[1] : undefined;
    const payload = body.get(READING_BODY.payload);
    const seq = payload instanceof Uint8Array ? /"seq":(\d+)/.exec(Buffer.from(payload).toString('latin1'))?.[1] : undefined;
    if (publisher === undefined || seq === undefined) return;
    const readings = this.readings.get(Number(publisher)) ?? [];
    readings.push({ seq: Number(seq), index });
    this.readings.set(Number(publisher), readings);
  }

  #takeCommand(index: number, entry: ReturnType<typeof decodeEntry>): void {
    const said = decodeCommandEntry(entry);
    if (!said) return;
    const key = `${said.body.type}/${said.body.id}`;
    const story = this.byKey.get(key) ?? { accepted: [], executing: [], ends: [], refused: [] };
    this.byKey.set(key, story);
    if (said.kind === 'command') return void story.accepted.push(index);
    const { state, code = '', result = '' } = said.body;
    if (state === 'refused') story.refused.push(code);
    if (state === 'executing') story.executing.push(index);
    if (state !== 'successful' && state !== 'failed') return;
    story.ends.push({ index, state, code, result });
    if (said.body.type === 'config_update' && state === 'successful') this.configured.push(key);
  }
}
