/** Messages of a claim on a stream: two bytes of length, most significant first, then the message. Pure. */
import { TenzroError, invariant } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';

const HEAD_BYTES = 2;

export function frame(message: Uint8Array): Buffer {
  invariant(message.length > 0 && message.length <= LIMITS.claimMessageBytesMax, 'a message of the protocol fits a frame');
  const framed = Buffer.allocUnsafe(HEAD_BYTES + message.length);
  framed.writeUInt16BE(message.length);
  framed.set(message, HEAD_BYTES);
  return framed;
}

/** Takes a stream apart; linear in its bytes, however they are cut. Holds one message at most. */
export class FrameReader {
  #part: Buffer = Buffer.alloc(HEAD_BYTES);
  #filled = 0;
  #isHead = true;

  /** The messages that are whole with this chunk, as copies. Throws `claim.malformed` for a length that no message has: the stream is then of no use. */
  push(chunk: Uint8Array): readonly Buffer[] {
    const messages: Buffer[] = [];
    for (let at = 0; at < chunk.length;) {
      const taken = chunk.subarray(at, at + this.#part.length - this.#filled);
      this.#part.set(taken, this.#filled);
      this.#filled += taken.length;
      at += taken.length;
      if (this.#filled === this.#part.length) this.#next(messages);
    }
    return messages;
  }

  #next(messages: Buffer[]): void {
    if (!this.#isHead) messages.push(this.#part);
    this.#part = Buffer.alloc(this.#isHead ? messageBytes(this.#part) : HEAD_BYTES);
    this.#isHead = !this.#isHead;
    this.#filled = 0;
  }
}

function messageBytes(head: Buffer): number {
  const length = head.readUInt16BE();
  if (length === 0 || length > LIMITS.claimMessageBytesMax) throw new TenzroError('claim.malformed', `a frame of ${length} bytes`);
  return length;
}
