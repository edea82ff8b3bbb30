/** What RAUC's programs print (1.8 to 1.13), read. Pure. */
import { TenzroError, type ErrorCode } from '#runtime/core/errors.ts';
import { isJsonObject, type JsonObject } from '#runtime/core/json.ts';
import type { BundleFacts, Slot, SlotsStatus } from '#runtime/core/ports.ts';
import type { Maybe } from '#runtime/core/types.ts';

/** A slot whose system proved itself. */
export interface Committed {
  /** Which installation that was. */
  readonly installation: string;
  readonly version: string;
}

export interface Known {
  /** Of the system that runs. */
  readonly version: string;
  /** By slot. */
  readonly committed: Readonly<Record<string, Committed>>;
}

/** From `rauc status --detailed --output-format=json`. Throws `update.slots`. */
export function statusIn(text: string, { version, committed }: Known): SlotsStatus & { readonly installation: string } {
  const said = objectIn(text);
  const slots = (Array.isArray(said['slots']) ? said['slots'] : []).flatMap((slot) => (isJsonObject(slot) ? Object.entries(slot) : []))
    .flatMap(([slotName, facts]) => (isJsonObject(facts) && typeof facts['bootname'] === 'string' ? [{ slotName, name: facts['bootname'], facts }] : []));
  const booted = slots.find(({ name }) => name === said['booted']);
  const other = slots.find(({ name }) => name !== said['booted']);
  if (!booted || !other || slots.length !== 2) throw new TenzroError('update.slots', 'RAUC does not name two slots, of which one was booted');
  const isCommitted = (slot: typeof booted): boolean => committed[slot.name]?.installation === installationOf(slot.facts);
  const otherVersion = bundleOf(other.facts)['version'] ?? (isCommitted(other) ? committed[other.name]?.version : undefined);
  return {
    compatible: typeof said['compatible'] === 'string' ? said['compatible'] : '',
    booted: { name: booted.name, version: { kind: 'value', value: version }, state: isCommitted(booted) ? 'good' : 'trial' },
    other: { name: other.name, version: versionOf(otherVersion), state: otherState(other.facts, isCommitted(other)) },
    next: slots.find(({ slotName }) => slotName === said['boot_primary'])?.name ?? booted.name,
    installation: installationOf(booted.facts),
  };
}

function otherState(facts: JsonObject, isCommitted: boolean): Slot['state'] {
  if (!isCommitted && bundleOf(facts)['version'] === undefined) return 'empty';
  if (facts['boot_status'] !== 'good') return 'bad';
  return isCommitted ? 'good' : 'trial';
}

/** What the card was flashed with was never installed. */
function installationOf(facts: JsonObject): string {
  const installed = partOf(partOf(facts, 'slot_status'), 'installed');
  return `${typeof installed['timestamp'] === 'string' ? installed['timestamp'] : 'flashed'} ${Number(installed['count'] ?? 0)}`;
}

const bundleOf = (facts: JsonObject): JsonObject => partOf(partOf(facts, 'slot_status'), 'bundle');
const versionOf = (version: unknown): Maybe<string> => (typeof version === 'string' ? { kind: 'value', value: version } : { kind: 'none', reason: 'nothing says what it holds' });

function partOf(value: JsonObject, name: string): JsonObject {
  const part = value[name];
  return isJsonObject(part) ? part : {};
}

/** From `busctl --json=short call … InspectBundle` (since 1.9), or `Info`. Throws `update.slots`. */
export function factsIn(text: string): BundleFacts {
  const { data } = objectIn(text);
  const [first, second] = Array.isArray(data) ? (data as readonly unknown[]) : [];
  const update = isJsonObject(first) ? partOf(partOf(partOf(first, 'update'), 'data'), 'data') : {};
  const [compatible, version] = typeof first === 'string' ? [first, second] : [partOf(update, 'compatible')['data'], partOf(update, 'version')['data']];
  if (typeof compatible !== 'string' || typeof version !== 'string' || version === '') throw new TenzroError('update.bundle', 'the bundle does not say for what and which it is');
  return { compatible, version };
}

/** Which of our errors the words of RAUC are. */
const MEANINGS: readonly (readonly [RegExp, ErrorCode])[] = [
  [/already processing/i, 'update.busy'],
  [/could not connect|error creating proxy|error calling d-bus/i, 'update.slots'],
  [/signature verification failed|verify error|certificate|keyring/i, 'update.signature'],
  [/compatible mismatch/i, 'update.compatible'],
  [/version mismatch/i, 'update.older'],
  [/invalid bundle format|signature size|payload|squashfs|magic|corrupt|verity|input\/output error|failed to mount bundle|rauc info error|checksum|does not match/i, 'update.bundle'],
  [/failed to stream|failed to download|no such file/i, 'update.source'],
];

export function errorOf(said: string, cause?: unknown): TenzroError {
  const code = MEANINGS.find(([pattern]) => pattern.test(said))?.[1] ?? 'update.slots';
  return new TenzroError(code, `RAUC: ${said}`, { cause });
}

function objectIn(text: string): JsonObject {
  try {
    const value: unknown = JSON.parse(text);
    if (isJsonObject(value)) return value;
  } catch (cause) {
    throw new TenzroError('update.slots', 'RAUC answers what is no JSON', { cause });
  }
  throw new TenzroError('update.slots', 'RAUC answers something else than was asked');
}
