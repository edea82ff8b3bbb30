import assert from 'node:assert/strict';
import { systemClock } from '#runtime/core/clock.ts';
import { decodeBlock } from '#runtime/ledger/block.ts';
import { ledgerPaths } from '#runtime/ledger/layout.ts';
import { openReader } from '#runtime/ledger/reader.ts';
import { uplinkCursor } from '#runtime/ledger/receipt.ts';
import { planPrune } from '#runtime/ledger/retention.ts';
import { Store } from '#runtime/ledger/store.ts';
import { draft, makeChain, startLedger, tempDir } from '#test/support/ledger.ts';

const RECEIPT_KEY = 'ab'.repeat(32);
const IN_A_YEAR_MICROS = 366 * 86_400_000_000;
const ROOMY = 2 ** 40;

describe('ledger: retention beside an uplink', () => {
  it('lets age prune what is receipted only, and the quota the oldest in any case', async function () {
    this.timeout(20_000);
    await using dir = await tempDir();
    await makeChain(dir.path, { entries: 2_000, blocks: 20 });
    const plan = async (limits: { readonly maxBytes: number; readonly receiptKeys?: readonly string[] | null }): Promise<number> => {
      await using store = await Store.open(ledgerPaths(dir.path).chain, { mode: 'read' });
      await using reader = await openReader(dir.path);
      return planPrune(store, { maxAgeDays: 30, ...limits }, reader.size(), systemClock.wallMicros() + IN_A_YEAR_MICROS)?.oldest ?? 0;
    };
    const free = await plan({ maxBytes: ROOMY });
    assert.ok(free > 0);
    assert.equal(await plan({ maxBytes: ROOMY, receiptKeys: [RECEIPT_KEY] }), 0, 'nothing is receipted yet');
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
});
