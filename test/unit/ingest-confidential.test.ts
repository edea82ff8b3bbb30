import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LIMITS } from '#runtime/core/limits.ts';
import type { DecodeOutcome, Decoder, InboundRecord } from '#runtime/core/ports.ts';
import type { IngestSettings, RecordRule } from '#runtime/core/settings.ts';
import { KIND, READING_BODY, READING_FLAG, SEALED_BODY, type Cbor, type Draft, type Entry } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { exchangeKeyOfSeed, newExchangeSeed, type ExchangeKey } from '#runtime/crypto/xwing.ts';
import { createDecoder } from '#runtime/ingest/decoder.ts';
import { openTagKeys } from '#runtime/ingest/tagKeys.ts';
import { contentKeyOf, contextMicros, keyEpochOf, openBody, sealedOf, type Recipient } from '#runtime/ledger/confidential.ts';
import { decodeEntry, encodeEntry } from '#runtime/ledger/entry.ts';
import { inbound } from '#test/support/messages.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const SECRET = 'te/device/motor///m/current';
const rule = (more: Partial<RecordRule> = {}): RecordRule => ({ topic: 'te/device/motor/#', mode: 'every', deadband: 0, windowMs: 0, confidential: true, ...more });
const settings = (record: readonly RecordRule[] = [rule()]): IngestSettings => ({ registration: 'auto', mappings: [], record });

type Recorded = Extract<DecodeOutcome, { kind: 'record' }>;
function recorded(outcome: DecodeOutcome): Recorded {
  assert.equal(outcome.kind, 'record');
  return outcome;
}
/** Through the bytes of the chain, as a stranger gets it. */
const stored = ({ kind, source, body }: Pick<Draft, 'kind' | 'source' | 'body'>): Entry => decodeEntry(encodeEntry({ kind, source, body, wallMicros: 1, monoMicros: 1, bootEpoch: 1 }));
const entryOf = ({ entryKind, source, body }: Recorded): Entry => stored({ kind: entryKind, source, body });
const fieldsOf = ({ body }: { readonly body: Cbor }): ReadonlyMap<number, Cbor> => body as ReadonlyMap<number, Cbor>;

function epochOf({ confidential }: Recorded): Draft {
  assert.ok(confidential?.keyEpoch, 'a content key begins here');
  return confidential.keyEpoch;
}

describe('confidential entries', () => {
  let dir: TempDir;
  let key: ExchangeKey;
  let recipient: Recipient;
  beforeEach(() => {
    dir = tempDir('confidential');
    key = exchangeKeyOfSeed(newExchangeSeed());
    recipient = { name: 'owner', publicKey: key.publicKey };
  });
  afterEach(() => dir[Symbol.dispose]());

  const start = (record?: readonly RecordRule[], recipients: readonly Recipient[] = [recipient]): Decoder => createDecoder(settings(record), { recipients, tagKeys: openTagKeys(dir.path) });
  const opened = (epoch: Draft, entry: Entry, reader = key): ReadonlyMap<number, Cbor> => openBody(entry, contentKeyOf(keyEpochOf(stored(epoch).body), reader));

  it('open to exactly the body that would have been recorded in clear', () => {
    const messages: readonly (readonly [string, string])[] = [
      [SECRET, '{"amps": 3.25, "time": 1700000000, "simulated": true}'],
      ['te/device/motor///e/started', '{"text": "by hand"}'],
      ['te/device/motor///a/hot', '{"text": "too hot", "severity": "major"}'],
      ['te/device/motor///a/hot', ''],
    ];
    const [decoder, plain] = [start(), createDecoder(settings([]))];
    let epoch: Draft | undefined;
    for (const [i, [topic, payload]] of messages.entries()) {
      const record = inbound(topic, payload, { qos: 1, packetId: 7 + i, retain: true });
      const outcome = recorded(decoder.decode(record));
      epoch ??= epochOf(outcome);
      const entry = entryOf(outcome);
      assert.equal(entry.source, 'device/motor//');
      assert.deepEqual([...fieldsOf(entry).keys()], [SEALED_BODY.topic, SEALED_BODY.flags, SEALED_BODY.packetId, SEALED_BODY.context, SEALED_BODY.sequence, SEALED_BODY.ciphertext, SEALED_BODY.tag]);
      assert.ok(payload === '' || !Buffer.from(encodeEntry(entry)).includes(payload), 'nothing of it is in clear');
      const expected = recorded(plain.decode(record));
      assert.deepEqual(opened(epoch, entry), decodeCbor(encodeCbor(expected.body)));
      assert.equal(sealedOf(entry.body)?.sequence, i);
    }
  });

  it('leaves registrations, other topics and other gateways as they are', () => {
    const decoder = start();
    for (const [topic, payload] of [['te/device/motor//', '{"@type": "child-device", "name": "Motor"}'], ['te/device/motor///m/current/meta', '{"units": {"amps": "A"}}'], ['te/device/pump///m/x', '{"a": 1}']] as const) {
      const outcome = recorded(decoder.decode(inbound(topic, payload)));
      assert.equal(outcome.confidential, undefined);
      assert.equal(sealedOf(outcome.body), undefined);
    }
  });

  it('seal summaries, whose root still stands for the readings', () => {
    const decoder = start([rule({ mode: 'summary', windowMs: 1000 })]);
    const first = inbound(SECRET, '{"amps": 1}');
    assert.deepEqual(decoder.decode(first), { kind: 'skip', reason: 'summarised' });
    const drafts = decoder.drain(first.wallMicros, first.monoMicros + 5);
    assert.deepEqual(drafts.map(({ kind }) => kind), [KIND.registration, KIND.keyEpoch, KIND.summary]);
    const [, epoch, summary] = drafts;
    assert.ok(epoch && summary);
    const plain = createDecoder(settings([rule({ mode: 'summary', windowMs: 1000, confidential: false })]));
    plain.decode(first);
    const expected = plain.drain(first.wallMicros, first.monoMicros + 5).at(-1);
    assert.ok(expected);
    assert.deepEqual(opened(epoch, stored(summary)), decodeCbor(encodeCbor(expected.body)));
  });

  it('begin a new content key at each start and after a day', () => {
    const decoder = start();
    const first = inbound(SECRET, '{"a":1}');
    const epoch = epochOf(recorded(decoder.decode(first)));
    assert.equal(contextMicros(keyEpochOf(epoch.body).context), first.monoMicros);
    assert.equal(recorded(decoder.decode(inbound(SECRET, '{"a":2}'))).confidential?.keyEpoch, undefined);
    const late = recorded(decoder.decode(inbound(SECRET, '{"a":3}', { monoMicros: first.monoMicros + LIMITS.keyEpochMs * 1000 })));
    assert.notDeepEqual(epochOf(late).body, epoch.body);
    assert.equal(sealedOf(late.body)?.sequence, 0);
    assert.throws(() => opened(epoch, entryOf(late)), { code: 'hpke.open' }, 'the old key opens nothing new');
    epochOf(recorded(start().decode(inbound(SECRET, '{"a":4}'))));
  });

  it('open to each recipient and to nobody else', () => {
    const [other, stranger] = [exchangeKeyOfSeed(newExchangeSeed()), exchangeKeyOfSeed(newExchangeSeed())];
    const outcome = recorded(start(undefined, [recipient, { name: 'auditor', publicKey: other.publicKey }]).decode(inbound(SECRET, '{"a":1}')));
    const epoch = epochOf(outcome);
    assert.deepEqual(opened(epoch, entryOf(outcome), other), opened(epoch, entryOf(outcome)));
    assert.throws(() => opened(epoch, entryOf(outcome), stranger), { code: 'confidential.not_recipient', message: /owner, auditor/ });
  });

  it('open no more once anything about them was altered', () => {
    const decoder = start();
    const outcome = recorded(decoder.decode(inbound(SECRET, '{"a":1}', { qos: 1, packetId: 3 })));
    const contentKey = contentKeyOf(keyEpochOf(epochOf(outcome).body), key);
    const whole = entryOf(outcome);
    openBody(whole, contentKey);
    const refused = { code: 'hpke.open' };
    const changed = (field: number, value: Cbor): Entry => ({ ...whole, body: new Map([...fieldsOf(whole), [field, value]]) });
    assert.throws(() => openBody({ ...whole, source: 'device/pump//' }, contentKey), refused);
    assert.throws(() => openBody({ ...whole, kind: KIND.event }, contentKey), refused);
    for (const entry of [changed(SEALED_BODY.topic, 'te/device/motor///m/other'), changed(SEALED_BODY.flags, READING_FLAG.simulated), changed(SEALED_BODY.packetId, 4), changed(SEALED_BODY.sequence, 1), changed(SEALED_BODY.context, new Uint8Array(16)), changed(SEALED_BODY.tag, new Uint8Array(8))]) {
      assert.throws(() => openBody(entry, contentKey), refused);
    }
    const malformed = { code: 'entry.malformed' };
    for (const entry of [changed(SEALED_BODY.sequence, 2 ** 48), changed(SEALED_BODY.sequence, -1), changed(SEALED_BODY.context, new Uint8Array(15)), changed(SEALED_BODY.topic, 1), changed(SEALED_BODY.tag, 'x'), changed(24, 1)]) {
      assert.throws(() => openBody(entry, contentKey), malformed);
    }
    for (const body of ['x', new Map(), new Map<number, Cbor>([[1, new Uint8Array(16)], [2, [0x647a, 1, 2]], [3, [['owner', new Uint8Array(32), new Uint8Array(1119), new Uint8Array(48)]]]])] satisfies readonly Cbor[]) assert.throws(() => keyEpochOf(body), malformed);
  });

  describe('sent again after a restart', () => {
    const restart = (entries: readonly Recorded[]): Decoder => {
      const decoder = start();
      for (const { entryKind, source, body } of entries) decoder.remember(entryKind, source, stored({ kind: entryKind, source, body }).body);
      return decoder;
    };
    const send = (payload: string, packetId: number, duplicate = false): InboundRecord => inbound(SECRET, payload, { qos: 1, packetId, duplicate });

    it('are known by their message, each once, and only theirs', () => {
      const before = start();
      const entries = [send('{"a":1}', 1), send('{"a":1}', 1), send('{"a":2}', 2)].map((record) => recorded(before.decode(record)));
      const [one, other] = entries.map(({ body }) => sealedOf(body)?.tag);
      assert.notDeepEqual(one, other, 'equal messages have different tags');
      const after = restart(entries);
      const outcomes = (['{"a":1}', '{"a":1}', '{"a":2}'] as const).map((payload, i) => after.decode({ ...send(payload, i < 2 ? 1 : 2, true), clientId: `c${i}` }).kind);
      assert.deepEqual(outcomes, ['skip', 'skip', 'skip']);
      assert.equal(after.decode({ ...send('{"a":1}', 1, true), clientId: 'c3' }).kind, 'record', 'a third was never recorded');
      assert.equal(after.decode({ ...send('{"a":2}', 2, true), clientId: 'c2' }).kind, 'skip', 'its client sends it once more');
    });

    it('lose nothing when another message has the same packet identifier', () => {
      const after = restart([recorded(start().decode(send('{"a":1}', 1)))]);
      const outcome = recorded(after.decode(send('{"a":9}', 1, true)));
      assert.equal(fieldsOf(outcome).get(READING_BODY.flags), READING_FLAG.duplicate);
    });

    it('are known over a few restarts, by keys that others cannot read and that are gone after that', () => {
      const entry = recorded(start().decode(send('{"a":1}', 1)));
      const file = join(dir.path, 'redelivery.keys');
      assert.equal(statSync(file).mode & 0o777, 0o600);
      const old = readFileSync(file);
      for (let i = 1; i < LIMITS.tagKeysMax; i++) start().decode(send('{"b":1}', 2));
      assert.equal(restart([entry]).decode(send('{"a":1}', 1, true)).kind, 'skip');
      start().decode(send('{"b":1}', 2));
      assert.equal(restart([entry]).decode(send('{"a":1}', 1, true)).kind, 'record');
      assert.ok(!readFileSync(file).includes(old.subarray(16)), 'the first key is gone');
    });

    it('go on without keys that are damaged or cannot be written', () => {
      const entry = recorded(start().decode(send('{"a":1}', 1)));
      writeFileSync(join(dir.path, 'redelivery.keys'), 'damaged');
      assert.equal(restart([entry]).decode(send('{"a":1}', 1, true)).kind, 'record');
      mkdirSync(join(dir.path, 'redelivery.keys.new'));
      const outcome = recorded(start().decode(send('{"a":2}', 2)));
      assert.ok(sealedOf(outcome.body)?.tag);
    });
  });

  it('have somebody who can read them', () => {
    assert.throws(() => createDecoder(settings()), { code: 'core.invariant' });
  });
});
