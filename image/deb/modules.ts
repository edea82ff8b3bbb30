/** The locked packages on the disk: npm's own client fetches and checks them, then only what a gateway loads is kept. Cached per lock and processor. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { Cpu, LockedPackage } from './lock.ts';

const run = promisify(execFile);

/** Beside code only what its licence asks to come with it. */
const KEPT = /\.(?:c?js|mjs|json|node|wasm|so(?:\.\d+)*)$|(?:^|\/)(?:licen[cs]e|copying|notice|thirdpartynotices)[^/]*$/i;
/** What stands in a package beside its program. */
const NOT_PROGRAM = /^(?:\.|(?:tests?|benchmarks?|examples?|docs|script)\/|(?:eslint|rollup|binding|tsconfig)[^/]*$)/;

/** Native code for other systems, other C libraries, other Nodes than ours (which loads the Node-API build). */
const FOREIGN: Readonly<Record<Cpu, RegExp>> = {
  x64: /^bin\/napi-v6\/(?!linux\/x64\/)|node\.abi\d+\.|\.musl\.node$/,
  arm64: /^bin\/napi-v6\/(?!linux\/arm64\/)|node\.abi\d+\.|\.musl\.node$/,
};

export const nodePackage = (cpu: Cpu): string => `node-linux-${cpu}`;

/** True for what the package of a gateway carries of an npm package. `path`: within that package. */
export function isShipped(path: string, name: string, cpu: Cpu): boolean {
  if (name === nodePackage(cpu)) return path === 'bin/node' || path === 'LICENSE' || path === 'package.json';
  return KEPT.test(path) && !NOT_PROGRAM.test(path) && !FOREIGN[cpu].test(path);
}

/** The packages under `target`/node_modules. `source`: folder with package.json, package-lock.json and .npmrc. */
export async function installModules(source: string, packages: readonly LockedPackage[], cpu: Cpu, target: string): Promise<void> {
  const cached = await cachedModules(source, packages, cpu);
  await cp(join(cached, 'node_modules'), join(target, 'node_modules'), { recursive: true });
}

/** The rules are part of the key: who changes this file gets a new cache. */
async function cachedModules(source: string, packages: readonly LockedPackage[], cpu: Cpu): Promise<string> {
  const inputs = await Promise.all([join(source, 'package-lock.json'), import.meta.filename, join(import.meta.dirname, 'lock.ts')].map((path) => readFile(path)));
  const key = createHash('sha256').update(Buffer.concat(inputs)).digest('hex').slice(0, 16);
  const home = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'tenzro-edge-build');
  const cached = join(home, `modules-${cpu}-${key}`);
  if (await isFolder(cached)) return cached;
  await mkdir(home, { recursive: true });
  const work = await mkdtemp(join(tmpdir(), 'tenzro-modules-'));
  const next = await mkdtemp(`${cached}.`);
  try {
    await fetchInto(work, source, cpu);
    for (const shipped of packages) await keep(work, next, shipped, cpu);
    await rename(next, cached).catch(async (error: unknown) => { if (!await isFolder(cached)) throw error; }); // another build was faster
  } finally {
    await Promise.all([work, next].map((path) => rm(path, { recursive: true, force: true })));
  }
  return cached;
}

async function fetchInto(work: string, source: string, cpu: Cpu): Promise<void> {
  for (const name of ['package.json', 'package-lock.json', '.npmrc']) await writeFile(join(work, name), await readFile(join(source, name)));
  await run('npm', ['ci', '--omit=dev', '--ignore-scripts', '--os=linux', `--cpu=${cpu}`, '--libc=glibc', '--prefer-offline', '--no-audit', '--no-fund'], { cwd: work });
}

async function keep(from: string, to: string, { path, name }: LockedPackage, cpu: Cpu): Promise<void> {
  for (const entry of await readdir(join(from, path), { recursive: true, withFileTypes: true })) {
    const file = join(entry.parentPath, entry.name).slice(join(from, path).length + 1);
    if (!entry.isFile() || file.startsWith('node_modules/') || !isShipped(file, name, cpu)) continue;
    await mkdir(dirname(join(to, path, file)), { recursive: true });
    await cp(join(from, path, file), join(to, path, file));
  }
}

const isFolder = async (path: string): Promise<boolean> => readdir(path).then(() => true, () => false);
