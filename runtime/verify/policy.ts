/** What an auditor accepts. The command line reads the YAML; here it becomes a checked value. Reference: docs/reference/verifier-checks.md. */
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { derOfFile } from '#runtime/crypto/certificatePath.ts';
import type { EkAnchors } from '#runtime/crypto/ekCertificate.ts';
import { parseCertificate, type Certificate } from '#runtime/crypto/x509.ts';
import { vendorOf } from './vendorRoots.ts';

/** Strongest first. */
export const TRUST_LEVELS = ['dtpm', 'enrolled', 'emulated', 'software'] as const;
export type TrustLevel = (typeof TRUST_LEVELS)[number];

/** What an enroller saw when it ran credential activation: this AK lives in the TPM of this EK. */
export interface EnrolledPair {
  /** SHA-256 of the EK's TPMT_PUBLIC, lower-case hex. */
  readonly ek: string;
  /** SHA-256 of the AK's TPMT_PUBLIC, lower-case hex. */
  readonly ak: string;
}

const ENROL_RULES = ['certified', 'firstUse', 'nobody'] as const;
type EnrolRule = (typeof ENROL_RULES)[number];

export interface Policy {
  readonly accept: readonly TrustLevel[];
  /** Certificates that may issue EK certificates, or their issuers: each is a trust anchor, beside the bundled vendors' (`vendorRoots`). */
  readonly ekRoots: readonly Certificate[];
  /** Certificates that help to find a way to a root, and vendors' roots themselves: trusted only where `vendorRoots` knows them. */
  readonly ekIssuers: readonly Certificate[];
  /** Whether the vendor roots that we know by their fingerprints are trust anchors too. */
  readonly vendorRoots: boolean;
  readonly enrolled: readonly EnrolledPair[];
  /** SHA-256 of the ML-DSA keys whose enrolment statements count, lower-case hex. */
  readonly enrollers: readonly string[];
  /** Reference values of SHA-256 PCRs, lower-case hex: each PCR listed must hold one of its values. */
  readonly pcrs: ReadonlyMap<number, readonly string[]>;
  /** Software digests that are accepted, lower-case hex; empty: any, and the report says that none was judged. */
  readonly software: readonly string[];
  /** The same for models. */
  readonly models: readonly string[];
  /** TPM firmware versions that are accepted, 16 hexadecimal digits; empty: any. */
  readonly firmware: readonly string[];
  /** Files that may have run, by the SHA-256 that IMA lists for them, lower-case hex; absent: any. */
  readonly ima?: { readonly allow: ReadonlySet<string> };
  /** `required`: a proof without a lease in force by one of `verifiers` is refuted. */
  readonly lease: 'required' | 'optional';
  /** SHA-256 of the ML-DSA keys whose leases count, lower-case hex. */
  readonly verifiers: readonly string[];
  /** SHA-256 of the ML-DSA keys of fleets' controllers whose receipts count, lower-case hex. */
  readonly receiptKeys: readonly string[];
  /** Whom a verifier enrols: TPMs whose EK certificate leads to a root, every TPM that asks (on first use), or nobody. */
  readonly enrol: EnrolRule;
  /** An appraisal: how far a block's wall time may be from the verifier's clock. */
  readonly clockSkewSeconds: number;
  /** An appraisal: how long its lease lasts. */
  readonly leaseSeconds: number;
  /** Longest chain of blocks between start and head that is still judged. */
  readonly maxLinks: number;
  /** A fleet's controller: chains that fall short are kept and receipted, with their standing shown, or refused. */
  readonly shortfall: 'keep' | 'refuse';
  /** Chain id, lower-case hex: only proofs of this device's chain count. */
  readonly device?: string;
}

export const DEFAULT_POLICY: Policy = {
  accept: ['dtpm', 'enrolled'], ekRoots: [], ekIssuers: [], vendorRoots: true, enrolled: [], enrollers: [], pcrs: new Map(), software: [], models: [], firmware: [],
  lease: 'optional', verifiers: [], receiptKeys: [], enrol: 'certified', clockSkewSeconds: 300, leaseSeconds: 3_600, maxLinks: LIMITS.proofLinksMax, shortfall: 'keep',
};

const KEYS = [
  'version', 'accept', 'ekRoots', 'ekIssuers', 'vendorRoots', 'enrolled', 'enrollers', 'pcrs', 'software', 'models', 'firmware', 'ima', 'lease', 'verifiers', 'receiptKeys', 'enrol', 'clockSkewSeconds', 'leaseSeconds',
  'maxLinks', 'shortfall', 'device',
] as const;
const SHA256_HEX = /^[0-9a-f]{64}$/;
const FIRMWARE_HEX = /^[0-9a-f]{16}$/;
/** PCRs that a quote of ours may cover: Part 2 §10.6.2, three bytes of selection. */
const PCR_MAX = 23;
/** A gateway without a clock of its own may start some days behind. */
const CLOCK_SKEW_SECONDS_MAX = 7 * 24 * 3_600;

/** Checks a policy as YAML gave it. Throws `policy.invalid` that names the key; unknown keys are refused. */
export function parsePolicy(value: unknown): Policy {
  const given = asObject(value, 'the policy', KEYS);
  if (given['version'] !== 1) throw invalid('version must be 1');
  const device = given['device'];
  return {
    accept: given['accept'] === undefined ? DEFAULT_POLICY.accept : asList(given['accept'], 'accept').map(asTrustLevel),
    ekRoots: asCertificates(given['ekRoots'] ?? [], 'ekRoots'),
    ekIssuers: asCertificates(given['ekIssuers'] ?? [], 'ekIssuers'),
    vendorRoots: asBoolean(given['vendorRoots'] ?? DEFAULT_POLICY.vendorRoots, 'vendorRoots'),
    enrolled: asList(given['enrolled'] ?? [], 'enrolled').map(asPair),
    enrollers: asDigests(given['enrollers'] ?? [], 'enrollers'),
    pcrs: asReferences(given['pcrs'] ?? {}),
    software: asDigests(given['software'] ?? [], 'software'),
    models: asDigests(given['models'] ?? [], 'models'),
    firmware: asList(given['firmware'] ?? [], 'firmware').map((version, at) => asHex(version, `firmware[${at}]`, FIRMWARE_HEX, 16)),
    ...(given['ima'] === undefined ? {} : { ima: asImaRule(given['ima']) }),
    lease: asLeaseRule(given['lease'] ?? DEFAULT_POLICY.lease),
    verifiers: asDigests(given['verifiers'] ?? [], 'verifiers'),
    receiptKeys: asDigests(given['receiptKeys'] ?? [], 'receiptKeys'),
    enrol: asEnrolRule(given['enrol'] ?? DEFAULT_POLICY.enrol),
    clockSkewSeconds: asCount(given['clockSkewSeconds'] ?? DEFAULT_POLICY.clockSkewSeconds, 'clockSkewSeconds', 0, CLOCK_SKEW_SECONDS_MAX),
    leaseSeconds: asCount(given['leaseSeconds'] ?? DEFAULT_POLICY.leaseSeconds, 'leaseSeconds', LIMITS.leaseSecondsMin, LIMITS.leaseSecondsMax),
    maxLinks: asCount(given['maxLinks'] ?? DEFAULT_POLICY.maxLinks, 'maxLinks', 0, LIMITS.proofLinksMax),
    shortfall: asShortfallRule(given['shortfall'] ?? DEFAULT_POLICY.shortfall),
    ...(device === undefined ? {} : { device: asDigest(device, 'device') }),
  };
}

function asCount(value: unknown, name: string, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) throw invalid(`${name} must be a whole number from ${min} to ${max}`);
  return value;
}

function asTrustLevel(value: unknown): TrustLevel {
  const level = TRUST_LEVELS.find((known) => known === value);
  if (level === undefined) throw invalid(`accept: '${String(value)}' is none of ${TRUST_LEVELS.join(', ')}`);
  return level;
}

function asCertificates(value: unknown, name: string): readonly Certificate[] {
  const certificates = asList(value, name).flatMap((text, at) => {
    if (typeof text !== 'string') throw invalid(`${name}[${at}] must be PEM text`);
    return parseIssuers(Buffer.from(text), `${name}[${at}]`);
  });
  if (certificates.length > LIMITS.issuersMax) throw invalid(`${name} holds more than ${LIMITS.issuersMax} certificates`);
  return certificates;
}

/** PEM with any number of certificates, or one in DER. Throws `policy.invalid`; `name` is what it calls the file. */
export function parseIssuers(file: Uint8Array, name: string): readonly Certificate[] {
  const certificates = derOfFile(file, LIMITS.issuersMax);
  if (!certificates) throw invalid(`${name} is not a certificate: neither PEM with 1 to ${LIMITS.issuersMax} of them, nor DER`);
  return certificates.map((der, at) => {
    try {
      return parseCertificate(der);
    } catch (cause) {
      throw invalid(`${name} is not a certificate: number ${at + 1}: ${messageOf(cause)}`, cause);
    }
  });
}

/** Which certificates a policy trusts as roots of EK certificates. */
export const ekAnchorsOf = ({ ekRoots, ekIssuers, vendorRoots }: Policy): EkAnchors => ({ trusted: ekRoots, others: ekIssuers, vendorOf: vendorRoots ? vendorOf : () => undefined });

function asPair(value: unknown, index: number): EnrolledPair {
  const where = `enrolled[${index}]`;
  const pair = asObject(value, where, ['ek', 'ak']);
  return { ek: asDigest(pair['ek'], `${where}.ek`), ak: asDigest(pair['ak'], `${where}.ak`) };
}

const asDigest = (value: unknown, name: string): string => asHex(value, name, SHA256_HEX, 64);
const asDigests = (value: unknown, name: string): readonly string[] => asList(value, name).map((item, at) => asDigest(item, `${name}[${at}]`));

function asHex(value: unknown, name: string, form: RegExp, digits: number): string {
  if (typeof value !== 'string' || !form.test(value)) throw invalid(`${name} must be ${digits} lower-case hexadecimal digits in quotes`);
  return value;
}

function asReferences(value: unknown): ReadonlyMap<number, readonly string[]> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid('pcrs must be a map of PCR number to a list of values');
  return new Map(Object.entries(value).map(([key, values]) => {
    const pcr = Number(key);
    if (!/^\d{1,2}$/.test(key) || pcr > PCR_MAX) throw invalid(`pcrs: '${key}' is not a PCR from 0 to ${PCR_MAX}`);
    return [pcr, asDigests(values, `pcrs.${key}`)];
  }));
}

function asImaRule(value: unknown): { readonly allow: ReadonlySet<string> } {
  return { allow: new Set(asDigests(asObject(value, 'ima', ['allow'])['allow'], 'ima.allow')) };
}

function asLeaseRule(value: unknown): Policy['lease'] {
  if (value !== 'required' && value !== 'optional') throw invalid(`lease must be required or optional, not '${String(value)}'`);
  return value;
}

function asShortfallRule(value: unknown): Policy['shortfall'] {
  if (value !== 'keep' && value !== 'refuse') throw invalid(`shortfall must be keep or refuse, not '${String(value)}'`);
  return value;
}

function asEnrolRule(value: unknown): EnrolRule {
  const rule = ENROL_RULES.find((known) => known === value);
  if (rule === undefined) throw invalid(`enrol must be one of ${ENROL_RULES.join(', ')}, not '${String(value)}'`);
  return rule;
}

function asBoolean(value: unknown, name: string): boolean {
  if (typeof value !== 'boolean') throw invalid(`${name} must be true or false`);
  return value;
}

function asList(value: unknown, name: string): readonly unknown[] {
  if (!Array.isArray(value)) throw invalid(`${name} must be a list`);
  return value as readonly unknown[];
}

function asObject(value: unknown, name: string, keys: readonly string[]): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(`${name} must be a map`);
  for (const key of Object.keys(value)) if (!keys.includes(key)) throw invalid(`${name}: unknown key '${key}'; known are ${keys.join(', ')}`);
  return value as Readonly<Record<string, unknown>>;
}

const invalid = (why: string, cause?: unknown): TenzroError => new TenzroError('policy.invalid', `policy: ${why}`, cause === undefined ? {} : { cause });
