/** What a client may name: topics of publishes, filters of subscriptions, client identifiers. MQTT 3.1.1 §1.5.3, §4.7. */
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';

const SLASH = 0x2f;
const PLUS = 0x2b;
const HASH = 0x23;
/** What the UTF-8 decoder puts where bytes were ill-formed; as a real character nobody needs it in a name. */
const REPLACEMENT = 0xfffd;

const invalid = (message: string): TenzroError => new TenzroError('broker.topic_invalid', message);
const shown = (name: string): string => JSON.stringify(name.length > 60 ? `${name.slice(0, 60)}…` : name);

/** Undefined when a client may publish on `topic`. On the path of every message: one pass, no allocation. */
export function publishTopicFault(topic: string): TenzroError | undefined {
  if (topic.length === 0) return invalid('the topic is empty');
  if (topic.charCodeAt(0) === 0x24) return new TenzroError('broker.topic_reserved', `${shown(topic)} is the broker's own`);
  return nameFault(topic, false);
}

/** Undefined when `filter` is well-formed: wildcards stand alone in their level and `#` stands last. */
export function filterFault(filter: string): TenzroError | undefined {
  if (filter.length === 0) return invalid('the topic filter is empty');
  for (let at = 0; at < filter.length; at++) {
    const unit = filter.charCodeAt(at);
    if (unit !== PLUS && unit !== HASH) continue;
    const opens = at === 0 || filter.charCodeAt(at - 1) === SLASH;
    const closes = at === filter.length - 1 || (unit === PLUS && filter.charCodeAt(at + 1) === SLASH);
    if (!opens || !closes) return invalid(`a wildcard in ${shown(filter)} shares its level or is not the last`);
  }
  return nameFault(filter, true);
}

function nameFault(name: string, wildcards: boolean): TenzroError | undefined {
  if (name.length > LIMITS.topicBytesMax || (name.length * 3 > LIMITS.topicBytesMax && Buffer.byteLength(name) > LIMITS.topicBytesMax)) {
    return invalid(`${shown(name)} is longer than ${LIMITS.topicBytesMax} bytes`);
  }
  let levels = 1;
  for (let at = 0; at < name.length; at++) {
    const unit = name.charCodeAt(at);
    if (unit === SLASH) levels++;
    else if (unit === 0 || unit === REPLACEMENT) return invalid(`${shown(name)} contains NUL or invalid UTF-8`);
    else if (!wildcards && (unit === PLUS || unit === HASH)) return invalid(`${shown(name)} contains a wildcard`);
  }
  return levels > LIMITS.topicLevelsMax ? invalid(`${shown(name)} has more than ${LIMITS.topicLevelsMax} levels`) : undefined;
}

/** Undefined when `id` may identify a client; the empty one is the caller's business. */
export function clientIdFault(id: string): TenzroError | undefined {
  if (Buffer.byteLength(id) > LIMITS.clientIdBytesMax) return new TenzroError('broker.client_id', `longer than ${LIMITS.clientIdBytesMax} bytes`);
  for (let at = 0; at < id.length; at++) {
    const unit = id.charCodeAt(at);
    if (unit < 0x20 || unit === 0x7f || unit === REPLACEMENT) return new TenzroError('broker.client_id', 'contains a control character or invalid UTF-8');
  }
  return undefined;
}
