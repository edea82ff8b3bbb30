/** A controller on this machine, as the first-fleet page starts it, for gateways in guests: they reach it as 10.0.2.2. */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tenzro } from '#test/support/gateway.ts';
import { freePort, Program, run, type Ran } from '#test/support/process.ts';
import { until } from '#test/support/until.ts';

/** QEMU's user network: this machine, as the guest sees it. */
export const HOST_IN_GUEST = '10.0.2.2';
const COMMAND = join(import.meta.dirname, '..', '..', 'runtime', 'cli', 'tenzro.js');
const CLAIM_TIMEOUT_MS = 600_000;

export class FleetHere implements AsyncDisposable {
  readonly home: string;
  readonly port: number;
  readonly #folder: string;
  readonly #server: Program;

  private constructor(folder: string, port: number, server: Program) {
    this.#folder = folder;
    this.home = join(folder, 'fleet');
    this.port = port;
    this.#server = server;
  }

  /** Makes the fleet in `folder` where there is none, and serves it; at the port that gateways were told. */
  static async serve(folder: string, port?: number): Promise<FleetHere> {
    const at = port ?? await freePort();
    const [home, passphrase] = [join(folder, 'fleet'), passphraseFile(folder)];
    if (!existsSync(home)) {
      writeFileSync(passphrase, 'correct horse battery staple\n', { mode: 0o600 });
      const made = await tenzro(folder, ['fleet', 'init', '--dir', home, '--name', 'workshop', '--host', HOST_IN_GUEST, '127.0.0.1', '--passphrase-file', passphrase]);
      if (made.code !== 0) throw new Error(made.output);
    }
    const server = new Program(process.execPath, [COMMAND, 'fleet', 'serve', '--dir', home, '--listen', `127.0.0.1:${at}`, '--passphrase-file', passphrase]);
    await until('the controller', () => server.stdout.includes('controller ready'), { timeoutMs: 60_000, hopeless: () => (server.running ? undefined : server.output) });
    return new FleetHere(folder, at, server);
  }

  /** `tenzro fleet …` with this folder. */
  async tell(...args: readonly string[]): Promise<Ran> { return tenzro(this.#folder, ['fleet', ...args, '--dir', this.home]); }

  /** `tenzro fleet run` on its only gateway, to the end. Returns what it printed; throws that, too. */
  async run(...words: readonly string[]): Promise<string> {
    const [, gateway] = /^(\S+)\s+claimed/m.exec((await this.tell('ls')).stdout) ?? [];
    if (gateway === undefined) throw new Error('the fleet has no gateway');
    const { code, output } = await this.tell('run', gateway, ...words, '--passphrase-file', passphraseFile(this.#folder));
    if (code !== 0) throw new Error(`tenzro fleet run ${gateway} ${words.join(' ')}: ${output}`);
    return output;
  }

  /** `tenzro fleet claim`, of a gateway whose port for claims is `claimPort` here. Returns what it printed; throws that, too. */
  async claim(code: string, claimPort: number): Promise<string> {
    const claimed = await run('timeout', [String(CLAIM_TIMEOUT_MS / 1_000), process.execPath, COMMAND, 'fleet', 'claim', '--dir', this.home, '--code', code, '--address', `127.0.0.1:${claimPort}`,
      '--broker', `mqtts://${HOST_IN_GUEST}:${this.port}`, '--passphrase-file', passphraseFile(this.#folder), '--yes']);
    if (claimed.code !== 0) throw new Error(`tenzro fleet claim: ${claimed.output}`);
    return claimed.output;
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.#server.end('SIGTERM'); }
}

const passphraseFile = (folder: string): string => join(folder, 'passphrase');
