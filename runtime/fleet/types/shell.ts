/**
 * `shell`: one line for /bin/sh, as the gateway's user, without terminal, input or environment of ours. It can do whatever that user can: the consent is the
 * owner's, and the text stands in the chain before it runs. What makes a session of its own escapes the group that is killed at the end.
 */
import { spawn, type ChildProcess, type ChildProcessByStdio } from 'node:child_process';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CommandHandler } from '#runtime/core/command.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { startAlone } from './alone.ts';
import { ABLE, onlyKnown, textIn, wholeIn, type Result } from './parameters.ts';

const COMMAND_CHARACTERS_MAX = 16 * 1024;
const SECONDS_DEFAULT = 10;
/** For output that is under way when the shell has ended. */
const LAST_OUTPUT_MS = 500;
const ENVIRONMENT = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' };

export const shell = (isAllowed: boolean): CommandHandler => ({
  support: isAllowed ? ABLE : { kind: 'none', reason: 'fleet.shell of this gateway is off' },
  async run({ parameters, isDryRun }, signal) {
    onlyKnown(parameters, ['command', 'timeout_s']);
    const command = textIn(parameters, 'command', COMMAND_CHARACTERS_MAX);
    const seconds = parameters['timeout_s'] === undefined ? SECONDS_DEFAULT : wholeIn(parameters, 'timeout_s', 1, LIMITS.shellSecondsMax);
    if (!isAllowed) throw new TenzroError('command.consent', 'fleet.shell is off');
    return isDryRun ? { dry_run: true } : runShell(command, seconds, signal);
  },
});

/** Rejects with `command.timeout`, `command.cancelled`, `core.system`. */
async function runShell(command: string, seconds: number, signal: AbortSignal): Promise<Result> {
  signal.throwIfAborted();
  const child = spawnAlone(command);
  const [stdout, stderr] = [new Tail(), new Tail()];
  child.stdout.on('data', (bytes: Buffer) => stdout.add(bytes));
  child.stderr.on('data', (bytes: Buffer) => stderr.add(bytes));
  const outOfTime = AbortSignal.timeout(seconds * 1_000);
  const either = AbortSignal.any([signal, outOfTime]);
  const kill = (): void => killGroup(child);
  either.addEventListener('abort', kill, { once: true });
  try {
    const [code, killedBy] = await ended(child);
    if (signal.aborted) throw new TenzroError('command.cancelled', 'the shell was killed');
    if (outOfTime.aborted) throw new TenzroError('command.timeout', `killed after ${seconds} s; it had said: ${stderr.text(256) || stdout.text(256)}`);
    return { exit_code: code, ...(killedBy === null ? {} : { killed_by: killedBy }), ...said('stdout', stdout), ...said('stderr', stderr) };
  } finally {
    either.removeEventListener('abort', kill);
    kill(); // what it left in the background
    child.stdout.destroy();
    child.stderr.destroy();
  }
}

const spawnAlone = (command: string): ChildProcessByStdio<null, Readable, Readable> =>
  startAlone(['ignore', 'pipe', 'pipe'], (stdio) => spawn('/bin/sh', ['-c', command], { cwd: '/', env: ENVIRONMENT, stdio, detached: true }) as ChildProcessByStdio<null, Readable, Readable>);

/** Resolves with exit code and signal, when its output has ended or nearly so: what left the group may hold the pipes for ever. */
async function ended(child: ChildProcess): Promise<[number | null, NodeJS.Signals | null]> {
  const exit = Promise.withResolvers<[number | null, NodeJS.Signals | null]>();
  const closed = Promise.withResolvers<void>();
  child.once('error', (cause) => exit.reject(new TenzroError('core.system', `/bin/sh: ${cause.message}`, { cause })));
  child.once('exit', (code, killedBy) => exit.resolve([code, killedBy]));
  child.once('close', () => closed.resolve());
  const outcome = await exit.promise;
  killGroup(child);
  await Promise.race([closed.promise, sleep(LAST_OUTPUT_MS, undefined, { ref: false })]);
  return outcome;
}

function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

const said = (name: string, tail: Tail): Result => ({ [name]: tail.text(LIMITS.shellOutputBytesMax), [`${name}_bytes`]: tail.bytes });

/** The end of a stream: what went wrong stands last. */
class Tail {
  #kept = Buffer.alloc(0);
  /** All that came. */
  bytes = 0;

  add(bytes: Buffer): void {
    this.bytes += bytes.length;
    this.#kept = Buffer.concat([this.#kept, bytes]).subarray(-LIMITS.shellOutputBytesMax);
  }

  /** Its last characters that take at most so many bytes as JSON text. */
  text(jsonBytesMax: number): string {
    const characters = Array.from(this.#kept.toString('utf8'));
    let [from, room] = [characters.length, jsonBytesMax];
    for (; from > 0; from--) {
      room -= Buffer.byteLength(JSON.stringify(characters[from - 1])) - 2;
      if (room < 0) break;
    }
    return characters.slice(from).join('');
  }
}
