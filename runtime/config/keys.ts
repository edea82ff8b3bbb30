/** What the schema says about its own keys: the reference page and the hints for unknown keys come from here. */
import type { Path } from './document.ts';
import type { SettingsSchema } from './schema.ts';

export interface KeyInfo {
  /** `mqtt.listeners[].port`. */
  readonly key: string;
  readonly type: string;
  /** JSON text, or undefined where the key has no default. */
  readonly fallback: string | undefined;
  readonly means: string;
}

/** The part of a valibot schema's runtime shape that is read here. */
interface Introspected {
  readonly type: string;
  readonly entries?: Readonly<Record<string, Introspected>>;
  readonly item?: Introspected;
  readonly wrapped?: Introspected;
  readonly default?: unknown;
  readonly options?: readonly string[];
  readonly pipe?: readonly { readonly type: string; readonly requirement?: unknown; readonly description?: string }[];
}

const unwrap = (schema: Introspected): Introspected => (schema.wrapped ? unwrap(schema.wrapped) : schema);

/** Every key, in file order: the source of the reference page and of the hints. */
export function listKeys(schema: SettingsSchema): readonly KeyInfo[] {
  return [...walk(schema, '')];
}

function* walk(schema: Introspected, at: string): Generator<KeyInfo> {
  for (const [key, outer] of Object.entries(schema.entries ?? {})) {
    const inner = unwrap(outer);
    const path = at === '' ? key : `${at}.${key}`;
    const means = inner.pipe?.find((step) => step.type === 'description')?.description;
    if (means !== undefined) yield { key: path, type: typeName(inner), fallback: outer.default === undefined ? undefined : JSON.stringify(outer.default), means };
    if (inner.entries) yield* walk(inner, path);
    if (inner.item) yield* walk(unwrap(inner.item), `${path}[]`);
  }
}

function typeName(schema: Introspected): string {
  if (schema.options) return schema.options.join(', ');
  if (schema.type === 'array') return 'list';
  if (schema.type === 'object') return 'section';
  if (schema.type === 'literal') return 'number';
  const steps = (schema.pipe ?? []).flatMap((step) => ('pipe' in step ? ((step as Introspected).pipe ?? []) : [step]));
  const bound = (type: string): unknown => steps.find((step) => step.type === type)?.requirement;
  const [min, max] = [bound('min_value'), bound('max_value')];
  const kind = steps.some((step) => step.type === 'integer') ? 'integer' : schema.type;
  if (typeof min !== 'number') return kind;
  return typeof max === 'number' && max !== Number.MAX_SAFE_INTEGER ? `${kind} ${min}–${max}` : `${kind} ≥ ${min}`;
}

export interface Stranger {
  readonly path: Path;
  /** The keys that the schema knows there; undefined for a list where a section should be. */
  readonly known: readonly string[] | undefined;
}

/** Paths in `value` that the schema does not know. valibot itself takes a list for an object: lists are found here too. */
export function unknownKeys(schema: SettingsSchema, value: unknown): readonly Stranger[] {
  return [...strangers(schema, value, [])];
}

function* strangers(outer: Introspected, value: unknown, at: Path): Generator<Stranger> {
  const schema = unwrap(outer);
  if (schema.item && Array.isArray(value)) {
    for (const [i, item] of value.entries()) yield* strangers(schema.item, item, [...at, i]);
  }
  if (!schema.entries || typeof value !== 'object' || value === null) return;
  if (Array.isArray(value)) {
    yield { path: at, known: undefined };
    return;
  }
  const known = Object.keys(schema.entries);
  for (const [key, inner] of Object.entries(value)) {
    const next = Object.hasOwn(schema.entries, key) ? schema.entries[key] : undefined;
    if (next) yield* strangers(next, inner, [...at, key]);
    else yield { path: [...at, key], known };
  }
}
