import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { systemClock, type Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { CLOCK_STEP_BODY, GAP_BODY, KIND, type Cbor, type Entry } from '#runtime/core/types.ts';
import { decodeBlock } from '#runtime/ledger/block.ts';
import { decodeBundleBody, openBundle } from '#runtime/ledger/bundle.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import { fsck } from '#runtime/ledger/fsck.ts';
import { blockKey, decodeBlockRecord, ledgerPaths } from '#runtime/ledger/layout.ts';
import { leafHash } from '#runtime/crypto/merkle.ts';
import { verifyConsistency, verifyInclusion } from '#runtime/ledger/merkle.ts';
import { buildHeadProof } from '#runtime/ledger/proofBuilder.ts';
import { blockStoreOf, openReader, type ChainReader } from '#runtime/ledger/reader.ts';
import { Store } from '#runtime/ledger/store.ts';
import { draft, makeChain, message, seal, send, startLedger, tempDir } from '#test/support/ledger.ts';

const bodyOf = (entry: Entry): ReadonlyMap<number, Cbor> => entry.body as ReadonlyMap<number, Cbor>;
const allOf = (reader: ChainReader): Entry[] => Array.from(reader.read(0, 1e6), ({ bytes }) => decodeEntry(bytes));
const hasCode = (code: string) => (error: unknown): boolean => error instanceof TenzroError && error.code === code;

describe('ledger: one chain over its life', () => {
  it('acknowledges what is flushed, in order, and has it after a restart', async () => {
    await using dir = await tempDir();
    {
      await using ledger = await startLedger(dir.path);
      await using reader = await openReader(dir.path);
      const acknowledged: number[] = [];
      await Promise.all(Array.from({ length: 3_000 }, async (_, i) => send(ledger, message('te/x', `n${i}`)).then(() => { acknowledged.push(i); })));
      assert.equal(reader.size(), 3_001);
      assert.deepEqual(acknowledged, Array.from({ length: 3_000 }, (_, i) => i));
      assert.equal(await ledger.append(draft('one')), 3_001);
      assert.deepEqual(Buffer.from((await ledger.head()).root), Buffer.from(reader.head().root));
    }
    await using ledger = await startLedger(dir.path);
    await using reader = await openReader(dir.path);
    assert.equal(ledger.bootEpoch, 2);
    await ledger.append(draft('two'));
    const entries = allOf(reader);
    assert.deepEqual(entries.slice(1, 3_001).map(({ body }) => Buffer.from(body as Uint8Array).toString()), Array.from({ length: 3_000 }, (_, i) => `n${i}`));
    assert.deepEqual(entries.filter(({ kind }) => kind === KIND.boot).map((entry) => [...bodyOf(entry).values()]), [['0.0.0-test', 'first', 0], ['0.0.0-test', 'clean', 3_002]]);
  });

  it('acknowledges what policy does not record, and tells what it rejects', async () => {
    await using dir = await tempDir();
    const told: string[] = [];
    await using ledger = await startLedger(dir.path, { events: { onReject: ({ code, topic }) => { told.push(`${code} ${topic}`); } } });
    await Promise.all([send(ledger, message('reject/a', '')), send(ledger, message('skip/b', '')), send(ledger, message('te/c', ''))]);
    assert.deepEqual(told, ['topic.invalid reject/a']);
    assert.equal(ledger.size, 2);
  });

  it('refuses what cannot be an entry and goes on', async () => {
    await using dir = await tempDir();
    await using ledger = await startLedger(dir.path);
    await assert.rejects(ledger.append(draft(Buffer.alloc(LIMITS.entryBytesMax))), hasCode('entry.too_large'));
    await assert.rejects(ledger.append(draft(Number.NaN)), hasCode('core.invariant'));
    await assert.rejects(send(ledger, message('te/x', Buffer.alloc(LIMITS.packetBytesMax + 1))), hasCode('entry.too_large'));
    await send(ledger, message('te/x', Buffer.alloc(LIMITS.packetBytesMax)));
    await ledger.append(draft(Buffer.alloc(LIMITS.entryBytesMax - 200)));
    assert.equal(ledger.size, 3);
  });

  it('writes entries and cursor in one transaction, and never moves a cursor back', async () => {
    await using dir = await tempDir();
    await using ledger = await startLedger(dir.path);
    await using reader = await openReader(dir.path);
    assert.deepEqual(await ledger.appendWithCursor([draft('a'), draft('b')], { cursor: 'infer', index: 7 }), [1, 2]);
    reader.size();
    assert.equal(reader.cursor('infer'), 7);
    ledger.setCursor('infer', 3);
    ledger.setCursor('uplink', 1);
    await ledger.append(draft('c'));
    reader.size();
    assert.deepEqual([reader.cursor('infer'), reader.cursor('uplink'), reader.cursor('other')], [7, 1, 0]);
  });

  it('keeps blocks, drops the pending record with them, and proves what they cover', async () => {
    await using dir = await tempDir();
    await makeChain(dir.path, { entries: 900, blocks: 3 });
    await using ledger = await startLedger(dir.path);
    await using reader = await openReader(dir.path);
    const store = blockStoreOf(ledger, reader);
    await store.writePending(Buffer.from('begun'));
    assert.deepEqual(await store.readPending(), Buffer.from('begun'));
    await seal(store);
    assert.equal(await store.readPending(), undefined);
    assert.equal((await store.lastBlock())?.sequence, 3);
    for (let sequence = 0; sequence < reader.blockCount(); sequence++) {
      const { treeSize, root } = decodeBlock(reader.block(sequence).payload);
      for (const index of [0, 255, 256, treeSize - 1].filter((place) => place < treeSize)) {
        assert.ok(verifyInclusion(leafHash(reader.entry(index)), index, treeSize, reader.inclusionPath(index, treeSize), root), `${index} under block ${sequence}`);
      }
      const head = reader.head();
      assert.ok(verifyConsistency(treeSize, head.size, reader.consistency(treeSize, head.size), root, head.root));
    }
    assert.throws(() => reader.entry(reader.size()), hasCode('ledger.no_entry'));
  });

  it('finds a block that was committed after it had read in the same turn of the event loop', async () => {
    await using dir = await tempDir();
    await makeChain(dir.path, { entries: 20, blocks: 2 });
    await using store = await Store.open(ledgerPaths(dir.path).chain, { mode: 'write' });
    await using reader = await openReader(dir.path);
    const value = store.get('blocks', blockKey(1)) ?? assert.fail('there is no block 1');
    assert.equal(reader.blockCount(), 2);
    store.write([{ db: 'blocks', key: blockKey(2), value }]);
    const { head } = decodeBundleBody(openBundle(buildHeadProof(reader, 2)).body);
    assert.deepEqual(Buffer.from(head?.cose ?? []), Buffer.from(decodeBlockRecord(value).cose));
    assert.throws(() => reader.block(3), hasCode('ledger.no_entry'));
  });

  it('lets another process read while it writes', async () => {
    await using dir = await tempDir();
    await using ledger = await startLedger(dir.path);
    await Promise.all(Array.from({ length: 300 }, async (_, i) => send(ledger, message('te/x', `n${i}`))));
    const script = `import { openReader } from '#runtime/ledger/reader.ts';
      await using reader = await openReader(${JSON.stringify(dir.path)});
      process.stdout.write(JSON.stringify([reader.size(), Buffer.from(reader.head().root).toString('hex')]));`;
    const child = promisify(execFile)(process.execPath, ['--input-type=module-typescript', '--eval', script], { cwd: new URL('../..', import.meta.url) });
    await send(ledger, message('te/x', 'meanwhile'));
    const [size] = JSON.parse((await child).stdout) as [number, string];
    assert.ok(size === 301 || size === 302, String(size));
    await send(ledger, message('te/x', 'after'));
  });

  it('writes an entry for a stepped clock, and goes on with it', async () => {
    await using dir = await tempDir();
    const years = 50 * 365 * 86_400 * 1e6;
    let offset = 0;
    const clock: Clock = { wallMicros: () => systemClock.wallMicros() + offset, monoMicros: () => systemClock.monoMicros() };
    {
      await using ledger = await startLedger(dir.path, { clock });
      for (const step of [years, -years, 0, 1_000_000]) {
        offset = step;
        await send(ledger, message('te/x', String(step)));
      }
      offset = years;
      await send(ledger, message('te/x', 'future'));
    }
    await using ledger = await startLedger(dir.path);
    await ledger.append(draft('now'));
    await using reader = await openReader(dir.path);
    const steps = allOf(reader).filter(({ kind }) => kind === KIND.clockStep).map((entry) => [
      bodyOf(entry).get(CLOCK_STEP_BODY.when), Math.round((Number(bodyOf(entry).get(CLOCK_STEP_BODY.foundMicros)) - Number(bodyOf(entry).get(CLOCK_STEP_BODY.expectedMicros))) / years * 10) / 10,
    ]);
    assert.deepEqual(steps, [['running', 1], ['running', -2], ['running', 1], ['running', 1], ['start', -1]]);
    assert.ok((await fsckAfter(ledger, dir.path)).ok);
  });

  it('drops QoS 0 under pressure, keeps QoS 1, and records the gap', async function test() {
    this.timeout(20_000);
    await using dir = await tempDir();
    const payload = Buffer.alloc(200_000);
    const total = 250;
    await using ledger = await startLedger(dir.path);
    let dropped = 0;
    const waits: Promise<void>[] = [];
    for (let i = 0; i < total; i++) {
      ledger.accept(message('te/bulk', payload, 0), (error) => { if (error) dropped++; });
      if (i % 10 === 0) waits.push(send(ledger, message('te/alarm', `a${i}`)));
      assert.ok(ledger.pendingBytes < LIMITS.pendingBytesMax + 300_000);
    }
    await Promise.all(waits);
    await using reader = await openReader(dir.path);
    const noted = (): Entry[] => allOf(reader).filter(({ kind }) => kind === KIND.gap);
    while (noted().length === 0) await ledger.append(draft('next'));
    assert.ok(dropped > 0);
    assert.deepEqual(noted().map((entry) => bodyOf(entry).get(GAP_BODY.count)), [dropped]);
    assert.equal(allOf(reader).filter(({ source }) => source === 'te/alarm').length, total / 10);
  });

  it('prunes old segments under a quota, keeps their hashes, and still verifies', async function test() {
    this.timeout(20_000);
    await using dir = await tempDir();
    const retention = { maxBytes: 1_500_000, maxAgeDays: 0 };
    {
      await using ledger = await startLedger(dir.path, { retention });
      await using reader = await openReader(dir.path);
      for (let round = 0; round < 80; round++) {
        await Promise.all(Array.from({ length: 100 }, async () => send(ledger, message('te/x', Buffer.alloc(400, round)))));
        if (round % 10 === 9) await seal(blockStoreOf(ledger, reader));
      }
      while (reader.usedBytes() > retention.maxBytes * 1.2) {
        await ledger.append(draft('tick'));
        reader.size();
      }
      assert.ok(reader.oldest() > 1_000, String(reader.oldest()));
      assert.throws(() => reader.entry(0), hasCode('ledger.pruned'));
      assert.equal([...reader.read(0, 1)][0]?.index, reader.oldest());
      const { treeSize, root } = decodeBlock(reader.block(reader.blockCount() - 1).payload);
      const index = reader.oldest();
      assert.ok(verifyInclusion(leafHash(reader.entry(index)), index, treeSize, reader.inclusionPath(index, treeSize), root));
    }
    assert.deepEqual((await fsck(dir.path)).problems, []);
    await using ledger = await startLedger(dir.path, { retention });
    await ledger.append(draft('again'));
  });
});

async function fsckAfter(ledger: AsyncDisposable, dataDir: string): ReturnType<typeof fsck> {
  await ledger[Symbol.asyncDispose]();
  return fsck(dataDir);
}
