/**
 * Looks at the fixed headers of an inbound byte stream (MQTT 3.1.1 §2.2), a client's or a broker's, so that an oversize packet is refused at its second
 * byte and never buffered. It keeps four numbers per connection and copies nothing.
 */
import { TenzroError } from './errors.ts';

/** §2.2.3: the remaining length takes at most four bytes. */
const LENGTH_BYTES_MAX = 4;

/** Who sends the stream, and what its faults are called. */
const CODES = { client: { large: 'broker.packet_too_large', malformed: 'broker.malformed' }, broker: { large: 'link.packet', malformed: 'link.packet' } } as const;

export class FrameGuard {
  readonly #packetBytesMax: number;
  readonly #sender: keyof typeof CODES;
  /** Bytes of the current packet's body still to come; -1 while its header is incomplete. */
  #bodyLeft = 0;
  #lengthBytes = 0;
  #length = 0;

  constructor(packetBytesMax: number, sender: keyof typeof CODES = 'client') { [this.#packetBytesMax, this.#sender] = [packetBytesMax, sender]; }

  get isBetweenPackets(): boolean { return this.#bodyLeft === 0; }

  /** Takes the next piece of the stream; an error says that the connection must go. */
  check(chunk: Uint8Array): TenzroError | undefined {
    let at = 0;
    while (at < chunk.length) {
      if (this.#bodyLeft > 0) {
        const step = Math.min(this.#bodyLeft, chunk.length - at);
        this.#bodyLeft -= step;
        at += step;
        continue;
      }
      if (this.#bodyLeft === 0) {
        this.#bodyLeft = -1;
        this.#lengthBytes = 0;
        this.#length = 0;
        at++;
        continue;
      }
      const byte = chunk[at++] ?? 0;
      this.#length += (byte & 0x7f) * 2 ** (7 * this.#lengthBytes++);
      if (this.#length > this.#packetBytesMax) {
        return new TenzroError(CODES[this.#sender].large, `the ${this.#sender} announced a packet of ${this.#length} bytes or more; ${this.#packetBytesMax} is the limit`);
      }
      if ((byte & 0x80) === 0) this.#bodyLeft = this.#length;
      else if (this.#lengthBytes === LENGTH_BYTES_MAX) return new TenzroError(CODES[this.#sender].malformed, 'the remaining length takes more than four bytes');
    }
    return undefined;
  }
}
