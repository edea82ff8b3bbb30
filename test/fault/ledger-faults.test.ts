import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { chownSync, existsSync, readdirSync, readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';
import { systemClock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { EPOCH_BODY, KIND, type Cbor } from '#runtime/core/types.ts';
import { encodeCbor } from '#runtime/crypto/cbor.ts';
import { chainIdOf } from '#runtime/ledger/block.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import { fsck, fsckChain } from '#runtime/ledger/fsck.ts';
import { ledgerPaths, STATE_KEY } from '#runtime/ledger/layout.ts';
import { leafHash } from '#runtime/crypto/merkle.ts';
import { openChain, quarantined } from '#runtime/ledger/openChain.ts';
import { openReader } from '#runtime/ledger/reader.ts';
import { Store } from '#runtime/ledger/store.ts';
import { draft, makeChain, message, send, startLedger, tempDir } from '#test/support/ledger.ts';
import { randomOf } from '#test/support/random.ts';
import { skipBecause } from '#test/support/skips.ts';

const hasCode = (code: string) => (error: unknown): boolean => error instanceof TenzroError && error.code === code;
const dataFile = (dir: string): string => join(ledgerPaths(dir).chain, 'data.mdb');

/** Flips one bit where `pattern` lies in the data file, `at` bytes into it; the pattern must lie there exactly once. */
function flip(file: string, pattern: Uint8Array, at = 0): void {
  const bytes = readFileSync(file);
  const place = bytes.indexOf(pattern);
  assert.ok(place > 0, 'the bytes are in the file');
  assert.equal(bytes.indexOf(pattern, place + 1), -1, 'and only once');
  bytes[place + at] = (bytes[place + at] ?? 0) ^ 1;
  writeFileSync(file, bytes);
}

describe('ledger: faults', function suite() {
  this.timeout(30_000);

  it('loses nothing acknowledged over kill −9 under load, and the chain stays whole', async () => {
    await using dir = await tempDir();
    const random = randomOf(Date.now() & 0xffff);
    const acknowledged = new Set<string>();
    for (let run = 0; run < 5; run++) {
      const child = spawn(process.execPath, [join(import.meta.dirname, '../support/ledgerLoad.ts'), dir.path, String(run)], { stdio: ['ignore', 'pipe', 'inherit'] });
      const killAfter = 1 + random(4_000);
      let [text, lines] = ['', 0];
      child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
        lines += chunk.split('\n').length - 1;
        if (lines >= killAfter) child.kill('SIGKILL');
      });
      const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
      assert.deepEqual([code, signal], [null, 'SIGKILL'], text.slice(0, 500));
      for (const line of text.split('\n').slice(0, -1)) acknowledged.add(line);
      assert.deepEqual((await fsck(dir.path)).problems, []);
    }
    await using reader = await openReader(dir.path);
    const stored = new Set(Array.from(reader.read(0, 1e6), ({ bytes }) => decodeEntry(bytes)).filter(({ kind }) => kind === KIND.event).map(({ body }) => Buffer.from(body as Uint8Array).toString()));
    assert.deepEqual([...acknowledged].filter((line) => !stored.has(line)), []);
    assert.ok(acknowledged.size > 5);
    assert.equal(quarantined(dir.path).length, 0);
  });

  it('sets a truncated file aside, whole, and goes on in a new chain that says so', async () => {
    await using dir = await tempDir();
    await makeChain(dir.path, { entries: 600, blocks: 2 });
    const before = await chainIdIn(dir.path);
    const file = dataFile(dir.path);
    truncateSync(file, 5 * 4096);
    const damaged = readFileSync(file);
    await expectEpoch(dir.path, 'ledger.corrupt', /truncated/);
    const [name = ''] = quarantined(dir.path);
    assert.match(name, /^1-\d{8}T\d{6}Z$/);
    assert.deepEqual(readFileSync(join(ledgerPaths(dir.path).quarantine, name, 'data.mdb')), damaged);
    assert.ok(before.length === 32);
    assert.equal((await fsckChain(join(ledgerPaths(dir.path).quarantine, name))).ok, false);
    assert.deepEqual((await fsck(dir.path)).problems, []);
  });

  it('sets a chain aside whose last block no longer fits, names the old chain, and counts up', async () => {
    await using dir = await tempDir();
    for (const round of [1, 2]) {
      await makeChain(dir.path, { entries: 300, blocks: 1 });
      const chainId = await chainIdIn(dir.path);
      flip(dataFile(dir.path), await leafInChain(dir.path, 270), 3); // right of the last full tile, under the block
      const body = await expectEpoch(dir.path, 'ledger.corrupt', /root/);
      assert.deepEqual(Buffer.from(body.get(EPOCH_BODY.chainId) as Uint8Array), chainId);
      assert.ok(body.has(EPOCH_BODY.lastBlockHash));
      assert.equal(quarantined(dir.path).length, round);
    }
  });

  it('tells garbage for an LMDB file from a chain', async () => {
    await using dir = await tempDir();
    await makeChain(dir.path, { entries: 10, blocks: 1 });
    const size = statSync(dataFile(dir.path)).size;
    writeFileSync(dataFile(dir.path), Buffer.alloc(size, 'garbage '));
    await expectEpoch(dir.path, 'ledger.corrupt', /magic/);
  });

  describe('fsck names the first bad byte', () => {
    it('of an entry under a full tile', async () => {
      await using dir = await tempDir();
      await makeChain(dir.path, { entries: 600, blocks: 2 });
      const leaf = await leafInChain(dir.path, 100);
      flip(dataFile(dir.path), leaf, leaf.length - 5);
      const { ok, problems } = await fsck(dir.path);
      assert.equal(ok, false);
      assert.equal(problems.length, 1);
      const [problem] = problems;
      assert.equal(problem?.database, 'segments');
      assert.match(problem.detail, /entry 100: its hash/);
      assert.equal(await atPosition(dir.path, Number(problem.key), problem.offset, leaf.length - 1), true);
    });

    it('of an entry right of the last full tile: the block that no longer fits', async () => {
      await using dir = await tempDir();
      await makeChain(dir.path, { entries: 600, blocks: 2 });
      const leaf = await leafInChain(dir.path, 590);
      flip(dataFile(dir.path), leaf, leaf.length - 5);
      const { problems } = await fsck(dir.path);
      assert.deepEqual(problems.map(({ database, detail }) => [database, /root of block 1/.test(detail)]), [['segments', true]]);
    });

    it('of an entry that no longer decodes', async () => {
      await using dir = await tempDir();
      await makeChain(dir.path, { entries: 600, blocks: 2 });
      flip(dataFile(dir.path), await leafInChain(dir.path, 100), 2);
      const { problems } = await fsck(dir.path);
      assert.equal(problems[0]?.code, 'entry.malformed');
      assert.match(problems[0].detail, /entry 100/);
    });

    it('of a tile, to the byte', async () => {
      await using dir = await tempDir();
      await makeChain(dir.path, { entries: 600, blocks: 2 });
      flip(dataFile(dir.path), leafHash((await leafInChain(dir.path, 100)).subarray(1)), 9);
      const { problems } = await fsck(dir.path);
      assert.deepEqual(problems.map(({ database, key, offset }) => ({ database, key, offset })), [{ database: 'tiles', key: '0/0', offset: 100 * 32 + 9 }]);
    });

    it('of a block: its signature, its payload, its evidence', async () => {
      for (const [field, says] of [['signature', /signature/], ['evidence', /evidence|not deterministic|not CBOR|reason/]] as const) {
        await using dir = await tempDir();
        await makeChain(dir.path, { entries: 600, blocks: 3 });
        const { cose, evidence } = await blockIn(dir.path, 1);
        if (field === 'signature') flip(dataFile(dir.path), cose.subarray(-40), 20);
        else flip(dataFile(dir.path), Buffer.concat([cose.subarray(-40), Buffer.from([0x40 | evidence.length]), evidence]), 41 + evidence.length - 3);
        const { problems } = await fsck(dir.path);
        assert.ok(problems.length > 0);
        assert.deepEqual([problems[0]?.database, problems[0]?.key], ['blocks', '1']);
        assert.match(problems[0]?.detail ?? '', says);
      }
    });
  });

  it('refuses a newer version and touches nothing', async () => {
    await using dir = await tempDir();
    await makeChain(dir.path, { entries: 10, blocks: 1 });
    {
      await using store = await Store.open(ledgerPaths(dir.path).chain, { mode: 'write' });
      store.write([{ db: 'meta', key: STATE_KEY, value: encodeCbor(new Map<number, Cbor>([[1, 2], [99, 'what tomorrow brings']])) }]);
    }
    const before = readFileSync(dataFile(dir.path));
    await assert.rejects(startLedger(dir.path), hasCode('ledger.newer_version'));
    await assert.rejects(openReader(dir.path), hasCode('ledger.newer_version'));
    assert.deepEqual(readFileSync(dataFile(dir.path)), before);
    assert.equal(quarantined(dir.path).length, 0);

    const newerLmdb = Buffer.from(before);
    for (const page of [0, 4096]) newerLmdb.writeUInt32LE(3, page + 28);
    writeFileSync(dataFile(dir.path), newerLmdb);
    await assert.rejects(startLedger(dir.path), hasCode('ledger.newer_version'));
    assert.deepEqual(readFileSync(dataFile(dir.path)), newerLmdb);
  });

  it('lets one writer in at a time, and sees that a dead one is dead', async () => {
    await using dir = await tempDir();
    {
      await using ledger = await startLedger(dir.path);
      await assert.rejects(startLedger(dir.path), hasCode('ledger.locked'));
      await assert.rejects(fsck(dir.path), hasCode('ledger.locked'));
      await ledger.append(draft('still here'));
    }
    const { lock } = ledgerPaths(dir.path);
    assert.ok(!existsSync(lock));
    const child = spawn(process.execPath, ['--eval', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
    const stat = readFileSync(`/proc/${child.pid}/stat`, 'utf8');
    const start = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').slice(0, 13);
    symlinkSync(`${boot}:${child.pid}:${start}`, lock);
    await assert.rejects(startLedger(dir.path), hasCode('ledger.locked'));
    child.kill('SIGKILL');
    await once(child, 'close');
    await using ledger = await startLedger(dir.path);
    assert.equal(ledger.bootEpoch, 2);
    assert.deepEqual(readdirSync(ledgerPaths(dir.path).root).toSorted(), ['chain', 'writer.lock']);
  });

  it('refuses a directory that belongs to somebody else', async function test() {
    if (process.geteuid?.() !== 0) skipBecause(this, 'needs root to give a directory away');
    await using dir = await tempDir();
    await makeChain(dir.path, { entries: 10, blocks: 1 });
    chownSync(dataFile(dir.path), 12_345, 12_345);
    await assert.rejects(startLedger(dir.path), hasCode('ledger.permission'));
    chownSync(dataFile(dir.path), 0, 0);
    chownSync(ledgerPaths(dir.path).root, 12_345, 12_345);
    await assert.rejects(startLedger(dir.path), hasCode('ledger.permission'));
  });

  it('survives a crash between setting a chain aside and the first entry of the next', async () => {
    await using dir = await tempDir();
    await makeChain(dir.path, { entries: 10, blocks: 1 });
    truncateSync(dataFile(dir.path), 4096);
    await (await openChain({ dataDir: dir.path, clock: systemClock }))[Symbol.asyncDispose](); // opened, nothing written
    await expectEpoch(dir.path, 'ledger.corrupt', /meta page/);
    assert.equal(quarantined(dir.path).length, 1);
  });

  it('waits when the disk is full, loses nothing, and goes on when there is space', async function test() {
    if (process.geteuid?.() !== 0) skipBecause(this, 'needs root to mount a small tmpfs');
    await using dir = await tempDir();
    mountSmall(this, dir.path);
    try {
      const ballast = join(dir.path, 'ballast');
      writeFileSync(ballast, Buffer.alloc(7 * 1024 * 1024));
      const states: string[] = [];
      const { promise: full, resolve: isFull } = Promise.withResolvers<void>();
      {
        await using ledger = await startLedger(dir.path, { events: { onState: (state) => { states.push(state); if (state !== 'ok') isFull(); } } });
        const waits: Promise<void>[] = [];
        let acknowledged = 0;
        for (let i = 0; i < 60; i++) waits.push(send(ledger, message('te/x', Buffer.alloc(100_000, i))).then(() => { acknowledged++; }));
        await full;
        assert.equal(ledger.state, 'ledger.disk_full');
        assert.ok(acknowledged < 60);
        truncateSync(ballast, 0);
        await Promise.all(waits);
        assert.deepEqual(states.slice(-1), ['ok']);
        assert.equal(ledger.size, 61);
      }
      assert.deepEqual((await fsck(dir.path)).problems, []);

      writeFileSync(ballast, Buffer.alloc(0));
      const ledger = await startLedger(dir.path);
      await ledger.append(draft('fits'));
      fill(ballast);
      const hopeless = Promise.allSettled(Array.from({ length: 20 }, async (_, i) => send(ledger, message('te/x', Buffer.alloc(100_000, i)))));
      await ledger.close(); // a stop on a full disk ends, and acknowledges nothing that is not there
      const refused = (await hopeless).filter(({ status }) => status === 'rejected');
      assert.ok(refused.length > 0);
      truncateSync(ballast, 0);
      await using reader = await openReader(dir.path);
      assert.equal(reader.size(), 61 + 1 + 1 + (20 - refused.length));
    } finally {
      execFileSync('umount', ['--lazy', dir.path]);
    }
  });
});

function mountSmall(context: Mocha.Context, path: string): void {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=12m', 'tmpfs', path], { stdio: 'pipe' });
  } catch {
    skipBecause(context, 'this root may not mount');
  }
}

function fill(path: string): void {
  for (let bytes = 1024 * 1024; bytes >= 4096; bytes /= 2) {
    for (;;) {
      try {
        writeFileSync(path, Buffer.alloc(bytes), { flag: 'a' });
      } catch {
        break;
      }
    }
  }
}

async function chainIdIn(dir: string): Promise<Buffer> {
  await using reader = await openReader(dir);
  return chainIdOf(reader.block(0).payload);
}

async function blockIn(dir: string, sequence: number): Promise<{ readonly cose: Buffer; readonly evidence: Buffer }> {
  await using reader = await openReader(dir);
  const { cose, evidence } = reader.block(sequence);
  return { cose: Buffer.from(cose), evidence: Buffer.from(evidence) };
}

/** 0x00 and the entry. */
async function leafInChain(dir: string, index: number): Promise<Buffer> {
  await using reader = await openReader(dir);
  return Buffer.concat([Uint8Array.of(0), reader.entry(index)]);
}

/** An entry of that length begins there. */
async function atPosition(dir: string, segment: number, offset: number, length: number): Promise<boolean> {
  await using store = await Store.open(ledgerPaths(dir).chain, { mode: 'read' });
  const value = store.floor('segments', Buffer.from(segment.toString(16).padStart(16, '0'), 'hex'))?.value;
  return value?.[offset - 1] === 0 && decodeEntry(value.subarray(offset, offset + length)).kind === KIND.event;
}

/** Starts on a damaged chain: the first entry of the new one says what was found. */
async function expectEpoch(dir: string, code: string, detail: RegExp): Promise<ReadonlyMap<number, Cbor>> {
  await using ledger = await startLedger(dir);
  await ledger.append(draft('and on it goes'));
  assert.equal(ledger.quarantine?.name, quarantined(dir).at(-1));
  await using reader = await openReader(dir);
  const entries = Array.from(reader.read(0, 3), ({ bytes }) => decodeEntry(bytes));
  assert.deepEqual(entries.map(({ kind }) => kind), [KIND.epoch, KIND.boot, KIND.event]);
  const body = entries[0]?.body as ReadonlyMap<number, Cbor>;
  assert.equal(body.get(EPOCH_BODY.code), code);
  assert.match(body.get(EPOCH_BODY.detail) as string, detail);
  assert.equal(body.get(EPOCH_BODY.quarantine), quarantined(dir).at(-1));
  return body;
}
