import assert from 'node:assert/strict';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Decoder, InboundRecord } from '#runtime/core/ports.ts';
import type { IngestSettings, RecordRule } from '#runtime/core/settings.ts';
import { KIND, READING_FLAG, READING_BODY, SUMMARY_BODY, type Cbor } from '#runtime/core/types.ts';
import { encodeCbor } from '#runtime/crypto/cbor.ts';
import { EMPTY_ROOT, leafHash, nodeHash } from '#runtime/crypto/merkle.ts';
import { createDecoder } from '#runtime/ingest/decoder.ts';
import { inbound } from '#test/support/messages.ts';
import { randomOf } from '#test/support/random.ts';

type Body = ReadonlyMap<number, Cbor>;
const M = 'te/device/pump///m/state';
const AUTO: IngestSettings = { registration: 'auto', mappings: [], record: [] };
const rule = (mode: RecordRule['mode'], more: Partial<RecordRule> = {}): RecordRule => ({ topic: 'te/+/+/+/+/m/#', mode, deadband: 0, windowMs: 0, ...more });
const withRules = (...record: RecordRule[]): Decoder => createDecoder({ ...AUTO, record });

const said = (decoder: Decoder, message: InboundRecord): string => {
  const outcome = decoder.decode(message);
  return outcome.kind === 'skip' ? outcome.reason : outcome.kind === 'reject' ? outcome.code : 'record';
};
const bodyOf = (decoder: Decoder, message: InboundRecord): Body => {
  const outcome = decoder.decode(message);
  assert.ok(outcome.kind === 'record', JSON.stringify(outcome));
  return outcome.body as Body;
};

describe('ingest: what is recorded', () => {
  it('on change: a move by the deadband since the last RECORDED value, or another set of channels', () => {
    const decoder = withRules(rule('onChange', { deadband: 0.5 }));
    const seen = ['{"a":1}', '{"a":1.4}', '{"a":1.5}', '{"a":1.9}', '{"a":1.1}', '{"a":1,"b":1}', '{"a":1,"b":1}', '{"b":1,"c":1}'].map((payload) => said(decoder, inbound(M, payload)));
    assert.deepEqual(seen, ['record', 'unchanged', 'record', 'unchanged', 'unchanged', 'record', 'unchanged', 'record']);
  });

  it('on change without a deadband: any change', () => {
    const decoder = withRules(rule('onChange'));
    assert.deepEqual(['{"a":1}', '{"a":1}', '{"a":1.0000001}'].map((payload) => said(decoder, inbound(M, payload))), ['record', 'unchanged', 'record']);
  });

  it('never, and only where the first matching rule says so', () => {
    const decoder = withRules(rule('every', { topic: M }), rule('never'));
    assert.equal(said(decoder, inbound(M, '{"a":1}')), 'record');
    assert.equal(said(decoder, inbound('te/device/pump///m/other', 'whatever')), 'unrecorded');
    assert.equal(said(decoder, inbound('te/device/pump///a/hot', '{}')), 'record', 'alarms are always recorded');
  });

  for (const count of [1, 2, 3, 7, 64]) {
    it(`a summary of ${count} readings carries their statistics and a root that their owner can prove`, () => {
      const plain = createDecoder(AUTO);
      const decoder = withRules(rule('summary', { windowMs: 10_000 }));
      const messages = Array.from({ length: count }, (_, i) => inbound(M, JSON.stringify(i % 2 === 0 ? { a: i, b: 10 - i } : { a: i }), { monoMicros: 1_000_000 + i, wallMicros: 5_000_000 + i }));
      for (const message of messages) assert.equal(said(decoder, message), 'summarised');
      assert.deepEqual(decoder.due(0, 10_999_999).map(({ kind }) => kind), [KIND.registration], 'the window is still open');
      const [summary, ...rest] = decoder.due(77, 11_000_000);
      assert.deepEqual(rest, []);
      assert.deepEqual([summary?.kind, summary?.source, summary?.wallMicros, summary?.monoMicros], [KIND.summary, 'device/pump//', 77, 11_000_000]);
      const body = summary?.body as Body;
      const half = Math.ceil(count / 2);
      const lastB = (half - 1) * 2;
      assert.deepEqual(body.get(SUMMARY_BODY.channels), [
        ['a', '', count, 0, count - 1, (count - 1) / 2, count - 1],
        ['b', '', half, 10 - lastB, 10, 10 - lastB / 2, 10 - lastB],
      ]);
      assert.deepEqual([SUMMARY_BODY.topic, SUMMARY_BODY.count, SUMMARY_BODY.fromMicros, SUMMARY_BODY.toMicros].map((key) => body.get(key)), [M, count, 5_000_000, 5_000_000 + count - 1]);
      assert.deepEqual(body.get(SUMMARY_BODY.root), mth(messages.map((message) => leafHash(encodeCbor(bodyOf(plain, message))))));
      assert.deepEqual(decoder.due(78, 30_000_000), [], 'told once');
    });
  }

  it('a late message opens the next window; an orderly end closes all', () => {
    const decoder = withRules(rule('summary', { windowMs: 1000 }));
    said(decoder, inbound(M, '{"a":1}', { monoMicros: 0 }));
    said(decoder, inbound(M, '{"a":2,"simulated":true}', { monoMicros: 1_000_000 }));
    said(decoder, inbound('te/device/pump///m/other', '{"a":3}', { monoMicros: 1_500_000 }));
    const summaries = decoder.drain(1, 1_600_000).filter(({ kind }) => kind === KIND.summary).map(({ body }) => body as Body);
    assert.deepEqual(summaries.map((body) => [body.get(SUMMARY_BODY.topic), body.get(SUMMARY_BODY.count), body.get(SUMMARY_BODY.flags)]), [[M, 1, 0], [M, 1, READING_FLAG.simulated], ['te/device/pump///m/other', 1, 0]]);
    assert.deepEqual(decoder.drain(2, 1_700_000), []);
  });

  it('windows and their channels stay bounded', () => {
    const decoder = withRules(rule('summary', { windowMs: 3_600_000 }));
    for (let i = 0; i <= LIMITS.summaryWindowsMax; i++) said(decoder, inbound(`te/device/pump///m/t${i}`, '{"a":1}'));
    const [, early, ...rest] = decoder.due(0, 0);
    assert.equal((early?.body as Body | undefined)?.get(SUMMARY_BODY.topic), 'te/device/pump///m/t0');
    assert.deepEqual(rest, []);
    for (let i = 0; i <= LIMITS.channelsPerReadingMax; i++) said(decoder, inbound('te/device/pump///m/t5', `{"c${i}":1}`));
    assert.equal(((decoder.due(0, 0)[0]?.body as Body | undefined)?.get(SUMMARY_BODY.channels) as readonly Cbor[] | undefined)?.length, LIMITS.channelsPerReadingMax);
  });
});

describe('ingest: redelivery', () => {
  const first = inbound(M, '{"a":1}', { qos: 1, packetId: 5 });
  const again: InboundRecord = { ...first, duplicate: true };

  it('is recorded once, and marked where the first was never seen', () => {
    const decoder = createDecoder(AUTO);
    assert.equal(bodyOf(decoder, first).get(READING_BODY.flags), 0);
    assert.equal(said(decoder, again), 'duplicate');
    assert.equal(said(decoder, again), 'duplicate');
    const unknown = [{ ...again, clientId: 'client-2' }, { ...again, packetId: 6 }, { ...again, payload: Buffer.from('{"a":2}') }, { ...again, topic: `${M}2` }];
    for (const message of unknown) assert.equal(bodyOf(decoder, message).get(READING_BODY.flags), READING_FLAG.duplicate);
    assert.equal(said(decoder, first), 'record', 'without DUP it is a new message');
  });

  it('is not counted twice in a window or after a rejection', () => {
    const decoder = withRules(rule('summary', { windowMs: 1000 }));
    assert.deepEqual([said(decoder, first), said(decoder, again)], ['summarised', 'duplicate']);
    const bad = { ...first, payload: Buffer.from('{'), packetId: 9 };
    assert.deepEqual([said(decoder, bad), said(decoder, { ...bad, duplicate: true })], ['ingest.json', 'ingest.json']);
  });

  it('is remembered for as many messages as a client may have in flight', () => {
    const decoder = createDecoder(AUTO);
    const sent = Array.from({ length: LIMITS.redeliveryWindowMax + 1 }, (_, i) => inbound(M, `{"a":${i}}`, { qos: 1, packetId: i + 1 }));
    for (const message of sent) decoder.decode(message);
    const newestFirst = sent.toReversed().map((message) => said(decoder, { ...message, duplicate: true }));
    assert.deepEqual(newestFirst, [...Array.from(sent.slice(1), () => 'duplicate'), 'record']);
  });

  it('is recognised after a restart from what the log holds, as often as it stands there', () => {
    const before = createDecoder(AUTO);
    const log = [first, { ...first, clientId: 'client-2' }].map((message) => before.decode(message));
    const decoder = createDecoder(AUTO);
    for (const entry of log) if (entry.kind === 'record') decoder.remember(entry.entryKind, entry.source, entry.body);
    assert.equal(said(decoder, again), 'duplicate');
    assert.equal(said(decoder, again), 'duplicate', 'the same client, once more');
    assert.equal(said(decoder, { ...again, clientId: 'client-2' }), 'duplicate');
    assert.equal(said(decoder, { ...again, clientId: 'client-3' }), 'record', 'a third message of equal content');
    assert.deepEqual(decoder.due(0, 0), [], 'who is in the log is known');
  });

  it('a restart also restores units, registrations and the last values on change', () => {
    const settings: IngestSettings = { ...AUTO, registration: 'explicit', record: [rule('onChange')] };
    const [before, after] = [createDecoder(settings), createDecoder(settings)];
    const messages = [inbound('te/device/pump//', '{"@type":"child-device"}'), inbound(`${M}/meta`, '{"units":{"a":"V"}}'), inbound(M, '{"a":1}')];
    for (const message of messages) {
      const outcome = before.decode(message);
      assert.ok(outcome.kind === 'record');
      after.remember(outcome.entryKind, outcome.source, outcome.body);
    }
    assert.deepEqual(messages.map((message) => said(after, message)), ['unchanged', 'unchanged', 'unchanged']);
    assert.deepEqual(bodyOf(after, inbound(M, '{"a":2}')).get(READING_BODY.values), [['a', 2, 'V']]);
  });

  it('remembering what is none of ours, or damaged, changes nothing', () => {
    const decoder = createDecoder(AUTO);
    for (const body of [null, 1, new Map(), new Map([[1, 5]]), new Map<number, Cbor>([[1, 'te/x'], [2, Buffer.of(1)], [7, 1]])]) {
      for (const kind of Object.values(KIND)) decoder.remember(kind, 'device/x//', body);
    }
    assert.equal(said(decoder, again), 'record');
  });
});

describe('ingest: any bytes at all', () => {
  it('never throws, and what it records can be encoded', () => {
    const random = randomOf(20261123);
    const decoder = createDecoder({ ...AUTO, record: [rule('onChange', { topic: 'te/device/a///m/x' }), rule('summary', { topic: 'te/device/b///m/x', windowMs: 1 })], mappings: [
      { name: 'r', topic: 'f/+', source: 'device/{1}//', values: [{ path: 'a[0].b', channel: 'v', unit: '' }, { path: 'a', channel: 'w', unit: '' }] },
    ] });
    const topics = ['te/device/a///m/x', 'te/device/b///m/x', 'te/device/c///m/x', 'te/device/a///m/x/meta', 'te/device/a///e/x', 'te/device/a///a/x', 'te/device/a//', 'f/d', 'f/', 'te/', '', 'te/device/a///'];
    const kinds = new Map<string, number>();
    for (let i = 0; i < 20_000; i++) {
      const payload = i % 4 === 0 ? damaged(random) : Buffer.from(anyJson(random, 5));
      const topic = topics[random(topics.length)] ?? '';
      const outcome = decoder.decode(inbound(topic, payload, { qos: 1, packetId: random(20), duplicate: random(3) === 0, retain: random(2) === 0 }));
      kinds.set(outcome.kind, (kinds.get(outcome.kind) ?? 0) + 1);
      if (outcome.kind === 'record') encodeCbor(outcome.body);
      for (const draft of decoder.due(i, i * 1000)) encodeCbor(draft.body);
    }
    for (const kind of ['record', 'skip', 'reject']) assert.ok((kinds.get(kind) ?? 0) > 500, `${kind}: ${kinds.get(kind)}`);
  });
});

/** RFC 6962 §2.1 by its definition, to hold the incremental one against. */
function mth(leaves: readonly Buffer[]): Buffer {
  const [only] = leaves;
  if (only === undefined) return Buffer.from(EMPTY_ROOT);
  if (leaves.length === 1) return only;
  const k = 2 ** Math.floor(Math.log2(leaves.length - 1));
  return nodeHash(mth(leaves.slice(0, k)), mth(leaves.slice(k)));
}

const KEYS = ['a', 'b', 'time', 'text', 'severity', 'units', '@type', 'name', 'simulated', '__proto__', 'constructor', '', 'x.y', '\ud800', '°'];
const SCALARS = ['1', '-0', '1e999', '5e-324', '1e40', '9007199254740993', 'null', 'true', 'false', '"x"', '"child-device"', '"major"', '"12"', '"2026-01-01T00:00:00Z"', '"\\ud800"', 'NaN'];

function anyJson(random: (below: number) => number, depth: number): string {
  const shape = depth === 0 ? 2 : random(depth === 5 ? 2 : 8);
  const items = (): string[] => Array.from({ length: random(4) }, () => anyJson(random, depth - 1));
  if (shape === 0 && depth < 5) return `[${items().join(',')}]`;
  if (shape <= 1) return `{${items().map((item) => `${JSON.stringify(KEYS[random(KEYS.length)])}:${item}`).join(',')}}`;
  return SCALARS[random(SCALARS.length)] ?? '1';
}

function damaged(random: (below: number) => number): Buffer {
  const bytes = Buffer.from(anyJson(random, 5));
  if (bytes.length > 0) bytes[random(bytes.length)] = random(256);
  return bytes.subarray(0, random(bytes.length + 1));
}
