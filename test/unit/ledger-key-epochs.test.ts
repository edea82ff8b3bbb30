import assert from 'node:assert/strict';
import { createSecretKey, randomBytes } from 'node:crypto';
import { KIND, READING_BODY, type Cbor, type Draft } from '#runtime/core/types.ts';
import { CborWriter } from '#runtime/crypto/cborWriter.ts';
import { decodeBundleBody, openBundle } from '#runtime/ledger/bundle.ts';
import { contextOf, keyEpochBody, sealBody } from '#runtime/ledger/confidential.ts';
import { encodeEntry } from '#runtime/ledger/entry.ts';
import { keyEpochsOf, type EntrySource } from '#runtime/ledger/keyEpochs.ts';
import { buildProof } from '#runtime/ledger/proofBuilder.ts';
import { MemoryChain, SoftSealer, testReading } from '#test/support/memoryChain.ts';

/** A log of boots, each with key epochs of sealed readings between plain ones. */
class Log implements EntrySource {
  readonly chain = new MemoryChain();
  readonly #contentKey = createSecretKey(randomBytes(32));
  readonly #scratch = new CborWriter(256);
  #bootEpoch = 0;
  #monoMicros = 0;
  #context: Uint8Array = new Uint8Array(16);
  #sequence = 0;
  pruned = 0;

  entry(index: number): Uint8Array { assert.ok(index >= this.pruned, 'pruned'); return this.chain.entry(index); }
  oldest(): number { return this.pruned; }

  boot(): void { this.#bootEpoch++; this.#monoMicros = 0; }

  plain(count: number): void { for (let i = 0; i < count; i++) this.#append({ kind: KIND.event, body: 'x' }); }

  /** `lateMicros`: how far the clock of what follows lags behind this entry. */
  keyEpoch(lateMicros = 0): number {
    this.#context = contextOf(this.#monoMicros + 1, randomBytes(8));
    this.#sequence = 0;
    const index = this.#append({ kind: KIND.keyEpoch, body: keyEpochBody(this.#context, new Uint8Array(32), []) });
    this.#monoMicros -= lateMicros;
    return index;
  }

  sealed(): number {
    const place = { kind: KIND.reading, source: 'device/a//', context: this.#context, sequence: this.#sequence++ };
    return this.#append({ kind: KIND.reading, body: sealBody(new Map<number, Cbor>([[READING_BODY.topic, 't'], [READING_BODY.flags, 0]]), place, this.#contentKey, this.#scratch) });
  }

  #append({ kind, body }: Pick<Draft, 'kind' | 'body'>): number {
    return this.chain.append(encodeEntry({ kind, source: 'device/a//', wallMicros: 1, bootEpoch: this.#bootEpoch, monoMicros: ++this.#monoMicros, body }));
  }
}

describe('key epochs of confidential entries', () => {
  it('are found over boots, each once, and only for what is sealed', () => {
    const log = new Log();
    const pairs: (readonly [number, number])[] = [];
    for (let boot = 0; boot < 3; boot++) {
      log.boot();
      for (let epoch = 0; epoch < 3; epoch++) {
        log.plain(40 + boot);
        const keyEpoch = log.keyEpoch();
        log.plain(25);
        pairs.push([log.sealed(), keyEpoch], [log.sealed(), keyEpoch]);
      }
    }
    for (const [index, keyEpoch] of pairs) assert.deepEqual(keyEpochsOf(log, [index]), [keyEpoch], `entry ${index}`);
    assert.deepEqual(keyEpochsOf(log, pairs.map(([index]) => index)), [...new Set(pairs.map(([, keyEpoch]) => keyEpoch))]);
    assert.deepEqual(keyEpochsOf(log, [0, 1, 45]), []);
  });

  it('are found where clocks were read before the order was settled', () => {
    const log = new Log();
    log.boot();
    log.plain(300);
    const keyEpoch = log.keyEpoch(200);
    log.plain(500);
    assert.deepEqual(keyEpochsOf(log, [log.sealed()]), [keyEpoch]);
  });

  it('are left out where the store is damaged: what is asked for is proven nonetheless', () => {
    const log = new Log();
    log.boot();
    const keyEpoch = log.keyEpoch();
    log.plain(10);
    const index = log.sealed();
    log.chain.entries[keyEpoch] = Buffer.from('damaged');
    assert.deepEqual(keyEpochsOf(log, [index]), []);
    log.chain.entries[index] = Buffer.from('damaged too');
    assert.deepEqual(keyEpochsOf(log, [index]), []);
  });

  it('are left out where retention removed them', () => {
    const log = new Log();
    log.boot();
    const keyEpoch = log.keyEpoch();
    log.plain(10);
    const index = log.sealed();
    assert.deepEqual(keyEpochsOf(log, [index]), [keyEpoch]);
    log.pruned = 5;
    assert.deepEqual(keyEpochsOf(log, [index]), []);
  });

  it('come along in a proof', () => {
    const log = new Log();
    log.boot();
    log.plain(3);
    const keyEpoch = log.keyEpoch();
    const index = log.sealed();
    log.chain.append(testReading(9));
    new SoftSealer(log.chain).seal();
    const { entries } = decodeBundleBody(openBundle(buildProof(log.chain, index)).body);
    assert.deepEqual(entries.map((entry) => entry.index), [keyEpoch, index]);
  });
});
