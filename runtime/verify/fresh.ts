/** Whether the head answers our challenge, and so what may have been cut behind it. */
import { equalBytes } from '#runtime/core/bytes.ts';
import { anchorAfter } from '#runtime/ledger/anchors.ts';
import type { Receipt } from '#runtime/ledger/receipt.ts';
import type { CheckBook } from './checks.ts';
import type { OpenedBundle } from './opened.ts';
import { wordsOf } from './receipt.ts';

export function checkFresh(book: CheckBook, opened: OpenedBundle, nonce: Uint8Array | undefined, receipt: Receipt | undefined): void {
  const { block: { challenge, sequence }, evidence } = opened.head;
  if (!nonce) {
    book.skip('quote.fresh', challenge ? 'the head answers a challenge of somebody else: an old quote is as good as a new one' : 'no challenge was made: an old quote is as good as a new one');
    return noteTail(book, opened, receipt);
  }
  if (!challenge || !equalBytes(challenge, nonce)) {
    book.fail('quote.fresh', `block ${sequence} does not answer our challenge`);
    return noteTail(book, opened, receipt);
  }
  if (evidence.kind === 'none') {
    book.unknown('quote.fresh', `block ${sequence} answers our challenge by its signature alone: whoever holds a copy of the key could have made it, anywhere`);
    return book.unknown('tail', `block ${sequence} was sealed after our challenge, but no TPM says that it is the chain's last, nor that nothing was cut before it`);
  }
  book.pass('quote.fresh', `block ${sequence} answers our challenge, and the TPM's quote is over it`);
  if (!evidence.counter) return book.unknown('tail', `block ${sequence} is the newest of this boot of the TPM; it carries no counter, so that blocks of earlier boots may be missing unseen`);
  book.pass('tail', `block ${sequence} was sealed after our challenge: PCR 14 holds its hash last, and the counter was read then`);
}

function noteTail(book: CheckBook, { head: { block, evidence } }: OpenedBundle, receipt: Receipt | undefined): void {
  const mark = evidence.kind === 'tpm2' ? anchorAfter(block, evidence) : undefined;
  const known = mark ? `; the counter was ${mark.counter} at block ${mark.sequence}, and has risen by one for each anchor that came later` : '';
  const witness = receipt ? `; a fleet ${wordsOf(receipt)}: nothing before that was cut, and it can be asked for what it had later` : '';
  book.unknown('tail', `what came after block ${block.sequence} is not in the bundle: that the chain was cut there later is invisible to the chain alone${known}${witness}. tenzro verify --live asks the gateway, tenzro fsck its TPM`);
}
