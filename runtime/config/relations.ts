/** What must hold between settings, beyond each one's own type and range. Pure. */
import { OWNER_UPSTREAM } from '#runtime/core/fleet.ts';
import type { ForwardRule, ListenerSettings, MappingRule, Settings, UserSettings } from '#runtime/core/settings.ts';
import type { Path } from './document.ts';
import type { SchemaIssue } from './schema.ts';

/** The user that stands for clients without a name. */
const ANONYMOUS = 'anonymous';

/** `given`: whether the file itself states the key. An issue's path is the key to mend. */
export function checkRelations(settings: Settings, given: (path: Path) => boolean): readonly SchemaIssue[] {
  return [...listeners(settings), ...users(settings, given), ...mappings(settings), ...records(settings, given), ...confidential(settings), ...attest(settings, given), ...verifier(settings, given), ...uplinks(settings), ...forwardRules(settings.forward, ['forward']), ...actuators(settings), ...repeats(settings.fleet.operators.map(({ name }) => name), (i) => ['fleet', 'operators', i, 'name'])];
}

/** Exactly the addresses that never leave the machine. */
const isLoopback = (host: string): boolean => host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
const isWildcard = (host: string): boolean => host === '0.0.0.0' || host === '::';

function* listeners({ mqtt }: Settings): Generator<SchemaIssue> {
  const taken: { host: string; port: number; what: string }[] = [{ host: '127.0.0.1', port: mqtt.port, what: 'mqtt.port' }];
  for (const [i, listener] of mqtt.listeners.entries()) {
    const at = ['mqtt', 'listeners', i];
    const other = taken.find((one) => clashes(one, listener));
    if (other) yield { path: [...at, 'port'], message: `${listener.port} is already taken by ${other.what}` };
    taken.push({ host: listener.host, port: listener.port, what: `mqtt.listeners[${i}]` });
    if (isLoopback(listener.host)) continue;
    if (listener.anonymous) yield { path: [...at, 'anonymous'], message: `${listener.host} is beyond loopback, where nobody may be anonymous: add mqtt.users` };
    else if (mqtt.users.every((user) => user.name === ANONYMOUS)) yield { path: at, message: `${listener.host} is beyond loopback and mqtt.users names nobody who could log in` };
  }
}

const clashes = (a: { host: string; port: number }, b: ListenerSettings): boolean =>
  a.port !== 0 && a.port === b.port && (a.host === b.host || isWildcard(a.host) || isWildcard(b.host) || (isLoopback(a.host) && b.host === 'localhost'));

function* users({ mqtt }: Settings, given: (path: Path) => boolean): Generator<SchemaIssue> {
  yield* repeats(mqtt.users.map((user) => user.name), (i) => ['mqtt', 'users', i, 'name']);
  for (const [i, user] of mqtt.users.entries()) {
    const fault = passwordFault(user);
    if (fault) yield { path: given(['mqtt', 'users', i, 'passwordHash']) ? ['mqtt', 'users', i, 'passwordHash'] : ['mqtt', 'users', i], message: fault };
    for (const list of ['publish', 'subscribe'] as const) {
      for (const [k, filter] of user[list].entries()) {
        const filterWrong = filterFault(filter);
        if (filterWrong) yield { path: ['mqtt', 'users', i, list, k], message: filterWrong };
      }
    }
  }
}

/** Too cheap a hash falls to a guesser; too dear a one lets a guesser take the gateway's memory (128·N·r bytes, RFC 7914 §2). */
function passwordFault({ name, passwordHash }: UserSettings): string | undefined {
  if (name === ANONYMOUS) return passwordHash === '' ? undefined : 'nobody logs in as anonymous: leave passwordHash out';
  if (passwordHash === '') return 'passwordHash is missing: make it with tenzro config hash-password';
  const [, N = 0, r = 0] = passwordHash.split('$').map(Number);
  const isSound = Number.isInteger(Math.log2(N)) && N >= 2 ** 14 && r >= 1 && N * r <= 2 ** 20;
  return isSound ? undefined : 'the scrypt cost must be a power of two N of 16384 or more with N·r of at most 1048576: make it with tenzro config hash-password';
}

function* mappings({ ingest }: Settings): Generator<SchemaIssue> {
  yield* repeats(ingest.mappings.map((rule) => rule.name), (i) => ['ingest', 'mappings', i, 'name']);
  for (const [i, rule] of ingest.mappings.entries()) {
    const at = ['ingest', 'mappings', i];
    const fault = filterFault(rule.topic);
    if (fault) yield { path: [...at, 'topic'], message: fault };
    const sourceFault = entityFault(rule);
    if (sourceFault) yield { path: [...at, 'source'], message: sourceFault };
    if (rule.values.length > 1) {
      for (const [k, value] of rule.values.entries()) {
        if (value.path === undefined) yield { path: [...at, 'values', k], message: 'path is missing: only a single value may be the whole payload' };
      }
    }
    yield* repeats(rule.values.map((value) => value.channel), (k) => [...at, 'values', k, 'channel']);
  }
}

/** The source must be an entity of thin-edge's grammar (four segments, the first two not blank) and name only levels that `+` matched. */
function entityFault(rule: MappingRule): string | undefined {
  const segments = rule.source.split('/');
  if (segments.length !== 4 || !segments[0] || !segments[1]) return `'${rule.source}' is not an entity: write four segments, as in device/{1}//`;
  if (/[+#\u0000]/.test(rule.source)) return 'an entity has no wildcards: write {1} for what the first + matched';
  const plusses = rule.topic.split('/').filter((level) => level === '+').length;
  for (const [, number] of rule.source.matchAll(/\{(\d+)\}/g)) {
    if (Number(number) < 1 || Number(number) > plusses) return `{${number}}: the topic has ${plusses} single-level wildcard(s)`;
  }
  return undefined;
}

function* records({ ingest }: Settings, given: (path: Path) => boolean): Generator<SchemaIssue> {
  for (const [i, rule] of ingest.record.entries()) {
    const at = ['ingest', 'record', i];
    const fault = filterFault(rule.topic);
    if (fault) yield { path: [...at, 'topic'], message: fault };
    if (rule.mode === 'summary' && rule.windowMs < 1000) yield { path: [...at, given([...at, 'windowMs']) ? 'windowMs' : 'mode'], message: 'mode: summary needs windowMs of 1000 or more' };
    if (rule.mode !== 'summary' && given([...at, 'windowMs'])) yield { path: [...at, 'windowMs'], message: `has a meaning only with mode: summary, here mode is ${rule.mode}` };
    if (rule.mode !== 'onChange' && given([...at, 'deadband'])) yield { path: [...at, 'deadband'], message: `has a meaning only with mode: onChange, here mode is ${rule.mode}` };
  }
}

function* confidential({ ingest, confidential: { recipients } }: Settings): Generator<SchemaIssue> {
  yield* repeats(recipients.map(({ name }) => name), (i) => ['confidential', 'recipients', i, 'name']);
  const sealed = ingest.record.findIndex((rule) => rule.confidential);
  if (sealed >= 0 && recipients.length === 0) yield { path: ['ingest', 'record', sealed, 'confidential'], message: 'confidential.recipients names nobody who could read it: make a key with tenzro confidential keygen' };
}

function* attest({ attest: settings }: Settings, given: (path: Path) => boolean): Generator<SchemaIssue> {
  for (const key of ['idleIntervalMs', 'anchorIntervalMs'] as const) {
    if (settings[key] >= settings.intervalMs) continue;
    const toMend = given(['attest', key]) ? key : 'intervalMs';
    yield { path: ['attest', toMend], message: `${key} (${settings[key]}) must not be shorter than intervalMs (${settings.intervalMs})` };
  }
  const { mode, path } = settings.tpm;
  if (mode === 'socket' && path === '') yield { path: ['attest', 'tpm', 'mode'], message: 'mode: socket needs attest.tpm.path, host:port or the path of a unix socket' };
  if (mode === 'device' && path !== '' && !path.startsWith('/')) yield { path: ['attest', 'tpm', 'path'], message: 'must be an absolute path, as /dev/tpmrm0' };
  if (mode !== 'socket' && mode !== 'device' && path !== '') yield { path: ['attest', 'tpm', 'path'], message: `has a meaning only with mode: device or socket, here mode is ${mode}` };
}

/** A lease is only as good as the key that it is checked with. */
function* verifier({ verifier: { url, key } }: Settings, given: (path: Path) => boolean): Generator<SchemaIssue> {
  if (url !== '' && key === '') yield { path: ['verifier', given(['verifier', 'key']) ? 'key' : 'url'], message: 'verifier.url needs verifier.key, which tenzro verifier init prints' };
  if (url === '' && key !== '') yield { path: ['verifier', 'key'], message: 'has a meaning only with verifier.url' };
  if (url !== '' && !URL.canParse(url)) yield { path: ['verifier', 'url'], message: `'${url}' is not https://host:port` };
}

/**
 * Beyond loopback nobody on the way may read along, or learn the password. Two uplinks to one controller would deliver everything twice; on one broker the will
 * of one would say that the gateway is down while the other is up, and each would get the other's receipts.
 */
function* uplinks({ uplinks: list }: Settings): Generator<SchemaIssue> {
  yield* repeats(list.map(({ name }) => name), (i) => ['uplinks', i, 'name']);
  yield* repeats(list.map(({ receiptKey }) => receiptKey), (i) => ['uplinks', i, 'receiptKey']);
  const brokers = list.map(({ url }) => brokerOf(url));
  for (const [at, { name, url, user, passwordFile, forward }] of list.entries()) {
    const before = brokers.indexOf(brokerOf(url));
    if (before < at) yield { path: ['uplinks', at, 'url'], message: `'${list[before]?.name ?? ''}' is on that broker already: one broker carries one fleet of a gateway` };
    if (name === OWNER_UPSTREAM) yield { path: ['uplinks', at, 'name'], message: `'${OWNER_UPSTREAM}' is the fleet that claims the gateway: choose another name` };
    if (!URL.canParse(url)) yield { path: ['uplinks', at, 'url'], message: `'${url}' is not mqtts://host:port` };
    else if (url.startsWith('mqtt://') && !isLoopback(new URL(url).hostname.replace(/^\[|\]$/g, ''))) yield { path: ['uplinks', at, 'url'], message: 'mqtt:// is for loopback only: use mqtts://' };
    if (passwordFile !== '' && user === '') yield { path: ['uplinks', at, 'passwordFile'], message: 'has a meaning only with user' };
    yield* forwardRules(forward, ['uplinks', at, 'forward']);
  }
}

const MQTT_PORTS: Readonly<Record<string, string>> = { 'mqtt:': '1883', 'mqtts:': '8883' };

/** Host and port; what is no URL is itself. */
function brokerOf(text: string): string {
  const url = URL.parse(text);
  return url ? `${url.hostname.toLowerCase()}:${url.port === '' ? MQTT_PORTS[url.protocol] ?? '' : url.port}` : text;
}

function* forwardRules(rules: readonly ForwardRule[], path: Path): Generator<SchemaIssue> {
  for (const [i, { topic }] of rules.entries()) {
    const fault = filterFault(topic);
    if (fault) yield { path: [...path, i, 'topic'], message: fault };
  }
}

/** Consent to what is not there would look like protection that it is not. */
function* actuators({ actuators: list, fleet: { driverCalls } }: Settings): Generator<SchemaIssue> {
  const names = list.map(({ driver, operation }) => `${driver}.${operation}`);
  yield* repeats(names, (i) => ['actuators', i, 'operation']);
  for (const [i, { driver, min, max, topic, key }] of list.entries()) {
    if (driver === 'main' && topic === undefined) yield { path: ['actuators', i, 'driver'], message: 'main is the gateway itself, and no device' };
    if (min > max) yield { path: ['actuators', i, 'max'], message: `max (${max}) is below min (${min})` };
    if (topic !== undefined && /[+#\u0000]/.test(topic)) yield { path: ['actuators', i, 'topic'], message: 'one topic, without wildcards' };
    if (topic?.startsWith('te/device/main/')) yield { path: ['actuators', i, 'topic'], message: "topics of the gateway itself are no device's" };
    if (topic === undefined && key !== undefined) yield { path: ['actuators', i, 'key'], message: 'has a meaning only with topic' };
  }
  for (const [i, call] of driverCalls.entries()) if (!names.includes(call)) yield { path: ['fleet', 'driverCalls', i], message: `'${call}' is none of actuators` };
}

function* repeats(names: readonly string[], pathOf: (i: number) => Path): Generator<SchemaIssue> {
  for (const [i, name] of names.entries()) {
    if (names.indexOf(name) < i) yield { path: pathOf(i), message: `'${name}' is there twice` };
  }
}

/** MQTT 3.1.1 §4.7.1: `#` stands alone and last, `+` fills its level. */
function filterFault(filter: string): string | undefined {
  const levels = filter.split('/');
  if (filter.includes('\u0000')) return 'a topic filter cannot contain NUL';
  for (const [i, level] of levels.entries()) {
    if (level.includes('#') && (level !== '#' || i < levels.length - 1)) return `'${filter}': # must stand alone in the last level`;
    if (level.includes('+') && level !== '+') return `'${filter}': + must fill its level alone`;
  }
  return undefined;
}
