/** The programs of the pinned tools tree, run where they lie: with the tree's own loader and libraries, on this machine's files. Nothing is mounted and no root is needed. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const LOADER = join('lib64', 'ld-linux-x86-64.so.2');
const LIBRARIES = ['usr/lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu/swtpm'];
const FOLDERS = ['usr/bin', 'usr/sbin'];
const OUTPUT_BYTES_MAX = 1 << 26;

export class Tools {
  readonly root: string;

  /** `root`: the unpacked tree. Throws where there is none. */
  constructor(root: string) {
    if (!existsSync(join(root, LOADER))) throw new Error(`no tools in ${root}: npm run build:image makes them, or --tools names them`);
    this.root = root;
  }

  path(...parts: readonly string[]): string { return join(this.root, ...parts); }

  /** QEMU would load this machine's modules, which are of another build. */
  get environment(): NodeJS.ProcessEnv { return { ...process.env, QEMU_MODULE_DIR: this.path('usr', 'lib', 'x86_64-linux-gnu', 'qemu') }; }

  /** What to start for a program of the tree. */
  command(program: string, args: readonly string[]): readonly [string, ...string[]] {
    const file = FOLDERS.map((folder) => this.path(folder, program)).find((path) => existsSync(path));
    if (file === undefined) throw new Error(`no ${program} among the tools in ${this.root}`);
    return [this.path(LOADER), '--library-path', LIBRARIES.map((folder) => this.path(folder)).join(':'), '--argv0', program, file, ...args];
  }

  /** Runs one to its end; rejects with what it said. */
  async run(program: string, args: readonly string[]): Promise<string> {
    const [file, ...rest] = this.command(program, args);
    const { stdout } = await run(file, rest, { maxBuffer: OUTPUT_BYTES_MAX });
    return stdout;
  }
}
