/** Who may import whom (docs/architecture.md), as functions from the sources to what is wrong: one line per fault. */
import { closure, type Import, type Source } from './sources.ts';

/** The only files that join rooms: those that lie in no room, and the command line. */
const COMPOSITION_ROOTS = /^runtime\/(?:[A-Za-z]+\.ts|cli\/.*)$/;

/** What touches the world: a pure file reaches none of these. */
const IMPURE = new Set(['child_process', 'cluster', 'dgram', 'dns', 'fs', 'fs/promises', 'http', 'http2', 'https', 'net', 'tls', 'worker_threads'].map((name) => `node:${name}`));

/** Packages of plain computation: they do not make a file impure. */
const PURE_PACKAGES = new Set(['cborg', '@noble/post-quantum']);

/** Packages with native code: a laptop that lacks the binary must still start and say so. */
const NATIVE = new Set(['lmdb', 'onnxruntime-node']);

/** Packages that stand in more than one file outside test/, and why. */
const SHARED_PACKAGES: Readonly<Record<string, string>> = {};

/** Imports that break the room rule, and why they may. Keys: importer > imported. */
const ALLOWED: readonly (readonly [from: RegExp, to: RegExp, why: string])[] = [
  [/^models\/training\//, /^drivers\/sim\//, 'training makes its data with the same simulated motor that the demo runs; it is not shipped'],
  [/^drivers\/sim\//, /^runtime\/link\//, 'simulated microcontrollers are MQTT clients like any other, and one package has one adapter'],
  [/^runtime\/(?:controller|verifier)\/house\.ts$/, /^provisioning\/ownFile\.ts$/, 'keys lie on a disk in one way, whoever holds them'],
  [/^runtime\/(?:controller\/api(?:Client)?|observe\/control)\.ts$/, /^provisioning\/ownSocket\.ts$/, 'a command line reaches a running service in one way'],
];

function roomOf(path: string): string {
  const [top = '', second = '', third] = path.split('/');
  return top === 'runtime' && third !== undefined ? `runtime/${second}` : top;
}

const touchesWorld = ({ specifier, npm, kind }: Import): boolean =>
  kind !== 'type' && (IMPURE.has(specifier) || (npm !== undefined && !PURE_PACKAGES.has(npm)));

const isPure = (source: Source, sources: ReadonlyMap<string, Source>): boolean =>
  [...closure(source, sources)].every(({ imports }) => !imports.some(touchesWorld));

/** Undefined when `from` may import `to`, else why not. */
function refusal(from: Source, to: Source, sources: ReadonlyMap<string, Source>): string | undefined {
  const room = roomOf(from.path);
  const target = roomOf(to.path);
  if (room === target || room === 'test' || ALLOWED.some(([a, b]) => a.test(from.path) && b.test(to.path))) return undefined;
  if (target === 'test' || target === 'image') return 'nothing that ships imports test or image';
  if (COMPOSITION_ROOTS.test(from.path)) return undefined;
  if (COMPOSITION_ROOTS.test(to.path)) return 'a room never imports its composition root';
  if (room === 'runtime/core') return 'core is a leaf';
  if (target === 'runtime/core') return undefined;
  if (room === 'runtime/crypto') return 'crypto imports core only';
  if (target === 'runtime/crypto') return undefined;
  if (room.startsWith('runtime/') && target === 'runtime/ledger' && isPure(to, sources)) return undefined;
  return room.startsWith('runtime/') ? 'rooms meet in the composition roots; of the ledger only pure files are shared' : `${room} imports core and crypto only`;
}

export function roomFaults(sources: ReadonlyMap<string, Source>): string[] {
  const faults: string[] = [];
  for (const from of sources.values()) {
    for (const { file, specifier } of from.imports) {
      if (file === undefined) continue;
      const to = sources.get(file);
      const why = to ? refusal(from, to, sources) : file.endsWith('.ts') && 'there is no such tracked file';
      if (why !== undefined && why !== false) faults.push(`${from.path} imports ${specifier}: ${why}`);
    }
  }
  return faults;
}

/** Core may use pure node: helpers only; the verifier must be shippable alone: no package beyond plain computation, no disk, no network. */
export function purityFaults(sources: ReadonlyMap<string, Source>): string[] {
  const faults: string[] = [];
  for (const source of sources.values()) {
    const room = roomOf(source.path);
    if (room !== 'runtime/core' && room !== 'runtime/verify') continue;
    for (const reached of closure(source, sources)) {
      for (const { specifier } of reached.imports.filter(touchesWorld)) faults.push(`${source.path} reaches ${specifier} through ${reached.path}`);
    }
  }
  return faults;
}

/** One npm package, one adapter file. Its types may be named elsewhere in the room; tests and benches are free. */
export function adapterFaults(sources: ReadonlyMap<string, Source>): string[] {
  const users = new Map<string, Set<string>>();
  const faults: string[] = [];
  for (const source of sources.values()) {
    if (roomOf(source.path) === 'test') continue;
    for (const { npm, kind } of source.imports) {
      if (npm === undefined || kind === 'type') continue;
      users.set(npm, (users.get(npm) ?? new Set()).add(source.path));
      if (NATIVE.has(npm) && kind === 'static') faults.push(`${source.path} imports ${npm} statically: native packages load lazily`);
    }
  }
  for (const [npm, files] of users) {
    if (files.size > 1 && SHARED_PACKAGES[npm] === undefined) faults.push(`${npm} is imported in ${[...files].join(', ')}: give it one adapter`);
  }
  return faults;
}
