/** A scratch root with an application in it, release keys, and signed bundles of others: what keeper and launcher of the application's folders work on. */
import { createPublicKey } from 'node:crypto';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { writeBundle } from '#image/deb/bundle.ts';
import { filesOf } from '#image/deb/package.ts';
import { folderAt, folderPaths, type FolderPaths } from '#drivers/slots/folderPaths.ts';
import { formatState, parseState, type FolderState, type Place } from '#drivers/slots/folderState.ts';
import { compatibleOf } from '#runtime/crypto/appBundle.ts';
import { newSeed, signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';
import { run, type Ran } from './process.ts';

const REPOSITORY = join(import.meta.dirname, '..', '..');
const LAUNCHER = join(REPOSITORY, 'image/deb/system/slots');
export const KEEPER = join(REPOSITORY, 'runtime/slotKeeper.ts');
export const REQUEST_ID = '0f4c1b1e-8d1b-4c57-9a55-3c1f2f6d7a10';

export class AppFolders {
  readonly root: string;
  readonly paths: FolderPaths;
  readonly signer: Signer = signerOfSeed(newSeed());

  constructor(root: string) {
    this.root = root;
    this.paths = folderPaths(root);
  }

  /** The package at version 1.0.0, nothing else; the gateway runs from it. */
  async prepare(): Promise<void> {
    await this.lay(this.paths.package, '1.0.0');
    const keys = this.paths.keys[0] ?? '';
    for (const folder of [this.paths.home, this.paths.handover, keys, dirname(this.paths.chosen)]) await mkdir(folder, { recursive: true, mode: 0o755 });
    if (this.signer.privateKey) await writeFile(join(keys, 'release.pem'), createPublicKey(this.signer.privateKey).export({ format: 'pem', type: 'spki' }), { mode: 0o644 });
    await this.runFrom('package');
  }

  /** An application of that version; `more`: further files. */
  async lay(folder: string, version: string, more: Readonly<Record<string, string | Uint8Array>> = {}): Promise<void> {
    for (const [path, content] of Object.entries({ release: `${version}\n`, 'bin/node': '#!/bin/sh\n', 'runtime/empty.ts': '', 'runtime/main.ts': `// ${version}\n`, ...more })) {
      await mkdir(dirname(join(folder, path)), { recursive: true });
      await writeFile(join(folder, path), content);
    }
    await chmod(join(folder, 'bin/node'), 0o755);
  }

  /** A bundle of an application that lies in `name`; made by `signer`. */
  async bundle(name: string, version: string, { signer = this.signer, compatible = compatibleOf(process.arch), more = {} }: { readonly signer?: Signer; readonly compatible?: string; readonly more?: Readonly<Record<string, string | Uint8Array>> } = {}): Promise<string> {
    const app = join(this.root, name);
    await this.lay(app, version, more);
    const target = `${app}.bundle`;
    await writeBundle({ app, version, compatible, signer, quality: 1, target });
    return target;
  }

  async runFrom(place: Place): Promise<void> { await writeFile(this.paths.chosen, `${place}\n`); }
  async write(state: FolderState): Promise<void> { await writeFile(join(this.paths.home, 'state'), formatState(state)); }
  async state(): Promise<FolderState> { return parseState(await readFile(join(this.paths.home, 'state'), 'utf8').catch(() => '')); }

  /** What the launcher chooses at a start. */
  async select(): Promise<Place> {
    const { code, output } = await run('sh', ['-c', 'umask 077; exec sh "$@"', 'sh', LAUNCHER, 'select', this.root]); // as the unit has it
    if (code !== 0) throw new Error(output);
    return (await readFile(this.paths.chosen, 'utf8')).trim() as Place;
  }

  async handOver(bundle: string | Uint8Array, what = 'install'): Promise<void> {
    await writeFile(join(this.paths.handover, 'bundle'), typeof bundle === 'string' ? await readFile(bundle) : bundle);
    await this.request(what);
  }

  async request(what: string): Promise<void> { await writeFile(join(this.paths.handover, 'request'), JSON.stringify({ id: REQUEST_ID, do: what })); }

  async keep(): Promise<Ran> { return run(process.execPath, [KEEPER], { env: { ...process.env, TENZRO_ROOT: this.root } }); }

  /** Contents by path, of a folder that has nothing to hide. */
  async contents(place: Place): Promise<ReadonlyMap<string, string>> {
    const folder = folderAt(this.paths, place);
    return new Map(await Promise.all((await filesOf(folder)).map(async ({ path, mode }) => [path, `${mode.toString(8)} ${(await readFile(join(folder, path))).toString('base64')}`] as const)));
  }
}
