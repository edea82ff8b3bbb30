/** The retained messages: all in memory, bounded in number and bytes, mirrored to disk. */
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { matchesFilter } from '#runtime/core/topic.ts';
import type { RetainedBounds } from './bounds.ts';
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
  readonly #bounds: RetainedBounds;
  /** By the first two levels of their topics: thousands of gateways that come back at once each ask for their own. */
  readonly #trees = new Map<string, Tree>();
  #count = 0;
  #bytes = 0;

  constructor(kv: KeyValueStore, bounds: RetainedBounds) {
    this.#kv = kv;
    this.#bounds = bounds;
    for (const packet of storedRetained(kv)) this.#keep(packet);
  }

  get count(): number { return this.#count; }
  get bytes(): number { return this.#bytes; }

  /** False when it does not fit: the message is delivered, but not retained. */
  store(packet: Packet): boolean {
    const tree = this.#trees.get(treeOf(packet.topic));
    const known = tree?.byTopic.get(packet.topic);
    if (payloadBytes(packet).length === 0) {
      if (known !== undefined) this.#kv.remove(KEY + packet.topic);
      this.#drop(packet.topic);
      return true;
    }
    const more = { bytes: sizeOf(packet) - (known === undefined ? 0 : sizeOf(known)), count: known === undefined ? 1 : 0 };
    if (!this.#hasRoomFor(more, tree)) return false;
    const kept = { ...packet, payload: ownedPayload(packet) };
    this.#drop(packet.topic);
    this.#keep(kept);
    this.#kv.put(KEY + packet.topic, encodePacket(kept));
    return true;
  }

  *matching(filters: readonly string[]): Iterable<Packet> {
    for (const filter of filters) {
      const name = treeOf(filter);
      if (/[+#]/.test(name)) for (const { byTopic } of this.#trees.values()) yield* among(byTopic, filter);
      else yield* among(this.#trees.get(name)?.byTopic ?? NOTHING, filter);
    }
  }

  #hasRoomFor(more: { readonly bytes: number; readonly count: number }, tree: Tree | undefined): boolean {
    const { retainedMax, retainedBytesMax, retainedPerTreeMax, retainedPerTreeBytesMax } = this.#bounds;
    return this.#count + more.count <= retainedMax && this.#bytes + more.bytes <= retainedBytesMax
      && (tree?.byTopic.size ?? 0) + more.count <= retainedPerTreeMax && (tree?.bytes ?? 0) + more.bytes <= retainedPerTreeBytesMax;
  }

  #keep(packet: Packet): void {
    const name = treeOf(packet.topic);
    let tree = this.#trees.get(name);
    if (tree === undefined) this.#trees.set(name, tree = { byTopic: new Map(), bytes: 0 });
    tree.byTopic.set(packet.topic, packet);
    tree.bytes += sizeOf(packet);
    this.#count++;
    this.#bytes += sizeOf(packet);
  }

  #drop(topic: string): void {
    const tree = this.#trees.get(treeOf(topic));
    const known = tree?.byTopic.get(topic);
    if (tree === undefined || known === undefined) return;
    tree.byTopic.delete(topic);
    tree.bytes -= sizeOf(known);
    this.#count--;
    this.#bytes -= sizeOf(known);
    if (tree.byTopic.size === 0) this.#trees.delete(treeOf(topic));
  }
}

interface Tree {
  readonly byTopic: Map<string, Packet>;
  bytes: number;
}

const NOTHING: ReadonlyMap<string, Packet> = new Map();

/** The first two levels: `te/edge-1`. Of a filter they tell where to look, unless a wildcard stands in them. */
function treeOf(topic: string): string {
  const first = topic.indexOf('/');
  const second = first < 0 ? -1 : topic.indexOf('/', first + 1);
  return second < 0 ? topic : topic.slice(0, second);
}

function* among(byTopic: ReadonlyMap<string, Packet>, filter: string): Iterable<Packet> {
  if (/[+#]/.test(filter)) {
    for (const [topic, packet] of byTopic) if (matchesFilter(filter, topic)) yield packet;
    return;
  }
  const packet = byTopic.get(filter);
  if (packet !== undefined) yield packet;
}

const sizeOf = (packet: Packet): number => packet.topic.length + payloadBytes(packet).length;
