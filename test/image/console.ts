/** What a machine says on a serial line: kept in a file, and read in order by whoever waits for the next thing. */
import { createWriteStream, type WriteStream } from 'node:fs';
import type { Socket } from 'node:net';

const TAIL_CHARS = 600;
/** What nobody waited for is forgotten beyond this. */
const TEXT_CHARS_MAX = 4_000_000;

export interface WaitOptions {
  readonly timeoutMs: number;
  /** Seeing this first means that waiting is in vain. */
  readonly unless?: RegExp;
}

export class Console implements Disposable {
  readonly #socket: Socket;
  readonly #log: WriteStream;
  #text = '';
  #isClosed = false;
  #wake: () => void = () => undefined;

  /** `logFile` is appended to: one machine that is started again and again has one log. */
  constructor(socket: Socket, logFile: string) {
    this.#socket = socket;
    this.#log = createWriteStream(logFile, { flags: 'a' });
    socket.setEncoding('latin1').on('data', (text: string) => {
      this.#log.write(text, 'latin1');
      this.#text = (this.#text + text).slice(-TEXT_CHARS_MAX);
      this.#wake();
    });
    const closed = (): void => { this.#isClosed = true; this.#wake(); };
    socket.on('error', closed).on('close', closed);
  }

  /** The end of what was not consumed yet. */
  get tail(): string { return this.#text.slice(-TAIL_CHARS); }

  write(text: string): void { this.#socket.write(text); }

  /** Forgets what was said so far. */
  forget(): void { this.#text = ''; }

  /** The first match behind the last one. Throws after `timeoutMs`, at the end of the line, or when `unless` came first, with the last words. */
  async waitFor(pattern: RegExp, { timeoutMs, unless }: WaitOptions): Promise<RegExpExecArray> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const match = pattern.exec(this.#text);
      const bad = unless?.exec(this.#text);
      if (bad && (!match || bad.index < match.index)) throw new Error(`waited for ${pattern} and saw ${JSON.stringify(bad[0])}; last words: ${JSON.stringify(this.tail)}`);
      if (match) {
        this.#text = this.#text.slice(match.index + match[0].length);
        return match;
      }
      if (this.#isClosed) throw new Error(`waited for ${pattern}, and the line ended; last words: ${JSON.stringify(this.tail)}`);
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) throw new Error(`waited ${timeoutMs / 1_000} s for ${pattern}; last words: ${JSON.stringify(this.tail)}`);
      await this.#more(leftMs);
    }
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
    this.#log.end();
  }

  #more(limitMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, limitMs);
      this.#wake = () => { clearTimeout(timer); resolve(); };
    });
  }
}
