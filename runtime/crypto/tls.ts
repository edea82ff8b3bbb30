/**
 * What every TLS connection of ours has in common, server and client: TLS 1.3, the hybrid post-quantum group first, and a way to tell which group a
 * connection really got. Pure: options and bytes; whoever opens sockets passes them to node:tls or node:https.
 */
import type { TLSSocket } from 'node:tls';
import { TenzroError } from '#runtime/core/errors.ts';
import { equalBytes } from '#runtime/core/bytes.ts';
import { spkiPinOfCertificate } from './certificate.ts';
import { contextTag, DerReader } from './der.ts';

/**
 * OpenSSL's notation: the server takes the first tuple (between slashes) of which the client knows a group, at the price of a round trip where it sent no
 * share for it; so a client that knows the hybrid gets it.
 */
const GROUPS = 'X25519MLKEM768/X25519:P-256:P-384';
export const HYBRID_GROUP = 'X25519MLKEM768';

/** Names of the IANA registry "TLS Supported Groups", by number. */
const GROUP_NAMES: ReadonlyMap<number, string> = new Map([
  [0x0017, 'secp256r1'], [0x0018, 'secp384r1'], [0x0019, 'secp521r1'], [0x001d, 'x25519'], [0x001e, 'x448'],
  [0x0200, 'MLKEM512'], [0x0201, 'MLKEM768'], [0x0202, 'MLKEM1024'],
  [0x11eb, 'SecP256r1MLKEM768'], [0x11ec, HYBRID_GROUP], [0x11ed, 'SecP384r1MLKEM1024'],
]);

export type TlsVersion = 'TLSv1.2' | 'TLSv1.3';

/** For a server: `tls.createServer({ ...secureServerOptions(), cert, key })`. TLS 1.2 only where a peer cannot do better. */
export const secureServerOptions = (minVersion: TlsVersion = 'TLSv1.3') => ({ minVersion, ecdhCurve: GROUPS, honorCipherOrder: true }) as const;

/** For a server that asks each client for a certificate and pins its key itself, as `pinnedPeer` does: no authority vouches for it. */
export const pinningServerOptions = () => ({ ...secureServerOptions(), requestCert: true, rejectUnauthorized: false }) as const;

/** For a client. OpenSSL sends a share for the first group of each tuple. */
export const secureClientOptions = () => ({ minVersion: 'TLSv1.3', ecdhCurve: GROUPS }) as const;

/** What OpenSSL calls groups that the registry calls otherwise. */
const OPENSSL_NAMES: Readonly<Record<string, string>> = { X25519: 'x25519', X448: 'x448', prime256v1: 'secp256r1' };

/**
 * The group of a connection whose handshake is done, as the IANA registry names it; `unknown` where OpenSSL does not tell. Node tells a client; a server
 * finds it in its session.
 */
export function negotiatedGroup(socket: Pick<TLSSocket, 'getSession' | 'getEphemeralKeyInfo'>): string {
  const told = socket.getEphemeralKeyInfo();
  if (told !== null && 'name' in told && typeof told.name === 'string') return OPENSSL_NAMES[told.name] ?? told.name;
  const session = socket.getSession();
  if (!session) return 'unknown';
  try {
    const group = groupOfSession(session);
    return group === undefined ? 'unknown' : (GROUP_NAMES.get(group) ?? `0x${group.toString(16).padStart(4, '0')}`);
  } finally {
    session.fill(0); // it may hold the secret that resumes the session
  }
}

/** `kex_group`: OpenSSL 3.x, ssl/ssl_asn1.c, SSL_SESSION_ASN1. */
const KEX_GROUP_TAG = contextTag(19);

/**
 * The group's number in the registry, out of a session as OpenSSL serialises it (Node tells a server nothing else about its group). Undefined where the
 * session has none, or is no session.
 */
export function groupOfSession(session: Uint8Array): number | undefined {
  try {
    const fields = new DerReader(session, 'TLS session').inside();
    while (fields.left > 0) {
      const { tag, content } = fields.next();
      if (tag === KEX_GROUP_TAG) return new DerReader(content, 'TLS session').count();
    }
    return undefined;
  } catch (error) {
    if (error instanceof TenzroError && error.code === 'x509.malformed') return undefined;
    throw error;
  }
}

/**
 * The certificate of a peer that proved its key in the handshake, DER, when that key is the pinned one. `pin`: see `spkiPin`. Throws `tls.certificate` for
 * no certificate and for another key.
 */
export function pinnedPeer(socket: Pick<TLSSocket, 'getPeerX509Certificate'>, pin: Uint8Array): Buffer {
  const certificate = socket.getPeerX509Certificate()?.raw;
  if (!certificate) throw new TenzroError('tls.certificate', 'the peer showed no certificate');
  if (!equalBytes(spkiPinOfCertificate(certificate), pin)) throw new TenzroError('tls.certificate', "the peer's key is not the pinned one");
  return certificate;
}
