/** What fsck asks of each block: that it decodes, is signed by the genesis key, follows the one before, and fits its evidence. Pure. */
import { asBuffer, equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { parseSign1, verifySign1 } from '#runtime/crypto/cose.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { blockHash, chainIdOf, decodeBlock, ZERO_HASH, type BlockPayload } from './block.ts';
import { decodeBlockHeader, keyIdOf } from './blockHeader.ts';
import { decodeEvidence } from './evidence.ts';
import { AnchorWalk } from './fsckAnchors.ts';
import { decodeBlockRecord, type BlockRecord } from './layout.ts';

/** `offset` in bytes from the start of the record. */
export interface BlockProblem {
  readonly offset: number;
  readonly detail: string;
}

/** Walks the blocks in order. */
export class BlockWalk {
  readonly anchors = new AnchorWalk();
  #last: BlockPayload | undefined;
  #akPublic: Uint8Array | undefined;
  #signingKey: Uint8Array | undefined;
  #chainId: Uint8Array | undefined;
  #previous: Uint8Array = ZERO_HASH;
  #treeSize = 0;
  #next = 0;

  /** The newest block that decoded, and the attestation key of the genesis. */
  get last(): BlockPayload | undefined { return this.#last; }
  get akPublic(): Uint8Array | undefined { return this.#akPublic; }

  /** The payload, where it decodes, and what is wrong with the block. */
  check(sequence: number, value: Buffer): { readonly block?: BlockPayload; readonly problems: readonly BlockProblem[] } {
    const problems: BlockProblem[] = [];
    try {
      const record = decodeBlockRecord(value);
      const block = decodeBlock(record.payload);
      if (block.identity && sequence === 0) {
        this.#signingKey = block.identity.signingKey;
        this.#chainId = chainIdOf(record.payload);
        this.#akPublic = block.identity.akPublic;
      }
      const fieldAt = (field: Uint8Array): number => Math.max(0, value.indexOf(asBuffer(field)));
      const wrong = (field: Uint8Array, detail: string): void => { problems.push({ offset: fieldAt(field), detail }); };
      this.#checkPlace(sequence, record, block, wrong);
      this.#checkSignature(record, value, wrong, problems);
      this.#previous = blockHash(record.payload);
      this.#last = block;
      for (const fault of this.anchors.note(block, this.#previous, decodeEvidence(record.evidence))) wrong(record.evidence, fault);
      this.#next = sequence + 1;
      return { block, problems };
    } catch (error) {
      if (!(error instanceof TenzroError)) throw error;
      this.#next = sequence + 1;
      return { problems: [...problems, { offset: 0, detail: error.message }] };
    }
  }

  #checkPlace(sequence: number, { payload }: BlockRecord, block: BlockPayload, wrong: (field: Uint8Array, detail: string) => void): void {
    if (sequence !== this.#next) wrong(payload, `blocks ${this.#next} to ${sequence - 1} are missing`);
    if (block.sequence !== sequence) wrong(payload, `it says that it is block ${block.sequence}`);
    if (!equalBytes(block.previous, this.#previous)) wrong(payload, 'it does not follow the block before');
    if (block.treeSize < this.#treeSize) wrong(payload, `it covers ${block.treeSize} entries, the one before ${this.#treeSize}`);
    if (sequence > 0 && !(block.chainId && this.#chainId && equalBytes(block.chainId, this.#chainId))) wrong(payload, 'it belongs to another chain');
    if (sequence === 0 && !block.identity) wrong(payload, 'the genesis names no identity');
    this.#treeSize = block.treeSize;
  }

  #checkSignature({ payload, cose, evidence }: BlockRecord, value: Buffer, wrong: (field: Uint8Array, detail: string) => void, problems: BlockProblem[]): void {
    const message = parseSign1(cose);
    if (!equalBytes(message.payload, payload)) {
      const differs = payload.findIndex((byte, at) => byte !== message.payload[at]);
      problems.push({ offset: Math.max(0, value.indexOf(asBuffer(payload))) + Math.max(0, differs), detail: 'payload and signed payload differ' });
    }
    if (!this.#signingKey || !verifySign1(message, this.#signingKey)) wrong(cose, 'the signature is not that of the genesis key');
    const header = decodeBlockHeader(message.header);
    if (this.#signingKey && !equalBytes(header.keyId, keyIdOf(this.#signingKey))) wrong(cose, 'the header names another key');
    if (this.#chainId && !equalBytes(header.chainId, this.#chainId)) wrong(cose, 'the header names another chain');
    if (!equalBytes(header.evidenceDigest, sha256(evidence))) wrong(evidence, 'the evidence is not the one that was signed');
  }
}
