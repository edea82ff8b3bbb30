/** A claimable gateway on a TCP port, and somebody on the line who may bend what passes. */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { frame, FrameReader } from '#provisioning/claim/lan/framing.ts';
import type { Bend, ClaimableGateway } from './claimDesk.ts';

/** One connection at a time speaks with the device: answers go to who spoke last. */
export async function serveGateway(gateway: ClaimableGateway, device: () => { receive(bytes: Uint8Array): void }): Promise<Listener> {
  return Listener.open((socket) => {
    const reader = new FrameReader();
    socket.on('data', (chunk) => {
      gateway.send = (bytes) => { if (socket.writable) socket.write(frame(bytes)); };
      for (const message of reader.push(chunk)) device().receive(message);
    });
  });
}

/** Between the operator and a port: every message passes `bends`; what one returns goes on, undefined is lost, 'cut' ends the connection. */
export async function standBetween(port: number, bends: { down?: Bend; up?: Bend; cut?: (bytes: Uint8Array) => boolean }): Promise<Listener> {
  return Listener.open((operator) => {
    const device = connect({ host: '127.0.0.1', port });
    const carry = (from: Socket, to: Socket, bend: 'down' | 'up'): void => {
      const reader = new FrameReader();
      from.on('data', (chunk) => {
        for (const message of reader.push(chunk)) {
          if (bends.cut?.(message)) {
            operator.destroy();
            device.destroy();
            return;
          }
          const bent = bends[bend] ? bends[bend](message) : message;
          if (bent && to.writable) to.write(frame(bent));
        }
      });
      from.on('close', () => { to.destroy(); }).on('error', () => { to.destroy(); });
    };
    carry(operator, device, 'down');
    carry(device, operator, 'up');
  });
}

export class Listener implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) { this.#server = server; }

  static async open(serve: (socket: Socket) => void): Promise<Listener> {
    const server = createServer({ noDelay: true });
    const listener = new Listener(server);
    server.on('connection', (socket) => {
      listener.#sockets.add(socket);
      socket.on('error', () => { socket.destroy(); });
      serve(socket);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return listener;
  }

  get port(): number { return (this.#server.address() as AddressInfo).port; }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
