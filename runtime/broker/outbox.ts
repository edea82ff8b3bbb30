/**
 * What waits for durable clients: a queue per client, oldest first, in memory and, where needed, on disk.
 *
 * Invariants: the queue of a client that is away is on disk (its publishers wait for that); a connected client's queue is on disk only
 * for what it has not acknowledged within LIMITS.sessionWriteBehindMs. Beyond a bound the oldest go first and are counted.
 */
import { LIMITS } from '#runtime/core/limits.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { decodePacket, encodePacket, isRelease, ownedPayload, payloadBytes, type Packet, type Release } from './packets.ts';

const KEY = 'q\u0001';
/** Stands for the broker's id on packets that an earlier run queued. */
const EARLIER = 'earlier';

export interface Queued {
  packet: Packet | Release;
  readonly sequence: number;
  readonly bytes: number;
  stored: boolean;
  /** How often it was handed to the socket: beyond 1 it is a redelivery. */
  sends: number;
}

interface Queue { items: Queued[]; bytes: number; online: boolean }

export class Outbox {
  readonly #kv: KeyValueStore;
  readonly #onDropped: (clientId: string) => void;
  readonly #queues = new Map<string, Queue>();
  #bytes = 0;
  #sequence = 0;

  constructor(kv: KeyValueStore, onDropped: (clientId: string) => void) {
    this.#kv = kv;
    this.#onDropped = onDropped;
    for (const { key, value } of kv.range(KEY)) {
      const [, clientId = '', number = ''] = key.split('\u0001');
      const packet = decodePacket(value);
      if (packet === undefined) continue;
      const sequence = Number.parseInt(number, 16);
      if (!isRelease(packet)) Object.assign(packet, { brokerId: EARLIER, brokerCounter: sequence });
      this.#append(clientId, { packet, sequence, bytes: value.length, stored: true, sends: packet.messageId === undefined ? 0 : 1 });
      this.#sequence = Math.max(this.#sequence, sequence);
    }
  }

  get bytes(): number { return this.#bytes; }

  /** Puts a copy of the packet at the end, at the lower of its QoS and the subscription's. */
  add(clientId: string, packet: Packet, subscribed: number | undefined): Queued {
    const copy: Packet = {
      cmd: 'publish', brokerId: packet.brokerId, brokerCounter: packet.brokerCounter ?? 0, topic: packet.topic,
      payload: ownedPayload(packet), qos: subscribed === 1 && packet.qos === 2 ? 1 : packet.qos, retain: packet.retain, dup: false, messageId: undefined,
    };
    const item: Queued = { packet: copy, sequence: ++this.#sequence, bytes: copy.topic.length + payloadBytes(copy).length, stored: false, sends: 0 };
    const queue = this.#append(clientId, item);
    while (queue.items.length > LIMITS.subscriberQueueMax || queue.bytes > LIMITS.sessionQueueBytesMax) this.#dropOldest(clientId, queue);
    while (this.#bytes > LIMITS.sessionQueuesTotalBytesMax) this.#dropFromLargest();
    if (!queue.online) this.#store(clientId, item);
    return item;
  }

  /** Follows a delivery: the message id that was given, or the release that takes the publish's place. Undefined: no such packet. */
  update(clientId: string, packet: Packet | Release): Queued | undefined {
    for (const item of this.#queues.get(clientId)?.items ?? []) {
      const held = item.packet;
      if (!isRelease(packet) && !isRelease(held) && held.brokerId === packet.brokerId) {
        if (held.brokerCounter !== packet.brokerCounter) continue;
        held.messageId = packet.messageId;
        item.sends++;
        // at QoS 2 a restart must repeat the very same message id
        if (held.qos === 2 && item.stored) this.#store(clientId, item);
        return item;
      }
      if (held.messageId !== undefined && held.messageId === packet.messageId) {
        item.packet = isRelease(packet) ? { cmd: 'pubrel', messageId: packet.messageId } : packet;
        if (item.stored) this.#store(clientId, item);
        return item;
      }
    }
    return undefined;
  }

  /** Removes what the client acknowledged, or (without a message id) what may not be delivered to it. */
  clear(clientId: string, packet: Packet | Release): Packet | Release | undefined {
    const queue = this.#queues.get(clientId);
    const at = queue?.items.findIndex(({ packet: held }) => (packet.messageId === undefined
      ? !isRelease(held) && !isRelease(packet) && held.brokerId === packet.brokerId && held.brokerCounter === packet.brokerCounter
      : held.messageId === packet.messageId)) ?? -1;
    const item = queue?.items[at];
    if (queue === undefined || item === undefined) return undefined;
    queue.items.splice(at, 1);
    this.#forget(clientId, queue, item);
    return item.packet;
  }

  /** A snapshot, oldest first. */
  waiting(clientId: string): readonly (Packet | Release)[] {
    return (this.#queues.get(clientId)?.items ?? []).map(({ packet }) => packet);
  }

  discard(clientId: string): void {
    const queue = this.#queues.get(clientId);
    if (queue === undefined) return;
    for (const item of queue.items) this.#forget(clientId, queue, item);
    this.#queues.delete(clientId);
  }

  setOnline(clientId: string, online: boolean): void {
    const queue = this.#queues.get(clientId);
    if (queue === undefined) {
      if (online) this.#queues.set(clientId, { items: [], bytes: 0, online });
      return;
    }
    queue.online = online;
    if (online) return;
    if (queue.items.length === 0) this.#queues.delete(clientId);
    else for (const item of queue.items) if (!item.stored) this.#store(clientId, item);
  }

  /** Writes what was queued before the previous call and is still unacknowledged; returns the mark for the next call. */
  writeBehind(before: number): number {
    for (const [clientId, queue] of this.#queues) {
      for (const item of queue.items) if (!item.stored && item.sequence <= before) this.#store(clientId, item);
    }
    return this.#sequence;
  }

  #append(clientId: string, item: Queued): Queue {
    let queue = this.#queues.get(clientId);
    if (queue === undefined) this.#queues.set(clientId, queue = { items: [], bytes: 0, online: false });
    queue.items.push(item);
    queue.bytes += item.bytes;
    this.#bytes += item.bytes;
    return queue;
  }

  #dropOldest(clientId: string, queue: Queue): void {
    const item = queue.items.shift();
    if (item === undefined) return;
    this.#forget(clientId, queue, item);
    this.#onDropped(clientId);
  }

  #dropFromLargest(): void {
    let largest: [string, Queue] | undefined;
    for (const entry of this.#queues) if (largest === undefined || entry[1].bytes > largest[1].bytes) largest = entry;
    if (largest !== undefined) this.#dropOldest(...largest);
  }

  #forget(clientId: string, queue: Queue, item: Queued): void {
    queue.bytes -= item.bytes;
    this.#bytes -= item.bytes;
    if (item.stored) this.#kv.remove(keyOf(clientId, item.sequence));
    item.stored = false;
  }

  #store(clientId: string, item: Queued): void {
    item.stored = true;
    this.#kv.put(keyOf(clientId, item.sequence), encodePacket(item.packet));
  }
}

/** The sequence in 12 hexadecimal digits: keys then sort by age. */
const keyOf = (clientId: string, sequence: number): string => `${KEY}${clientId}\u0001${sequence.toString(16).padStart(12, '0')}`;
