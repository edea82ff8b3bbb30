/**
 * The lane for what a gateway mostly gets: a publish at QoS 0 or 1, not retained, on a topic that nobody here subscribes to. It goes from the
 * socket's bytes straight to the intake, and its PUBACK straight back; the engine neither parses nor sees it. Everything else, and everything
 * that is wrong in any way, is the engine's: the lane takes whole packets from the front of a chunk and stops at the first that is not plain,
 * so that the order within a connection stays what it was.
 */
import type { Socket } from 'node:net';
import { LIMITS } from '#runtime/core/limits.ts';
import type { InboundMessage, Intake } from '#runtime/core/ports.ts';
import type { Qos } from './packets.ts';

/** Fixed headers of MQTT 3.1.1 §3.3.1 that may be plain: QoS 0; QoS 1; QoS 1, repeated. */
const PLAIN = { qos0: 0x30, qos1: 0x32, qos1Repeated: 0x3a } as const;
/** §2.2.3: four bytes of seven bits each. */
const LENGTH_SHIFT_MAX = 21;
const TOPICS_CACHED_MAX = 64;
/** Messages of a connection on their way to the disk before its socket is read later, by QoS. A chunk's worth may come on top. */
const OPEN_MAX = [LIMITS.unflushedPerClientMax, LIMITS.inFlightPerClientMax] as const;

/** The part of the engine's client that the lane touches. */
export interface LaneClient {
  readonly id: string;
  readonly connected: boolean;
  readonly version: number | null;
  readonly _keepaliveTimer: { refresh(): void } | null;
}

/** What the lane asks of the door. */
export interface LaneDoor {
  readonly intake: Intake;
  /** Changes whenever an earlier `isPlain` may no longer hold. */
  plainVersion(): number;
  /** True when the client may publish there, and nobody but the intake wants to know. */
  isPlain(topic: string): boolean;
  /** A QoS 0 message that was not taken in: the connection stays. */
  lost(error: Error): void;
}

class Message implements InboundMessage {
  clientId = '';
  topic = '';
  payload: Uint8Array = Buffer.alloc(0);
  qos: Qos = 0;
  readonly retain = false;
  duplicate = false;
  packetId = 0;
}

export class FastLane {
  readonly #socket: Socket;
  readonly #client: LaneClient;
  readonly #door: LaneDoor;
  readonly #acknowledge: (packetId: number) => void;
  readonly #message = new Message();
  /** Plain topics by their bytes, as of `#version`. */
  readonly #topics = new Map<string, string>();
  #version = Number.NaN;
  /** Messages on their way to the disk, by QoS. */
  readonly #open: [number, number] = [0, 0];
  #isFull = false;

  constructor(socket: Socket, client: LaneClient, door: LaneDoor, acknowledge: (packetId: number) => void) {
    this.#socket = socket;
    this.#client = client;
    this.#door = door;
    this.#acknowledge = acknowledge;
  }

  /** Too much waits for the disk: nothing more is read from the socket until half of it is through, when the socket says `readable` again. */
  get isFull(): boolean { return this.#isFull; }

  /** `chunk` begins with a packet. Returns what is left for the engine; it begins with a packet too. */
  take(chunk: Buffer): Buffer {
    if (!this.#client.connected || (this.#client.version !== 3 && this.#client.version !== 4)) return chunk;
    this.#refresh();
    let at = 0;
    for (let end = this.#packet(chunk, at); end > at; end = this.#packet(chunk, at)) at = end;
    if (at === 0) return chunk;
    this.#client._keepaliveTimer?.refresh(); // §3.1.2.10: any packet will do
    this.#isFull = this.#open[0] > OPEN_MAX[0] || this.#open[1] > OPEN_MAX[1];
    return chunk.subarray(at);
  }

  #refresh(): void {
    const version = this.#door.plainVersion();
    if (version === this.#version) return;
    this.#version = version;
    this.#topics.clear();
  }

  /** Where the plain packet at `start` ends; `start` when it is none. */
  #packet(chunk: Buffer, start: number): number {
    const head = chunk[start];
    if (head !== PLAIN.qos1 && head !== PLAIN.qos0 && head !== PLAIN.qos1Repeated) return start;
    let at = start + 1;
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = chunk[at++];
      if (byte === undefined || shift > LENGTH_SHIFT_MAX) return start;
      length |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    const end = at + length;
    if (end > chunk.length || length < 4) return start;
    const topicEnd = at + 2 + chunk.readUInt16BE(at);
    const idBytes = head === PLAIN.qos0 ? 0 : 2;
    if (topicEnd + idBytes > end) return start;
    const topic = this.#plainTopic(chunk, at + 2, topicEnd);
    const packetId = idBytes === 0 ? 0 : chunk.readUInt16BE(topicEnd);
    if (topic === undefined || (idBytes > 0 && packetId === 0)) return start;
    this.#accept(topic, chunk.subarray(topicEnd + idBytes, end), packetId, head === PLAIN.qos1Repeated);
    return end;
  }

  #plainTopic(chunk: Buffer, start: number, end: number): string | undefined {
    const key = chunk.toString('latin1', start, end);
    const known = this.#topics.get(key);
    if (known !== undefined) return known;
    const topic = chunk.toString('utf8', start, end);
    if (!this.#door.isPlain(topic)) return undefined;
    if (this.#topics.size >= TOPICS_CACHED_MAX) this.#topics.clear();
    this.#topics.set(key, topic);
    return topic;
  }

  #accept(topic: string, payload: Buffer, packetId: number, duplicate: boolean): void {
    const message = this.#message;
    message.clientId = this.#client.id;
    message.topic = topic;
    message.payload = payload;
    message.duplicate = duplicate;
    message.packetId = packetId;
    message.qos = packetId === 0 ? 0 : 1;
    this.#open[message.qos]++;
    this.#door.intake.accept(message, packetId === 0 ? this.#flushed : (error) => this.#settled(packetId, error));
  }

  /** One callback for all of QoS 0. */
  readonly #flushed = (error?: Error): void => {
    this.#open[0]--;
    if (error !== undefined) this.#door.lost(error);
    this.#readOn();
  };

  #settled(packetId: number, error: Error | undefined): void {
    this.#open[1]--;
    if (error === undefined) this.#acknowledge(packetId);
    else this.#socket.destroy(error);
    this.#readOn();
  }

  #readOn(): void {
    if (!this.#isFull || this.#open[0] > OPEN_MAX[0] / 2 || this.#open[1] > OPEN_MAX[1] / 2) return;
    this.#isFull = false;
    process.nextTick(() => this.#socket.emit('readable')); // the acknowledgements under way come first
  }
}
