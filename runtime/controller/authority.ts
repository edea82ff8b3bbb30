/**
 * A fleet's authority online: the intermediate CA, which issues the broker's certificate and those of gateways. Nothing it issues has a beginning that a clock
 * could be before: a gateway without a clock must get in, to be told the time.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { TenzroError } from '#runtime/core/errors.ts';
import { issueCertificate, pemOf, rootCertificate, type Issuer } from '#runtime/crypto/certificate.ts';
import { parseCertificate } from '#runtime/crypto/x509.ts';

const DAY_MS = 86_400_000;
const YEAR_MS = 365 * DAY_MS;
const VALIDITY = { notBeforeMs: 0, rootMs: 20 * YEAR_MS, intermediateMs: 10 * YEAR_MS, brokerMs: 90 * DAY_MS, gatewayMs: YEAR_MS } as const;
/** A third of a gateway's certificate: what is left of it when it gets another one. */
export const GATEWAY_RENEWAL_MS = VALIDITY.gatewayMs / 3;
/** Before the intermediate ends: gateways' certificates end with it, and those who are away for long need theirs beforehand. */
export const INTERMEDIATE_RENEWAL_MS = 2 * VALIDITY.gatewayMs;

/** What the broker serves TLS with, PEM: key, and certificate with the intermediate behind it. */
export interface BrokerIdentity {
  readonly key: string;
  readonly certificate: string;
}

export class Authority {
  readonly #issuer: Issuer;
  /** PEM of the root: what gateways and people pin. */
  readonly rootPem: string;
  /** Of the intermediate. */
  readonly endsMs: number;

  constructor(issuer: Issuer, rootPem: string) {
    this.#issuer = issuer;
    this.rootPem = rootPem;
    this.endsMs = parseCertificate(issuer.certificate).notAfterMs;
  }

  /** DER. */
  get intermediate(): Uint8Array { return this.#issuer.certificate; }

  /** With a fresh key, P-256: every TLS library of today can check it, and it authenticates the connections of these days only. */
  brokerIdentity(hosts: readonly string[], nowMs: number): BrokerIdentity {
    const { privateKey, publicKey } = newKey();
    const certificate = issueCertificate(this.#issuer, { publicKey, commonName: 'fleet broker', purpose: { kind: 'server', hosts }, notBeforeMs: VALIDITY.notBeforeMs, notAfterMs: nowMs + VALIDITY.brokerMs });
    return { key: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(), certificate: pemOf(certificate) + pemOf(this.intermediate) };
  }

  /** For a gateway's identity key, ML-DSA-65; DER, to be followed by `intermediate`. That the gateway holds the key is for the caller to know. */
  gatewayCertificate(publicKey: KeyObject, gateway: string, nowMs: number): Buffer {
    return issueCertificate(this.#issuer, { publicKey, commonName: gateway, purpose: { kind: 'client' }, notBeforeMs: VALIDITY.notBeforeMs, notAfterMs: nowMs + VALIDITY.gatewayMs });
  }
}

export function newRoot(fleet: string, nowMs: number): Issuer {
  const { privateKey } = newKey();
  const commonName = `${fleet.slice(0, 40)} fleet root`;
  return { privateKey, certificate: rootCertificate({ privateKey, commonName, pathLength: 1, notBeforeMs: VALIDITY.notBeforeMs, notAfterMs: nowMs + VALIDITY.rootMs }) };
}

export function newIntermediate(root: Issuer, fleet: string, nowMs: number): Issuer {
  const { privateKey, publicKey } = newKey();
  const commonName = `${fleet.slice(0, 40)} fleet intermediate`;
  return { privateKey, certificate: issueCertificate(root, { publicKey, commonName, purpose: { kind: 'authority', pathLength: 0 }, notBeforeMs: VALIDITY.notBeforeMs, notAfterMs: nowMs + VALIDITY.intermediateMs }) };
}

const newKey = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });

/** PKCS#8, DER; the caller zeroes it. */
export const encodeKey = ({ privateKey }: Issuer): Buffer => privateKey.export({ format: 'der', type: 'pkcs8' });

/** Throws `controller.key` for what is no private key. */
export function decodeKey(der: Uint8Array): KeyObject {
  try {
    return createPrivateKey({ key: Buffer.from(der.buffer, der.byteOffset, der.byteLength), format: 'der', type: 'pkcs8' });
  } catch (cause) {
    throw new TenzroError('controller.key', 'the key of an authority does not decode', { cause });
  }
}
