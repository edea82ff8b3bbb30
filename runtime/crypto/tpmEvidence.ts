/**
 * Pure parsers of what TPM evidence consists of. Sections are those of the TCG TPM 2.0 Library, Part 2: Structures (revision 1.59). All throw
 * `tpm.structure` for truncated bytes, trailing bytes, and algorithms other than SHA-256, P-256 and RSA: evidence of ours holds no others.
 */
import { createPublicKey, verify, type KeyObject } from 'node:crypto';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { sha256 } from './hash.ts';
import { TpmReader } from './tpmReader.ts';

/** TPM_ALG_ID, §6.3. */
export const TPM_ALG = {
  rsa: 0x0001, aes: 0x0006, keyedHash: 0x0008, sha256: 0x000b, null: 0x0010, rsaes: 0x0015, ecdsa: 0x0018, ecc: 0x0023, cfb: 0x0043,
} as const;
/** TPM_ECC_CURVE, §6.4. */
export const TPM_ECC_NIST_P256 = 0x0003;
/** TPM_GENERATED_VALUE, §6.2: no structure that a TPM signs for a caller may begin with it, so it marks what the TPM itself says. */
const TPM_GENERATED = 0xff544347;
/** TPM_ST, §6.9. */
const TPM_ST = { attestNv: 0x8014, attestCertify: 0x8017, attestQuote: 0x8018 } as const;

/** TPMA_OBJECT, §8.3.2. */
export const OBJECT_ATTRIBUTE = {
  fixedTpm: 1 << 1, stClear: 1 << 2, fixedParent: 1 << 4, sensitiveDataOrigin: 1 << 5, userWithAuth: 1 << 6, adminWithPolicy: 1 << 7,
  noDa: 1 << 10, restricted: 1 << 16, decrypt: 1 << 17, sign: 1 << 18,
} as const;

/** TPMA_NV, §13.4. `typeMask` covers the TPM_NT field; a counter's value in it is 1. */
export const NV_ATTRIBUTE = {
  ownerWrite: 1 << 1, authWrite: 1 << 2, policyWrite: 1 << 3, typeCounter: 1 << 4, typeMask: 0xf << 4, policyDelete: 1 << 10, writeDefine: 1 << 13,
  writeStClear: 1 << 14, ownerRead: 1 << 17, authRead: 1 << 18, policyRead: 1 << 19, noDa: 1 << 25, orderly: 1 << 26, clearStClear: 1 << 27, written: 1 << 29,
  readStClear: -(2 ** 31),
} as const;
/** TPM_NT, §13.2; `NV_TYPE.x << NV_TYPE_SHIFT` is its place in TPMA_NV. */
export const NV_TYPE = { ordinary: 0, counter: 1, bits: 2, extend: 4, pinFail: 8, pinPass: 9 } as const;
export const NV_TYPE_SHIFT = 4;

type TpmPublicKey =
  /** Coordinates left-padded to 32 bytes. */
  | { readonly kind: 'ecc'; readonly x: Uint8Array; readonly y: Uint8Array }
  /** Big-endian modulus. */
  | { readonly kind: 'rsa'; readonly modulus: Uint8Array; readonly exponent: number }
  /** Sealed data or an HMAC key: a digest that says nothing but that they are the same. */
  | { readonly kind: 'keyedHash'; readonly unique: Uint8Array };

/** TPMT_PUBLIC, §12.2.4. */
export interface TpmPublic {
  /** The bytes that were parsed. */
  readonly area: Uint8Array;
  /** TPMA_OBJECT. */
  readonly attributes: number;
  readonly authPolicy: Uint8Array;
  /** Signing scheme: TPM_ALG.ecdsa with SHA-256 for an AK, TPM_ALG.null for a storage key. */
  readonly scheme: number;
  readonly key: TpmPublicKey;
  /** nameAlg ‖ SHA-256(area): Part 1 §16. */
  readonly name: Uint8Array;
}

export function parsePublic(area: Uint8Array): TpmPublic {
  const reader = new TpmReader(area, 'TPMT_PUBLIC');
  const type = reader.u16();
  expectSha256(reader);
  const attributes = reader.u32();
  const authPolicy = reader.sized();
  if (type !== TPM_ALG.keyedHash && reader.u16() !== TPM_ALG.null) reader.bytes(4); // TPMT_SYM_DEF_OBJECT §11.1.7: key bits and mode
  const scheme = readScheme(reader);
  const key = readKey(reader, type);
  reader.end();
  return { area, attributes, authPolicy, scheme, key, name: nameOf(area) };
}

/** TPMT_ECC_SCHEME §11.2.5.6, TPMT_RSA_SCHEME §11.2.4.2 and TPMT_KEYEDHASH_SCHEME §11.1.23: a selector, then a hash where the selector has one. */
function readScheme(reader: TpmReader): number {
  const scheme = reader.u16();
  if (scheme !== TPM_ALG.null && scheme !== TPM_ALG.rsaes) expectSha256(reader);
  return scheme;
}

/** The tail of TPMS_ECC_PARMS §12.2.3.6 or TPMS_RSA_PARMS §12.2.3.5, then TPMU_PUBLIC_ID §12.2.3.2. */
function readKey(reader: TpmReader, type: number): TpmPublicKey {
  if (type === TPM_ALG.ecc) {
    const curve = reader.u16();
    if (curve !== TPM_ECC_NIST_P256) throw reader.error(`curve 0x${curve.toString(16)} is not NIST P-256`);
    if (reader.u16() !== TPM_ALG.null) throw reader.error('it has a key derivation scheme');
    return { kind: 'ecc', x: coordinate(reader), y: coordinate(reader) };
  }
  if (type === TPM_ALG.keyedHash) return { kind: 'keyedHash', unique: reader.sized() };
  if (type !== TPM_ALG.rsa) throw reader.error(`type 0x${type.toString(16)} is neither ECC, RSA nor a keyed hash`);
  const bits = reader.u16();
  const exponent = reader.u32();
  const modulus = reader.sized();
  if (modulus.length * 8 !== bits) throw reader.error(`an RSA modulus of ${modulus.length} bytes does not have ${bits} bits`);
  return { kind: 'rsa', modulus, exponent: exponent === 0 ? 65_537 : exponent };
}

/** TPM2B_ECC_PARAMETER §11.2.5.1: some TPMs drop leading zeros. */
function coordinate(reader: TpmReader): Buffer {
  const value = reader.sized();
  if (value.length > 32) throw reader.error(`a P-256 number has ${value.length} bytes`);
  return Buffer.concat([Buffer.alloc(32 - value.length), value]);
}

function expectSha256(reader: TpmReader): void {
  const alg = reader.u16();
  if (alg !== TPM_ALG.sha256) throw reader.error(`hash algorithm 0x${alg.toString(16)} is not SHA-256`);
}

function nameOf(publicArea: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([TPM_ALG.sha256 >> 8, TPM_ALG.sha256 & 0xff]), sha256(publicArea)]);
}

/** TPM_RH_ENDORSEMENT, §7.4; the qualified name of a hierarchy is its handle (Part 1 §16). */
const RH_ENDORSEMENT = Buffer.from('4000000b', 'hex');
const NAME_ALG_BYTES = 2;

/** Part 1 §16, of a primary key of the endorsement hierarchy: in another one a TPM obfuscates reset and restart counts (Part 1, Timing Components). */
export const qualifiedNameOf = ({ name }: TpmPublic): Buffer => Buffer.concat([name.subarray(0, NAME_ALG_BYTES), sha256(RH_ENDORSEMENT, name)]);

/** The key of a TPMT_PUBLIC for node:crypto. Throws `tpm.structure`, also for a point that is not on the curve and for sealed data. */
export function publicKeyOf(area: Uint8Array): KeyObject {
  const { key } = parsePublic(area);
  if (key.kind === 'keyedHash') throw new TenzroError('tpm.structure', 'TPMT_PUBLIC: a keyed hash has no public key');
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');
  const exponent = (value: number): string => text(Buffer.from(value.toString(16).padStart(8, '0').replace(/^(00)+/, ''), 'hex'));
  const jwk = key.kind === 'ecc' ? { kty: 'EC', crv: 'P-256', x: text(key.x), y: text(key.y) } : { kty: 'RSA', n: text(key.modulus), e: exponent(key.exponent) };
  try {
    return createPublicKey({ key: jwk, format: 'jwk' });
  } catch (cause) {
    throw new TenzroError('tpm.structure', `TPMT_PUBLIC: not a public key: ${messageOf(cause)}`, { cause });
  }
}

/** TPMS_CLOCK_INFO, §10.11.1. After a hard kill `clock` may go back; `safe` is then false. */
export interface TpmClockInfo {
  /** Milliseconds that the TPM was powered. */
  readonly clock: bigint;
  readonly resetCount: number;
  readonly restartCount: number;
  readonly safe: boolean;
}

/** TPMS_PCR_SELECTION, §10.6.2. */
export interface PcrSelection {
  readonly hash: number;
  /** Ascending. */
  readonly pcrs: readonly number[];
}

export type Attested =
  /** TPMS_QUOTE_INFO, §10.12.4. */
  | { readonly kind: 'quote'; readonly selections: readonly PcrSelection[]; readonly pcrDigest: Uint8Array }
  /** TPMS_NV_CERTIFY_INFO, §10.12.8. */
  | { readonly kind: 'nv'; readonly name: Uint8Array; readonly offset: number; readonly contents: Uint8Array }
  /** TPMS_CERTIFY_INFO, §10.12.3: an object that was loaded, and the chain of its parents. */
  | { readonly kind: 'object'; readonly name: Uint8Array; readonly qualifiedName: Uint8Array };

/** TPMS_ATTEST, §10.12.12. */
export interface TpmAttest {
  readonly qualifiedSigner: Uint8Array;
  readonly extraData: Uint8Array;
  readonly clockInfo: TpmClockInfo;
  readonly firmwareVersion: bigint;
  readonly attested: Attested;
}

/** Checks the magic; types other than quote and the certification of NV contents or of an object are refused. */
export function parseAttest(bytes: Uint8Array): TpmAttest {
  const reader = new TpmReader(bytes, 'TPMS_ATTEST');
  if (reader.u32() !== TPM_GENERATED) throw reader.error('the magic is not TPM_GENERATED: no TPM made it');
  const type = reader.u16();
  const qualifiedSigner = reader.sized();
  const extraData = reader.sized();
  const clockInfo = readClockInfo(reader);
  const firmwareVersion = reader.u64();
  const attested = readAttested(reader, type);
  reader.end();
  return { qualifiedSigner, extraData, clockInfo, firmwareVersion, attested };
}

export function readClockInfo(reader: TpmReader): TpmClockInfo {
  const clock = reader.u64();
  const resetCount = reader.u32();
  const restartCount = reader.u32();
  const safe = reader.u8(); // TPMI_YES_NO, §9.2
  if (safe > 1) throw reader.error(`${safe} is neither yes nor no`);
  return { clock, resetCount, restartCount, safe: safe === 1 };
}

function readAttested(reader: TpmReader, type: number): Attested {
  if (type === TPM_ST.attestQuote) return { kind: 'quote', selections: readPcrSelections(reader), pcrDigest: reader.sized() };
  if (type === TPM_ST.attestNv) return { kind: 'nv', name: reader.sized(), offset: reader.u16(), contents: reader.sized() };
  if (type === TPM_ST.attestCertify) return { kind: 'object', name: reader.sized(), qualifiedName: reader.sized() };
  throw reader.error(`type 0x${type.toString(16)} is neither a quote nor a certification`);
}

/** TPML_PCR_SELECTION, §10.9.7. */
export function readPcrSelections(reader: TpmReader): PcrSelection[] {
  const count = reader.u32();
  if (count > 16) throw reader.error(`${count} PCR banks`); // HASH_COUNT of any known TPM is below that
  return Array.from({ length: count }, () => {
    const hash = reader.u16();
    const bits = reader.bytes(reader.u8());
    const pcrs = Array.from({ length: bits.length * 8 }, (_, pcr) => pcr).filter((pcr) => ((bits[pcr >> 3] ?? 0) & (1 << (pcr & 7))) !== 0);
    return { hash, pcrs };
  });
}

/**
 * TPMT_SIGNATURE (§11.3.4) with TPM_ALG_ECDSA and SHA-256 over the raw attestation, by a P-256 key. False for anything else; never throws on
 * hostile bytes.
 */
export function verifyAttestSignature(publicKey: KeyObject, attest: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.asymmetricKeyType !== 'ec' || publicKey.asymmetricKeyDetails?.namedCurve !== 'prime256v1') return false;
  const pair = readEcdsa(signature);
  return pair !== undefined && verify('sha256', attest, { key: publicKey, dsaEncoding: 'ieee-p1363' }, pair);
}

/** The TPMT_SIGNATURE of an ECDSA signature with SHA-256 and P-256, given as r ‖ s, 32 bytes each (`ieee-p1363` in node:crypto). */
export function ecdsaSignature(pair: Uint8Array): Buffer {
  const head = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff]);
  return Buffer.concat([head(TPM_ALG.ecdsa), head(TPM_ALG.sha256), head(32), pair.subarray(0, 32), head(32), pair.subarray(32, 64)]);
}

/** r ‖ s of TPMS_SIGNATURE_ECC (§11.3.2). */
function readEcdsa(signature: Uint8Array): Buffer | undefined {
  try {
    const reader = new TpmReader(signature, 'TPMT_SIGNATURE');
    if (reader.u16() !== TPM_ALG.ecdsa) return undefined;
    expectSha256(reader);
    const pair = Buffer.concat([coordinate(reader), coordinate(reader)]);
    reader.end();
    return pair;
  } catch (error) {
    if (error instanceof TenzroError) return undefined;
    throw error;
  }
}

/** TPMS_NV_PUBLIC, §13.5. */
export interface TpmNvPublic {
  readonly area: Uint8Array;
  /** Handle, 0x01…. */
  readonly index: number;
  /** TPMA_NV; `written` is set from the first write on, and changes the name. */
  readonly attributes: number;
  readonly authPolicy: Uint8Array;
  readonly sizeBytes: number;
  /** nameAlg ‖ SHA-256(area), Part 1 §16: what TPM2_NV_Certify names once the area says `written`. */
  readonly name: Uint8Array;
}

export function parseNvPublic(area: Uint8Array): TpmNvPublic {
  const reader = new TpmReader(area, 'TPMS_NV_PUBLIC');
  const index = reader.u32();
  expectSha256(reader);
  const attributes = reader.u32();
  const authPolicy = reader.sized();
  const sizeBytes = reader.u16();
  reader.end();
  return { area, index, attributes, authPolicy, sizeBytes, name: nameOf(area) };
}
