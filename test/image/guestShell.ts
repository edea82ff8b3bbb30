/** Root's shell in a guest that was built for emulation: one line at a time over a virtio port, without a terminal, so that what comes back is what was said. */
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { Console } from './console.ts';

export interface GuestRan {
  readonly code: number;
  /** stdout and stderr. */
  readonly output: string;
}

const RETRY_MS = 2_000;

export class GuestShell implements Disposable {
  readonly #line: Console;

  constructor(socket: Socket, logFile: string) { this.#line = new Console(socket, logFile); }

  /** Resolves when somebody answers. What was sent before the shell was there is lost, so it is asked again and again. */
  async ready(timeoutMs: number): Promise<void> {
    const word = `ready-${randomBytes(4).toString('hex')}`;
    const asking = setInterval(() => { this.#line.write(`echo ${word}\n`); }, RETRY_MS);
    try {
      await this.#line.waitFor(new RegExp(`${word}\n`), { timeoutMs });
    } finally {
      clearInterval(asking);
    }
  }

  /** Runs a line and waits for its end. */
  async run(line: string, timeoutMs = 120_000): Promise<GuestRan> {
    const word = randomBytes(6).toString('hex');
    this.#line.write(`echo begin-${word}; { ${line}\n} 2>&1 < /dev/null; echo "end-${word}:$?"\n`);
    const [, output = '', code] = await this.#line.waitFor(new RegExp(`begin-${word}\n([\\s\\S]*?)end-${word}:(\\d+)\n`), { timeoutMs });
    return { code: Number(code), output };
  }

  /** The same; throws where the line fails. */
  async must(line: string, timeoutMs?: number): Promise<string> {
    const { code, output } = await this.run(line, timeoutMs);
    if (code !== 0) throw new Error(`in the guest: ${line}: ended with ${code}: ${output.slice(-2_000)}`);
    return output;
  }

  /** Sends a line and looks for nothing. */
  send(line: string): void { this.#line.write(`${line}\n`); }

  [Symbol.dispose](): void { this.#line[Symbol.dispose](); }
}
