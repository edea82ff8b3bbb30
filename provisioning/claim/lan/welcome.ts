/**
 * Where the operator waits for a gateway that scanned the fleet's code: it dials, and then the same protocol runs as over any other connection. One session
 * at a time; whoever has not confirmed the secret gives way to who comes next.
 */
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { channelOf, type Dial } from './dial.ts';

export class Welcome implements AsyncDisposable {
  readonly #server: Server;
  readonly #onCaller: (dial: Dial, caller: string) => void;

  /** `onCaller` MUST NOT throw; what it does not dial it must end. Port 0 picks a free one. Throws `claim.link`. */
  static async open(host: string, port: number, onCaller: (dial: Dial, caller: string) => void): Promise<Welcome> {
    const welcome = new Welcome(onCaller);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    welcome.#server.once('error', reject).listen({ host, port }, resolve);
    await promise.catch((cause: unknown) => { throw new TenzroError('claim.link', `cannot listen on ${host}:${port}: ${messageOf(cause)}`, { cause }); });
    return welcome;
  }

  private constructor(onCaller: (dial: Dial, caller: string) => void) {
    this.#onCaller = onCaller;
    this.#server = createServer({ noDelay: true, pauseOnConnect: true }, (socket) => { this.#greet(socket); });
    this.#server.maxConnections = 8;
  }

  get port(): number { return (this.#server.address() as AddressInfo).port; }

  #greet(socket: Socket): void {
    socket.on('error', () => undefined); // its close says it
    this.#onCaller(async (ports) => {
      const channel = channelOf(socket, ports);
      socket.resume();
      return channel;
    }, socket.remoteAddress ?? '');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => { resolve(); });
    await promise;
  }
}
