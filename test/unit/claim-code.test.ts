import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { ErrorCode } from '#runtime/core/errors.ts';
import { encodeCbor } from '#runtime/crypto/cbor.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeBase38, encodeBase38 } from '#provisioning/claim/base38.ts';
import { TRANSPORTS, claimKeyDigest, decodeClaimCode, encodeClaimCode, newClaimCode, spacedClaimCode, type ClaimCode } from '#provisioning/claim/code.ts';

const keyDigest = claimKeyDigest({ signingKey: sha256(Buffer.from('signing')), ak: sha256(Buffer.from('ak')) });
const code: ClaimCode = { transports: ['accessPoint', 'lan'], keyDigest, secret: Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex'), discriminator: 3840 };
const text = encodeClaimCode(code);

/** The text of a body with its checksum, whatever the body says. */
const textOf = (body: Cbor): string => wrapped(encodeCbor(body));
const wrapped = (body: Buffer): string => `TZ1:${encodeBase38(Buffer.concat([body, sha256(body).subarray(0, 2)]))}`;
const refusal = (expected: ErrorCode, message = /./) => (error: unknown): true => {
  assert.ok(error instanceof Error && 'code' in error);
  assert.deepEqual([error.code, message.test(error.message)], [expected, true], error.message);
  return true;
};

describe('claim code', () => {
  it('base-38 is that of Matter (vectors of the Matter SDKs)', () => {
    const bytes = Buffer.from('88ffa7915040004751dd02', 'hex');
    assert.equal(encodeBase38(bytes), '-MOA57ZU02IT2L2BJ00');
    assert.deepEqual(decodeBase38('-MOA57ZU02IT2L2BJ00'), bytes);
    const reference = decodeBase38('Y.K9042C00KA0648G00'); // SDK's example device: vendor 0xFFF1, product 0x8000
    assert.ok(reference instanceof Buffer);
    assert.equal((reference.readUInt32LE(0) >>> 3) & 0xffff, 0xfff1);
  });

  it('base-38 writes each byte string in one way', () => {
    for (let size = 0; size < 64; size++) {
      const bytes = randomBytes(size);
      assert.deepEqual(decodeBase38(encodeBase38(bytes)), bytes);
    }
    for (let value = 0; value < 38 * 38; value++) {
      const group = `${'0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-.'.charAt(value % 38)}${'0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-.'.charAt(Math.floor(value / 38))}`;
      const bytes = decodeBase38(group);
      if (bytes instanceof Buffer) assert.equal(encodeBase38(bytes), group);
      else assert.ok(value > 255);
    }
  });

  it('is that of the reference page', () => {
    assert.equal(text, 'TZ1:5GM30CSJB32ETM0UDY8654LL0DZ4.645.C72-QA4ZA8722MBK20-E207O.50ECM90L07D0SQTG0B81I0M.TV3');
  });

  it('says what it was given, and fits a QR code of version 4 at level M', () => {
    assert.deepEqual(decodeClaimCode(text), { ...code, keyDigest: new Uint8Array(keyDigest), secret: new Uint8Array(code.secret) });
    for (let run = 0; run < 50; run++) {
      const fresh = newClaimCode(keyDigest, TRANSPORTS);
      const written = encodeClaimCode(fresh);
      assert.match(written, /^TZ1:[0-9A-Z.-]{80,85}$/); // ISO/IEC 18004 table 7: 90 alphanumeric characters in 4-M
      assert.equal(encodeClaimCode(decodeClaimCode(written)), written);
      assert.ok(fresh.discriminator >= 0 && fresh.discriminator < 4096);
    }
  });

  it('pins both keys, and tells a gateway without a TPM from one with', () => {
    const [signingKey, ak] = [sha256(Buffer.from('a')), sha256(Buffer.from('b'))];
    const digests = [claimKeyDigest({ signingKey, ak }), claimKeyDigest({ signingKey }), claimKeyDigest({ signingKey: ak, ak: signingKey }), claimKeyDigest({ signingKey: ak })].map((digest) => digest.toString('hex'));
    assert.equal(new Set(digests).size, 4);
    assert.ok(digests.every((digest) => digest.length === 48));
  });

  it('takes what a person types: spaces, lines and lower case', () => {
    assert.match(spacedClaimCode(text), /^TZ1:(?: \S{5})+(?: \S{1,4})?$/);
    for (const typed of [spacedClaimCode(text), ` ${text.toLowerCase()}\n`, spacedClaimCode(text).replaceAll(' ', '\r\n')]) assert.equal(encodeClaimCode(decodeClaimCode(typed)), text);
  });

  it('finds every single slip of a typist, and mostly says in which group', () => {
    let [slips, placed] = [0, 0];
    for (let at = 4; at < text.length; at += 3) {
      for (const other of '0O1I.') {
        if (other === text.charAt(at)) continue;
        const typed = text.slice(0, at) + other + text.slice(at + 1);
        slips += 1;
        assert.throws(() => decodeClaimCode(typed), (error: unknown) => {
          refusal('claim.code_mistyped')(error);
          placed += Number(error instanceof Error && error.message.includes(`group ${Math.floor((at - 4) / 5) + 1} of`));
          return true;
        });
      }
    }
    assert.ok(placed > slips * 0.9, `${placed} of ${slips} slips were placed`);
  });

  it('never says a part of the secret in a message', () => {
    const typed = `${text.slice(0, 60)}*${text.slice(61)}`;
    assert.throws(() => decodeClaimCode(typed), (error: unknown) => error instanceof Error && !error.message.includes(text.slice(55, 60)) && !error.message.includes('*'));
  });

  it('knows that a code is newer', () => {
    for (const newer of ['TZ2:ABC', 'tz12: 00000', textOf([2, 'whatever']), textOf([7]), textOf([1, 0x10, keyDigest, code.secret, 1])]) assert.throws(() => decodeClaimCode(newer), refusal('claim.code_newer_version'));
  });

  it('reads the transports it knows and skips the others', () => {
    assert.deepEqual(decodeClaimCode(textOf([1, 0x12, keyDigest, code.secret, 1])).transports, ['lan']);
  });

  const hostile: readonly (readonly [string, string])[] = [
    ['nothing', ''], ['another QR code', 'WIFI:T:WPA;S:x;P:y;;'], ['a Matter code', 'MT:Y.K9042C00KA0648G00'], ['only the prefix', 'TZ1:'],
    ['no array', textOf(5)], ['version 0', textOf([0, 1, keyDigest, code.secret, 1])], ['a part too few', textOf([1, 1, keyDigest, code.secret])], ['a part too many', textOf([1, 1, keyDigest, code.secret, 1, 1])],
    ['no transport', textOf([1, 0, keyDigest, code.secret, 1])], ['a short digest', textOf([1, 1, keyDigest.subarray(1), code.secret, 1])], ['a long secret', textOf([1, 1, keyDigest, randomBytes(17), 1])],
    ['a secret of text', textOf([1, 1, keyDigest, '0123456789abcdef', 1])], ['a discriminator beyond 12 bits', textOf([1, 1, keyDigest, code.secret, 4096])], ['a negative discriminator', textOf([1, 1, keyDigest, code.secret, -1])],
    ['a long form of an integer', wrapped(Buffer.concat([Buffer.from([0x85, 0x18, 0x01, 0x01, 0x58, 24]), keyDigest, Buffer.from([0x50]), code.secret, Buffer.from([1])]))],
    ['bytes behind it', wrapped(Buffer.concat([encodeCbor([1, 1, keyDigest, code.secret, 1]), Buffer.of(0)]))], ['deep nesting', wrapped(Buffer.alloc(140, 0x81))], ['length without end', `TZ1:${'A'.repeat(1_000_000)}`],
  ];
  for (const [what, typed] of hostile) {
    it(`refuses ${what}`, () => {
      assert.throws(() => decodeClaimCode(typed), (error: unknown) => error instanceof Error && 'code' in error && (error.code === 'claim.code_malformed' || error.code === 'claim.code_mistyped'));
    });
  }

  it('refuses a code cut anywhere', () => {
    for (let length = 0; length < text.length; length++) assert.throws(() => decodeClaimCode(text.slice(0, length)), /claim code/);
  });
});
