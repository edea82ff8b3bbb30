import assert from 'node:assert/strict';
import type { DecodeOutcome } from '#runtime/core/ports.ts';
import type { IngestSettings } from '#runtime/core/settings.ts';
import { ALARM_BODY, EVENT_BODY, KIND, READING_BODY, READING_FLAG, REGISTRATION_BODY, type Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { createDecoder } from '#runtime/ingest/decoder.ts';
import { inbound } from '#test/support/messages.ts';

const AUTO: IngestSettings = { registration: 'auto', mappings: [], record: [] };
const M = 'te/device/pump///m/state';

type Body = ReadonlyMap<number, Cbor>;
function recorded(outcome: DecodeOutcome): { kind: number; source: string; body: Body } {
  assert.equal(outcome.kind, 'record', JSON.stringify(outcome));
  assert.ok(outcome.kind === 'record' && outcome.body instanceof Map);
  return { kind: outcome.entryKind, source: outcome.source, body: outcome.body as Body };
}
const readingOf = (payload: string): Body => recorded(createDecoder(AUTO).decode(inbound(M, payload))).body;
const valuesOf = (payload: string): Cbor | undefined => readingOf(payload).get(READING_BODY.values);

describe('ingest: thin-edge measurements', () => {
  it('keeps what the sensor sent beside what was made of it, in encodable form', () => {
    const message = inbound(M, '{"temperature":21.5,"coordinate":{"x":1,"y":-2.5e-3}}', { qos: 1, packetId: 7, retain: true });
    const { kind, source, body } = recorded(createDecoder(AUTO).decode(message));
    assert.equal(kind, KIND.reading);
    assert.equal(source, 'device/pump//');
    assert.deepEqual(body.get(READING_BODY.values), [['temperature', 21.5, ''], ['coordinate.x', 1, ''], ['coordinate.y', -0.0025, '']]);
    assert.deepEqual(body.get(READING_BODY.payload), message.payload);
    assert.equal(body.get(READING_BODY.topic), M);
    assert.equal(body.get(READING_BODY.flags), READING_FLAG.retained);
    assert.equal(body.get(READING_BODY.packetId), 7);
    assert.equal(body.has(READING_BODY.sensorMicros), false);
    assert.equal((decodeCbor(encodeCbor(body)) as Body).size, body.size);
  });

  it('reads the numbers at the edges', () => {
    assert.deepEqual(valuesOf('{"big":3.4028234663852886e38,"small":5e-324,"exact":9007199254740993,"zero":-0}'),
      [['big', 3.4028234663852886e38, ''], ['small', 5e-324, ''], ['exact', 9007199254740992, ''], ['zero', -0, '']]);
    assert.ok(encodeCbor(readingOf('{"big":-1e38,"zero":-0}')).length > 0);
  });

  it('takes the last of duplicate keys, and leaves prototypes alone', () => {
    assert.deepEqual(valuesOf('{"a":1,"a":2}'), [['a', 2, '']]);
    assert.deepEqual(valuesOf('{"constructor":1,"toString":2}'), [['constructor', 1, ''], ['toString', 2, '']]);
    assert.equal(({} as { polluted?: unknown }).polluted, undefined);
  });

  it('reads the sensor\'s time in every permitted form', () => {
    const micros = Date.UTC(2026, 10, 23, 10, 0, 0) * 1000;
    for (const [time, expected] of [
      ['"2026-11-23T10:00:00Z"', micros], ['"2026-11-23T10:00:00.123456789Z"', micros + 123_456], ['"2026-11-23T11:30:00+01:30"', micros], ['"2026-11-23t05:00:00.5-0500"', micros + 500_000],
      [String(micros / 1e6), micros], ['1795428000.25', 1_795_428_000_250_000], ['0', 0],
    ] as const) assert.equal(readingOf(`{"a":1,"time":${time}}`).get(READING_BODY.sensorMicros), expected, time);
  });

  it('marks what says that it is simulated, and that is no channel', () => {
    const body = readingOf('{"a":1,"simulated":true}');
    assert.equal(body.get(READING_BODY.flags), READING_FLAG.simulated);
    assert.deepEqual(body.get(READING_BODY.values), [['a', 1, '']]);
    assert.equal(readingOf('{"a":1,"simulated":false}').get(READING_BODY.flags), 0);
  });

  it('takes units from metadata, from the next reading on, until it is withdrawn', () => {
    const decoder = createDecoder(AUTO);
    const unit = (): Cbor | undefined => recorded(decoder.decode(inbound(M, '{"temperature":1,"coordinate":{"x":2}}'))).body.get(READING_BODY.values);
    assert.deepEqual(unit(), [['temperature', 1, ''], ['coordinate.x', 2, '']]);
    const meta = recorded(decoder.decode(inbound(`${M}/meta`, '{"units":{"temperature":"°C","coordinate":{"x":"m"}}}', { retain: true })));
    assert.equal(meta.kind, KIND.registration);
    assert.equal(meta.body.get(REGISTRATION_BODY.how), 'metadata');
    assert.deepEqual(meta.body.get(REGISTRATION_BODY.units), [['temperature', '°C'], ['coordinate.x', 'm']]);
    assert.deepEqual(unit(), [['temperature', 1, '°C'], ['coordinate.x', 2, 'm']]);
    assert.deepEqual(decoder.decode(inbound(`${M}/meta`, '{"units":{"temperature":"°C","coordinate":{"x":"m"}}}')), { kind: 'skip', reason: 'unchanged' });
    assert.equal(recorded(decoder.decode(inbound(`${M}/meta`, ''))).body.get(REGISTRATION_BODY.how), 'removed');
    assert.deepEqual(unit(), [['temperature', 1, ''], ['coordinate.x', 2, '']]);
  });
});

describe('ingest: events, alarms, registrations', () => {
  it('records an event with and without text', () => {
    const { kind, body } = recorded(createDecoder(AUTO).decode(inbound('te/device/pump///e/started', '{"text":"hello","time":1,"rpm":{"set":5},"simulated":true}', { qos: 1, packetId: 9 })));
    assert.equal(kind, KIND.event);
    assert.deepEqual([EVENT_BODY.text, EVENT_BODY.sensorMicros, EVENT_BODY.packetId, EVENT_BODY.flags].map((key) => body.get(key)), ['hello', 1_000_000, 9, READING_FLAG.simulated]);
    assert.equal(recorded(createDecoder(AUTO).decode(inbound('te/device/pump///e/started', '{}'))).body.has(EVENT_BODY.text), false);
  });

  it('records an alarm, its default severity, and its clearing', () => {
    const decoder = createDecoder(AUTO);
    const severity = (payload: string): Cbor | undefined => recorded(decoder.decode(inbound('te/device/pump///a/hot', payload))).body.get(ALARM_BODY.severity);
    for (const one of ['critical', 'major', 'minor', 'warning']) assert.equal(severity(JSON.stringify({ text: 'hot', severity: one })), one);
    assert.equal(severity('{"text":"hot"}'), 'minor');
    const cleared = recorded(decoder.decode(inbound('te/device/pump///a/hot', '', { retain: true })));
    assert.equal(cleared.kind, KIND.alarm);
    assert.equal(cleared.body.get(ALARM_BODY.flags), READING_FLAG.alarmClear | READING_FLAG.retained);
    assert.equal(cleared.body.has(ALARM_BODY.severity), false);
  });

  it('registers a child by its first message, once, and never the gateway itself', () => {
    const decoder = createDecoder(AUTO);
    decoder.decode(inbound(M, '{"a":1}'));
    decoder.decode(inbound(M, '{"a":2}'));
    decoder.decode(inbound('te/device/main///m/load', '{"a":2}'));
    const due = decoder.due(5, 6);
    assert.deepEqual(due.map(({ kind, source, wallMicros, monoMicros }) => [kind, source, wallMicros, monoMicros]), [[KIND.registration, 'device/pump//', 5, 6]]);
    assert.equal((due[0]?.body as Body | undefined)?.get(REGISTRATION_BODY.how), 'firstSeen');
    assert.deepEqual(decoder.due(7, 8), []);
  });

  it('lets a registered child in where registration is explicit, until it is removed', () => {
    const decoder = createDecoder({ ...AUTO, registration: 'explicit' });
    const { body } = recorded(decoder.decode(inbound('te/device/pump//', '{"@type":"child-device","name":"Pump"}', { retain: true })));
    assert.deepEqual([REGISTRATION_BODY.how, REGISTRATION_BODY.type, REGISTRATION_BODY.name].map((key) => body.get(key)), ['message', 'child-device', 'Pump']);
    assert.equal(decoder.decode(inbound(M, '{"a":1}')).kind, 'record');
    assert.deepEqual(decoder.due(0, 0), []);
    assert.deepEqual(decoder.decode(inbound('te/device/pump//', '{"@type":"child-device","name":"Pump"}')), { kind: 'skip', reason: 'unchanged' });
    assert.equal(recorded(decoder.decode(inbound('te/device/pump//', ''))).body.get(REGISTRATION_BODY.how), 'removed');
    assert.equal(decoder.decode(inbound(M, '{"a":1}')).kind, 'reject');
  });

  it('does not record what nobody asked for', () => {
    const decoder = createDecoder(AUTO);
    for (const topic of ['home/lamp', 'te/errors', 'te/device/pump///twin/name', 'te/device/pump///cmd/restart/1', 'te/device/pump///status/health', 'te/device/pump///e/x/meta']) {
      assert.deepEqual(decoder.decode(inbound(topic, '\u0000 not JSON')), { kind: 'skip', reason: 'unrecorded' }, topic);
    }
  });
});
