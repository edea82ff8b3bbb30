import assert from 'node:assert/strict';
import { join } from 'node:path';
import { toHex } from '#runtime/core/bytes.ts';
import { systemClock } from '#runtime/core/clock.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { Acts, CONTROLLER, openActs, readActs } from '#runtime/controller/acts.ts';
import { checkActs, decodeAct, exportLines, parseExport, signAct } from '#runtime/controller/actsCodec.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { ZERO_HASH } from '#runtime/ledger/block.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import { controllerKey } from '#test/support/fleetRegister.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const stranger = signerOfSeed(sha256(Buffer.from('a stranger')));
const { publicKey } = controllerKey;

describe('controller: acts', () => {
  let dir: TempDir;
  let store: KeyValueStore;
  const open = async (): Promise<void> => { store = await openKeyValueStore(join(dir.path, 'store'), undefined, 'keep'); };
  beforeEach(async () => { dir = tempDir('acts'); await open(); });
  afterEach(async () => { await store[Symbol.asyncDispose](); dir[Symbol.dispose](); });

  async function recorded(count: number): Promise<readonly Uint8Array[]> {
    const acts = new Acts(store, controllerKey, systemClock);
    for (let i = acts.count; i < count; i++) await acts.record({ who: CONTROLLER, what: 'gateway.claimed', about: `edge-${i}`, detail: 'as a test' });
    return readActs(store).toArray();
  }

  it('chains and signs them, over restarts too', async () => {
    await recorded(2);
    await store[Symbol.asyncDispose]();
    await open();
    const acts = await recorded(5);
    const report = checkActs(acts, publicKey);
    assert.deepEqual([report.count, report.broken, toHex(report.head)], [5, undefined, toHex(openActs(store).head)]);
    assert.deepEqual(acts.map((cose) => decodeAct(cose)).map(({ index, who, what, about, detail }) => [index, who, what, about, detail]), [0, 1, 2, 3, 4].map((i) => [i, CONTROLLER, 'gateway.claimed', `edge-${i}`, 'as a test']));
  });

  it('finds one byte changed anywhere in an act, and says in which', async () => {
    const acts = await recorded(3);
    const [first, second, third] = acts;
    assert.ok(first && second && third);
    const unheard: number[] = [];
    for (let at = 0; at < second.length; at++) {
      const bent = Buffer.from(second);
      bent[at] = (bent[at] ?? 0) ^ (1 << at % 8);
      if (checkActs([first, bent, third], publicKey).broken?.index !== 1) unheard.push(at);
    }
    assert.deepEqual(unheard, []);
  });

  it('finds one character changed anywhere in an export', async () => {
    const text = `${exportLines(await recorded(1), publicKey).toArray().join('\n')}\n`;
    const isWhole = (file: string): boolean => {
      try {
        const { publicKey: key, acts } = parseExport(file);
        return checkActs(acts, key).broken === undefined;
      } catch {
        return false;
      }
    };
    assert.ok(isWhole(text));
    const unheard = Array.from(text, (_, at) => at).filter((at) => isWhole(`${text.slice(0, at)}${text[at] === 'A' ? 'B' : 'A'}${text.slice(at + 1)}`));
    assert.deepEqual(unheard, []);
    assert.ok(!isWhole(text.slice(0, -1)));
  });

  it('misses no act that was left out, put in, doubled, moved or signed by somebody else', async () => {
    const acts = await recorded(4);
    const [a, b, c, d] = acts;
    assert.ok(a && b && c && d);
    const forged = signAct(stranger, { ...decodeAct(b) });
    const inserted = signAct(controllerKey, { ...decodeAct(c), who: 'nobody' });
    for (const [bent, index] of [[[b, c, d], 0], [[a, c, d], 1], [[a, b, b, c, d], 2], [[a, c, b, d], 1], [[a, forged, c, d], 1], [[a, b, inserted, d], 3]] as const) assert.equal(checkActs(bent, publicKey).broken?.index, index);
    assert.equal(checkActs(acts, stranger.publicKey).broken?.index, 0);
    assert.equal(checkActs([a], Buffer.alloc(3)).broken?.index, 0);
  });

  it('shows a log that was cut off, or begun anew, to whoever kept an earlier head', async () => {
    const acts = await recorded(4);
    const since = checkActs(acts.slice(0, 3), publicKey);
    assert.equal(checkActs(acts, publicKey, since).broken, undefined);
    assert.match(checkActs(acts.slice(0, 2), publicKey, since).broken?.why ?? '', /ends here/);
    const anew = [0, 1, 2].reduce<readonly Buffer[]>((log, index) => [...log, signAct(controllerKey, { index, micros: 1, who: '', what: '', about: '', detail: '', previous: log[index - 1] ? sha256(log[index - 1] ?? ZERO_HASH) : ZERO_HASH })], []);
    assert.equal(checkActs(anew, publicKey).broken, undefined);
    assert.match(checkActs(anew, publicKey, since).broken?.why ?? '', /another act/);
  });

  it('takes garbage for what it is', () => {
    for (const garbage of [Buffer.alloc(0), Buffer.from('garbage'), Buffer.alloc(20_000)]) assert.equal(checkActs([garbage], publicKey).broken?.index, 0);
    for (const text of ['', '\n', 'tenzro-acts-1\n', 'tenzro-acts-1 \n', 'tenzro-acts-2 AAAA\n', 'tenzro-acts-1 AAAA', 'tenzro-acts-1 AAA\n', 'tenzro-acts-1 AAAA\n\n', 'tenzro-acts-1 AAAA AAAA\n']) assert.throws(() => parseExport(text), { code: 'controller.acts' });
  });

  it('opens with no other key than it began with, and not where its end is missing', async () => {
    await recorded(2);
    assert.throws(() => new Acts(store, stranger, systemClock), { code: 'controller.key' });
    store.remove('act/0000000000000001');
    await store.flushed();
    assert.throws(() => new Acts(store, controllerKey, systemClock), { code: 'ledger.corrupt' });
  });

  it('cuts what is too long, and half a surrogate pair with it', async () => {
    const acts = new Acts(store, controllerKey, systemClock);
    await acts.record({ who: 'w'.repeat(500), what: 'x', about: '\ud83d'.repeat(300), detail: '' });
    assert.equal(checkActs(readActs(store), publicKey).count, 1);
  });
});
