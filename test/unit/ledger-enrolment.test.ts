import assert from 'node:assert/strict';
import type { Enrolment, IdentityTuple } from '#runtime/core/enrolment.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { parseSign1, sign1, signingKeyHeader } from '#runtime/crypto/cose.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { parseEnrolment, signEnrolment, tupleDifference, tupleOf } from '#runtime/ledger/enrolment.ts';

const hash = (text: string): Buffer => sha256(Buffer.from(text));
const signer = signerOfSeed(hash('an enroller'));
const TUPLE: IdentityTuple = { device: 'workshop', chainId: hash('chain'), ek: hash('ek'), ak: hash('ak'), signingKey: hash('signing'), exchangeKey: hash('exchange') };
const ENROLMENT: Enrolment = { enroller: 'plant', issuedAt: 1_795_392_000, tuple: TUPLE, binding: { kind: 'certified', certificate: hash('certificate'), root: hash('root') } };

describe('enrolment statement', () => {
  it('says again what was signed, with and without an exchange key and a certificate', () => {
    const { exchangeKey: _, ...bare } = TUPLE;
    const variants: readonly Enrolment[] = [ENROLMENT, { ...ENROLMENT, tuple: bare, binding: { kind: 'firstUse' } }, { ...ENROLMENT, binding: { kind: 'firstUse', certificate: hash('unknown') } }];
    for (const enrolment of variants) {
      const read = parseEnrolment(signEnrolment(signer, enrolment));
      assert.deepEqual(structuredClone(read.enrolment), structuredClone(enrolment)); // plain Uint8Arrays
      assert.deepEqual(read.keyDigest, sha256(signer.publicKey));
      assert.ok(read.isSigned());
    }
  });

  it('of which any byte was changed is malformed or not signed', () => {
    const statement = signEnrolment(signer, ENROLMENT);
    for (let index = 0; index < statement.length; index += 7) {
      const bent = Buffer.from(statement);
      bent.writeUInt8(bent.readUInt8(index) ^ 0x10, index);
      let signed = false;
      try { signed = parseEnrolment(bent).isSigned(); } catch (error) { assert.ok(error instanceof TenzroError && error.code === 'enrolment.malformed'); }
      assert.ok(!signed, `byte ${index}`);
    }
  });

  it('with claims missing, unknown, of the wrong kind or of another profile is malformed', () => {
    const claims = decodeCbor(parseSign1(signEnrolment(signer, ENROLMENT)).payload) as ReadonlyMap<number, Cbor>;
    const refused = (change: (map: Map<number, Cbor>) => void, why: RegExp): void => {
      const map = new Map(claims);
      change(map);
      const statement = sign1(signer, signingKeyHeader(signer.publicKey), encodeCbor(map));
      assert.throws(() => parseEnrolment(statement), (error: unknown) => error instanceof TenzroError && error.code === 'enrolment.malformed' && why.test(error.message));
    };
    refused((map) => map.set(77, 1), /unknown claim 77/);
    refused((map) => map.set(265, 'urn:uuid:09d832d9-1367-4a59-8ce9-9b2d393d06aa'), /its profile is not/);
    refused((map) => map.set(6, -1), /iat/);
    refused((map) => map.delete(1), /iss is not text/);
    refused((map) => map.set(2, 'x'.repeat(129)), /sub is not text/);
    for (const key of [-65_801, -65_802, -65_803, -65_804]) refused((map) => map.set(key, Buffer.alloc(31)), /not a SHA-256/);
    refused((map) => map.set(-65_806, 3), /how the AK was bound/);
    refused((map) => map.set(-65_806, 2), /how the AK was bound/);
    assert.throws(() => parseEnrolment(Buffer.alloc(9_000)), /more than 8192/);
  });

  it('is about one tuple: a change of any part is a difference', () => {
    assert.equal(tupleDifference(TUPLE, { ...TUPLE }), undefined);
    for (const field of ['chainId', 'ek', 'ak', 'signingKey', 'exchangeKey'] as const) assert.equal(tupleDifference(TUPLE, { ...TUPLE, [field]: hash('other') }), field);
    assert.equal(tupleDifference(TUPLE, { ...TUPLE, device: 'other' }), 'device');
    const { exchangeKey: _, ...bare } = TUPLE;
    assert.equal(tupleDifference(TUPLE, bare), 'exchangeKey');
    assert.equal(tupleDifference(bare, bare), undefined);
    assert.equal(tupleOf({ signingKey: hash('key') }, 'workshop', hash('chain')), undefined, 'a chain without a TPM has none');
  });
});
