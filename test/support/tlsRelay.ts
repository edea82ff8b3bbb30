/** A wire with an ear: passes TCP on to a port, and reads from each ServerHello that goes by in the clear which version and group the two agreed on. */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

interface Hello {
  readonly version: number;
  readonly group: number;
}

/** RFC 8446 §5.1: a record's header; §4: a handshake message's; §4.1.3: version and random of a ServerHello. */
const [RECORD_BYTES, MESSAGE_BYTES, FIXED_BYTES] = [5, 4, 34];
const [HANDSHAKE, SERVER_HELLO] = [22, 2];
/** RFC 8446 §4.2. */
const [SUPPORTED_VERSIONS, KEY_SHARE] = [43, 51];
/** RFC 8446 §4.1.3: the random of a HelloRetryRequest, SHA-256 of that word. */
const RETRY = Buffer.from('cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c', 'hex');

/** Undefined until the first record is whole, for a HelloRetryRequest, and for what is no ServerHello. */
function helloIn(bytes: Buffer): Hello | undefined {
  if (bytes.length < RECORD_BYTES || bytes.length < RECORD_BYTES + bytes.readUInt16BE(3) || bytes[0] !== HANDSHAKE || bytes[RECORD_BYTES] !== SERVER_HELLO) return undefined;
  const body = bytes.subarray(RECORD_BYTES + MESSAGE_BYTES, RECORD_BYTES + bytes.readUInt16BE(3));
  if (body.subarray(2, FIXED_BYTES).equals(RETRY)) return undefined;
  let [version, group] = [body.readUInt16BE(0), 0];
  const sessionIdBytes = body.readUInt8(FIXED_BYTES);
  for (let at = FIXED_BYTES + 1 + sessionIdBytes + 3 + 2; at + 4 <= body.length; at += 4 + body.readUInt16BE(at + 2)) { // cipher suite and compression, length of the extensions
    if (body.readUInt16BE(at) === SUPPORTED_VERSIONS) version = body.readUInt16BE(at + 4);
    if (body.readUInt16BE(at) === KEY_SHARE) group = body.readUInt16BE(at + 4);
  }
  return { version, group };
}

export class TlsRelay implements AsyncDisposable {
  readonly hellos: Hello[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(target: number) {
    this.#server = createServer((client) => { this.#join(client, connect(target, '127.0.0.1')); });
  }

  static async to(target: number): Promise<TlsRelay> {
    const relay = new TlsRelay(target);
    relay.#server.listen(0, '127.0.0.1');
    await once(relay.#server, 'listening');
    return relay;
  }

  get port(): number { return (this.#server.address() as AddressInfo).port; }

  #join(client: Socket, server: Socket): void {
    for (const [from, to] of [[client, server], [server, client]] as const) {
      this.#sockets.add(from);
      from.on('error', () => { to.destroy(); }).on('close', () => { to.destroy(); this.#sockets.delete(from); }).pipe(to);
    }
    let early: Buffer | undefined = Buffer.alloc(0);
    server.on('data', (bytes: Buffer) => {
      if (early === undefined) return;
      early = Buffer.concat([early, bytes]);
      const hello = helloIn(early) ?? helloIn(afterRetry(early));
      if (hello === undefined) return;
      this.hellos.push(hello);
      early = undefined;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

/** What follows the first record, and the change_cipher_spec that stands there for middle boxes (RFC 8446 appendix D.4). */
function afterRetry(bytes: Buffer): Buffer {
  const next = (from: number): number => (bytes.length >= from + RECORD_BYTES ? from + RECORD_BYTES + bytes.readUInt16BE(from + 3) : bytes.length);
  const second = next(0);
  return bytes.subarray(bytes[second] === HANDSHAKE ? second : next(second));
}
