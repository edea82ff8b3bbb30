/**
 * A bad network and a bad broker in one, between MQTT 3.1.1 clients and their broker: it reads both ways packet by packet, holds PUBLISHes back, lets others
 * overtake them, repeats them at once and much later, and ends connections between packets and in the middle of one. It never invents an acknowledgement:
 * those of repeated packets are kept to itself, for they would acknowledge something else once a packet id is used again.
 */
import { once } from 'node:events';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { publishPacket } from './rawMqtt.ts';

/** How many PUBLISHes of 1,000 get it. */
export interface Mangling {
  readonly cut: number;
  readonly cutInside: number;
  readonly delay: number;
  readonly reorder: number;
  readonly duplicate: number;
  /** One of the last that went this way, over whatever connection, comes once more, at QoS 0. */
  readonly replay: number;
  /** Of 1,000 SUBACKs: PUBLISHes overtake it, as MQTT 3.1.1 §3.8.4 allows. */
  readonly lateSuback: number;
}

export const TALLIED = ['connections', 'published', 'cut', 'cutInside', 'delay', 'reorder', 'duplicate', 'replay', 'lateSuback'] as const;
export type Tally = Record<(typeof TALLIED)[number], number>;

export interface ManglerOptions {
  /** To the broker, TLS and all: `ready` is the event after which it takes bytes. */
  readonly dial: () => { readonly socket: Socket | TLSSocket; readonly ready: 'connect' | 'secureConnect' };
  /** For clients; absent: plain. PEM. */
  readonly tls?: { readonly key: string; readonly cert: string };
  readonly mangling: Mangling;
  readonly random: (below: number) => number;
  readonly tally: Tally;
}

const [TYPE_PUBLISH, TYPE_PUBACK, TYPE_SUBACK] = [3, 4, 9];
const DUP = 0x08;
const DELAY_MS_MAX = 400;
const HELD_MS_MAX = 300;
const OVERTAKING_MAX = 4;
const PAST_KEPT = 64;

export const newTally = (): Tally => ({ connections: 0, published: 0, cut: 0, cutInside: 0, delay: 0, reorder: 0, duplicate: 0, replay: 0, lateSuback: 0 });

export class MqttMangler implements AsyncDisposable {
  readonly #options: ManglerOptions;
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();
  readonly #past = { up: [] as Buffer[], down: [] as Buffer[] };
  #isCalm = false;

  private constructor(options: ManglerOptions) {
    this.#options = options;
    const serve = (client: Socket): void => { this.#join(client); };
    this.#server = options.tls ? createTlsServer({ ...options.tls, minVersion: 'TLSv1.3' }, serve).on('tlsClientError', () => undefined) : createServer(serve);
  }

  static async listen(options: ManglerOptions): Promise<MqttMangler> {
    const mangler = new MqttMangler(options);
    mangler.#server.listen(0, '127.0.0.1');
    await once(mangler.#server, 'listening');
    return mangler;
  }

  get port(): number { return (this.#server.address() as AddressInfo).port; }

  /** From now on everything passes as it is. */
  calm(): void { this.#isCalm = true; }

  /** As if the broker said it to every client, at QoS 0. */
  inject(topic: string, payload: string): void {
    for (const pair of this.#pairs) pair.down.write(publishPacket(topic, payload));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pair of this.#pairs) pair.end();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #join(client: Socket): void {
    const { dial, tally } = this.#options;
    const { socket: broker, ready } = dial();
    tally.connections++;
    const pair = new Pair(client, broker);
    this.#pairs.add(pair);
    for (const socket of [client, broker]) socket.on('error', () => { pair.end(); }).on('close', () => { pair.end(); this.#pairs.delete(pair); });
    client.pause();
    broker.once(ready, () => {
      client.on('data', (chunk: Buffer) => { this.#feed(pair, 'up', chunk); });
      broker.on('data', (chunk: Buffer) => { this.#feed(pair, 'down', chunk); });
      client.resume();
    });
  }

  #feed(pair: Pair, name: 'up' | 'down', chunk: Buffer): void {
    const way = pair[name];
    for (const packet of way.packetsOf(chunk)) {
      const type = packet.readUInt8(0) >> 4;
      if (type === TYPE_PUBLISH) this.#mangle(pair, name, packet);
      else if (type === TYPE_SUBACK && this.#hits(this.#options.mangling.lateSuback, 'lateSuback')) way.hold(packet, 1 + this.#options.random(OVERTAKING_MAX));
      else if (type !== TYPE_PUBACK || !way.swallows(packet.readUInt16BE(2))) way.write(packet);
    }
  }

  #mangle(pair: Pair, name: 'up' | 'down', packet: Buffer): void {
    const { mangling, tally } = this.#options;
    const [way, back] = name === 'up' ? [pair.up, pair.down] : [pair.down, pair.up];
    tally.published++;
    const past = this.#past[name];
    past.push(packet);
    if (past.length > PAST_KEPT) past.shift();
    if (this.#hits(mangling.cut, 'cut')) return pair.end();
    if (this.#hits(mangling.cutInside, 'cutInside')) return pair.endInside(way, packet.subarray(0, 1 + this.#options.random(packet.length)));
    if (this.#hits(mangling.delay, 'delay')) way.rest(1 + this.#options.random(DELAY_MS_MAX));
    if (this.#hits(mangling.reorder, 'reorder')) way.hold(packet, 1 + this.#options.random(OVERTAKING_MAX));
    else way.publish(packet);
    if (this.#hits(mangling.duplicate, 'duplicate')) repeat(way, back, packet);
    const old = past[this.#options.random(past.length)];
    if (old && this.#hits(mangling.replay, 'replay')) way.publish(atQos0(old));
  }

  #hits(perMille: number, name: keyof Mangling): boolean {
    if (this.#isCalm || this.#options.random(1_000) >= perMille) return false;
    this.#options.tally[name]++;
    return true;
  }
}

/** One client's connection and ours to the broker: they end together. */
class Pair {
  readonly up: Way;
  readonly down: Way;
  readonly #sockets: readonly Socket[];

  constructor(client: Socket, broker: Socket) {
    this.up = new Way(broker);
    this.down = new Way(client);
    this.#sockets = [client, broker];
  }

  end(): void {
    this.up.close();
    this.down.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  endInside(way: Way, part: Buffer): void { way.last(part, () => { this.end(); }); }
}

/** Packets that go one way. */
class Way {
  readonly #target: Socket;
  #rest: Buffer = Buffer.alloc(0);
  #queue: Buffer[] = [];
  #timer: NodeJS.Timeout | undefined;
  #held: { readonly packet: Buffer; overtaking: number; readonly timer: NodeJS.Timeout } | undefined;
  readonly #unwanted = new Map<number, number>();
  #isClosed = false;

  constructor(target: Socket) { this.#target = target; }

  * packetsOf(chunk: Buffer): Generator<Buffer> {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    for (let size = sizeOf(this.#rest); size > 0 && this.#rest.length >= size; size = sizeOf(this.#rest)) {
      const packet = this.#rest.subarray(0, size);
      this.#rest = this.#rest.subarray(size);
      yield packet;
    }
  }

  /** In order, behind what is delayed. */
  write(packet: Buffer): void {
    if (this.#isClosed) return;
    if (this.#timer) this.#queue.push(packet);
    else this.#target.write(packet);
  }

  publish(packet: Buffer): void {
    this.write(packet);
    if (this.#held && --this.#held.overtaking <= 0) this.#release();
  }

  rest(ms: number): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      for (const packet of this.#queue.splice(0)) this.write(packet);
    }, ms);
  }

  /** Until so many others have overtaken it. */
  hold(packet: Buffer, overtaking: number): void {
    this.#release();
    this.#held = { packet, overtaking, timer: setTimeout(() => { this.#release(); }, HELD_MS_MAX) };
  }

  last(part: Buffer, then: () => void): void {
    this.#isClosed = true;
    if (this.#target.writable) this.#target.write(part, then);
    else then();
  }

  /** The next acknowledgement of that packet id that goes this way is for a repeated one. */
  expectUnwanted(packetId: number): void { this.#unwanted.set(packetId, (this.#unwanted.get(packetId) ?? 0) + 1); }

  swallows(packetId: number): boolean {
    const count = this.#unwanted.get(packetId) ?? 0;
    if (count > 0) this.#unwanted.set(packetId, count - 1);
    return count > 0;
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#held?.timer);
  }

  #release(): void {
    const held = this.#held;
    if (!held) return;
    clearTimeout(held.timer);
    this.#held = undefined;
    this.write(held.packet);
  }
}

/** With the bit that says so: MQTT 3.1.1 §3.3.1.1. */
function repeat(way: Way, back: Way, packet: Buffer): void {
  const { qos, packetId } = partsOf(packet);
  if (qos === 0) return way.publish(packet);
  const again = Buffer.from(packet);
  again.writeUInt8(packet.readUInt8(0) | DUP, 0);
  back.expectUnwanted(packetId);
  way.publish(again);
}

/** Whole size of the packet that begins here; 0 where its length is not there yet. */
function sizeOf(bytes: Buffer): number {
  let length = 0;
  for (let at = 1; at < Math.min(bytes.length, 5); at++) {
    const byte = bytes.readUInt8(at);
    length += (byte & 0x7f) * 128 ** (at - 1);
    if (byte < 0x80) return at + 1 + length;
  }
  return 0;
}

function partsOf(packet: Buffer): { readonly qos: number; readonly topic: Buffer; readonly packetId: number; readonly payload: Buffer } {
  const qos = (packet.readUInt8(0) >> 1) & 3;
  let at = 1;
  while (packet.readUInt8(at) >= 0x80) at++;
  const topic = packet.subarray(at + 3, at + 3 + packet.readUInt16BE(at + 1));
  const end = at + 3 + topic.length;
  return { qos, topic, packetId: qos === 0 ? 0 : packet.readUInt16BE(end), payload: packet.subarray(qos === 0 ? end : end + 2) };
}

/** Needs no acknowledgement; keeps what it says of retaining. */
function atQos0(packet: Buffer): Buffer {
  const { topic, payload } = partsOf(packet);
  const plain = publishPacket(topic, payload);
  plain.writeUInt8(plain.readUInt8(0) | (packet.readUInt8(0) & 1), 0);
  return plain;
}
