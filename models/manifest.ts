/**
 * A model package's manifest: what goes in, what comes out, where it came from. Strict: an unknown or missing key is an error, because a manifest
 * that means something else than it says would judge readings wrongly without anyone noticing. docs/reference/model-package.md is its reference.
 */
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Maybe } from '#runtime/core/types.ts';

export const MANIFEST_FORMAT = 1;

export interface ModelManifest {
  readonly format: typeof MANIFEST_FORMAT;
  readonly name: string;
  readonly version: string;
  /** SPDX identifier. */
  readonly licence: string;
  readonly description: string;
  /** SHA-256 of model.onnx, lower-case hexadecimal. */
  readonly sha256: string;
  readonly source: {
    /** Source entity, four levels, `+` stands for any one: `device/+//`. */
    readonly entity: string;
    /** Measurement type, the level behind `/m/`; `none`: readings of any topic. */
    readonly type: Maybe<string>;
  };
  /** Inputs per reading, in the order of the tensor; a reading that lacks one, or states another unit, breaks the window. */
  readonly channels: readonly { readonly channel: string; readonly unit: string }[];
  readonly window: {
    /** Consecutive readings of one source per window. */
    readonly readings: number;
    /** Readings from the start of one window to the start of the next; 1 … readings. */
    readonly stride: number;
    /** A longer silence between two readings breaks the window, milliseconds. */
    readonly maxGapMs: number;
  };
  /** float32 `[batch, readings × channels]`, oldest reading first. */
  readonly input: { readonly name: string; readonly dtype: 'float32'; readonly shape: readonly ['batch', number] };
  /** float32 `[batch]`; higher is more unusual. */
  readonly output: { readonly name: string; readonly dtype: 'float32'; readonly shape: readonly ['batch']; readonly meaning: string };
  /** A score at or above it is an anomaly. */
  readonly threshold: number;
  /** Where the weights came from: command, seeds, data. */
  readonly training: Readonly<Record<string, string | number>>;
}

/** Throws `model.manifest` with the path of the offending key. */
export function parseManifest(text: string): ModelManifest {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new TenzroError('model.manifest', `manifest: not JSON: ${messageOf(cause)}`, { cause });
  }
  const top = fields(json, 'manifest', ['format', 'name', 'version', 'licence', 'description', 'sha256', 'source', 'channels', 'window', 'input', 'output', 'threshold', 'training']);
  if (top['format'] !== MANIFEST_FORMAT) throw wrong('format', `is ${JSON.stringify(top['format'])}; this release reads ${MANIFEST_FORMAT}`);
  const source = fields(top['source'], 'source', ['entity'], ['type']);
  const window = fields(top['window'], 'window', ['readings', 'stride', 'maxGapMs']);
  const readings = whole(window['readings'], 'window.readings', 1, LIMITS.modelWindowReadingsMax);
  const channels = channelList(top['channels']);
  return {
    format: MANIFEST_FORMAT,
    name: pattern(top['name'], 'name', /^[a-z0-9][a-z0-9-]{0,63}$/),
    version: pattern(top['version'], 'version', /^\d+\.\d+\.\d+$/),
    licence: pattern(top['licence'], 'licence', /^[\w.+-]{1,64}$/),
    description: words(top['description'], 'description'),
    sha256: pattern(top['sha256'], 'sha256', /^[0-9a-f]{64}$/),
    source: {
      entity: pattern(source['entity'], 'source.entity', /^[^/]+\/[^/]+\/[^/]*\/[^/]*$/),
      type: source['type'] === undefined ? { kind: 'none', reason: 'the manifest names no type' } : { kind: 'value', value: pattern(source['type'], 'source.type', /^[^/+#]+$/) },
    },
    channels,
    window: { readings, stride: whole(window['stride'], 'window.stride', 1, readings), maxGapMs: whole(window['maxGapMs'], 'window.maxGapMs', 1, 86_400_000) },
    ...tensors(top['input'], top['output'], readings * channels.length),
    threshold: finite(top['threshold'], 'threshold'),
    training: provenance(top['training']),
  };
}

function tensors(inputValue: unknown, outputValue: unknown, width: number): Pick<ModelManifest, 'input' | 'output'> {
  const input = fields(inputValue, 'input', ['name', 'dtype', 'shape']);
  const output = fields(outputValue, 'output', ['name', 'dtype', 'shape', 'meaning']);
  for (const [path, tensor, shape] of [['input', input, ['batch', width]], ['output', output, ['batch']]] as const) {
    if (tensor['dtype'] !== 'float32') throw wrong(`${path}.dtype`, 'is not "float32"');
    if (JSON.stringify(tensor['shape']) !== JSON.stringify(shape)) throw wrong(`${path}.shape`, `is ${JSON.stringify(tensor['shape'])}; readings and channels make it ${JSON.stringify(shape)}`);
  }
  return {
    input: { name: words(input['name'], 'input.name'), dtype: 'float32', shape: ['batch', width] },
    output: { name: words(output['name'], 'output.name'), dtype: 'float32', shape: ['batch'], meaning: words(output['meaning'], 'output.meaning') },
  };
}

function channelList(value: unknown): ModelManifest['channels'] {
  if (!Array.isArray(value) || value.length === 0 || value.length > LIMITS.channelsPerReadingMax) throw wrong('channels', `is not a list of 1 to ${LIMITS.channelsPerReadingMax}`);
  const list = value.map((item: unknown, i) => {
    const row = fields(item, `channels[${i}]`, ['channel', 'unit']);
    const unit = row['unit'];
    if (typeof unit !== 'string') throw wrong(`channels[${i}].unit`, 'is not text (use "" where the sensor states none)');
    return { channel: words(row['channel'], `channels[${i}].channel`), unit };
  });
  if (new Set(list.map((row) => row.channel)).size !== list.length) throw wrong('channels', 'names a channel twice');
  return list;
}

function provenance(value: unknown): Readonly<Record<string, string | number>> {
  const entries = Object.entries(object(value, 'training')).map(([key, item]): [string, string | number] => {
    if (typeof item !== 'string' && typeof item !== 'number') throw wrong(`training.${key}`, 'is neither text nor a number');
    return [key, item];
  });
  return Object.fromEntries(entries);
}

function object(value: unknown, path: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(path, 'is not an object');
  return value as Record<string, unknown>;
}

function fields(value: unknown, path: string, required: readonly string[], optional: readonly string[] = []): Record<string, unknown> {
  const map = object(value, path);
  for (const key of Object.keys(map)) if (!required.includes(key) && !optional.includes(key)) throw wrong(path, `has the unknown key "${key}"`);
  for (const key of required) if (!Object.hasOwn(map, key)) throw wrong(path, `lacks "${key}"`);
  return map;
}

function words(value: unknown, path: string): string {
  if (typeof value !== 'string' || value === '' || value.length > LIMITS.textBytesMax) throw wrong(path, `is not text of 1 to ${LIMITS.textBytesMax} characters`);
  return value;
}

function pattern(value: unknown, path: string, wanted: RegExp): string {
  if (typeof value !== 'string' || !wanted.test(value)) throw wrong(path, `is ${JSON.stringify(value)}, which does not match ${String(wanted)}`);
  return value;
}

function finite(value: unknown, path: string): number {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw wrong(path, 'is not a finite number');
  return value;
}

function whole(value: unknown, path: string, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) throw wrong(path, `is not a whole number from ${min} to ${max}`);
  return value;
}

const wrong = (path: string, why: string): TenzroError => new TenzroError('model.manifest', `manifest: ${path} ${why}`);
