/** The sockets of the front door: where it listens, over what, and how many may come. */
import { readFile } from 'node:fs/promises';
import { createServer, isIP, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { ListenerSettings, MqttSettings } from '#runtime/core/settings.ts';
import { negotiatedGroup, secureServerOptions } from '#runtime/crypto/tls.ts';
import { ANONYMOUS } from './auth.ts';
import { gatherWrites, type Outbound } from './gather.ts';
import { Inbound } from './inbound.ts';

const KEEP_ALIVE_MS = 60_000;
/** CONNACK with return code 3, server unavailable (MQTT 3.1.1 §3.2.2.3). */
const UNAVAILABLE = Buffer.from([0x20, 2, 0, 3]);
const SOCKET_OPTIONS = { noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS } as const;

export interface ListenerFacts {
  readonly host: string;
  /** The port really bound. */
  readonly port: number;
  readonly tls: boolean;
  /** The oldest TLS version that it takes. */
  readonly tlsVersion?: 'TLSv1.2' | 'TLSv1.3';
  /** Handshakes so far by key exchange group, as the IANA registry names it; those of TLS 1.2 as `TLSv1.2 x25519`. */
  readonly groups?: Readonly<Record<string, number>>;
  readonly auth: 'anonymous' | 'password' | 'certificate+password';
}

export interface OpenListener {
  facts(): ListenerFacts;
  /** Stops listening; resolves when every connection of this listener has ended. */
  close(): Promise<void>;
}

export interface Reception {
  /** A socket that may speak MQTT now; its reads are guarded. */
  onSocket(socket: Socket, listener: ListenerSettings, inbound: Inbound, outbound: Outbound): void;
  /** A TLS handshake is done. */
  onSecured(group: string, address: string): void;
  onFault(error: TenzroError, address: string): void;
}

/** The default loopback listener and the configured ones. Throws `broker.listener_open` for one that would let strangers in. */
export function planListeners(settings: MqttSettings): ListenerSettings[] {
  const named = settings.users.some(({ name }) => name !== ANONYMOUS);
  for (const { host, port, anonymous } of settings.listeners) {
    if (isLoopback(host) || (!anonymous && named)) continue;
    throw new TenzroError('broker.listener_open', `listener ${host}:${port} is reachable from outside and ${anonymous ? 'allows anonymous clients' : 'no users are configured'}`);
  }
  return [{ host: '127.0.0.1', port: settings.port, anonymous: true }, ...settings.listeners];
}

const isLoopback = (host: string): boolean => host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));

/** `open` holds the sockets of all listeners together. Throws `broker.port_in_use` or `broker.listener`. */
export async function openListener(plan: ListenerSettings, reception: Reception, open: Set<Socket>): Promise<OpenListener> {
  const groups: Record<string, number> = {};
  const server = await createListener(plan, countGroups(reception, groups), open);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: plan.host, port: plan.port, backlog: LIMITS.connectionsMax }, resolve);
    });
  } catch (cause) {
    throw listenFault(plan, cause);
  }
  server.on('error', (cause) => reception.onFault(listenFault(plan, cause), plan.host));
  const bound = server.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : plan.port;
  const auth = plan.anonymous ? 'anonymous' : plan.tls?.clientCaFile === undefined ? 'password' : 'certificate+password';
  return {
    facts: () => ({ host: plan.host, port, tls: plan.tls !== undefined, auth, ...(plan.tls ? { tlsVersion: plan.tls.minVersion ?? 'TLSv1.3', groups: { ...groups } } : {}) }),
    close: () => new Promise((resolve) => { server.close(() => resolve()); }),
  };
}

const countGroups = (reception: Reception, groups: Record<string, number>): Reception => ({
  ...reception,
  onSecured: (group, address) => {
    groups[group] = (groups[group] ?? 0) + 1;
    reception.onSecured(group, address);
  },
});

async function createListener(plan: ListenerSettings, reception: Reception, open: Set<Socket>): Promise<Server> {
  const serve = (socket: Socket): void => {
    reception.onSocket(socket, plan, new Inbound(socket), gatherWrites(socket));
  };
  if (plan.tls === undefined) return createServer(SOCKET_OPTIONS, (socket) => { if (admit(socket, open, reception)) serve(socket); });
  const { certFile, keyFile, clientCaFile, minVersion } = plan.tls;
  let files: { cert: Buffer; key: Buffer; ca?: Buffer };
  try {
    files = { cert: await readFile(certFile), key: await readFile(keyFile), ...(clientCaFile === undefined ? {} : { ca: await readFile(clientCaFile) }) };
    const server = createTlsServer({
      ...SOCKET_OPTIONS, ...files, ...secureServerOptions(minVersion), handshakeTimeout: LIMITS.connectTimeoutMs,
      requestCert: clientCaFile !== undefined, rejectUnauthorized: clientCaFile !== undefined,
    }, (socket) => {
      reception.onSecured(groupWords(socket), socket.remoteAddress ?? '');
      serve(socket);
    });
    server.prependListener('connection', (socket: Socket) => { admit(socket, open, reception); });
    server.on('tlsClientError', (cause, socket) => {
      reception.onFault(new TenzroError('broker.malformed', `TLS handshake: ${messageOf(cause)}`, { cause }), socket.remoteAddress ?? '');
      socket.destroy();
    });
    return server;
  } catch (cause) {
    throw listenFault(plan, cause);
  }
}

function groupWords(socket: TLSSocket): string {
  const group = negotiatedGroup(socket);
  const version = socket.getProtocol();
  return version === 'TLSv1.3' ? group : `${version} ${group}`;
}

/** Takes the socket in, or turns it away when the house is full. */
function admit(socket: Socket, open: Set<Socket>, reception: Reception): boolean {
  if (open.size >= LIMITS.connectionsMax) {
    reception.onFault(new TenzroError('broker.too_many_connections', `${LIMITS.connectionsMax} clients are connected`), socket.remoteAddress ?? '');
    socket.on('error', () => socket.destroy());
    socket.end(UNAVAILABLE);
    socket.destroySoon();
    return false;
  }
  open.add(socket);
  socket.once('close', () => open.delete(socket));
  return true;
}

function listenFault(plan: ListenerSettings, cause: unknown): TenzroError {
  const at = `${plan.host}:${plan.port}`;
  if (cause instanceof Error && 'code' in cause && cause.code === 'EADDRINUSE') {
    return new TenzroError('broker.port_in_use', `port ${plan.port} on ${plan.host} is in use; TENZRO_MQTT_PORT or mqtt.port names another`, { cause });
  }
  return new TenzroError('broker.listener', `listener ${at}: ${messageOf(cause)}`, { cause });
}
