import assert from 'node:assert/strict';
import { toHex } from '#runtime/core/bytes.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { blockHash, chainIdOf, decodeBlock } from '#runtime/ledger/block.ts';
import { decodeBundleBody, encodeBundle, openBundle } from '#runtime/ledger/bundle.ts';
import { buildProof, buildReceiptedProof } from '#runtime/ledger/proofBuilder.ts';
import { signReceipt, type Receipt } from '#runtime/ledger/receipt.ts';
import { parsePolicy } from '#runtime/verify/policy.ts';
import type { Report } from '#runtime/verify/report.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { softChain, type MemoryChain } from '#test/support/memoryChain.ts';

const [fleet, stranger] = ['a fleet', 'another fleet'].map((name) => signerOfSeed(sha256(Buffer.from(name))));
assert.ok(fleet && stranger);
const MICROS = Date.UTC(2026, 10, 23) * 1_000;

function receiptOf(chain: MemoryChain, sequence: number, change: Partial<Receipt> = {}, signer = fleet): { readonly sequence: number; readonly bytes: Uint8Array } {
  assert.ok(signer);
  const { payload } = chain.block(sequence);
  const { treeSize, root } = decodeBlock(payload);
  return { sequence, bytes: signReceipt(signer, { chainId: chainIdOf(chain.block(0).payload), sequence, blockHash: blockHash(payload), treeSize, root, wallMicros: MICROS, ...change }) };
}

const verify = (file: Uint8Array, keys = [fleet]): Report => verifyBundle(file, parsePolicy({ version: 1, accept: ['software'], receiptKeys: keys.map(({ publicKey }) => toHex(sha256(publicKey))) }));
const found = ({ checks }: Report, code: string): string => { const check = checks.find((one) => one.code === code); return `${check?.result}: ${check?.detail}`; };
/** A proof with these beside it, whatever they are. */
const beside = (chain: MemoryChain, entry: number, ...receipts: readonly Uint8Array[]): Buffer => encodeBundle({ ...decodeBundleBody(openBundle(buildProof(chain, entry)).body), receipts });

describe('verify: receipts', () => {
  const { chain } = softChain(4, 2);

  it('shows that a fleet had the head, and says so of the tail', () => {
    const report = verify(buildReceiptedProof(chain, 1, 1, [receiptOf(chain, 2), receiptOf(chain, 2, {}, stranger), receiptOf(chain, 3)]));
    assert.equal(report.outcome, 'verified');
    assert.match(found(report, 'receipt'), /^pass: the fleet with receipt key [0-9a-f]{64} had block 2, over 6 entries, on 2026-11-23T00:00:00\S* by its clock$/);
    assert.match(found(report, 'tail'), /^unknown: .*block 2.*; a fleet had block 2, .*: nothing before that was cut/);
  });

  it('says nothing without one, or without its key in the policy', () => {
    assert.match(found(verify(buildProof(chain, 1)), 'receipt'), /^skipped: /);
    const report = verify(buildReceiptedProof(chain, 1, 1, [receiptOf(chain, 2, { blockHash: sha256(Buffer.from('x')) }, stranger)]));
    assert.deepEqual([report.outcome, found(report, 'receipt').replace(/[0-9a-f]{64}/, '…')], ['verified', 'unknown: by receipt key …, which the policy does not list']);
    assert.doesNotMatch(found(report, 'tail'), /a fleet had/);
  });

  it('refutes a file that is not what the fleet had', () => {
    const other = sha256(Buffer.from('something else'));
    const cases: readonly (readonly [RegExp, Uint8Array])[] = [
      [/had another block 0 of this chain/, receiptOf(chain, 0, { blockHash: other }).bytes], [/for chain/, receiptOf(chain, 0, { chainId: other }).bytes], [/another tree/, receiptOf(chain, 0, { root: other }).bytes],
      [/another tree/, receiptOf(chain, 0, { treeSize: 3 }).bytes], [/block 3, which is not in the bundle/, receiptOf(chain, 3).bytes],
    ];
    for (const [why, receipt] of cases) {
      const report = verify(beside(chain, 0, receiptOf(chain, 0).bytes, receipt));
      assert.equal(report.outcome, 'refuted', String(why));
      assert.match(found(report, 'receipt'), why);
    }
  });

  it('refutes a receipt that was altered anywhere, and never throws', () => {
    const { bytes } = receiptOf(chain, 0);
    for (let at = 0; at < bytes.length; at += 97) {
      const bent = Uint8Array.from(bytes, (byte, index) => (index === at ? byte ^ 1 : byte));
      const report = verify(beside(chain, 0, bent));
      assert.doesNotMatch(found(report, 'receipt'), /^pass/, `byte ${at}`);
    }
    for (const junk of [Buffer.alloc(0), Buffer.alloc(9, 0xff)]) assert.equal(verify(beside(chain, 0, junk)).outcome, 'refuted');
  });

  it('holds one to sixteen of them, and reads what it wrote', () => {
    const { bytes } = receiptOf(chain, 0);
    assert.deepEqual(decodeBundleBody(openBundle(beside(chain, 0, bytes, bytes)).body).receipts?.map((receipt) => Buffer.from(receipt)), [Buffer.from(bytes), Buffer.from(bytes)]);
    for (const count of [0, 17]) assert.match(found(verify(beside(chain, 0, ...Array.from({ length: count }, () => bytes))), 'bundle.format'), /^fail: .*receipts are not a list of 1 to 16/);
  });

  it('proves up to a receipt only where there is one', () => {
    assert.throws(() => buildReceiptedProof(chain, 5, 5, [receiptOf(chain, 1)]), { code: 'ledger.not_receipted' });
    assert.throws(() => buildReceiptedProof(chain, 0, 0, []), { code: 'ledger.not_receipted' });
    assert.throws(() => buildReceiptedProof(chain, 99, 99, [receiptOf(chain, 1)]), { code: 'ledger.not_attested' });
  });
});
