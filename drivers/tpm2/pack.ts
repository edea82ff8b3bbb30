/**
 * `npm run pack:tpm2 [-- FOLDER]`: the package @tenzro/tpm2 as a tarball in FOLDER (default: here): compiled JavaScript and type declarations of
 * exactly the files that index.ts reaches, with README and licence. No network is used.
 */
import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { promisify } from 'node:util';

const HERE = import.meta.dirname;
const ROOT = join(HERE, '..', '..');
const ENTRY = 'drivers/tpm2/index.ts';
/** As in `import … from '#runtime/core/errors.ts'`; within the package all are relative. */
const SPECIFIER = /(?<=\bfrom ')(?:#|\.\.?\/)[^']+(?=')/g;

const run = promisify(execFile);

/** What of the repository's package.json the package shares. */
interface Manifest {
  readonly version: string;
  readonly license: string;
}

/** Path of the tarball, in `folder`. */
export async function packTpm2(folder: string): Promise<string> {
  const work = await mkdtemp(join(tmpdir(), 'tenzro-pack-'));
  try {
    const [sources, staging] = [join(work, 'sources'), join(work, 'package')];
    await gather(ENTRY, sources);
    await compile(sources, staging);
    await writeFile(join(staging, 'package.json'), JSON.stringify(await manifest(), undefined, 2));
    await copyFile(join(HERE, 'README.md'), join(staging, 'README.md'));
    await copyFile(join(ROOT, 'LICENSE'), join(staging, 'LICENSE'));
    await mkdir(folder, { recursive: true });
    const { stdout } = await run('npm', ['pack', '--silent', '--pack-destination', resolve(folder)], { cwd: staging });
    return join(resolve(folder), stdout.trim());
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Copies a file and all that it imports. */
async function gather(path: string, target: string, seen = new Set<string>()): Promise<void> {
  if (seen.has(path)) return;
  seen.add(path);
  const text = await readFile(join(ROOT, path), 'utf8');
  const fileOf = (specifier: string): string => (specifier.startsWith('#') ? specifier.slice(1) : join(dirname(path), specifier));
  await mkdir(join(target, dirname(path)), { recursive: true });
  await writeFile(join(target, path), text.replace(SPECIFIER, (specifier) => relativeTo(dirname(path), fileOf(specifier))));
  for (const [specifier] of text.matchAll(SPECIFIER)) await gather(fileOf(specifier), target, seen);
}

function relativeTo(folder: string, file: string): string {
  const path = relative(folder, file);
  return path.startsWith('.') ? path : `./${path}`;
}

async function compile(sources: string, staging: string): Promise<void> {
  const compilerOptions = { noEmit: false, declaration: true, rewriteRelativeImportExtensions: true, rootDir: sources, outDir: staging, types: ['node'], typeRoots: [join(ROOT, 'node_modules', '@types')] };
  const config = join(sources, 'tsconfig.json');
  await writeFile(config, JSON.stringify({ extends: join(ROOT, 'tsconfig.json'), compilerOptions, include: [], files: [ENTRY] }));
  await writeFile(join(sources, 'package.json'), '{"type":"module"}');
  await run(join(ROOT, 'node_modules', '.bin', 'tsc'), ['--project', config]);
}

async function manifest(): Promise<object> {
  const { version, license } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as Manifest;
  return {
    name: '@tenzro/tpm2', version, license,
    description: 'TPM 2.0 for Node: typed commands, sessions, policies, sealing and attestation over /dev/tpmrm0 or swtpm, without native code.',
    keywords: ['tpm', 'tpm2', 'attestation', 'quote', 'sealing', 'swtpm', 'trusted-computing'],
    type: 'module', engines: { node: '>=24' }, os: ['linux'],
    exports: { '.': { types: './drivers/tpm2/index.d.ts', default: './drivers/tpm2/index.js' } },
    peerDependencies: { '@types/node': '>=24' },
    peerDependenciesMeta: { '@types/node': { optional: true } },
  };
}

if (import.meta.main) process.stdout.write(`${await packTpm2(process.argv[2] ?? '.')}\n`);
