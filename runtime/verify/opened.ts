/** A bundle taken apart: every block parsed, nothing judged yet. */
import { TenzroError } from '#runtime/core/errors.ts';
import type { Bundle, BundleBlock, LinkAnchor } from '#runtime/ledger/bundle.ts';
import { blockHash, decodeBlock, type BlockPayload } from '#runtime/ledger/block.ts';
import { decodeEvidence, type Evidence } from '#runtime/ledger/evidence.ts';
import { parseSign1, type Sign1 } from '#runtime/crypto/cose.ts';
import { sha256 } from '#runtime/crypto/hash.ts';

/** A block whose signature and evidence are in the bundle. */
export interface OpenedBlock {
  /** As reports call it. */
  readonly name: string;
  readonly message: Sign1;
  readonly block: BlockPayload;
  /** `blockHash` of the payload. */
  readonly hash: Uint8Array;
  readonly evidence: Evidence;
  readonly evidenceDigest: Uint8Array;
}

/** A block of which only the payload is in the bundle: the next block's `previous` vouches for it. */
export interface Link {
  readonly block: BlockPayload;
  readonly hash: Uint8Array;
}

export interface OpenedBundle {
  readonly bundle: Bundle;
  readonly genesis: OpenedBlock;
  /** First block of `segment`: where the PCR 14 fold begins. */
  readonly start: OpenedBlock;
  readonly head: OpenedBlock;
  /** Genesis, start and head, each once, oldest first. */
  readonly blocks: readonly OpenedBlock[];
  /** Every block from start to head, both included, oldest first. */
  readonly segment: readonly Link[];
  /** The anchors between start and head. */
  readonly anchors: readonly OpenedAnchor[];
}

/** The counter's certification in a block of which only the payload is in the bundle. */
export interface OpenedAnchor extends Link {
  readonly statement: LinkAnchor;
}

/** Throws what the codecs throw, with the block's name in front. */
export function openBlocks(bundle: Bundle): OpenedBundle {
  const genesis = openBlock('genesis', bundle.genesis);
  const head = bundle.head ? openBlock('head', bundle.head) : genesis;
  // Without a start of its own the segment begins at the genesis where it reaches that far, else at the head.
  const reachesGenesis = head.block.sequence === bundle.links.length + 1;
  const impliedStart = reachesGenesis ? genesis : head;
  const start = bundle.start ? openBlock('start', bundle.start) : impliedStart;
  const links = bundle.links.map((payload): Link => ({ block: decodeBlock(payload), hash: blockHash(payload) }));
  const bySequence = new Map(links.map((link) => [link.block.sequence, link]));
  const anchors = bundle.anchors.map((statement): OpenedAnchor => {
    const link = bySequence.get(statement.sequence);
    if (!link) throw new TenzroError('bundle.malformed', `block ${statement.sequence} is not among the links, and its counter is in the bundle`);
    return { ...link, statement };
  });
  return {
    bundle, genesis, start, head, anchors,
    blocks: [...new Set([genesis, start, head])],
    segment: start === head ? [...links, head] : [start, ...links, head],
  };
}

/** Throws what the codecs throw. */
export function openBlock(name: string, { cose, evidence }: BundleBlock): OpenedBlock {
  const message = parseSign1(cose);
  return {
    name, message,
    block: decodeBlock(message.payload),
    hash: blockHash(message.payload),
    evidence: decodeEvidence(evidence),
    evidenceDigest: sha256(evidence),
  };
}
