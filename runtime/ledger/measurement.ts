/** What a `measurement` entry says. Pure codec of its body; docs/reference/measured-boot.md tells what is measured where. */
import { TenzroError } from '#runtime/core/errors.ts';
import { MEASUREMENT_BODY, MEASUREMENTS, type Cbor } from '#runtime/core/types.ts';
import { HASH_BYTES } from './block.ts';

/** Name of a part and its SHA-256: `model motor-vibration`, `configuration`. */
export type Component = readonly [name: string, digest: Uint8Array];

export type MeasurementBody =
  /** The TCG event log, whole. `digest`: SHA-256 of it. */
  | { readonly what: 'tcg'; readonly log: Uint8Array; readonly digest: Uint8Array }
  /** A chunk of IMA's list that begins at byte `offset` of it. `digest`: SHA-256 of the list up to the end of this chunk. */
  | { readonly what: 'ima'; readonly log: Uint8Array; readonly offset: number; readonly digest: Uint8Array }
  /** The log is not recorded: the gateway says why. */
  | { readonly what: 'tcg'; readonly reason: string }
  | { readonly what: 'ima'; readonly reason: string }
  /** `digest`: SHA-256 over the runtime's files, as blocks name it. */
  | { readonly what: 'software'; readonly digest: Uint8Array; readonly components: readonly Component[] };

const KEY = MEASUREMENT_BODY;
const COMPONENTS_MAX = 256;

export function encodeMeasurement(body: MeasurementBody): ReadonlyMap<number, Cbor> {
  const map = new Map<number, Cbor>([[KEY.what, body.what]]);
  if ('reason' in body) return map.set(KEY.reason, body.reason);
  map.set(KEY.digest, body.digest);
  if (body.what === 'software') return map.set(KEY.components, body.components.map(([name, digest]) => [name, digest]));
  if (body.what === 'ima') map.set(KEY.offset, body.offset);
  return map.set(KEY.log, body.log);
}

/** Of an entry's decoded body. Throws `entry.malformed`; unknown and surplus keys are refused. */
export function decodeMeasurement(body: Cbor): MeasurementBody {
  if (!(body instanceof Map)) throw malformed('the body is not a map');
  const fields = body as ReadonlyMap<number, Cbor>;
  const what = MEASUREMENTS.find((name) => name === fields.get(KEY.what));
  if (what === undefined) throw malformed('it does not say what was measured');
  const expect = (...keys: readonly number[]): void => {
    if (fields.size !== keys.length + 1 || !keys.every((key) => fields.has(key))) throw malformed(`its keys are not those of '${what}'`);
  };
  if (what === 'software') {
    expect(KEY.digest, KEY.components);
    return { what, digest: asDigest(fields.get(KEY.digest)), components: asComponents(fields.get(KEY.components)) };
  }
  if (fields.has(KEY.reason)) {
    expect(KEY.reason);
    return what === 'tcg' ? { what, reason: asText(fields.get(KEY.reason)) } : { what, reason: asText(fields.get(KEY.reason)) };
  }
  if (what === 'tcg') {
    expect(KEY.log, KEY.digest);
    return { what, log: asBytes(fields.get(KEY.log)), digest: asDigest(fields.get(KEY.digest)) };
  }
  expect(KEY.log, KEY.digest, KEY.offset);
  const offset = fields.get(KEY.offset);
  if (typeof offset !== 'number' || !Number.isSafeInteger(offset) || offset < 0) throw malformed('its offset is not a non-negative integer');
  return { what, log: asBytes(fields.get(KEY.log)), offset, digest: asDigest(fields.get(KEY.digest)) };
}

function asComponents(value: Cbor | undefined): readonly Component[] {
  if (!Array.isArray(value) || value.length > COMPONENTS_MAX) throw malformed(`its components are not a list of at most ${COMPONENTS_MAX}`);
  return (value as readonly Cbor[]).map((item) => {
    const [name, digest] = Array.isArray(item) && item.length === 2 ? (item as readonly Cbor[]) : [];
    return [asText(name), asDigest(digest)] as const;
  });
}

function asText(value: Cbor | undefined): string {
  if (typeof value !== 'string') throw malformed('a reason, or the name of a component, is not text');
  return value;
}

function asBytes(value: Cbor | undefined): Uint8Array {
  if (!(value instanceof Uint8Array)) throw malformed('its log is not a byte string');
  return value;
}

function asDigest(value: Cbor | undefined): Uint8Array {
  if (!(value instanceof Uint8Array) || value.length !== HASH_BYTES) throw malformed(`a digest is not ${HASH_BYTES} bytes`);
  return value;
}

const malformed = (why: string): TenzroError => new TenzroError('entry.malformed', `measurement: ${why}`);
