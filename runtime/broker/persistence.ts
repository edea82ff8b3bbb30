/**
 * The persistence that the broker's engine asks for (the interface of aedes-persistence 11), over one durable map: everything is answered
 * from memory, so the path of a message holds no promise, and written to disk only where a restart would miss it.
 *
 * `secure` is our own addition: the engine acknowledges a publish before it stores it, so what must survive is stored before.
 */
import { Readable } from 'node:stream';
import { invariant } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { GATEWAY_BOUNDS, type BrokerBounds } from './bounds.ts';
import { Outbox, type Queued } from './outbox.ts';
import {
  DONE, NO_SUCH_PACKET, decodePacket, encodePacket, isRelease, ownedPayload, settled,
  type ClientRef, type Packet, type Release, type Subscription,
} from './packets.ts';
import { RetainedMessages } from './retained.ts';
import { DurableSessions, type DurableSubscription } from './sessions.ts';

const INCOMING = 'i\u0001';
const WILL = 'w\u0001';
const NOBODY: DurableSubscription[] = [];
const NOBODY_MATCHES = settled(NOBODY);

export type PersistenceLoss = 'retained_full' | 'queue_dropped' | 'session_evicted';

/** What `secure` did for one message, so that the engine's own call does not do it again. */
interface Secured { retained: boolean; readonly queued: Map<string, Queued> }

interface Recipient { readonly clientId: string; readonly qos?: number }

export class Persistence {
  readonly #kv: KeyValueStore;
  readonly #onLoss: (loss: PersistenceLoss, name: string) => void;
  readonly #retained: RetainedMessages;
  readonly #sessions: DurableSessions;
  readonly #outbox: Outbox;
  readonly #incoming = new Map<string, Map<number, Packet>>();
  readonly #wills = new Map<string, Packet>();
  /** By the payload, the one object that the engine passes on unchanged. */
  readonly #secured = new WeakMap<Buffer, Secured>();
  readonly #writeBehind: NodeJS.Timeout;
  #mark = 0;
  #broker: { readonly id: string } = { id: '' };

  constructor(kv: KeyValueStore, onLoss: (loss: PersistenceLoss, name: string) => void, bounds: BrokerBounds = GATEWAY_BOUNDS) {
    this.#kv = kv;
    this.#onLoss = onLoss;
    this.#retained = new RetainedMessages(kv, bounds);
    this.#outbox = new Outbox(kv, (clientId) => onLoss('queue_dropped', clientId));
    this.#sessions = new DurableSessions(kv, (clientId) => {
      this.#forget(clientId);
      onLoss('session_evicted', clientId);
    });
    this.#restore();
    this.#writeBehind = setInterval(() => { this.#mark = this.#outbox.writeBehind(this.#mark); }, LIMITS.sessionWriteBehindMs);
    this.#writeBehind.unref();
  }

  get broker(): { readonly id: string } { return this.#broker; }

  async setup(broker: { readonly id: string }): Promise<void> { this.#broker = broker; }

  figures(): { retained: number; retainedBytes: number; sessions: number; queuedBytes: number } {
    return { retained: this.#retained.count, retainedBytes: this.#retained.bytes, sessions: this.#sessions.count, queuedBytes: this.#outbox.bytes };
  }

  // ours

  /** Tells whether a durable client is there to be delivered to. */
  setOnline(clientId: string, online: boolean): void {
    this.#sessions.setOnline(clientId, online);
    this.#outbox.setOnline(clientId, online);
  }

  /** True while a durable client is away: what it subscribed to is kept for it. */
  get anyAway(): boolean { return this.#sessions.anyAway; }
  /** True when `secure` may have something to do for this publish. */
  mustSecure(packet: Packet): boolean { return packet.retain || this.anyAway; }

  /**
   * Stores what this publish must leave behind: its retained form, and copies for durable clients that are away. Calls `finish` when that is
   * flushed, with an error when it cannot be; returns false, without a call, when there is nothing to store.
   */
  secure(packet: Packet, finish: (error?: Error) => void): boolean {
    if (!this.mustSecure(packet)) return false;
    const payload = packet.payload;
    if (typeof payload === 'string') return false;
    const away = highestPerClient(this.#subscribers(packet.topic)).filter(({ clientId }) => !this.#sessions.isOnline(clientId));
    if (!packet.retain && away.length === 0) return false;
    const secured: Secured = { retained: packet.retain, queued: new Map() };
    if (packet.retain) this.#retain(packet);
    for (const { clientId, qos } of away) secured.queued.set(clientId, this.#outbox.add(clientId, packet, qos));
    this.#secured.set(payload, secured);
    this.#kv.flushed().then(() => finish(), finish);
    return true;
  }

  hasIncoming(clientId: string, messageId: number): boolean { return this.#incoming.get(clientId)?.has(messageId) === true; }

  // retained messages

  storeRetained(packet: Packet): PromiseLike<undefined> {
    if (typeof packet.payload === 'string' || this.#secured.get(packet.payload)?.retained !== true) this.#retain(packet);
    return DONE;
  }

  retained(filters: readonly string[]): Iterable<Packet> { return this.#retained.matching(filters); }
  createRetainedStream(filter: string): Readable { return Readable.from(this.#retained.matching([filter])); }
  createRetainedStreamCombi(filters: readonly string[]): Readable { return Readable.from(this.#retained.matching(filters)); }

  // subscriptions of durable sessions

  async addSubscriptions(client: ClientRef, subscriptions: readonly Subscription[]): Promise<void> { this.#sessions.add(client.id, subscriptions); }
  async removeSubscriptions(client: ClientRef, topics: readonly string[]): Promise<void> { this.#sessions.remove(client.id, topics); }
  async subscriptionsByClient(client: ClientRef): Promise<Subscription[]> { return this.#sessions.of(client.id); }
  async countOffline(): Promise<{ subsCount: number; clientsCount: number }> {
    return { subsCount: this.#sessions.subscriptionCount, clientsCount: this.#sessions.count };
  }

  /** A session ends (MQTT 3.1.1 §3.1.2.4): what was queued for it goes with it. */
  async cleanSubscriptions(client: ClientRef): Promise<void> {
    this.#sessions.end(client.id);
    this.#outbox.discard(client.id);
  }

  subscriptionsByTopic(topic: string): PromiseLike<DurableSubscription[]> {
    const matching = this.#subscribers(topic);
    return matching.length === 0 ? NOBODY_MATCHES : settled(matching);
  }

  getClientList(topic: string): Readable { return Readable.from(this.#sessions.clientsWith(topic)); }

  // what goes out to durable clients

  outgoingEnqueue(subscription: Recipient, packet: Packet): PromiseLike<undefined> {
    return this.outgoingEnqueueCombi([subscription], packet);
  }

  outgoingEnqueueCombi(subscriptions: readonly Recipient[], packet: Packet): PromiseLike<undefined> {
    if (subscriptions.length === 0) return DONE;
    const secured = typeof packet.payload === 'string' ? undefined : this.#secured.get(packet.payload);
    for (const { clientId, qos } of highestPerClient(subscriptions)) {
      const queued = secured?.queued.get(clientId)?.packet;
      if (queued === undefined) this.#outbox.add(clientId, packet, qos);
      else if (!isRelease(queued)) Object.assign(queued, { brokerId: packet.brokerId, brokerCounter: packet.brokerCounter });
    }
    return DONE;
  }

  outgoingUpdate(client: ClientRef, packet: Packet | Release): PromiseLike<undefined> {
    if (!isRelease(packet) && packet.qos === 0) return DONE;
    const item = this.#outbox.update(client.id, packet);
    if (item === undefined) return NO_SUCH_PACKET;
    // MQTT 3.1.1 §3.3.1.1: a repeated delivery says so. The engine writes this very object next.
    if (client.clean === false && !isRelease(packet) && item.sends > 1) packet.dup = true;
    return DONE;
  }

  outgoingClearMessageId(client: ClientRef, packet: Packet | Release): PromiseLike<Packet | Release | undefined> {
    return settled(this.#outbox.clear(client.id, packet));
  }

  outgoingStream(client: ClientRef): Readable { return Readable.from(this.#outbox.waiting(client.id)); }

  // QoS 2 publishes between PUBREC and PUBREL

  async incomingStorePacket(client: ClientRef, packet: Packet): Promise<void> {
    invariant(packet.messageId !== undefined, 'a QoS 2 publish has a message id');
    let open = this.#incoming.get(client.id);
    if (open === undefined) this.#incoming.set(client.id, open = new Map<number, Packet>());
    const { topic, qos, retain, dup = false, messageId } = packet;
    open.set(messageId, { cmd: 'publish', topic, payload: ownedPayload(packet), qos, retain, dup, messageId });
    if (client.clean !== false) return;
    this.#kv.put(incomingKey(client.id, packet.messageId), encodePacket({ ...packet, payload: '' }));
    await this.#kv.flushed();
  }

  incomingGetPacket(client: ClientRef, packet: { messageId?: number }): PromiseLike<Packet> {
    const known = this.#incoming.get(client.id)?.get(packet.messageId ?? 0);
    return known === undefined ? NO_SUCH_PACKET : settled(known);
  }

  incomingDelPacket(client: ClientRef, packet: { messageId?: number }): PromiseLike<undefined> {
    const messageId = packet.messageId ?? 0;
    if (this.#incoming.get(client.id)?.delete(messageId) !== true) return NO_SUCH_PACKET;
    if (client.clean === false) this.#kv.remove(incomingKey(client.id, messageId));
    return DONE;
  }

  async cleanIncoming(client: ClientRef): Promise<void> { this.#cleanIncoming(client.id); }

  // wills

  async putWill(client: ClientRef, packet: Packet): Promise<void> {
    packet.brokerId = this.#broker.id;
    packet.clientId = client.id;
    this.#wills.set(client.id, packet);
    this.#kv.put(WILL + client.id, encodePacket(packet));
  }

  async getWill(client: ClientRef): Promise<Packet | undefined> { return this.#wills.get(client.id); }

  async delWill(client: ClientRef): Promise<Packet | undefined> {
    const will = this.#wills.get(client.id);
    if (this.#wills.delete(client.id)) this.#kv.remove(WILL + client.id);
    return will;
  }

  streamWill(brokers: Readonly<Record<string, unknown>> = {}): Readable {
    return Readable.from(this.#wills.values().filter((will) => brokers[will.brokerId ?? ''] === undefined));
  }

  /** Ends writing behind; the map stays the caller's, who closes and thereby flushes it. */
  async destroy(): Promise<void> {
    clearInterval(this.#writeBehind);
    this.#outbox.writeBehind(Number.MAX_SAFE_INTEGER);
  }

  #subscribers(topic: string): DurableSubscription[] {
    const matching: DurableSubscription[] = [];
    this.#sessions.collect(topic, matching);
    return matching;
  }

  #retain(packet: Packet): void {
    if (!this.#retained.store(packet)) this.#onLoss('retained_full', packet.topic);
  }

  #forget(clientId: string): void {
    this.#outbox.discard(clientId);
    this.#cleanIncoming(clientId);
  }

  #cleanIncoming(clientId: string): void {
    for (const messageId of this.#incoming.get(clientId)?.keys() ?? []) this.#kv.remove(incomingKey(clientId, messageId));
    this.#incoming.delete(clientId);
  }

  #restore(): void {
    for (const { key, value } of this.#kv.range(INCOMING)) {
      const [, clientId = ''] = key.split('\u0001');
      const packet = decodePacket(value);
      if (packet === undefined || isRelease(packet) || packet.messageId === undefined) continue;
      const open = this.#incoming.get(clientId) ?? new Map<number, Packet>();
      this.#incoming.set(clientId, open.set(packet.messageId, packet));
    }
    for (const { key, value } of this.#kv.range(WILL)) {
      const clientId = key.slice(WILL.length);
      const packet = decodePacket(value);
      if (packet !== undefined && !isRelease(packet)) this.#wills.set(clientId, { ...packet, clientId, brokerId: 'earlier' });
    }
  }
}

const incomingKey = (clientId: string, messageId: number): string => `${INCOMING}${clientId}\u0001${messageId}`;

/** Overlapping filters of one client get one copy, at the highest QoS (MQTT 3.1.1 §3.3.5). */
function highestPerClient<T extends Recipient>(matching: readonly T[]): readonly T[] {
  if (matching.length < 2) return matching;
  const best = new Map<string, T>();
  for (const subscription of matching) {
    const known = best.get(subscription.clientId);
    if (known === undefined || (known.qos ?? 0) < (subscription.qos ?? 0)) best.set(subscription.clientId, subscription);
  }
  return [...best.values()];
}
