/** Locked Debian packages: each file by name, version, size and SHA-256, and the day of the archive that has them all; pure. */
import { createHash } from 'node:crypto';
import { BuildProblem } from './problem.ts';

export type LockArchitecture = 'amd64' | 'arm64';

export interface LockedDeb {
  readonly name: string;
  /** With its epoch, as dpkg compares it (Debian policy §5.6.12). */
  readonly version: string;
  readonly architecture: LockArchitecture | 'all';
  /** Of the file, hexadecimal. */
  readonly sha256: string;
  readonly sizeBytes: number;
  /** From the archive's root: `debian/pool/…` or `debian-security/pool/…`. */
  readonly path: string;
}

export interface PackageLock {
  readonly architecture: LockArchitecture;
  /** When the archive had these versions, as snapshot.debian.org names its days: `YYYYMMDDTHHMMSSZ`. */
  readonly snapshot: string;
  /** What was asked for, sorted; the rest follows from it. */
  readonly requested: readonly string[];
  /** Sorted by name: one version of each. */
  readonly packages: readonly LockedDeb[];
}

const NAME = /^[a-z0-9][a-z0-9+.-]+$/;
const VERSION = /^(?:\d+:)?\d[A-Za-z0-9.+~-]*$/;
const PATH = /^debian(?:-security)?\/pool\/(?:[A-Za-z0-9+~_-][A-Za-z0-9.+~_-]*\/)+[A-Za-z0-9.+~_-]+\.deb$/;
const SNAPSHOT = /^\d{8}T\d{6}Z$/;
/** Far above the largest package that we take (linux-source, 150 MB). */
const DEB_BYTES_MAX = 400_000_000;

/** Throws BuildProblem `lock` naming the first entry that is wrong. `file`: for the message. */
export function parseLock(text: string, file: string): PackageLock {
  const fail = (what: string): never => { throw new BuildProblem('lock', `${file}: ${what}`, 'Take the file as it was committed, or make it anew: npm run build:base -- --update-lock.'); };
  let told: unknown;
  try { told = JSON.parse(text); } catch { fail('no JSON'); }
  if (!isRecord(told)) return fail('no object');
  const { architecture, snapshot, requested, packages } = told;
  if (architecture !== 'amd64' && architecture !== 'arm64') return fail('architecture is neither amd64 nor arm64');
  if (typeof snapshot !== 'string' || !SNAPSHOT.test(snapshot)) return fail('snapshot is no YYYYMMDDTHHMMSSZ');
  if (!Array.isArray(requested) || !requested.every((name): name is string => typeof name === 'string' && NAME.test(name))) return fail('requested is no list of package names');
  if (!Array.isArray(packages) || packages.length === 0) return fail('packages is no list');
  const debs = packages.map((entry: unknown, index) => debOf(entry, architecture) ?? fail(`packages[${index}] is no locked package for ${architecture}`));
  if (debs.some(({ name }, index) => index > 0 && name <= (debs[index - 1]?.name ?? ''))) fail('packages are not sorted by name, each once');
  const missing = requested.find((name) => !debs.some((deb) => deb.name === name));
  if (missing !== undefined) fail(`${missing} is requested, but not locked`);
  return { architecture, snapshot, requested, packages: debs };
}

function debOf(entry: unknown, lockArchitecture: LockArchitecture): LockedDeb | undefined {
  if (!isRecord(entry)) return undefined;
  const { name, version, sha256, sizeBytes, path } = entry;
  const architecture = (['all', lockArchitecture] as const).find((fits) => fits === entry['architecture']);
  const ok = architecture !== undefined && typeof name === 'string' && NAME.test(name) && typeof version === 'string' && VERSION.test(version)
    && typeof sha256 === 'string' && /^[0-9a-f]{64}$/.test(sha256)
    && typeof sizeBytes === 'number' && Number.isSafeInteger(sizeBytes) && sizeBytes > 0 && sizeBytes <= DEB_BYTES_MAX
    && typeof path === 'string' && PATH.test(path) && !path.includes('..');
  return ok ? { name, version, architecture, sha256, sizeBytes, path } : undefined;
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === 'object' && value !== null && !Array.isArray(value);

const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** The lock file: one line per package, so that a change reads well. */
export function formatLock({ architecture, snapshot, requested, packages }: PackageLock): string {
  const lines = packages.toSorted((a, b) => byText(a.name, b.name)).map((deb) => `    ${JSON.stringify(deb)}`);
  return `{\n  "architecture": "${architecture}",\n  "snapshot": "${snapshot}",\n  "requested": ${JSON.stringify(requested.toSorted(byText))},\n  "packages": [\n${lines.join(',\n')}\n  ]\n}\n`;
}

/** What `apt-get --print-uris install` prints (`'URI' FILE SIZE SHA256:HEX`) as locked packages. `mirror`: the archive's root without its last slash. */
export function debsFromUris(printed: string, mirror: string): LockedDeb[] {
  const debs: LockedDeb[] = [];
  for (const line of printed.split('\n')) {
    const parts = /^'([^']+)' ([^_ ]+)_([^_ ]+)_(amd64|arm64|all)\.deb (\d+) SHA256:([0-9a-f]{64})$/.exec(line);
    if (parts === null) continue;
    const [, uri = '', name = '', version = '', architecture, size, sha256 = ''] = parts;
    if (!uri.startsWith(`${mirror}/`) || (architecture !== 'amd64' && architecture !== 'arm64' && architecture !== 'all')) continue;
    debs.push({ name, version: decodeURIComponent(version), architecture, sha256, sizeBytes: Number(size), path: decodeURIComponent(uri.slice(mirror.length + 1)) });
  }
  return debs.toSorted((a, b) => byText(a.name, b.name));
}

/** Names a result by all that went into it: 16 hexadecimal digits. */
export function keyOf(inputs: readonly (string | Uint8Array)[]): string {
  const hash = createHash('sha256');
  for (const input of inputs) hash.update(createHash('sha256').update(input).digest());
  return hash.digest('hex').slice(0, 16);
}

/** Seconds since 1970 of the lock's day: the newest time that a file in what we build from it may have. */
export function epochSecondsOf({ snapshot }: PackageLock): number {
  return Date.parse(snapshot.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z')) / 1_000;
}
