import assert from 'node:assert/strict';
import { generateKeyPairSync, sign as signWith } from 'node:crypto';
import { TenzroError } from '#runtime/core/errors.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { randomOf } from '#test/support/random.ts';
import { NV_ATTRIBUTE, OBJECT_ATTRIBUTE, parseAttest, parseNvPublic, parsePublic, publicKeyOf, TPM_ALG, verifyAttestSignature } from '#runtime/crypto/tpmEvidence.ts';
import { AK, AK_NAME, CERTIFY, CERTIFY_SIGNATURE, EK, NV, NV_NAME, QUOTE, QUOTE_SIGNATURE } from '#test/support/tpmVectors.ts';

const isStructureError = (error: unknown): boolean => error instanceof TenzroError && error.code === 'tpm.structure';

describe('crypto: TPM structures', () => {
  it('reads the public area of an attestation key and names it as the TPM does', () => {
    const { key, name, scheme, attributes, authPolicy } = parsePublic(AK);
    assert.equal(toHex(name), AK_NAME);
    assert.equal(scheme, TPM_ALG.ecdsa);
    assert.equal(key.kind === 'ecc' && toHex(key.x), '1c5e690231eccbcef20040201f08185cb8d295ed025671969031659c9322f7ac');
    assert.equal(authPolicy.length, 0);
    const { fixedTpm, fixedParent, sensitiveDataOrigin, restricted, sign, decrypt } = OBJECT_ATTRIBUTE;
    const wanted = fixedTpm | fixedParent | sensitiveDataOrigin | restricted | sign;
    assert.equal(attributes & (wanted | decrypt), wanted);
  });

  it('reads an RSA endorsement key', () => {
    const { key, scheme } = parsePublic(EK);
    assert.equal(scheme, TPM_ALG.null);
    assert.equal(key.kind === 'rsa' && key.modulus.length, 256);
    assert.equal(publicKeyOf(EK).asymmetricKeyDetails?.publicExponent, 65_537n);
  });

  it('reads a quote', () => {
    const { attested, extraData, clockInfo, firmwareVersion, qualifiedSigner } = parseAttest(QUOTE);
    assert.deepEqual(clockInfo, { clock: 86n, resetCount: 1, restartCount: 0, safe: true });
    assert.equal(firmwareVersion, 0x2019_1023_0016_3636n);
    assert.equal(toHex(extraData), '00112233');
    assert.equal(qualifiedSigner.length, 34);
    assert.ok(attested.kind === 'quote');
    assert.deepEqual(attested.selections, [{ hash: TPM_ALG.sha256, pcrs: [0, 1, 14] }]);
    assert.equal(toHex(attested.pcrDigest), '2ea9ab9198d1638007400cd2c3bef1cc745b864b76011a0e1bc52180ac6452d4');
  });

  it('reads the certification of a counter, which names the index as it stands after the first write', () => {
    const { attested } = parseAttest(CERTIFY);
    assert.ok(attested.kind === 'nv');
    assert.equal(toHex(attested.contents), '0000000000000001');
    assert.equal(attested.offset, 0);
    const { name, index, attributes, sizeBytes } = parseNvPublic(NV);
    assert.equal(toHex(attested.name), NV_NAME);
    assert.equal(toHex(name), NV_NAME);
    assert.deepEqual([index, sizeBytes], [0x01800001, 8]);
    assert.equal(attributes & NV_ATTRIBUTE.typeMask, NV_ATTRIBUTE.typeCounter);
    assert.notEqual(attributes & NV_ATTRIBUTE.written, 0);
  });

  it('accepts the signatures, and none with a flipped bit in statement or signature', () => {
    const key = publicKeyOf(AK);
    assert.ok(verifyAttestSignature(key, QUOTE, QUOTE_SIGNATURE));
    assert.ok(verifyAttestSignature(key, CERTIFY, CERTIFY_SIGNATURE));
    assert.ok(!verifyAttestSignature(key, CERTIFY, QUOTE_SIGNATURE));
    for (const flipped of flippedBits(QUOTE)) assert.ok(!verifyAttestSignature(key, flipped, QUOTE_SIGNATURE));
    for (const flipped of flippedBits(QUOTE_SIGNATURE)) assert.ok(!verifyAttestSignature(key, QUOTE, flipped));
  });

  it('accepts no signature by a key of another kind', () => {
    assert.ok(!verifyAttestSignature(publicKeyOf(EK), QUOTE, QUOTE_SIGNATURE));
  });

  it('accepts r without its leading zero, as some TPMs send it, and refuses it longer than a P-256 number', () => {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    let pair: Buffer;
    do pair = signWith('sha256', QUOTE, { key: privateKey, dsaEncoding: 'ieee-p1363' }); while (pair[0] !== 0);
    const signature = (r: Buffer): Buffer => Buffer.concat([QUOTE_SIGNATURE.subarray(0, 4), Buffer.from([0, r.length]), r, Buffer.from([0, 32]), pair.subarray(32)]);
    assert.ok(verifyAttestSignature(publicKey, QUOTE, signature(pair.subarray(1, 32))));
    assert.ok(verifyAttestSignature(publicKey, QUOTE, signature(pair.subarray(0, 32))));
    assert.ok(!verifyAttestSignature(publicKey, QUOTE, signature(Buffer.concat([Buffer.alloc(1), pair.subarray(0, 32)]))));
  });

  it('refuses what is cut short, what goes on, and what is not SHA-256, P-256 or RSA', () => {
    for (const [bytes, parse] of [[AK, parsePublic], [EK, parsePublic], [QUOTE, parseAttest], [CERTIFY, parseAttest], [NV, parseNvPublic]] as const) {
      for (let size = 0; size < bytes.length; size += 1) assert.throws(() => parse(bytes.subarray(0, size)), isStructureError);
      assert.throws(() => parse(Buffer.concat([bytes, Buffer.alloc(1)])), isStructureError);
    }
    assert.throws(() => parsePublic(withByte(AK, 3, 0x0c)), /SHA-256/); // name algorithm SHA-384
    assert.throws(() => parsePublic(withByte(AK, 17, 0x04)), /P-256/);
    assert.throws(() => parsePublic(withByte(AK, 1, 0x25)), /neither ECC, RSA nor/);
    assert.throws(() => parseAttest(withByte(QUOTE, 0, 0xfe)), /no TPM made it/);
    assert.throws(() => parseAttest(withByte(QUOTE, 5, 0x19)), /neither a quote nor/);
  });

  it('refuses a point that is not on the curve', () => {
    assert.throws(() => publicKeyOf(withByte(AK, AK.length - 1, 0x21)), isStructureError);
  });

  it('answers hostile bytes with one kind of error', () => {
    const random = randomOf(20);
    for (let round = 0; round < 2_000; round += 1) {
      const bytes = Buffer.from(round % 2 === 0 ? QUOTE : AK);
      for (let change = 0; change < 3; change += 1) bytes[random(bytes.length)] = random(256);
      for (const parse of [parseAttest, parsePublic, publicKeyOf, parseNvPublic]) {
        try {
          parse(bytes);
        } catch (error) {
          assert.ok(isStructureError(error), String(error));
        }
      }
    }
  });
});

function* flippedBits(bytes: Buffer): Iterable<Buffer> {
  for (let bit = 0; bit < bytes.length * 8; bit += 1) yield withByte(bytes, bit >> 3, bytes.readUInt8(bit >> 3) ^ (1 << (bit & 7)));
}

function withByte(bytes: Buffer, at: number, value: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = value;
  return copy;
}
