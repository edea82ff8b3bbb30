/** Other programs as the tests run them: started with their output kept, ended for certain, measured through /proc. */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import type { Readable } from 'node:stream';

const OUTPUT_CHARS_MAX = 200_000;

export class Program implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;
  readonly #exit: Promise<number | string>;
  #output = '';
  #stdout = '';

  constructor(file: string, args: readonly string[], options: { readonly env?: NodeJS.ProcessEnv; readonly cwd?: string } = {}) {
    this.#child = spawn(file, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    const keep = (text: string): void => { this.#output = (this.#output + text).slice(-OUTPUT_CHARS_MAX); };
    this.#child.stderr.setEncoding('utf8').on('data', keep);
    this.#child.stdout.setEncoding('utf8').on('data', keep).on('data', (text: string) => { this.#stdout += text; });
    this.#exit = new Promise((resolve) => {
      this.#child.once('error', (error) => resolve(error.message));
      this.#child.once('close', (code, signal) => resolve(code ?? signal ?? 'unknown'));
    });
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error(`did not start: ${this.#output}`);
    return this.#child.pid;
  }

  get running(): boolean { return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null; }

  /** The end of stdout and stderr so far, as a person would see it. */
  get output(): string { return this.#output; }
  /** All of stdout so far. */
  get stdout(): string { return this.#stdout; }

  /** Resolves with the exit code, or the signal's name. */
  async exited(): Promise<number | string> { return this.#exit; }

  signal(name: NodeJS.Signals): void { this.#child.kill(name); }

  async end(name: NodeJS.Signals): Promise<number | string> {
    this.signal(name);
    return this.#exit;
  }

  async [Symbol.asyncDispose](): Promise<void> { if (this.running) await this.end('SIGKILL'); }
}

export interface Ran {
  readonly code: number | string;
  readonly stdout: string;
  /** stdout and stderr. */
  readonly output: string;
}

export async function run(file: string, args: readonly string[], options: { readonly env?: NodeJS.ProcessEnv; readonly cwd?: string } = {}): Promise<Ran> {
  await using program = new Program(file, args, options);
  const code = await program.exited();
  return { code, stdout: program.stdout, output: program.output };
}

/** A port that was free a moment ago: for programs that cannot pick one themselves. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** True when somebody listens on the port. */
export async function acceptsTcp(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

/** MQTT 3.1.1 CONNECT of client `probe`, and the CONNACK that accepts it. */
const CONNECT = Buffer.from('101100044d515454040200000005' + Buffer.from('probe').toString('hex'), 'hex');

/** True when an MQTT broker on the port accepts a client; false when it does not (yet). */
export async function acceptsMqtt(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    socket.write(CONNECT);
    const [reply] = (await once(socket, 'data')) as [Buffer];
    return reply[0] === 0x20 && reply[3] === 0;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

export interface ProcessUse {
  readonly rssBytes: number;
  /** Heap and stacks: what no file backs. */
  readonly anonymousBytes: number;
  /**
   * What it handed to write calls, ever: `wchar` of proc(5). `write_bytes` would be nearer to the disk, but where the page cache holds large
   * folios (ext4 from Linux 6.16) it counts the whole folio for each page that is dirtied: 3.7 times the truth.
   */
  readonly writtenBytes: number;
  readonly cpuSeconds: number;
}

const CLOCK_TICKS_PER_S = 100; // USER_HZ, fixed on Linux

/** From status, io and stat of proc(5): cheap. `smaps_rollup` walks every mapped page, which takes a tenth of a core from a process that is being measured. */
export function useOf(pid: number): ProcessUse {
  const kib = (text: string, name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1]) * 1024;
  const memory = readFileSync(`/proc/${pid}/status`, 'utf8');
  const written = Number(/^wchar: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1]);
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // Fields 14 and 15, counted after the name, which may hold spaces.
  const [userTicks, systemTicks] = stat.slice(stat.lastIndexOf(')') + 2).split(' ').slice(11, 13);
  return {
    rssBytes: kib(memory, 'VmRSS'), anonymousBytes: kib(memory, 'RssAnon'), writtenBytes: written,
    cpuSeconds: (Number(userTicks) + Number(systemTicks)) / CLOCK_TICKS_PER_S,
  };
}
