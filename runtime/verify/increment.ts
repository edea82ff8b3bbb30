/**
 * A chain that arrives block by block: the verifier's own checks over what is new, against the block before it that was judged when it came. Entries and
 * roots are the caller's, who holds the tree; endorsement, boot state and policy are judged by who verifies a proof. Pure, never throws on hostile bytes.
 */
import { equalBytes } from '#runtime/core/bytes.ts';
import { verifySign1 } from '#runtime/crypto/cose.ts';
import type { BundleBlock } from '#runtime/ledger/bundle.ts';
import { checkChain, checkHeaders, checkIdentity } from './chain.ts';
import { CheckBook } from './checks.ts';
import { checkFold } from './fold.ts';
import { checkAttestSignatures, checkEvidence } from './hardware.ts';
import { openBlock, type OpenedBlock, type OpenedBundle } from './opened.ts';

export interface Increment {
  readonly genesis: BundleBlock;
  /** The newest block that was judged; absent where the genesis itself is new. */
  readonly before?: BundleBlock;
  /** In order, at least one; begins with the genesis where there is nothing before. */
  readonly blocks: readonly BundleBlock[];
}

export interface IncrementReport {
  /** The first check that failed. */
  readonly fault?: { readonly check: string; readonly detail: string };
  /** Gateway id in the newest block's header. */
  readonly device: string;
  readonly chainId: Uint8Array;
}

export function checkIncrement({ genesis, before, blocks }: Increment): IncrementReport {
  const book = new CheckBook();
  const opened = book.attempt('block.format', () => {
    const first = openBlock('genesis', genesis);
    const fresh = blocks.map((block, at) => (before === undefined && at === 0 ? first : openBlock(`block ${at + 1} of ${blocks.length}`, block)));
    return { first, fresh, previous: before && (equalBytes(before.cose, genesis.cose) ? first : openBlock('the block before', before)) };
  });
  const head = opened?.fresh.at(-1);
  if (!opened || !head) return reportOf(book, '', new Uint8Array(0));
  const { first, fresh, previous } = opened;
  const whole = bundleOf(first, previous ? [previous, ...fresh] : fresh, fresh);
  const chainId = checkIdentity(book, whole);
  checkChain(book, whole);
  const device = checkHeaders(book, whole, chainId) ?? '';
  if (!book.refuted) judgeEvidence(book, first, previous, fresh);
  if (!book.refuted) checkSignatures(book, first, fresh);
  if (!book.refuted) checkAttestSignatures(book, whole);
  return reportOf(book, device, chainId);
}

/** Whether the key of the genesis signed it: two such blocks with one number are a fork. False on any bytes that do not parse. */
export function isSignedByGenesis(genesis: BundleBlock, block: BundleBlock): boolean {
  try {
    const { block: { identity } } = openBlock('genesis', genesis);
    return identity !== undefined && verifySign1(openBlock('block', block).message, identity.signingKey);
  } catch {
    return false; // nothing that does not parse is signed by anybody
  }
}

/** Each new block beside the one before it: every quote is compared with the fold, not only the last. */
function judgeEvidence(book: CheckBook, genesis: OpenedBlock, before: OpenedBlock | undefined, fresh: readonly OpenedBlock[]): void {
  let previous = before;
  for (const block of fresh) {
    const pair = bundleOf(genesis, previous ? [previous, block] : [block], previous ? [previous, block] : [block]);
    checkEvidence(book, pair);
    checkFold(book, pair);
    if (book.refuted) return;
    previous = block;
  }
}

function checkSignatures(book: CheckBook, { block: { identity } }: OpenedBlock, fresh: readonly OpenedBlock[]): void {
  const publicKey = identity?.signingKey ?? new Uint8Array(0);
  const forged = fresh.find(({ message }) => !verifySign1(message, publicKey));
  if (forged) book.fail('signature.mldsa', `${forged.name}: not signed by the ML-DSA key of the genesis`);
}

/** `blocks`: whose headers, evidence and signatures are looked at. */
function bundleOf(genesis: OpenedBlock, segment: readonly OpenedBlock[], blocks: readonly OpenedBlock[]): OpenedBundle {
  const [start = genesis] = segment;
  return { bundle: { entries: [], genesis: NO_BLOCK, links: [], anchors: [] }, genesis, start, head: segment.at(-1) ?? start, blocks, segment, anchors: [] };
}
const NO_BLOCK: BundleBlock = { cose: new Uint8Array(0), evidence: new Uint8Array(0) };

function reportOf(book: CheckBook, device: string, chainId: Uint8Array): IncrementReport {
  const failed = book.report().find(({ result }) => result === 'fail');
  return { device, chainId, ...(failed ? { fault: { check: failed.code, detail: failed.detail } } : {}) };
}
