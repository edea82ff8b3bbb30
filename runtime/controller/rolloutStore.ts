/** Roll-outs on disk: the last snapshot and the events since, and the messages that an owner signed for it beforehand. */
import { TenzroError } from '#runtime/core/errors.ts';
import { isJsonObject, type JsonObject } from '#runtime/core/json.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { encodeEvent, encodeRollout, replay, type Taken } from './rolloutCodec.ts';
import type { RolloutState } from './rolloutState.ts';

const PREFIX = 'rollout\u0001';
const END = '\u0001';
const PLACES = 12;
const snapshotKey = (id: string): string => `${PREFIX}s${END}${id}${END}`;
const eventKey = (id: string, sequence: number): string => `${PREFIX}e${END}${id}${END}${String(sequence).padStart(PLACES, '0')}`;
const messageKey = (id: string, commandId: string): string => `${PREFIX}m${END}${id}${END}${commandId}${END}`;

export class RolloutStore {
  readonly #kv: KeyValueStore;

  constructor(kv: KeyValueStore) { this.#kv = kv; }

  /** Ids of those that have begun. */
  ids(): readonly string[] {
    const head = `${PREFIX}s${END}`;
    return [...this.#kv.range(head)].map(({ key }) => key.slice(head.length, -END.length));
  }

  /** With the number of events since its snapshot. Throws `rollout.malformed`. */
  load(id: string): { readonly state: RolloutState; readonly events: number } {
    const [snapshot] = this.#kv.range(snapshotKey(id));
    if (!snapshot) throw new TenzroError('rollout.malformed', `roll-out ${id} has no snapshot`);
    const events = [...this.#kv.range(eventKey(id, 0).slice(0, -PLACES))].map(({ value }) => value);
    return { state: replay(snapshot.value, events), events: events.length };
  }

  /** The place of an event is its number since the snapshot. */
  append(id: string, sequence: number, taken: Taken): void { this.#kv.put(eventKey(id, sequence), encodeEvent(taken)); }

  /** In one transaction, takes the place of the one before and its events. */
  snapshot(id: string, state: RolloutState, events: number): void {
    this.#kv.put(snapshotKey(id), encodeRollout(state));
    for (let sequence = 0; sequence < events; sequence++) this.#kv.remove(eventKey(id, sequence));
  }

  putMessage(id: string, commandId: string, message: JsonObject): void { this.#kv.put(messageKey(id, commandId), Buffer.from(JSON.stringify(message))); }

  message(id: string, commandId: string): JsonObject | undefined {
    const [stored] = this.#kv.range(messageKey(id, commandId));
    const value: unknown = stored ? JSON.parse(Buffer.from(stored.value).toString('utf8')) : undefined;
    return isJsonObject(value) ? value : undefined;
  }

  /** Ids of the commands that are signed for it. */
  *messages(id: string): Iterable<string> {
    const head = messageKey(id, '').slice(0, -END.length);
    for (const { key } of this.#kv.range(head)) yield key.slice(head.length, -END.length);
  }

  /** Also what was handed in for one that never began. */
  remove(id: string, events: number): void {
    for (const commandId of this.messages(id)) this.#kv.remove(messageKey(id, commandId));
    this.#kv.remove(snapshotKey(id));
    for (let sequence = 0; sequence < events; sequence++) this.#kv.remove(eventKey(id, sequence));
  }

  /** Messages of roll-outs that never began: whoever handed them in went away. */
  sweep(): void {
    const begun = new Set(this.ids());
    const head = `${PREFIX}m${END}`;
    for (const { key } of this.#kv.range(head)) {
      const [id = ''] = key.slice(head.length).split(END);
      if (!begun.has(id)) this.#kv.remove(key);
    }
  }

  async flushed(): Promise<void> { await this.#kv.flushed(); }
}
