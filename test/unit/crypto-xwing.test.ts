import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ml_kem768_x25519 as nobleXWing } from '@noble/post-quantum/hybrid.js';
import { encapsulateMlKem768, mlKem768OfSeed, nobleEncapsulateMlKem768, nobleMlKem768OfSeed } from '#runtime/crypto/mlkem.ts';
import { encapsulateXWing, exchangeKeyOfSeed, newExchangeSeed, XWING } from '#runtime/crypto/xwing.ts';
import { privateKeyPem, publicKeyOfPem, publicKeyPem, seedOfPem } from '#runtime/crypto/xwingPem.ts';
import { skipBecause } from '#test/support/skips.ts';

const bytes = (hex: string): Buffer => Buffer.from(hex, 'hex');
const digest = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');
const malformed = { code: 'hpke.malformed' };

/** draft-connolly-cfrg-xwing-kem, appendix "Test vectors": seed, eseed and shared secret; SHA-256 of public key and ciphertext, which are long. */
const DRAFT = [
  {
    seed: '7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26',
    eseed: '3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e235b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2',
    secret: 'd2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384',
    publicKey: '2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb', ciphertext: '17cd532d657e44c897ca6583e548a5424fc70bf54f99515a4d2bcf99e3469f33',
  },
  {
    seed: 'badfd6dfaac359a5efbb7bcc4b59d538df9a04302e10c8bc1cbf1a0b3a5120ea',
    eseed: '17cda7cfad765f5623474d368ccca8af0007cd9f5e4c849f167a580b14aabdefaee7eef47cb0fca9767be1fda69419dfb927e9df07348b196691abaeb580b32d',
    secret: 'f2e86241c64d60f6649fbc6c5b7d17180b780a3f34355e64a85749949c45f150',
    publicKey: 'c42ba5f8430d7d2c83739338203819f090e8303ce9c8b02107c272bfa5376916', ciphertext: '1661ea86d608a1924ba30840cb0a65f13ae051e3aec9cf0f064efc0bc92f2154',
  },
  {
    seed: 'ef58538b8d23f87732ea63b02b4fa0f4873360e2841928cd60dd4cee8cc0d4c9',
    eseed: '22a96188d032675c8ac850933c7aff1533b94c834adbb69c6115bad4692d8619f90b0cdf8a7b9c264029ac185b70b83f2801f2f4b3f70c593ea3aeeb613a7f1b',
    secret: '953f7f4e8c5b5049bdc771d1dffada0dd961477d1a2ae0988baa7ea6898d893f',
    publicKey: '6b080d6b84f095342092fa7a22423e58bd681397ad0ef00eac92bd254db4fa95', ciphertext: 'd3ca5578500344b5896cffc4fd740c9311946b82951df155e6fd86a7966b43c6',
  },
] as const;

describe('X-Wing', () => {
  it("derives the draft's public keys and shared secrets", () => {
    for (const { seed, eseed, secret, publicKey, ciphertext } of DRAFT) {
      const key = exchangeKeyOfSeed(bytes(seed));
      assert.equal(digest(key.publicKey), publicKey);
      const { cipherText } = nobleXWing.encapsulate(Uint8Array.from(key.publicKey), Uint8Array.from(bytes(eseed)));
      assert.equal(digest(cipherText), ciphertext, "the draft's ciphertext, made by the other implementation");
      assert.equal(Buffer.from(key.decapsulate(cipherText)).toString('hex'), secret);
    }
  });

  it('agrees with another implementation in both directions', () => {
    const seed = newExchangeSeed();
    const key = exchangeKeyOfSeed(seed);
    const theirs = nobleXWing.keygen(Uint8Array.from(seed));
    assert.ok(Buffer.from(theirs.publicKey).equals(key.publicKey));
    const ours = encapsulateXWing(key.publicKey);
    assert.ok(Buffer.from(nobleXWing.decapsulate(Uint8Array.from(ours.ciphertext), theirs.secretKey)).equals(ours.sharedSecret));
    assert.ok(Buffer.from(key.decapsulate(ours.ciphertext)).equals(ours.sharedSecret));
  });

  it('gives another secret for a ciphertext with any part altered', () => {
    const key = exchangeKeyOfSeed(newExchangeSeed());
    const { sharedSecret, ciphertext } = encapsulateXWing(key.publicKey);
    for (const at of [0, 500, 1087, 1088, 1110]) {
      const altered = Buffer.from(ciphertext);
      altered.writeUInt8(altered.readUInt8(at) ^ 1, at);
      assert.ok(!Buffer.from(key.decapsulate(altered)).equals(sharedSecret), `byte ${at}`);
    }
  });

  it('refuses wrong lengths, keys outside the field and points of low order', () => {
    const key = exchangeKeyOfSeed(newExchangeSeed());
    for (const length of [0, 31, 33]) assert.throws(() => exchangeKeyOfSeed(new Uint8Array(length)), malformed);
    for (const length of [0, XWING.publicKeyBytes - 1, XWING.publicKeyBytes + 1]) assert.throws(() => encapsulateXWing(new Uint8Array(length)), malformed);
    for (const length of [0, XWING.ciphertextBytes - 1, XWING.ciphertextBytes + 1]) assert.throws(() => key.decapsulate(new Uint8Array(length)), malformed);
    assert.throws(() => encapsulateXWing(Buffer.concat([new Uint8Array(1184).fill(0xff), key.publicKey.subarray(1184)])), malformed);
    assert.throws(() => encapsulateXWing(Buffer.concat([key.publicKey.subarray(0, 1184), new Uint8Array(32)])), malformed);
    assert.throws(() => key.decapsulate(new Uint8Array(XWING.ciphertextBytes)), malformed, 'the X25519 part is the point of order one');
  });
});

describe('X-Wing keys as PEM', () => {
  /** The draft's "Example of use in X.509": the seed 00 01 … 1f. */
  const seed = Uint8Array.from({ length: 32 }, (_, i) => i);
  const { publicKey } = exchangeKeyOfSeed(seed);

  it("are written as the draft's example, and read back", () => {
    assert.equal(privateKeyPem(seed), '-----BEGIN PRIVATE KEY-----\nMDQCAQAwDQYLKwYBBAGD5i2ByHoEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZ\nGhscHR4f\n-----END PRIVATE KEY-----\n');
    const der = Buffer.from(publicKeyPem(publicKey).replaceAll(/-----.*-----|\n/g, ''), 'base64');
    assert.equal(digest(der), '11f463e56a32c42e69011a2c34e0487090b71b07be7356a91f5b9452ca3c0695', 'SHA-256 of its DER');
    assert.deepEqual([seedOfPem(privateKeyPem(seed)), publicKeyOfPem(publicKeyPem(publicKey))], [Buffer.from(seed), Buffer.from(publicKey)]);
  });

  it('are nothing else', () => {
    const pem = publicKeyPem(publicKey);
    const others = ['', 'x', privateKeyPem(seed), pem.slice(0, -30), pem.replace('MIIE', 'MIIF'), `${pem}${pem}`, `${pem}${' '.repeat(10_000)}`, pem.replace('\n', '\nAAAA')];
    for (const other of others) assert.throws(() => publicKeyOfPem(other), { code: 'confidential.key' });
    assert.throws(() => seedOfPem(pem), { code: 'confidential.key' });
  });
});

const VECTORS = join(process.env['TENZRO_SHARED'] ?? join(import.meta.dirname, '../../../shared'), 'vectors/wycheproof/testvectors_v1/mlkem_768_test.json');
interface Case { readonly tcId: number; readonly seed: string; readonly ek?: string; readonly c: string; readonly K: string; readonly result: 'valid' | 'invalid' }

for (const [name, keyOf, encapsulate] of [['native', mlKem768OfSeed, encapsulateMlKem768], ['noble', nobleMlKem768OfSeed, nobleEncapsulateMlKem768]] as const) {
  describe(`Wycheproof ML-KEM-768, ${name}`, function () {
    this.timeout(60_000);
    before(function () { if (!existsSync(VECTORS)) skipBecause(this, `no vectors at ${VECTORS}`); });

    it('decapsulates as the vectors do, and refuses what they call invalid', () => {
      const { testGroups } = JSON.parse(readFileSync(VECTORS, 'utf8')) as { testGroups: readonly { tests: readonly Case[] }[] };
      const counts = { valid: 0, invalid: 0 };
      for (const { tcId, seed, ek, c, K, result } of testGroups.flatMap(({ tests }) => tests)) {
        counts[result]++;
        if (result === 'invalid') { assert.throws(() => keyOf(bytes(seed)).decapsulate(bytes(c)), malformed, `tcId ${tcId}`); continue; }
        const key = keyOf(bytes(seed));
        if (ek !== undefined) assert.equal(Buffer.from(key.publicKey).toString('hex'), ek, `tcId ${tcId}: public key`);
        assert.equal(Buffer.from(key.decapsulate(bytes(c))).toString('hex'), K, `tcId ${tcId}`);
        const own = encapsulate(key.publicKey);
        assert.ok(Buffer.from(key.decapsulate(own.ciphertext)).equals(own.sharedSecret), `tcId ${tcId}: own encapsulation`);
      }
      assert.ok(counts.valid > 100, `${counts.valid} valid vectors`);
      console.log(`      ${counts.valid} valid, ${counts.invalid} invalid vectors`);
    });
  });
}
