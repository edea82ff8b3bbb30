import assert from 'node:assert/strict';
import { systemClock } from '#runtime/core/clock.ts';
import { GAP_BODY, KIND } from '#runtime/core/types.ts';
import { decodeBlock } from '#runtime/ledger/block.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import { ledgerPaths } from '#runtime/ledger/layout.ts';
import { blockStoreOf, openReader } from '#runtime/ledger/reader.ts';
import { uplinkCursor } from '#runtime/ledger/receipt.ts';
import { planPrune } from '#runtime/ledger/retention.ts';
import { Store } from '#runtime/ledger/store.ts';
import { draft, makeChain, message, seal, send, startLedger, tempDir } from '#test/support/ledger.ts';
import { until } from '#test/support/until.ts';

const RECEIPT_KEY = 'ab'.repeat(32);
const IN_A_YEAR_MICROS = 366 * 86_400_000_000;
const ROOMY = 2 ** 40;

describe('ledger: retention beside an uplink', () => {
  it('lets age prune what is receipted only, and the quota the oldest in any case', async function () {
    this.timeout(20_000);
    await using dir = await tempDir();
    await makeChain(dir.path, { entries: 2_000, blocks: 20 });
    const plan = async (limits: { readonly maxBytes: number; readonly receiptKeys?: readonly string[]; readonly isComplete?: boolean }): Promise<number> => {
      await using store = await Store.open(ledgerPaths(dir.path).chain, { mode: 'read' });
      await using reader = await openReader(dir.path);
      return planPrune(store, { maxAgeDays: 30, ...limits }, reader.size(), systemClock.wallMicros() + IN_A_YEAR_MICROS)?.oldest ?? 0;
    };
    const free = await plan({ maxBytes: ROOMY });
    assert.ok(free > 0);
    assert.equal(await plan({ maxBytes: ROOMY, receiptKeys: [RECEIPT_KEY] }), 0, 'nothing is receipted yet');
    assert.equal(await plan({ maxBytes: ROOMY, isComplete: false }), 0, 'nobody knows yet who has to have what');
    assert.ok((await plan({ maxBytes: 0, receiptKeys: [RECEIPT_KEY] })) > 0, 'a full disk would end all recording');
    let receipted = 0;
    {
      await using ledger = await startLedger(dir.path);
      await using reader = await openReader(dir.path);
      receipted = decodeBlock(reader.block(4).payload).treeSize;
      ledger.setCursor(uplinkCursor(RECEIPT_KEY), receipted);
      await ledger.append(draft('the cursor goes with it'));
    }
    const some = await plan({ maxBytes: ROOMY, receiptKeys: [RECEIPT_KEY] });
    assert.ok(some > 0 && some <= receipted, `${some} of ${receipted}`);
  });

  it('says in the chain how many entries the quota took before every controller had them', async function () {
    this.timeout(30_000);
    await using dir = await tempDir();
    const [first, second] = [RECEIPT_KEY, 'cd'.repeat(32)];
    await using ledger = await startLedger(dir.path, { retention: { maxBytes: 1_500_000, maxAgeDays: 0 } });
    await using reader = await openReader(dir.path);
    const fill = async (rounds: number): Promise<void> => {
      for (let round = 0; round < rounds; round++) {
        await Promise.all(Array.from({ length: 100 }, async () => send(ledger, message('te/x', Buffer.alloc(400, round)))));
        if (round % 10 === 9) await seal(blockStoreOf(ledger, reader));
      }
    };
    await fill(10);
    const receipted = 500;
    ledger.setCursor(uplinkCursor(first), reader.size());
    ledger.setCursor(uplinkCursor(second), receipted);
    ledger.awaitReceipts([first, second]);
    await fill(80);
    while (reader.usedBytes() > 1_500_000 * 1.2) await ledger.append(draft('tick'));
    await until('the last word on what is missing', () => {
      const gaps = [...reader.read(0, reader.size())].map(({ bytes }) => decodeEntry(bytes)).filter(({ kind }) => kind === KIND.gap).map(({ body }) => body as ReadonlyMap<number, number | string>);
      const last = gaps.at(-1);
      assert.ok(gaps.every((body) => Number(body.get(GAP_BODY.count)) > 0 && Number(body.get(GAP_BODY.fromMicros)) <= Number(body.get(GAP_BODY.toMicros))));
      return reader.oldest() > 1_000 && last?.get(GAP_BODY.detail) === `entries ${receipted} to ${reader.oldest() - 1}`;
    });
  });
});
