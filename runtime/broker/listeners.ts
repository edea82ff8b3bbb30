/** The sockets of the front door: where it listens, over what, and how many may come. */
import { readFile } from 'node:fs/promises';
import { createServer, isIP, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { ListenerSettings, MqttSettings } from '#runtime/core/settings.ts';
import { negotiatedGroup, secureServerOptions, type TlsVersion } from '#runtime/crypto/tls.ts';
import { ANONYMOUS } from './auth.ts';
import type { BrokerBounds } from './bounds.ts';
import { gatherWrites, type Outbound } from './gather.ts';
import { Inbound } from './inbound.ts';

const KEEP_ALIVE_MS = 60_000;
/** CONNACK with return code 3, server unavailable (MQTT 3.1.1 §3.2.2.3). */
const UNAVAILABLE = Buffer.from([0x20, 2, 0, 3]);
const SOCKET_OPTIONS = { noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS } as const;

/** Where to listen, over what. */
export interface ListenerPlan {
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
  readonly anonymous: boolean;
  readonly tls?: TlsPlan;
}

export interface TlsPlan {
  /** PEM, read again for every renewal; `ca`: whose certificates clients need. */
  readonly material: () => Promise<{ readonly cert: string | Buffer; readonly key: string | Buffer; readonly ca?: Buffer }>;
  /** Which certificate a client shows: none, one of `ca`, or, where it has one, any: who it is is then said by its key. */
  readonly clients: 'none' | 'issued' | 'any';
  readonly minVersion?: TlsVersion;
}

export interface ListenerFacts {
  readonly host: string;
  /** The port really bound. */
  readonly port: number;
  readonly tls: boolean;
  /** The oldest TLS version that it takes. */
  readonly tlsVersion?: TlsVersion;
  /** Handshakes so far by key exchange group, as the IANA registry names it; those of TLS 1.2 as `TLSv1.2 x25519`. */
  readonly groups?: Readonly<Record<string, number>>;
  readonly auth: 'anonymous' | 'password' | 'certificate+password' | 'certificate or password';
}

export interface OpenListener {
  facts(): ListenerFacts;
  /** Serves new connections with what `material` gives now. Rejects with `broker.listener`, and leaves it as it was. */
  readonly renew: () => Promise<void>;
  /** Stops listening; resolves when every connection of this listener has ended. */
  close(): Promise<void>;
}

export interface Reception {
  /** A socket that may speak MQTT now; its reads are guarded. */
  onSocket(socket: Socket, listener: ListenerPlan, inbound: Inbound, outbound: Outbound): void;
  /** A TLS handshake is done. */
  onSecured(group: string, address: string): void;
  onFault(error: TenzroError, address: string): void;
}

/** The default loopback listener and the configured ones. Throws `broker.listener_open` for one that would let strangers in. */
export function planListeners(settings: MqttSettings): ListenerPlan[] {
  const named = settings.users.some(({ name }) => name !== ANONYMOUS);
  for (const { host, port, anonymous } of settings.listeners) {
    if (isLoopback(host) || (!anonymous && named)) continue;
    throw new TenzroError('broker.listener_open', `listener ${host}:${port} is reachable from outside and ${anonymous ? 'allows anonymous clients' : 'no users are configured'}`);
  }
  return [{ host: '127.0.0.1', port: settings.port, anonymous: true }, ...settings.listeners.map(planOf)];
}

function planOf({ tls, ...listener }: ListenerSettings): ListenerPlan {
  if (!tls) return listener;
  const { certFile, keyFile, clientCaFile, minVersion } = tls;
  const material = async (): ReturnType<TlsPlan['material']> => ({ cert: await readFile(certFile), key: await readFile(keyFile), ...(clientCaFile === undefined ? {} : { ca: await readFile(clientCaFile) }) });
  return { ...listener, tls: { material, clients: clientCaFile === undefined ? 'none' : 'issued', ...(minVersion === undefined ? {} : { minVersion }) } };
}

const isLoopback = (host: string): boolean => host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));

/** `open` holds the sockets of all listeners together. Throws `broker.port_in_use` or `broker.listener`. */
export async function openListener(plan: ListenerPlan, reception: Reception, { open, bounds }: House): Promise<OpenListener> {
  const groups: Record<string, number> = {};
  const { server, renew } = await createListener(plan, countGroups(reception, groups), { open, bounds });
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: plan.host, port: plan.port, backlog: bounds.connectionsMax }, resolve);
    });
  } catch (cause) {
    throw listenFault(plan, cause);
  }
  server.on('error', (cause) => reception.onFault(listenFault(plan, cause), plan.host));
  const bound = server.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : plan.port;
  return {
    facts: () => ({ host: plan.host, port, tls: plan.tls !== undefined, auth: authOf(plan), ...(plan.tls ? { tlsVersion: plan.tls.minVersion ?? 'TLSv1.3', groups: { ...groups } } : {}) }),
    renew,
    close: () => new Promise((resolve) => { server.close(() => resolve()); }),
  };
}

/** All sockets of the broker, and how many there may be. */
interface House {
  readonly open: Set<Socket>;
  readonly bounds: BrokerBounds;
}

function authOf({ anonymous, tls }: ListenerPlan): ListenerFacts['auth'] {
  if (anonymous) return 'anonymous';
  return tls?.clients === 'issued' ? 'certificate+password' : tls?.clients === 'any' ? 'certificate or password' : 'password';
}

const countGroups = (reception: Reception, groups: Record<string, number>): Reception => ({
  ...reception,
  onSecured: (group, address) => {
    groups[group] = (groups[group] ?? 0) + 1;
    reception.onSecured(group, address);
  },
});

interface Listening {
  readonly server: Server;
  readonly renew: () => Promise<void>;
}

async function createListener(plan: ListenerPlan, reception: Reception, house: House): Promise<Listening> {
  const serve = (socket: Socket): void => {
    reception.onSocket(socket, plan, new Inbound(socket, house.bounds.packetBytesMax), gatherWrites(socket));
  };
  const { tls } = plan;
  if (tls === undefined) return { server: createServer(SOCKET_OPTIONS, (socket) => { if (admit(socket, house, reception)) serve(socket); }), renew: async () => undefined };
  try {
    const options = { ...secureServerOptions(tls.minVersion), requestCert: tls.clients !== 'none', rejectUnauthorized: tls.clients === 'issued' };
    const server = createTlsServer({ ...SOCKET_OPTIONS, ...options, ...(await tls.material()), handshakeTimeout: LIMITS.connectTimeoutMs }, (socket) => {
      reception.onSecured(groupWords(socket), socket.remoteAddress ?? '');
      serve(socket);
    });
    server.prependListener('connection', (socket: Socket) => { admit(socket, house, reception); });
    server.on('tlsClientError', (cause, socket) => {
      reception.onFault(new TenzroError('broker.malformed', `TLS handshake: ${messageOf(cause)}`, { cause }), socket.remoteAddress ?? '');
      socket.destroy();
    });
    const renew = async (): Promise<void> => {
      try {
        server.setSecureContext({ ...options, ...(await tls.material()) });
      } catch (cause) {
        throw listenFault(plan, cause);
      }
    };
    return { server, renew };
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
function admit(socket: Socket, { open, bounds: { connectionsMax } }: House, reception: Reception): boolean {
  if (open.size >= connectionsMax) {
    reception.onFault(new TenzroError('broker.too_many_connections', `${connectionsMax} clients are connected`), socket.remoteAddress ?? '');
    socket.on('error', () => socket.destroy());
    socket.end(UNAVAILABLE);
    socket.destroySoon();
    return false;
  }
  open.add(socket);
  socket.once('close', () => open.delete(socket));
  return true;
}

function listenFault(plan: Pick<ListenerPlan, 'host' | 'port'>, cause: unknown): TenzroError {
  const at = `${plan.host}:${plan.port}`;
  if (cause instanceof Error && 'code' in cause && cause.code === 'EADDRINUSE') {
    return new TenzroError('broker.port_in_use', `port ${plan.port} on ${plan.host} is in use; TENZRO_MQTT_PORT or mqtt.port names another`, { cause });
  }
  return new TenzroError('broker.listener', `listener ${at}: ${messageOf(cause)}`, { cause });
}
