/** Vectors: made by tpm2-tools 5.4 (tpm2_createak, tpm2_createek, tpm2_quote, tpm2_nvcertify) on swtpm 0.7.1. */
import assert from 'node:assert/strict';
import { generateKeyPairSync, sign as signWith } from 'node:crypto';
import { TenzroError } from '#runtime/core/errors.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { randomOf } from '#test/support/random.ts';
import { NV_ATTRIBUTE, OBJECT_ATTRIBUTE, parseAttest, parseNvPublic, parsePublic, publicKeyOf, TPM_ALG, verifyAttestSignature } from '#runtime/crypto/tpmEvidence.ts';

const AK = Buffer.from(
  '0023000b00050072000000100018000b0003001000201c5e690231eccbcef20040201f08185cb8d295ed025671969031659c9322f7ac00204d542aefd2310ff7fbdf8737b91d'
  + '2ca590c4158a888f82f369a09dbbb271aa20', 'hex');
const AK_NAME = '000b17a6e6dfe0b1616507f00c5bf7a65dce1970e6e1e37676d04833c22cc268aa22';
const EK = Buffer.from(
  '0001000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa00060080004300100800000000000100ab6499ddbdc2c8cb9d2813b8'
  + '09d2782e4cc49d56d7967dd746edad94c44f096c6dd08f6294bc33741375648915a7b1d864f6b73f4b6201b1b24201633b04f3a3bef399225f2804d4d690e4f2437a6b181e31'
  + '51168ea4765e61d0699a8b7d585e2b7d8f6725cc99dc48f736e76d370fdacf4be1a9945c88bd31cf0601afcc053639fe4965d2300fa418a4abaaa6a1b95c2f991d4e1848f36e'
  + '61adc49c9490a1530b2c61d183af335bb1d0a2cc3d9be06d8f61f8c928f373b1834042f873d63b855d3f67053da2bfda35b87f4929715677b631da4bbe02de3440b196dd29cb'
  + '8cca7ea00c2b68bef068a8212dd25c181416daad2ce19ec2367ab1be19252bd23125', 'hex');
const QUOTE = Buffer.from(
  'ff54434780180022000bdea69c8917160dd05d0db87abfdd47d063dd2cf252c8d4c106b68634f9c6a9cf00040011223300000000000000560000000100000000012019102300'
  + '16363600000001000b0303400000202ea9ab9198d1638007400cd2c3bef1cc745b864b76011a0e1bc52180ac6452d4', 'hex');
const QUOTE_SIGNATURE = Buffer.from(
  '0018000b0020857191a7cdf44d508f428314217c5cc56e320e411930f36e8ce25916c797f15f00200c3cddc96adb238efa60d22b1475e7c7cdcc0ce814d252ff2ff1744e9ed0'
  + 'c8f5', 'hex');
const CERTIFY = Buffer.from(
  'ff54434780140022000bdea69c8917160dd05d0db87abfdd47d063dd2cf252c8d4c106b68634f9c6a9cf00040011223300000000000000850000000100000000012019102300'
  + '1636360022000bc90689b9241d790ac6f6490463250ff39946c7717aafb9c3987262dea0022401000000080000000000000001', 'hex');
const CERTIFY_SIGNATURE = Buffer.from(
  '0018000b0020701526321478f1f82e7e1c0ad175667b884eaa2be4b52a7c49d1617a895c414300202e113882598ff47a480c66128480558113e1961586bf06514b87c96b0e9f'
  + '5d69', 'hex');
/** TPMS_NV_PUBLIC of a written counter, as tpm2_nvreadpublic shows it. */
const NV = Buffer.from('01800001000b2006001600000008', 'hex');
const NV_NAME = '000bc90689b9241d790ac6f6490463250ff39946c7717aafb9c3987262dea0022401';

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
    assert.throws(() => parsePublic(withByte(AK, 1, 0x08)), /neither ECC nor RSA/);
    assert.throws(() => parseAttest(withByte(QUOTE, 0, 0xfe)), /no TPM made it/);
    assert.throws(() => parseAttest(withByte(QUOTE, 5, 0x17)), /neither a quote nor/);
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
