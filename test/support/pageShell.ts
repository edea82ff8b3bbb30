/** The shells of a documentation page: its `sh` blocks, typed one after another into real shells, each in the one that its heading names. */
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { until } from './until.ts';

const COMMAND = join(import.meta.dirname, '..', '..', 'runtime', 'cli', 'tenzro.js');

export interface PageBlock {
  /** As the nearest heading above says: `Shell 1`. */
  readonly shell: string;
  readonly commands: string;
}

/** Blocks of `sh` under headings that begin with `Shell N`. */
export function shellBlocks(page: string): readonly PageBlock[] {
  let shell = '';
  return page.split(/^(## .*|```sh\n[\s\S]*?^```$)/m).flatMap((part) => {
    if (part.startsWith('## ')) shell = /^## (Shell \d)/.exec(part)?.[1] ?? shell;
    return part.startsWith('```sh\n') && shell !== '' ? [{ shell, commands: part.slice('```sh\n'.length, -'```'.length) }] : [];
  });
}

/** A shell with `tenzro` on its PATH; what it started in the background ends with it. */
export class PageShell implements AsyncDisposable {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #closed: Promise<never>;
  #output = '';
  #number = 0;

  /** `inside`: what its command begins with, where it runs in a namespace. */
  constructor(folder: string, inside: readonly string[] = []) {
    const bin = join(folder, '.bin');
    mkdirSync(bin, { recursive: true });
    writeFileSync(join(bin, 'tenzro'), `#!/bin/sh\nexec '${process.execPath}' '${COMMAND}' "$@"\n`);
    chmodSync(join(bin, 'tenzro'), 0o755);
    const { TENZRO_CONFIG: _config, TENZRO_DATA: _data, npm_lifecycle_event: _npm, ...env } = process.env;
    const [file, ...args] = [...inside, 'sh'];
    this.#child = spawn(file, args, { cwd: folder, detached: true, env: { ...env, PATH: `${bin}${delimiter}${env['PATH'] ?? ''}` } });
    this.#closed = once(this.#child, 'close').then(() => { throw new Error(`the shell ended:\n${this.#output}`); });
    this.#closed.catch(() => undefined); // whoever types has it
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => { this.#output += text; });
  }

  /** Everything so far. */
  get output(): string { return this.#output; }

  /** Types the lines, and resolves with what they printed when the last one is done. Throws where a command failed. */
  async type(commands: string): Promise<string> {
    const mark = `--done ${(this.#number += 1)}:`;
    const from = this.#output.length;
    this.#child.stdin.write(`set -e\n${commands}\necho "${mark}"\n`);
    while (!this.#output.includes(mark, from)) await Promise.race([once(this.#child.stdout, 'data'), this.#closed]);
    return this.#output.slice(from, this.#output.indexOf(mark, from));
  }

  /** Its process group, with everything in it: resolves when the last one is gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { pid } = this.#child;
    if (pid === undefined || !signalGroup(pid, 'SIGTERM')) return;
    await until('the shell and what it started to end', () => !signalGroup(pid, 0), { timeoutMs: 30_000 });
  }
}

/** False: nobody is left in it. */
function signalGroup(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-pid, signal);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ESRCH') return false;
    throw error;
  }
}
