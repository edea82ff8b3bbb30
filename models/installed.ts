/**
 * Models that were installed by command, beside those that came with the application: `<dir>/<name>` is a symbolic link to `.packages/<name>-<sha256>`, the
 * folder of one package. Who replaces a model replaces its link in one step, so that a kill leaves the one or the other.
 * INVARIANT: a folder in `.packages` is whole, for it gets its name when all in it is on the disk.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, readlinkSync, renameSync, rmSync, statfsSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';

const PACKAGES = '.packages';
const HALF = '.half';

export class InstalledModels {
  readonly dir: string;

  constructor(dir: string) { this.dir = dir; }

  /** Throws `model.space` where a package of so many bytes, fetched and unpacked, would leave too little. */
  checkSpace(bytes: number): void {
    const { bavail, bsize } = this.#try(() => statfsSync(this.#made()));
    if (bavail * bsize < 2 * bytes + LIMITS.modelSpareBytes) throw new TenzroError('model.space', `${bavail * bsize} bytes are free, ${2 * bytes + LIMITS.modelSpareBytes} are needed`);
  }

  /** Where a package is fetched to. */
  partFile(sha256: string): string { return join(this.#made(), PACKAGES, `${sha256}.part`); }

  /** Which package a name stands for; undefined: none was installed. */
  current(name: string): string | undefined {
    try {
      return basename(readlinkSync(join(this.dir, name)));
    } catch {
      return undefined; // none, or not ours
    }
  }

  /** Names of what is installed. */
  names(): readonly string[] {
    try {
      return readdirSync(this.dir, { withFileTypes: true }).filter((item) => item.isSymbolicLink()).map(({ name }) => name);
    } catch {
      return []; // nothing was ever installed
    }
  }

  /** Writes the folder of a package that nobody uses yet. */
  unpack(id: string, files: ReadonlyMap<string, Uint8Array>): void {
    this.#try(() => {
      const half = join(this.#made(), PACKAGES, HALF);
      rmSync(half, { recursive: true, force: true });
      mkdirSync(half, { mode: 0o700 });
      for (const [file, bytes] of files) writeFileSync(join(half, file), bytes, { flag: 'wx', mode: 0o600, flush: true });
      syncFolder(half);
      const whole = join(this.dir, PACKAGES, id);
      rmSync(whole, { recursive: true, force: true });
      renameSync(half, whole);
      syncFolder(join(this.dir, PACKAGES));
    });
  }

  /** A folder in which only this package stands, under its name. The caller disposes of it. */
  trial(name: string, id: string): { readonly dir: string } & Disposable {
    const dir = join(this.dir, PACKAGES, `${id}.trial`);
    const dispose = (): void => rmSync(dir, { recursive: true, force: true });
    this.#try(() => {
      dispose();
      mkdirSync(dir, { mode: 0o700 });
      symlinkSync(join('..', id), join(dir, name));
    });
    return { dir, [Symbol.dispose]: dispose };
  }

  /** In one step; undefined takes the name away. */
  point(name: string, id: string | undefined): void {
    this.#try(() => {
      if (id === undefined) rmSync(join(this.dir, name), { force: true });
      else {
        const next = join(this.dir, PACKAGES, `${name}.next`);
        rmSync(next, { force: true });
        symlinkSync(join(PACKAGES, id), next);
        renameSync(next, join(this.dir, name));
      }
      syncFolder(this.dir);
    });
  }

  /** Removes what no name stands for, but for `kept`: the rest of interrupted changes, and packages that were replaced. */
  sweep(kept?: string): void {
    const used = new Set([...this.names().map((name) => this.current(name)), kept]);
    this.#try(() => {
      for (const item of readdirSync(join(this.#made(), PACKAGES))) if (!used.has(item)) rmSync(join(this.dir, PACKAGES, item), { recursive: true, force: true });
    });
  }

  #made(): string {
    this.#try(() => mkdirSync(join(this.dir, PACKAGES), { recursive: true, mode: 0o700 }));
    return this.dir;
  }

  #try<T>(work: () => T): T {
    try {
      return work();
    } catch (cause) {
      throw new TenzroError('model.store', `${this.dir}: ${messageOf(cause)}`, { cause });
    }
  }
}

function syncFolder(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
