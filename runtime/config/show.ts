/** Effective values, one line per key, without secrets. */
import type { Settings } from '#runtime/core/settings.ts';
import type { LoadedConfig, Origin } from './load.ts';

export interface ShownValue {
  readonly key: string;
  readonly value: unknown;
  readonly origin: Origin;
}

/** Lists count as one value. Password hashes are replaced; key files are only named, never read. */
export function shownValues(loaded: LoadedConfig): readonly ShownValue[] {
  return [...leaves(withoutSecrets(loaded.settings), '')].map(([key, value]) => ({ key, value, origin: loaded.originOf(key) }));
}

function withoutSecrets(settings: Settings): Settings {
  return { ...settings, mqtt: { ...settings.mqtt, users: settings.mqtt.users.map((user) => ({ ...user, passwordHash: user.passwordHash === '' ? '' : '(set)' })) } };
}

function* leaves(value: unknown, at: string): Generator<readonly [string, unknown]> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    yield [at, value];
    return;
  }
  for (const [key, inner] of Object.entries(value)) yield* leaves(inner, at === '' ? key : `${at}.${key}`);
}

export function originWords(origin: Origin): string {
  if (origin.from === 'default') return 'default';
  return origin.from === 'file' ? `${origin.file}:${origin.line}` : `${origin.from} ${origin.name}`;
}
