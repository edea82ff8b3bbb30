/** What an auditor accepts. The command line reads the YAML; here it becomes a checked value. Reference: docs/reference/verifier-checks.md. */
import { X509Certificate } from 'node:crypto';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';

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

export interface Policy {
  readonly accept: readonly TrustLevel[];
  /** Certificates that may issue an EK certificate directly: each is a trust anchor. */
  readonly ekRoots: readonly X509Certificate[];
  readonly enrolled: readonly EnrolledPair[];
  /** Longest chain of blocks between start and head that is still judged. */
  readonly maxLinks: number;
  /** Chain id, lower-case hex: only proofs of this device's chain count. */
  readonly device?: string;
}

export const DEFAULT_POLICY: Policy = { accept: ['dtpm', 'enrolled'], ekRoots: [], enrolled: [], maxLinks: LIMITS.proofLinksMax };

const KEYS = ['version', 'accept', 'ekRoots', 'enrolled', 'maxLinks', 'device'] as const;
const SHA256_HEX = /^[0-9a-f]{64}$/;

/** Checks a policy as YAML gave it. Throws `policy.invalid` that names the key; unknown keys are refused. */
export function parsePolicy(value: unknown): Policy {
  const given = asObject(value, 'the policy', KEYS);
  if (given['version'] !== 1) throw invalid('version must be 1');
  const maxLinks = given['maxLinks'] ?? DEFAULT_POLICY.maxLinks;
  if (typeof maxLinks !== 'number' || !Number.isInteger(maxLinks) || maxLinks < 0 || maxLinks > LIMITS.proofLinksMax) throw invalid(`maxLinks must be a whole number from 0 to ${LIMITS.proofLinksMax}`);
  const device = given['device'];
  return {
    accept: given['accept'] === undefined ? DEFAULT_POLICY.accept : asList(given['accept'], 'accept').map(asTrustLevel),
    ekRoots: asList(given['ekRoots'] ?? [], 'ekRoots').map(asCertificate),
    enrolled: asList(given['enrolled'] ?? [], 'enrolled').map(asPair),
    maxLinks,
    ...(device === undefined ? {} : { device: asDigest(device, 'device') }),
  };
}

function asTrustLevel(value: unknown): TrustLevel {
  const level = TRUST_LEVELS.find((known) => known === value);
  if (level === undefined) throw invalid(`accept: '${String(value)}' is none of ${TRUST_LEVELS.join(', ')}`);
  return level;
}

function asCertificate(value: unknown, index: number): X509Certificate {
  if (typeof value !== 'string') throw invalid(`ekRoots[${index}] must be PEM text`);
  try {
    return new X509Certificate(value);
  } catch (cause) {
    throw invalid(`ekRoots[${index}] is not a certificate: ${messageOf(cause)}`, cause);
  }
}

function asPair(value: unknown, index: number): EnrolledPair {
  const where = `enrolled[${index}]`;
  const pair = asObject(value, where, ['ek', 'ak']);
  return { ek: asDigest(pair['ek'], `${where}.ek`), ak: asDigest(pair['ak'], `${where}.ak`) };
}

function asDigest(value: unknown, name: string): string {
  if (typeof value !== 'string' || !SHA256_HEX.test(value)) throw invalid(`${name} must be 64 lower-case hexadecimal digits in quotes`);
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
