/**
 * thin-edge's topic grammar as a type: `te/<entity: 4 segments>/<channel>/<type>[/<suffix>]`; blank segments stay.
 * Source: thin-edge.io MQTT API reference, "MQTT topic structure".
 */
import { TenzroError } from './errors.ts';
import { LIMITS } from './limits.ts';

export type Channel = 'm' | 'e' | 'a' | 'twin' | 'status' | 'cmd';

export type TeTopic =
  /** Retained message on the identifier itself: registers the entity. */
  | { readonly kind: 'registration'; readonly entity: string }
  | { readonly kind: 'channel'; readonly entity: string; readonly channel: Channel; readonly type: string; readonly suffix: string };

const CHANNELS: ReadonlySet<string> = new Set(['m', 'e', 'a', 'twin', 'status', 'cmd']);

/** The gateway's own entity. */
export const MAIN_ENTITY = 'device/main//';
export const ERRORS_TOPIC = 'te/errors';

/** True for every topic under our root, well-formed or not. */
export const isTe = (topic: string): boolean => topic.startsWith('te/');

/** Throws `topic.invalid` with what is wrong. Accepts names, not filters: `+` and `#` are refused. */
export function parseTopic(topic: string): TeTopic {
  if (Buffer.byteLength(topic) > LIMITS.topicBytesMax) throw invalid(topic.slice(0, 40) + '…', `longer than ${LIMITS.topicBytesMax} bytes`);
  const parts = topic.split('/');
  if (parts.length > LIMITS.topicLevelsMax) throw invalid(topic, `more than ${LIMITS.topicLevelsMax} levels`);
  if (parts[0] !== 'te') throw invalid(topic, 'does not start with te/');
  if (parts.length < 5) throw invalid(topic, 'an entity has four segments, blank ones included');
  for (const part of parts) if (/[+#\u0000]/.test(part)) throw invalid(topic, 'contains a wildcard or NUL');
  if (!parts[1] || !parts[2]) throw invalid(topic, 'the entity needs its first two segments');
  const entity = parts.slice(1, 5).join('/');
  if (parts.length === 5) return { kind: 'registration', entity };
  const channel = parts[5] ?? '';
  if (!CHANNELS.has(channel)) throw invalid(topic, `unknown channel '${channel}'`);
  return { kind: 'channel', entity, channel: channel as Channel, type: parts[6] ?? '', suffix: parts.slice(7).join('/') };
}

export function formatTopic(topic: TeTopic): string {
  if (topic.kind === 'registration') return `te/${topic.entity}`;
  const base = `te/${topic.entity}/${topic.channel}/${topic.type}`;
  return topic.suffix === '' ? base : `${base}/${topic.suffix}`;
}

/** MQTT 3.1.1 §4.7 filter match; `$`-topics do not match a leading wildcard (§4.7.2). */
export function matchesFilter(filter: string, topic: string): boolean {
  const wanted = filter.split('/');
  const given = topic.split('/');
  if (topic.startsWith('$') && (wanted[0] === '+' || wanted[0] === '#')) return false;
  for (const [i, level] of wanted.entries()) {
    if (level === '#') return true;
    if (i >= given.length) return false;
    if (level !== '+' && level !== given[i]) return false;
  }
  return wanted.length === given.length;
}

const invalid = (topic: string, why: string): TenzroError => new TenzroError('topic.invalid', `topic '${topic}': ${why}`);
