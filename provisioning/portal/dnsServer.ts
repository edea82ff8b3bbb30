/** The name server that phones are given at the access point: on its address only, over UDP. */
import { createSocket, type RemoteInfo } from 'node:dgram';
import { once } from 'node:events';
import { answerTo } from './dns.ts';

export interface NameServer extends AsyncDisposable {
  readonly port: number;
}

export interface NameServerOptions {
  /** IPv4 address to listen on, and the answer to every question. */
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
  /** A datagram that was no query. MUST NOT throw. */
  readonly refused: () => void;
}

/** Rejects with what the system says, where the address is not (yet) of this machine or the port is taken. */
export async function openNameServer({ host, port, refused }: NameServerOptions): Promise<NameServer> {
  const address = Uint8Array.from(host.split('.').map(Number));
  const socket = createSocket('udp4', (query: Buffer, from: RemoteInfo) => {
    const answer = answerTo(query, address);
    if (answer === undefined || from.port === 0) return refused();
    socket.send(answer, from.port, from.address, () => undefined); // who does not hear it asks again
  });
  socket.bind({ port, address: host, exclusive: true });
  await once(socket, 'listening');
  socket.on('error', () => undefined); // of single datagrams: the next one may go
  return { port: socket.address().port, [Symbol.asyncDispose]: () => new Promise<void>((resolve) => { socket.close(() => { resolve(); }); }) };
}
