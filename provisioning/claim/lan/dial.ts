/** The claimer's end of a claim on the network: a TCP connection to one place. The protocol needs none of its security. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { frame, FrameReader } from './framing.ts';

/** One connection, to one device. */
export interface ClaimChannel extends Disposable {
  /** host:port of the other side. */
  readonly address: string;
  /** Ours, as the device sees it. */
  readonly localAddress: string;
  /** What is sent after the end is lost. */
  send(message: Uint8Array): void;
}

export interface ChannelPorts {
  message(bytes: Uint8Array): void;
  /** Once, unless we ended it. */
  closed(why: string): void;
}

export type Dial = (ports: ChannelPorts, signal: AbortSignal) => Promise<ClaimChannel>;

const CONNECT_MS = 5_000;
const LINK_LOCAL_ZONE = /%.*$/;

/** Throws `claim.link`. */
export const dialTo = (host: string, port: number): Dial => async (ports, signal) => {
  const socket = connect({ host, port, noDelay: true });
  try {
    await once(socket, 'connect', { signal: AbortSignal.any([signal, AbortSignal.timeout(CONNECT_MS)]) });
  } catch (cause) {
    socket.on('error', () => undefined).destroy(); // it is told here
    throw new TenzroError('claim.link', `no connection to ${host}:${port}: ${messageOf(cause)}`, { cause });
  }
  return channelOf(socket, ports);
};

/** Over a stream that is connected. */
export function channelOf(socket: Socket, ports: ChannelPorts): ClaimChannel {
  const reader = new FrameReader();
  let why = 'the other side closed the connection';
  let isOurs = false;
  socket.on('data', (chunk) => {
    try {
      for (const message of reader.push(chunk)) ports.message(message);
    } catch (error) {
      why = messageOf(error);
      socket.destroy();
    }
  });
  socket.on('error', (error) => { why = error.message; });
  socket.on('close', () => { if (!isOurs) ports.closed(why); });
  return {
    address: hostAndPort(socket.remoteAddress ?? '', socket.remotePort ?? 0),
    localAddress: (socket.localAddress ?? '').replace('::ffff:', '').replace(LINK_LOCAL_ZONE, ''),
    send: (message) => { if (socket.writable) socket.write(frame(message)); },
    [Symbol.dispose]: () => {
      isOurs = true;
      socket.end();
      socket.unref();
    },
  };
}

export const hostAndPort = (host: string, port: number): string => (host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`);

/** `portMin`: 0 where a free port may be asked for. Throws `cli.usage`. */
export function parseAddress(text: string, portMin = 1): { readonly host: string; readonly port: number } {
  const [, bracketed, plain, digits] = /^(?:\[([0-9a-fA-F:.]{2,45})\]|([A-Za-z0-9.-]{1,253})):(\d{1,5})$/.exec(text) ?? [];
  const [host, port] = [bracketed ?? plain, Number(digits)];
  if (host === undefined || port < portMin || port > 65_535) throw new TenzroError('cli.usage', `'${text}' is not HOST:PORT, as 192.168.1.20:8777 or [fe80::1]:8777`);
  return { host, port };
}
