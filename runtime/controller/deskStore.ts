/** What the desk keeps: commands that have not ended with their signed messages, and a bounded history of those that have. Read from disk once. */
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { canonicalJson, isJsonObject, type JsonObject } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { decodeDeskRecord, encodeDeskRecord, isFinal, isOver, keyOf, type DeskRecord } from './deskRecord.ts';

const PREFIX = 'desk\u0001';
const PART = { record: `${PREFIX}r\u0001`, message: `${PREFIX}m\u0001`, digest: `${PREFIX}d\u0001`, said: `${PREFIX}s\u0001` } as const;
const END = '\u0001';

export class DeskStore {
  readonly #kv: KeyValueStore;
  readonly #open = new Map<string, DeskRecord>();
  /** In the order in which they ended. */
  readonly #ended = new Map<string, DeskRecord>();
  /** Values that are written and perhaps not on disk yet, by their keys there. */
  readonly #fresh = new Map<string, Uint8Array>();
  readonly #historyMax: number;

  /** Throws `ledger.corrupt`. */
  constructor(kv: KeyValueStore, historyMax: number = LIMITS.deskHistoryMax) {
    this.#kv = kv;
    this.#historyMax = historyMax;
    const records = [...kv.range(PART.record)].map(({ value }) => decodeDeskRecord(value)).toSorted((a, b) => a.changedMicros - b.changedMicros);
    for (const record of records) (isOver(record.state) ? this.#ended : this.#open).set(keyOf(record), record);
  }

  get openCount(): number { return this.#open.size; }
  get(key: string): DeskRecord | undefined { return this.#open.get(key) ?? this.#ended.get(key); }
  open(): readonly DeskRecord[] { return [...this.#open.values()]; }
  *all(): Iterable<DeskRecord> { yield* this.#ended.values(); yield* this.#open.values(); }

  /** The signed message while its outcome is not known. */
  message(key: string): JsonObject | undefined {
    const stored = this.#read(PART.message, key);
    return stored && objectIn(stored);
  }

  /** Whether that command is this very message. */
  holds(key: string, message: JsonObject): boolean {
    const digest = this.#read(PART.digest, key);
    return digest !== undefined && equalBytes(digest, digestOf(message));
  }

  said(key: string): JsonObject {
    const stored = this.#read(PART.said, key);
    return stored ? objectIn(stored) : {};
  }

  add(record: DeskRecord, message: JsonObject): void {
    const key = keyOf(record);
    this.#open.set(key, record);
    this.#write(PART.record, key, encodeDeskRecord(record));
    this.#write(PART.message, key, Buffer.from(JSON.stringify(message)));
    this.#write(PART.digest, key, digestOf(message));
  }

  /** Returns what had to be forgotten for it. */
  change(record: DeskRecord, said: JsonObject = {}): readonly DeskRecord[] {
    const key = keyOf(record);
    this.#write(PART.record, key, encodeDeskRecord(record));
    if (Object.keys(said).length > 0) this.#write(PART.said, key, Buffer.from(JSON.stringify(said)));
    if (isFinal(record.state)) this.#remove(PART.message, key);
    const isEnded = isOver(record.state);
    (isEnded ? this.#open : this.#ended).delete(key);
    this.#ended.delete(key);
    (isEnded ? this.#ended : this.#open).set(key, record);
    return this.#forgetBeyondLimit();
  }

  #forgetBeyondLimit(): readonly DeskRecord[] {
    const gone: DeskRecord[] = [];
    for (const [key, record] of this.#ended) {
      if (this.#ended.size <= this.#historyMax) break;
      this.#ended.delete(key);
      for (const part of Object.values(PART)) this.#remove(part, key);
      gone.push(record);
    }
    return gone;
  }

  async flushed(): Promise<void> {
    const written = [...this.#fresh];
    await this.#kv.flushed();
    for (const [key, value] of written) if (this.#fresh.get(key) === value) this.#fresh.delete(key);
  }

  #write(part: string, key: string, value: Uint8Array): void {
    this.#kv.put(`${part}${key}${END}`, value);
    if (part !== PART.record) this.#fresh.set(`${part}${key}${END}`, value);
  }

  #remove(part: string, key: string): void {
    this.#kv.remove(`${part}${key}${END}`);
    this.#fresh.delete(`${part}${key}${END}`);
  }

  #read(part: string, key: string): Uint8Array | undefined {
    const fresh = this.#fresh.get(`${part}${key}${END}`);
    if (fresh) return fresh;
    const [found] = this.#kv.range(`${part}${key}${END}`);
    return found?.value;
  }
}

const digestOf = (message: JsonObject): Uint8Array => sha256(Buffer.from(canonicalJson(message)));

function objectIn(bytes: Uint8Array): JsonObject {
  const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'));
  if (!isJsonObject(value)) throw new TenzroError('ledger.corrupt', 'a message of the controller\'s store is none');
  return value;
}
