import assert from 'node:assert/strict';
import { ERRORS, TenzroError, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { DecodeOutcome } from '#runtime/core/ports.ts';
import type { IngestSettings } from '#runtime/core/settings.ts';
import { createDecoder } from '#runtime/ingest/decoder.ts';
import { inbound } from '#test/support/messages.ts';

const M = 'te/device/pump///m/state';
const E = 'te/device/pump///e/started';
const A = 'te/device/pump///a/hot';

const settings: IngestSettings = {
  registration: 'auto',
  record: [],
  mappings: [
    { name: 'number', topic: 'esphome/+/sensor/+/state', source: 'device/{1}//', values: [{ channel: '{2}', unit: '°C' }] },
    { name: 'object', topic: 'zigbee2mqtt/+', source: 'device/{1}//', values: [{ path: 'temperature', channel: 'temperature', unit: '°C' }] },
  ],
};

const many = (count: number): string => JSON.stringify(Object.fromEntries(Array.from({ length: count }, (_, i) => [`c${i}`, i])));

/** [what, topic, payload, code] */
const BAD: readonly (readonly [string, string, string | Uint8Array, ErrorCode])[] = [
  ['a lone continuation byte', M, Buffer.from([0x7b, 0x22, 0x80, 0x22, 0x3a, 0x31, 0x7d]), 'ingest.utf8'],
  ['an encoded surrogate', M, Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]), 'ingest.utf8'],
  ['nothing at all', M, '', 'ingest.json'],
  ['a truncated object', M, '{"a":1', 'ingest.json'],
  ['NaN', M, '{"a":NaN}', 'ingest.json'],
  ['Infinity', M, '{"a":Infinity}', 'ingest.json'],
  ['-Infinity', M, '{"a":-Infinity}', 'ingest.json'],
  ['a byte order mark', M, '\uFEFF{"a":1}', 'ingest.json'],
  ['two objects', M, '{"a":1}{"a":2}', 'ingest.json'],
  ['an empty event', E, '', 'ingest.json'],
  ['nesting to exhaust a stack', M, '['.repeat(200_000), 'ingest.depth'],
  ['deep groups', M, '{"a":'.repeat(LIMITS.jsonDepthMax + 1) + '1' + '}'.repeat(LIMITS.jsonDepthMax + 1), 'ingest.depth'],
  ['a group in a group', M, '{"a":{"b":{"c":1}}}', 'ingest.shape'],
  ['an array', M, '[1,2]', 'ingest.shape'],
  ['a bare number', M, '21.5', 'ingest.shape'],
  ['null', M, 'null', 'ingest.shape'],
  ['an empty object', M, '{}', 'ingest.empty'],
  ['only a time', M, '{"time":1700000000}', 'ingest.empty'],
  ['an empty group', M, '{"a":{}}', 'ingest.empty'],
  ['too many channels', M, many(LIMITS.channelsPerReadingMax + 1), 'ingest.too_many_channels'],
  ['text for a number', M, '{"a":"21.5"}', 'ingest.not_a_number'],
  ['null for a number', M, '{"a":null}', 'ingest.not_a_number'],
  ['an array for a number', M, '{"a":[1]}', 'ingest.not_a_number'],
  ['a boolean in a group', M, '{"g":{"a":true}}', 'ingest.not_a_number'],
  ['a number that overflows', M, '{"a":1e999}', 'ingest.range'],
  ['a negative one', M, '{"a":-1e999}', 'ingest.range'],
  ['beyond binary32', M, '{"a":3.5e38}', 'ingest.range'],
  ['an empty name', M, '{"":1}', 'ingest.name'],
  ['a dotted name', M, '{"a.b":1}', 'ingest.name'],
  ['__proto__', M, '{"__proto__":1}', 'ingest.name'],
  ['a __proto__ group', M, '{"__proto__":{"polluted":1}}', 'ingest.name'],
  ['a control character', M, '{"a\\u0000":1}', 'ingest.name'],
  ['half a surrogate pair', M, '{"\\ud800":1}', 'ingest.name'],
  ['a long name', M, JSON.stringify({ ['n'.repeat(LIMITS.channelNameBytesMax + 1)]: 1 }), 'ingest.name'],
  ['a time without a zone', M, '{"a":1,"time":"2026-11-23T10:00:00"}', 'ingest.time'],
  ['the 30th of February', M, '{"a":1,"time":"2026-02-30T10:00:00Z"}', 'ingest.time'],
  ['a time before 1970', M, '{"a":1,"time":-1}', 'ingest.time'],
  ['a time beyond exactness', M, '{"a":1,"time":1e12}', 'ingest.time'],
  ['a time that is an object', M, '{"a":1,"time":{}}', 'ingest.time'],
  ['text that is a number', E, '{"text":5}', 'ingest.text'],
  ['text beyond the limit', E, JSON.stringify({ text: 'x'.repeat(LIMITS.textBytesMax + 1) }), 'ingest.text'],
  ['an unknown severity', A, '{"text":"hot","severity":"fatal"}', 'ingest.severity'],
  ['a numeric severity', A, '{"severity":1}', 'ingest.severity'],
  ['units that are none', `${M}/meta`, '{"unit":"x"}', 'ingest.units'],
  ['a unit that is a number', `${M}/meta`, '{"units":{"a":1}}', 'ingest.units'],
  ['a registration without type', 'te/device/pump//', '{"name":"Pump"}', 'ingest.registration'],
  ['an unknown type', 'te/device/pump//', '{"@type":"toaster"}', 'ingest.registration'],
  ['a mapped payload without the value', 'zigbee2mqtt/door', '{"contact":true}', 'ingest.mapping'],
  ['a mapping that makes no entity', 'zigbee2mqtt/', '{"temperature":1}', 'ingest.mapping'],
  ['a bare word', 'esphome/a/sensor/t/state', 'nan', 'ingest.not_a_number'],
  ['a bare overflow', 'esphome/a/sensor/t/state', '1e999', 'ingest.range'],
  ['a topic with too few levels', 'te/device/pump', '{"a":1}', 'topic.invalid'],
  ['a topic with an unknown channel', 'te/device/pump///x/y', '{"a":1}', 'topic.invalid'],
];

const codeOf = (outcome: DecodeOutcome): string => (outcome.kind === 'reject' ? outcome.code : outcome.kind);

describe('ingest: what bad input gets', () => {
  const reached = new Set<string>();

  for (const [what, topic, payload, code] of BAD) {
    it(`${what}: ${code}`, () => {
      const decoder = createDecoder(settings);
      const outcome = decoder.decode(inbound(topic, payload));
      assert.equal(codeOf(outcome), code);
      assert.ok(outcome.kind === 'reject' && outcome.detail.length > 0 && outcome.detail.length < 700, 'a detail fit for one line');
      assert.deepEqual(decoder.due(0, 0), [], 'bad input registers nobody');
      assert.equal(decoder.decode(inbound(M, '{"a":1}')).kind, 'record', 'and has no effect on what follows');
      reached.add(code);
    });
  }

  it('an entity that nobody registered, where registration is explicit', () => {
    const decoder = createDecoder({ ...settings, registration: 'explicit' });
    for (const [topic, payload] of [[M, '{"a":1}'], [E, '{}'], [A, '{}'], [A, ''], [`${M}/meta`, '{"units":{}}']] as const) {
      assert.equal(codeOf(decoder.decode(inbound(topic, payload))), 'ingest.unregistered', topic);
    }
    assert.equal(decoder.decode(inbound('zigbee2mqtt/door', '{"temperature":1}')).kind, 'record', 'a mapping rule vouches for its source');
    reached.add('ingest.unregistered');
  });

  it('one entity too many', () => {
    const decoder = createDecoder(settings);
    for (let i = 0; i < LIMITS.entitiesMax - 1; i++) assert.equal(decoder.decode(inbound(`te/device/d${i}///e/x`, '{}')).kind, 'record');
    assert.equal(codeOf(decoder.decode(inbound('te/device/more///e/x', '{}'))), 'ingest.too_many_entities');
    assert.equal(decoder.decode(inbound('te/device/d7///e/x', '{}')).kind, 'record');
    decoder.decode(inbound('te/device/d7//', ''));
    assert.equal(decoder.decode(inbound('te/device/more///e/x', '{}')).kind, 'record', 'a removed one makes room');
    reached.add('ingest.too_many_entities');
  });

  it('a mapping path that is none, when the gateway starts', () => {
    for (const path of ['', 'a..b', 'a[x]', 'a.[0]', 'a]']) {
      const values = [{ path, channel: 'c', unit: '' }];
      assert.throws(() => createDecoder({ ...settings, mappings: [{ name: 'r', topic: 'x/+', source: 'device/{1}//', values }] }),
        (error) => error instanceof TenzroError && error.code === 'ingest.mapping_rule', path);
    }
    reached.add('ingest.mapping_rule');
  });

  after('every code of the room was reached', () => {
    const codes = Object.keys(ERRORS).filter((code) => code.startsWith('ingest.'));
    assert.deepEqual(codes.filter((code) => !reached.has(code)), []);
  });
});
