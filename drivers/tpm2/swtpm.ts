/**
 * An own TPM emulator (swtpm) for machines without a TPM: its answers look like a TPM's and are worth nothing against this machine's root, hence
 * the trust level `emulated`. It hangs on a socket pair, so there is no path to clash over and it ends when this process does, however that ends.
 */
import { spawn, type ChildProcess, type IOType } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { StreamTransport, type Transport } from './transport.ts';

/** Starts a child with these descriptors; in the place of the plain way where a process has files open that a child would inherit. */
export type StartChild = <T>(own: readonly IOType[], start: (stdio: (IOType | number)[]) => T) => T;
const startPlainly: StartChild = (own, start) => start([...own]);

export interface SwtpmOptions {
  /** Folders to look for swtpm in, instead of PATH. */
  readonly searchPath?: string | undefined;
  readonly startChild?: StartChild | undefined;
}

const EXIT_WAIT_MS = 2_000;
const POLL_MS = 10;
const TPM_FD = 3;

/** Absolute path of swtpm, or undefined when it is not installed. */
export function findSwtpm(searchPath = process.env['PATH'] ?? ''): string | undefined {
  return searchPath.split(delimiter).filter((folder) => folder !== '').map((folder) => join(folder, 'swtpm')).find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/**
 * Starts swtpm at the first command, and again should it have ended. `stateDir` is made (mode 0700) and holds its keys and NV memory.
 * `transact` rejects with `tpm.not_installed` when there is no swtpm.
 */
export function swtpmTransport(stateDir: string, options: SwtpmOptions = {}): Transport { return new SwtpmTransport(stateDir, options); }

class SwtpmTransport implements Transport {
  readonly #stateDir: string;
  readonly #options: SwtpmOptions;
  readonly #stream = new StreamTransport(() => this.#start());
  #child: ChildProcess | undefined;

  constructor(stateDir: string, options: SwtpmOptions) {
    this.#stateDir = stateDir;
    this.#options = options;
  }

  transact(command: Buffer, signal: AbortSignal): Promise<Buffer> { return this.#stream.transact(command, signal); }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stream[Symbol.asyncDispose]();
    await this.#stop();
  }

  async #start(): Promise<Duplex> {
    const { searchPath, startChild = startPlainly } = this.#options;
    const program = findSwtpm(searchPath);
    if (program === undefined) throw new TenzroError('tpm.not_installed', 'swtpm is not installed');
    await this.#stop();
    await mkdir(this.#stateDir, { recursive: true, mode: 0o700 });
    const pidFile = join(this.#stateDir, 'swtpm.pid');
    await outliveLeftover(pidFile, this.#stateDir);
    const args = ['socket', '--tpm2', '--tpmstate', `dir=${this.#stateDir},mode=0600`, '--fd', String(TPM_FD), '--flags', 'not-need-init,startup-clear',
      '--pid', `file=${pidFile}`, '--log', `file=${join(this.#stateDir, 'swtpm.log')},truncate`];
    // A process group of its own: Ctrl-C must not end the TPM before the last block is sealed.
    const child = startChild(['ignore', 'ignore', 'ignore', 'pipe'], (stdio) => spawn(program, args, { stdio, detached: true }));
    child.unref();
    this.#child = child;
    const stream = child.stdio[TPM_FD];
    if (!(stream instanceof Duplex)) throw new TenzroError('core.invariant', 'fd 3 of a child is not a stream');
    child.on('error', (cause) => stream.destroy(new TenzroError('tpm.unavailable', `swtpm does not start: ${messageOf(cause)}`, { cause })));
    return stream;
  }

  /** It ends by itself once its connection has; a hung one is killed. */
  async #stop(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (!child?.pid) return;
    const deadline = AbortSignal.timeout(EXIT_WAIT_MS);
    while (isRunning(child)) {
      if (deadline.aborted) child.kill('SIGKILL');
      await delay(POLL_MS);
    }
  }
}

const isRunning = (child: ChildProcess): boolean => child.exitCode === null && child.signalCode === null;

/** After a kill −9 of the gateway its swtpm ends within milliseconds; until then it holds the lock on the state. */
async function outliveLeftover(pidFile: string, stateDir: string): Promise<void> {
  const pid = Number(await readText(pidFile));
  if (!Number.isSafeInteger(pid) || pid <= 1) return;
  const isLeftover = async (): Promise<boolean> => (await readText(`/proc/${pid}/cmdline`)).split('\0').some((argument) => argument.startsWith(`dir=${stateDir},`));
  const deadline = AbortSignal.timeout(EXIT_WAIT_MS);
  while (await isLeftover()) {
    if (deadline.aborted) kill(pid);
    await delay(POLL_MS);
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (cause) {
    if (!(cause instanceof Error) || !('code' in cause) || cause.code !== 'ESRCH') throw new TenzroError('tpm.unavailable', `an earlier swtpm (process ${pid}) cannot be ended: ${messageOf(cause)}`, { cause });
  }
}

/** Empty when the file is not there. */
async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && (cause.code === 'ENOENT' || cause.code === 'ESRCH')) return '';
    throw new TenzroError('tpm.unavailable', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}
