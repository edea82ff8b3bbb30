/** MQTT 3.1.1 spoken byte by byte over a plain socket: for what a well-behaved client never sends. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

const text = (value: string | Buffer): Buffer => {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes]);
};

/** A whole packet: first byte and body. */
export function packet(first: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const length: number[] = [];
  let rest = body.length;
  do {
    length.push((rest % 128) | (rest >= 128 ? 0x80 : 0));
    rest = Math.floor(rest / 128);
  } while (rest > 0);
  return Buffer.concat([Buffer.from([first, ...length]), body]);
}

export interface ConnectOptions { readonly clean?: boolean; readonly keepAliveS?: number; readonly will?: { topic: string; payload: string; qos: 0 | 1 | 2 } }

export function connectPacket(clientId: string | Buffer, { clean = true, keepAliveS = 0, will }: ConnectOptions = {}): Buffer {
  const flags = (clean ? 2 : 0) | (will === undefined ? 0 : 4 | (will.qos << 3));
  return packet(0x10, text('MQTT'), Buffer.from([4, flags, keepAliveS >> 8, keepAliveS & 0xff]), text(clientId),
    ...(will === undefined ? [] : [text(will.topic), text(will.payload)]));
}

export function publishPacket(topic: string | Buffer, payload: string | Buffer, { qos = 0, id = 1, dup = false }: { qos?: 0 | 1 | 2 | 3; id?: number; dup?: boolean } = {}): Buffer {
  const idBytes = qos === 0 ? Buffer.alloc(0) : Buffer.from([id >> 8, id & 0xff]);
  return packet(0x30 | (qos << 1) | (dup ? 8 : 0), text(topic), idBytes, Buffer.from(payload));
}

export const pubrelPacket = (id: number): Buffer => packet(0x62, Buffer.from([id >> 8, id & 0xff]));
export const subscribePacket = (filter: string | Buffer, qos: number, id = 1): Buffer => packet(0x82, Buffer.from([id >> 8, id & 0xff]), text(filter), Buffer.from([qos]));
export const PINGREQ = Buffer.from([0xc0, 0]);

export const TYPE = { connack: 2, publish: 3, puback: 4, pubrec: 5, pubcomp: 7, suback: 9, pingresp: 13 } as const;

export interface RawPacket { readonly type: number; readonly first: number; readonly body: Buffer }

export class RawClient implements Disposable {
  readonly socket: Socket;
  readonly packets: RawPacket[] = [];
  ended = false;
  #rest = Buffer.alloc(0);

  constructor(port: number) {
    this.socket = connect({ port, host: '127.0.0.1', noDelay: true });
    this.socket.on('data', (chunk: Buffer) => this.#take(chunk));
    this.socket.on('error', () => { this.ended = true; });
    this.socket.on('close', () => { this.ended = true; });
  }

  /** Connects and waits for a CONNACK that accepts. */
  static async open(port: number, clientId: string, options: ConnectOptions = {}): Promise<RawClient> {
    const client = new RawClient(port);
    client.send(connectPacket(clientId, options));
    const connack = await client.next(TYPE.connack);
    if (connack.body[1] !== 0) throw new Error(`CONNACK ${connack.body[1]}`);
    return client;
  }

  send(...bytes: readonly Buffer[]): void { this.socket.write(Buffer.concat(bytes)); }

  /** The next packet of the type that has not been handed out; rejects when the connection ends before it comes. */
  async next(type: number): Promise<RawPacket> {
    for (;;) {
      const at = this.packets.findIndex((candidate) => candidate.type === type);
      if (at >= 0) return this.packets.splice(at, 1)[0] ?? await this.next(type);
      if (this.ended) throw new Error(`the connection ended before packet type ${type}`);
      const heard = new AbortController();
      await Promise.race([once(this.socket, 'data', heard), once(this.socket, 'close', heard)]).finally(() => heard.abort());
    }
  }

  /** Resolves when the broker has closed the connection. */
  async closed(): Promise<void> {
    this.socket.resume();
    if (!this.ended) await once(this.socket, 'close');
  }

  [Symbol.dispose](): void { this.socket.destroy(); }

  #take(chunk: Buffer): void {
    let bytes = Buffer.concat([this.#rest, chunk]);
    for (;;) {
      let length = 0;
      let at = 1;
      let byte = 0x80;
      while (at < bytes.length && byte >= 0x80) {
        byte = bytes.readUInt8(at);
        length += (byte & 0x7f) * 128 ** (at - 1);
        at++;
      }
      if (byte >= 0x80 || bytes.length < at + length) break;
      const first = bytes.readUInt8(0);
      this.packets.push({ type: first >> 4, first, body: bytes.subarray(at, at + length) });
      bytes = bytes.subarray(at + length);
    }
    this.#rest = bytes;
  }
}
