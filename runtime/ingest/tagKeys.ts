/**
 * The keys of redelivery tags, in a file of the data directory that only its owner may read: at most the newest few, one per content key. They open
 * nothing; whoever has them and the chain can test guesses about messages of those epochs, and of no earlier ones.
 */
import { createHmac, createSecretKey, randomBytes, timingSafeEqual, type KeyObject } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { u64be } from '#runtime/core/bytes.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { CONTEXT_BYTES } from '#runtime/ledger/confidential.ts';
import type { Tagged, TagKeys } from './confidential.ts';

const FILE_NAME = 'redelivery.keys';
const KEY_BYTES = 32;
const RECORD_BYTES = CONTEXT_BYTES + KEY_BYTES;
const TAG_BYTES = 8;
const OWNER_ONLY = 0o600;

interface TagKey {
  readonly context: Buffer;
  /** As a KeyObject it is set up once, not per tag. */
  readonly key: KeyObject;
}

/** A missing or damaged file is an empty one: redeliveries over that restart are recorded twice then, flagged as duplicates. */
export function openTagKeys(dataDir: string): TagKeys {
  return new FileTagKeys(join(dataDir, FILE_NAME));
}

class FileTagKeys implements TagKeys {
  readonly #path: string;
  /** Oldest first. */
  #keys: TagKey[];

  constructor(path: string) {
    this.#path = path;
    this.#keys = stored(path);
  }

  begin(context: Uint8Array): void {
    this.#keys = [...this.#keys, { context: Buffer.from(context), key: createSecretKey(randomBytes(KEY_BYTES)) }].slice(-LIMITS.tagKeysMax);
    store(this.#path, this.#keys);
  }

  tag(tagged: Tagged, payload: Uint8Array): Uint8Array | undefined {
    const newest = this.#keys.at(-1);
    return newest && tagOf(newest.key, tagged, payload);
  }

  matches(tagged: Tagged, tag: Uint8Array, payload: Uint8Array): boolean {
    const own = this.#keys.find(({ context }) => context.equals(tagged.context));
    return own !== undefined && tag.length === TAG_BYTES && timingSafeEqual(tagOf(own.key, tagged, payload), tag);
  }
}

/** The sequence makes the tags of equal messages differ. */
const tagOf = (key: KeyObject, { sequence, topic }: Tagged, payload: Uint8Array): Uint8Array =>
  createHmac('sha256', key).update(u64be(sequence)).update(topic).update('\0').update(payload).digest().subarray(0, TAG_BYTES);

function stored(path: string): TagKey[] {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch {
    return []; // the first start, or a file that cannot be read: see above
  }
  if (bytes.length % RECORD_BYTES !== 0 || bytes.length > RECORD_BYTES * LIMITS.tagKeysMax) return [];
  return Array.from({ length: bytes.length / RECORD_BYTES }, (_, i) => {
    const record = bytes.subarray(i * RECORD_BYTES, (i + 1) * RECORD_BYTES);
    return { context: record.subarray(0, CONTEXT_BYTES), key: createSecretKey(record.subarray(CONTEXT_BYTES)) };
  });
}

/** Whole or not at all, and on disk before anything that it tags is acknowledged. */
function store(path: string, keys: readonly TagKey[]): void {
  const draft = `${path}.new`;
  try {
    const file = openSync(draft, 'w', OWNER_ONLY);
    try {
      writeSync(file, Buffer.concat(keys.flatMap(({ context, key }) => [context, key.export()])));
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(draft, path);
    const folder = openSync(dirname(path), 'r');
    try { fsyncSync(folder); } finally { closeSync(folder); }
  } catch {
    return; // no space: recording goes on; the keys hold for this run, and redeliveries over the next restart are recorded twice
  }
}
