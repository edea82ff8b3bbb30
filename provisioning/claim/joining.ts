/** What a hand-over means to the gateway that got it: whether it may be obeyed here, and what to connect to. Pure. */
import { X509Certificate } from 'node:crypto';
import { OWNER_UPSTREAM, type Owner } from '#runtime/core/fleet.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { pemOf } from '#runtime/crypto/certificate.ts';
import type { HandOver } from './handOver.ts';

const MQTTS_PORT = 8_883;

/** Throws `claim.hand_over` where certificates do not parse or are not around this gateway's identity key (raw ML-DSA-65). */
export function checkJoining({ fleetCa, certificates, broker }: HandOver, signingKey: Uint8Array): void {
  certificateOf(fleetCa, "the fleet's certificate");
  const [leaf] = certificates.map((der, at) => certificateOf(der, `certificate ${at + 1}`));
  const held = leaf?.publicKey.export({ format: 'der', type: 'spki' });
  if (held && !held.subarray(-signingKey.length).equals(signingKey)) throw new TenzroError('claim.hand_over', 'the certificate is around another key than this gateway\'s');
  brokerPlace(broker);
}

export interface BrokerPlace {
  readonly host: string;
  readonly port: number;
}

/** Throws `claim.hand_over`. */
export function brokerPlace(broker: string): BrokerPlace {
  const url = URL.parse(broker);
  if (!url?.hostname) throw new TenzroError('claim.hand_over', `${broker} is no URL of a broker`);
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port === '' ? MQTTS_PORT : Number(url.port) };
}

/** `ownerKeys`: those of now; a rotation changes them, and nothing else. */
export function ownerOf({ broker, fleetCa, certificates, login, receiptKey }: HandOver, ownerKeys: readonly Uint8Array[], words: string): Owner {
  const certificate = certificates.length > 0 ? { kind: 'issued', pem: certificates.map(pemOf).join('') } as const : login ? undefined : { kind: 'own' } as const;
  return { ownerKeys, words, upstream: { name: OWNER_UPSTREAM, url: broker, ca: pemOf(fleetCa), receiptKey, maxBytesPerSecond: 0, forward: [], ...(login ? { login } : {}), ...(certificate ? { certificate } : {}) } };
}

function certificateOf(der: Uint8Array, name: string): X509Certificate {
  try {
    return new X509Certificate(der);
  } catch (cause) {
    throw new TenzroError('claim.hand_over', `${name} does not parse: ${messageOf(cause)}`, { cause });
  }
}
