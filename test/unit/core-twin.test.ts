import assert from 'node:assert/strict';
import { canonicalJson, type Json } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { parseTopic } from '#runtime/core/topic.ts';
import { decodeConfirmation, decodeDesired, decodeReported, encodeConfirmation, encodeDesired, encodeReported, twinSigningInput, twinTopic, type Desired, type Reported } from '#runtime/core/twin.ts';
import { randomOf } from '#test/support/random.ts';

const DESIRED: Desired = { version: 3, value: { wifi: { ssid: 'yard' }, interval: 10 }, confirmSeconds: 60, confirmKey: '5'.repeat(64) };
const KEY = '5'.repeat(64);
const REPORTED: Reported = { revision: 9, version: 3, state: 'reverted', value: { interval: 5 }, reason: 'the fleet did not confirm it within 60 s' };

describe('core: messages of the twin', () => {
  it('reads what it wrote', () => {
    assert.deepEqual(decodeDesired(encodeDesired(DESIRED, 'a.b.c')), { message: DESIRED, signature: 'a.b.c' });
    assert.deepEqual(decodeReported(encodeReported(REPORTED)), REPORTED);
    assert.deepEqual(decodeConfirmation(encodeConfirmation({ version: 3, revision: 8 }, Buffer.from('key'), 's')), { message: { version: 3, revision: 8 }, key: Buffer.from('key'), signature: 's' });
  });

  it('has topics of the grammar, and no others', () => {
    assert.equal(twinTopic('edge-1', 'network', 'reported'), 'te/edge-1/device/main///twin/network');
    assert.equal(twinTopic('edge-1', 'network', 'desired'), 'te/edge-1/device/main///twin/network/desired');
    assert.ok(parseTopic('te/device/main///twin/network/confirm'));
    for (const name of ['', 'a/b', 'a.b', '#', '+', 'a b', 'x'.repeat(65)]) assert.throws(() => twinTopic('edge-1', name, 'desired'), { code: 'twin.malformed' });
  });

  it('is signed for one gateway, one twin and one purpose', () => {
    const inputs = [twinSigningInput('a', 'n', 'desired', DESIRED), twinSigningInput('b', 'n', 'desired', DESIRED), twinSigningInput('a', 'm', 'desired', DESIRED), twinSigningInput('a', 'n', 'confirm', DESIRED),
      twinSigningInput('a', 'n', 'desired', { ...DESIRED, version: 4 }), twinSigningInput('a', 'n', 'desired', { ...DESIRED, confirmSeconds: 61 })];
    assert.equal(new Set(inputs.map(String)).size, inputs.length);
    const turned: Desired = { confirmKey: '5'.repeat(64), confirmSeconds: 60, value: { interval: 10, wifi: { ssid: 'yard' } }, version: 3 };
    assert.deepEqual(twinSigningInput('a', 'n', 'desired', turned), inputs[0], 'the order of members does not matter');
  });

  it('spells a value in one way (RFC 8785)', () => {
    // RFC 8785 §3.2.3, the example of sorted properties, less the escapes that JSON.stringify is known for
    const value: Json = { '\u20ac': 'Euro Sign', '\r': 'Carriage Return', '\ufb33': 'Hebrew', 1: 'One', '\u{1f600}': 'Emoji', '\u0080': 'Control', '\u00f6': 'o' };
    assert.deepEqual(Object.keys(JSON.parse(canonicalJson(value)) as object), ['1', '\r', '\u0080', '\u00f6', '\u20ac', '\u{1f600}', '\ufb33']);
    assert.equal(canonicalJson({ b: [1e21, 0.1, -0, true, null], a: {} }), '{"a":{},"b":[1e+21,0.1,0,true,null]}');
  });

  const bad: readonly (readonly [string, string, RegExp])[] = [
    ['no JSON', '{', /not JSON/], ['no object', '[]', /not a JSON object/], ['a missing member', '{"version":1,"value":1,"confirmSeconds":60,"signature":"s"}', /confirmKey is missing/],
    ['an unknown member', `{"version":1,"value":1,"confirmSeconds":60,"confirmKey":"${KEY}","signature":"s","x":1}`, /unknown member 'x'/], ['version 0', `{"version":0,"value":1,"confirmSeconds":60,"confirmKey":"${KEY}","signature":"s"}`, /version must be/],
    ['half a version', `{"version":1.5,"value":1,"confirmSeconds":60,"confirmKey":"${KEY}","signature":"s"}`, /version must be/], ['a version as text', `{"version":"1","value":1,"confirmSeconds":60,"confirmKey":"${KEY}","signature":"s"}`, /version must be/],
    ['no time to confirm', `{"version":1,"value":1,"confirmSeconds":1,"confirmKey":"${KEY}","signature":"s"}`, /confirmSeconds must be/], ['a key that is none', '{"version":1,"value":1,"confirmSeconds":60,"confirmKey":"5","signature":"s"}', /confirmKey must be/], ['an empty signature', `{"version":1,"value":1,"confirmSeconds":60,"confirmKey":"${KEY}","signature":""}`, /signature must be/],
    ['half a surrogate pair', `{"version":1,"value":"\\ud800","confirmSeconds":60,"confirmKey":"${KEY}","signature":"s"}`, /surrogate/], ['a prototype', `{"version":1,"value":{"__proto__":{}},"confirmSeconds":60,"confirmKey":"${KEY}","signature":"s"}`, /__proto__/],
    ['a deep value', `{"version":1,"value":${'['.repeat(20_000)}${']'.repeat(20_000)},"confirmSeconds":60,"confirmKey":"${KEY}","signature":"s"}`, /nests deeper/],
    ['many values', `{"version":1,"value":[${'1,'.repeat(4_000)}1],"confirmSeconds":60,"confirmKey":"${KEY}","signature":"s"}`, /more than/], ['a large value', `{"version":1,"value":"${'x'.repeat(LIMITS.twinValueBytesMax)}","confirmSeconds":60,"confirmKey":"${KEY}","signature":"s"}`, /more than/],
    ['a larger message', ' '.repeat(LIMITS.twinMessageBytesMax + 1), /bytes, more than/],
  ];
  for (const [what, text, why] of bad) it(`refuses ${what}`, () => assert.throws(() => decodeDesired(Buffer.from(text)), (error) => (error as { code?: string }).code === 'twin.malformed' && why.test((error as Error).message)));

  it('takes bent bytes or refuses them with a typed error', () => {
    const random = randomOf(11);
    for (const [sound, decode] of [[encodeDesired(DESIRED, 'sig'), decodeDesired], [encodeReported(REPORTED), decodeReported], [encodeConfirmation({ version: 1, revision: 1 }, Buffer.from('key'), 's'), decodeConfirmation]] as const) {
      for (let round = 0; round < 2_000; round++) {
        const bent = Buffer.from(sound);
        bent[random(bent.length)] = random(256);
        try {
          decode(bent);
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'twin.malformed');
        }
      }
    }
  });
});
