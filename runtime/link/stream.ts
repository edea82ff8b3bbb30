/** The socket of a link: who the broker is is judged before anything of ours is encrypted, and what it sends before anything of it is kept. */
import { createConnection, isIP, type Socket } from 'node:net';
import { connect as connectTls, type SecureContext, type TLSSocket } from 'node:tls';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { FrameGuard } from '#runtime/core/mqttFrames.ts';

export interface StreamOptions {
  readonly host: string;
  readonly port: number;
  /** Undefined: without TLS. */
  readonly context: SecureContext | undefined;
  /** In place of OpenSSL's judgement; see `LinkOptions`. */
  readonly judge: ((chain: readonly Uint8Array[], host: string) => string | undefined) | undefined;
}

/** Connects. Destroyed with `tls.certificate` where the broker is a stranger, and with `link.packet` at the header of a packet that is larger than any that a broker should let pass. */
export function openStream({ host, port, context, judge }: StreamOptions): Socket {
  if (!context) return guarded(createConnection({ host, port }));
  const socket = connectTls({ host, port, secureContext: context, rejectUnauthorized: judge === undefined, ...(isIP(host) === 0 ? { servername: host } : {}) });
  if (judge) socket.once('secureConnect', () => { judged(socket, host, judge); });
  return guarded(socket);
}

/** In the turn in which the handshake ends: a stranger gets no password. */
function judged(socket: TLSSocket, host: string, judge: NonNullable<StreamOptions['judge']>): void {
  const fault = judge(chainOf(socket), host);
  if (fault !== undefined) socket.destroy(new TenzroError('tls.certificate', fault));
}

/** Before the reader that buffers a packet until it is whole: MQTT allows 256 MiB (3.1.1 §2.2.3), and what others publish is smaller at every broker that is set up as ours. */
function guarded<S extends Socket>(socket: S): S {
  const guard = new FrameGuard(LIMITS.linkPacketBytesMax, 'broker');
  socket.on('data', (chunk: Buffer) => {
    const fault = socket.destroyed ? undefined : guard.check(chunk);
    if (fault) socket.destroy(fault);
  });
  return socket;
}

/** As it was shown, DER; ends where a certificate names itself as issuer, or none. */
function chainOf(socket: TLSSocket): readonly Uint8Array[] {
  const chain: Uint8Array[] = [];
  const seen = new Set<string>();
  for (let certificate = socket.getPeerCertificate(true); certificate?.raw && !seen.has(certificate.fingerprint256); certificate = certificate.issuerCertificate) {
    seen.add(certificate.fingerprint256);
    chain.push(certificate.raw);
  }
  return chain;
}
