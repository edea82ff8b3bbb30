import assert from 'node:assert/strict';
import { TenzroError } from '#runtime/core/errors.ts';
import { boundedJson, canonicalJson, type Json } from '#runtime/core/json.ts';
import { parseDetached, signDetached, thumbprintOf } from '#runtime/crypto/jws.ts';
import { nobleVerifyMlDsa65, signerOfSeed } from '#runtime/crypto/mldsa.ts';

const signer = signerOfSeed(Buffer.alloc(32, 7));
const PAYLOAD = Buffer.from('{"a":1}');
const TYP = 'test+json';

const refuses = (jws: string): void => assert.throws(() => parseDetached(jws, TYP), (error) => error instanceof TenzroError && error.code === 'jws.malformed');
const headed = (header: object): string => `${Buffer.from(JSON.stringify(header)).toString('base64url')}..${signDetached(signer, PAYLOAD, TYP).split('..')[1] ?? ''}`;

describe('crypto: RFC 8785 canonical JSON', () => {
  it('writes the sample of §3.2.2 as §3.2.3 has it', () => {
    const sample = JSON.parse(String.raw`{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}`) as Json;
    assert.equal(canonicalJson(sample), String.raw`{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`);
  });

  it('orders names by UTF-16 code units, as the sample of §3.2.3', () => {
    const sample = JSON.parse(String.raw`{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}`) as Json;
    assert.deepEqual(Object.values(JSON.parse(canonicalJson(sample)) as object).slice(1), ['Carriage Return', 'Control', 'Latin Small Letter O With Diaeresis', 'Euro Sign', 'Emoji: Grinning Face', 'Hebrew Letter Dalet With Dagesh']);
    assert.ok(canonicalJson(sample).startsWith(String.raw`{"\r":"Carriage Return","1":"One"`));
  });

  it('refuses what is no I-JSON, and what nests too deep', () => {
    const fault = (why: string): Error => new TenzroError('jws.malformed', why);
    for (const bad of ['\ud800', Infinity, JSON.parse(`${'['.repeat(20)}${']'.repeat(20)}`) as Json]) assert.throws(() => boundedJson(bad, { depthMax: 8, valuesMax: 100 }, fault), TenzroError);
  });
});

describe('crypto: detached JWS with ML-DSA-65', () => {
  it('verifies what was signed, and nothing else; another implementation agrees', () => {
    const jws = signDetached(signer, PAYLOAD, TYP);
    const parsed = parseDetached(jws, TYP);
    const other = signerOfSeed(Buffer.alloc(32, 8));
    assert.equal(parsed.kid, thumbprintOf(signer.publicKey));
    assert.deepEqual([parsed.isSignedBy(signer.publicKey, PAYLOAD), parsed.isSignedBy(signer.publicKey, Buffer.from('{"a":2}')), parsed.isSignedBy(other.publicKey, PAYLOAD)], [true, false, false]);
    const [header = '', signature = ''] = jws.split('..');
    assert.ok(nobleVerifyMlDsa65(signer.publicKey, Buffer.from(`${header}.${PAYLOAD.toString('base64url')}`), Buffer.from(signature, 'base64url')));
  });

  it('names keys by the thumbprint that RFC 9964 appendix A gives its example of ML-DSA-65, whose seed is zero', () => {
    assert.equal(thumbprintOf(signerOfSeed(Buffer.alloc(32)).publicKey), 'Suiu29qbfuaBaR4Ats-c6XQBePB_OpAxAwcTR_0KXVM');
  });

  it('refuses other forms, algorithms, types and further header members', () => {
    const jws = signDetached(signer, PAYLOAD, TYP);
    const kid = thumbprintOf(signer.publicKey);
    refuses(jws.replace('..', '.e30.'));
    refuses(jws.slice(0, -1));
    refuses(`${jws}=`);
    refuses(`${jws}${'A'.repeat(6_144)}`);
    for (const header of [{ alg: 'none', kid, typ: TYP }, { alg: 'ML-DSA-65', kid, typ: 'other+json' }, { alg: 'ML-DSA-65', kid, typ: TYP, crit: ['b64'], b64: false }, { alg: 'ML-DSA-65', typ: TYP }, []]) refuses(headed(header));
  });
});
