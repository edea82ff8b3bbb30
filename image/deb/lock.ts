/** What of package-lock.json (version 3) a gateway on Linux with glibc needs to run; pure. */

/** As npm and Node name processors. */
export type Cpu = 'x64' | 'arm64';

export interface LockedPackage {
  /** From the root: `node_modules/a/node_modules/b`. */
  readonly path: string;
  readonly name: string;
  readonly version: string;
  /** SPDX expression as the package states it. */
  readonly license: string;
  /** Of the registry's tarball, as npm checks it: `sha512-` and base64. */
  readonly integrity: string;
}

interface LockEntry {
  readonly version?: string;
  readonly license?: string;
  readonly integrity?: string;
  readonly os?: readonly string[];
  readonly cpu?: readonly string[];
  /** Some npm versions write one name without a list. */
  readonly libc?: readonly string[] | string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

export interface Lock {
  readonly packages: Readonly<Record<string, LockEntry>>;
}

/** Dependencies that only the install script of a package uses, which we never run. */
const INSTALL_ONLY: Readonly<Record<string, readonly string[]>> = { 'onnxruntime-node': ['adm-zip', 'global-agent'] };

/** Declarations for compilers; some packages name them among what they need. */
const TYPES = '@types/';

/** In byte order of their paths. Peer dependencies do not count: what we import stands in package.json. Throws where the lock is not whole. */
export function shippedPackages({ packages }: Lock, cpu: Cpu): LockedPackage[] {
  const seen = new Set(['']);
  for (const path of seen) {
    const { dependencies = {}, optionalDependencies = {} } = packages[path] ?? {};
    const unused = INSTALL_ONLY[nameOf(path)] ?? [];
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
      if (unused.includes(name) || name.startsWith(TYPES)) continue;
      const found = resolveFrom(path, name, packages);
      if (found !== undefined && fits(packages[found], cpu)) seen.add(found);
      else if (found === undefined && !(name in optionalDependencies)) throw new Error(`package-lock.json: ${path} needs ${name}, which is not there`);
    }
  }
  seen.delete('');
  return [...seen].toSorted().map((path) => {
    const { version, license = 'NOASSERTION', integrity } = packages[path] ?? {};
    if (version === undefined || integrity === undefined) throw new Error(`package-lock.json: ${path} has no version or no integrity`);
    return { path, name: nameOf(path), version, license, integrity };
  });
}

/** As Node looks for modules: beside, then further up. */
function resolveFrom(path: string, name: string, packages: Lock['packages']): string | undefined {
  for (let base = path; ; base = base.slice(0, Math.max(0, base.lastIndexOf('node_modules/') - 1))) {
    const candidate = `${base === '' ? '' : `${base}/`}node_modules/${name}`;
    if (candidate in packages) return candidate;
    if (base === '') return undefined;
  }
}

const fits = (entry: LockEntry | undefined, cpu: Cpu): boolean => allows(entry?.os, 'linux') && allows(entry?.cpu, cpu) && allows(entry?.libc, 'glibc');

/** `["linux"]`, `["!win32"]` or nothing. */
function allows(names: readonly string[] | string | undefined, value: string): boolean {
  const list = names === undefined ? [] : [names].flat();
  return list.includes(value) || (list.every((item) => item.startsWith('!')) && !list.includes(`!${value}`));
}

const nameOf = (path: string): string => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
