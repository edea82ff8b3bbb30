/**
 * Recognises a message that its client sends again (DUP) because our acknowledgement did not reach it. Known by client, packet identifier and a
 * 53-bit hash of topic and payload: not cryptographic, so a client could fool this only about its own messages.
 */
import { LIMITS } from '#runtime/core/limits.ts';
import type { InboundRecord } from '#runtime/core/ports.ts';

/** Says whether a payload is the one that a sealed entry holds. */
export type SealedMatch = (payload: Uint8Array) => boolean;

interface Window {
  readonly packetIds: Uint16Array;
  readonly digests: Float64Array;
  next: number;
}

export class Redeliveries {
  readonly #clients = new Map<string, Window>();
  /** Read back from the log, where no client stands; each is good for one redelivery, so that equal messages of two clients stay two. */
  readonly #restored = new Map<string, number>();
  /** The same for sealed entries, by packet identifier and topic. */
  readonly #restoredSealed = new Map<string, SealedMatch[]>();

  /** True when `record` was accepted before. Only for messages with DUP. */
  known(record: InboundRecord): boolean {
    const digest = digestOf(record.topic, record.payload);
    const window = this.#clients.get(record.clientId);
    if (window?.digests.some((one, i) => one === digest && window.packetIds[i] === record.packetId)) return true;
    const key = restoredKey(record.packetId, digest);
    const left = this.#restored.get(key) ?? 0;
    if (left === 0 && !this.#takeSealed(record)) return false;
    if (left === 1) this.#restored.delete(key);
    else if (left > 1) this.#restored.set(key, left - 1);
    this.accepted(record);
    return true;
  }

  #takeSealed({ packetId, topic, payload }: InboundRecord): boolean {
    const candidates = this.#restoredSealed.get(sealedKey(packetId, topic)) ?? [];
    const found = candidates.findIndex((matches) => matches(payload));
    if (found < 0) return false;
    candidates.splice(found, 1);
    return true;
  }

  /** Only for messages with a packet identifier. */
  accepted(record: InboundRecord): void {
    let window = this.#clients.get(record.clientId);
    if (window === undefined) {
      if (this.#clients.size >= LIMITS.redeliveryClientsMax) dropOldest(this.#clients);
      window = { packetIds: new Uint16Array(LIMITS.redeliveryWindowMax), digests: new Float64Array(LIMITS.redeliveryWindowMax).fill(-1), next: 0 };
      this.#clients.set(record.clientId, window);
    }
    window.packetIds[window.next] = record.packetId;
    window.digests[window.next] = digestOf(record.topic, record.payload);
    window.next = (window.next + 1) % LIMITS.redeliveryWindowMax;
  }

  restore(topic: string, payload: Uint8Array, packetId: number): void {
    const key = restoredKey(packetId, digestOf(topic, payload));
    const count = this.#restored.get(key) ?? 0;
    if (count === 0 && this.#restored.size >= LIMITS.redeliveryRestoredMax) dropOldest(this.#restored);
    this.#restored.set(key, count + 1);
  }

  restoreSealed(topic: string, packetId: number, matches: SealedMatch): void {
    const key = sealedKey(packetId, topic);
    const candidates = this.#restoredSealed.get(key) ?? [];
    if (candidates.length === 0 && this.#restoredSealed.size >= LIMITS.redeliveryRestoredMax) dropOldest(this.#restoredSealed);
    if (candidates.length < LIMITS.redeliveryWindowMax) candidates.push(matches);
    this.#restoredSealed.set(key, candidates);
  }
}

const sealedKey = (packetId: number, topic: string): string => `${packetId}:${topic}`;
const restoredKey = (packetId: number, digest: number): string => `${packetId}:${digest}`;

export function dropOldest<K>(map: Map<K, unknown>): void {
  for (const key of map.keys()) {
    map.delete(key);
    return;
  }
}

/** cyrb53 (bryc, public domain) over topic and payload: two 32-bit multiplicative hashes, mixed to 53 bits. */
export function digestOf(topic: string, payload: Uint8Array): number {
  let high = 0xdeadbeef;
  let low = 0x41c6ce57;
  for (let i = 0; i < topic.length; i++) {
    const unit = topic.charCodeAt(i);
    high = Math.imul(high ^ unit, 2654435761);
    low = Math.imul(low ^ unit, 1597334677);
  }
  for (let i = 0; i < payload.length; i++) {
    const byte = payload[i] ?? 0;
    high = Math.imul(high ^ byte, 2654435761);
    low = Math.imul(low ^ byte, 1597334677);
  }
  high = Math.imul(high ^ (high >>> 16), 2246822507) ^ Math.imul(low ^ (low >>> 13), 3266489909);
  low = Math.imul(low ^ (low >>> 16), 2246822507) ^ Math.imul(high ^ (high >>> 13), 3266489909);
  return 4294967296 * (2097151 & low) + (high >>> 0);
}
