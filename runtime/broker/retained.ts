/** The retained messages: all in memory, bounded in number and bytes, mirrored to disk. */
import { LIMITS } from '#runtime/core/limits.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { matchesFilter } from '#runtime/core/topic.ts';
import { decodePacket, encodePacket, isRelease, ownedPayload, payloadBytes, type Packet } from './packets.ts';

const KEY = 'r\u0001';

/** What an earlier run left in the store. */
export function* storedRetained(kv: KeyValueStore): Iterable<Packet> {
  for (const { value } of kv.range(KEY)) {
    const packet = decodePacket(value);
    if (packet !== undefined && !isRelease(packet)) yield packet;
  }
}

export class RetainedMessages {
  readonly #kv: KeyValueStore;
  readonly #byTopic = new Map<string, Packet>();
  #bytes = 0;

  constructor(kv: KeyValueStore) {
    this.#kv = kv;
    for (const packet of storedRetained(kv)) this.#keep(packet);
  }

  get count(): number { return this.#byTopic.size; }
  get bytes(): number { return this.#bytes; }

  /** False when it does not fit: the message is delivered, but not retained. */
  store(packet: Packet): boolean {
    const known = this.#byTopic.get(packet.topic);
    if (payloadBytes(packet).length === 0) {
      if (known !== undefined) this.#kv.remove(KEY + packet.topic);
      this.#drop(packet.topic);
      return true;
    }
    const bytes = this.#bytes + sizeOf(packet) - (known === undefined ? 0 : sizeOf(known));
    if (bytes > LIMITS.retainedBytesMax || (known === undefined && this.#byTopic.size >= LIMITS.retainedMax)) return false;
    const kept = { ...packet, payload: ownedPayload(packet) };
    this.#drop(packet.topic);
    this.#keep(kept);
    this.#kv.put(KEY + packet.topic, encodePacket(kept));
    return true;
  }

  *matching(filters: readonly string[]): Iterable<Packet> {
    for (const filter of filters) {
      if (!/[+#]/.test(filter)) {
        const packet = this.#byTopic.get(filter);
        if (packet !== undefined) yield packet;
        continue;
      }
      for (const [topic, packet] of this.#byTopic) if (matchesFilter(filter, topic)) yield packet;
    }
  }

  #keep(packet: Packet): void {
    this.#byTopic.set(packet.topic, packet);
    this.#bytes += sizeOf(packet);
  }

  #drop(topic: string): void {
    const known = this.#byTopic.get(topic);
    if (known !== undefined) this.#bytes -= sizeOf(known);
    this.#byTopic.delete(topic);
  }
}

const sizeOf = (packet: Packet): number => packet.topic.length + payloadBytes(packet).length;
