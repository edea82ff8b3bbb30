/** The subscriptions of durable sessions: by client for a reconnect, by topic for what must be queued. Mirrored to disk. */
import { LIMITS } from '#runtime/core/limits.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import type { Subscription } from './packets.ts';
import { TopicTree } from './topicTree.ts';

const KEY = 's\u0001';
const REFUSED = 128;

export interface DurableSubscription extends Subscription { readonly clientId: string }

interface Session { readonly subscriptions: Map<string, DurableSubscription>; online: boolean }

export class DurableSessions {
  readonly #kv: KeyValueStore;
  readonly #onEvicted: (clientId: string) => void;
  /** Longest away first: a session moves to the end when its client leaves. */
  readonly #byClient = new Map<string, Session>();
  /** Only QoS 1 and 2: nothing is queued at QoS 0. */
  readonly #byTopic = new TopicTree<DurableSubscription>();
  readonly #online = new Set<string>();
  #away = 0;

  constructor(kv: KeyValueStore, onEvicted: (clientId: string) => void) {
    this.#kv = kv;
    this.#onEvicted = onEvicted;
    for (const { key, value } of kv.range(KEY)) {
      const stored: unknown = JSON.parse(Buffer.from(value).toString());
      if (Array.isArray(stored)) this.#restore(key.slice(KEY.length), stored);
    }
  }

  get count(): number { return this.#byClient.size; }
  get subscriptionCount(): number { return this.#byTopic.size; }
  /** True when some durable client is not connected: only then a publish may have to be queued before it is acknowledged. */
  get anyAway(): boolean { return this.#away > 0; }

  isOnline(clientId: string): boolean { return this.#online.has(clientId); }

  add(clientId: string, subscriptions: readonly Subscription[]): void {
    const session = this.#byClient.get(clientId) ?? this.#open(clientId);
    for (const { topic, ...terms } of subscriptions) {
      if (terms.qos === REFUSED) continue;
      this.#unindex(session.subscriptions.get(topic));
      const subscription = { clientId, topic, ...terms, rh: terms.rh, rap: terms.rap, nl: terms.nl };
      session.subscriptions.set(topic, subscription);
      if (terms.qos > 0) this.#byTopic.add(topic, subscription);
    }
    this.#save(clientId, session);
  }

  remove(clientId: string, topics: readonly string[]): void {
    const session = this.#byClient.get(clientId);
    if (session === undefined) return;
    for (const topic of topics) {
      this.#unindex(session.subscriptions.get(topic));
      session.subscriptions.delete(topic);
    }
    if (session.subscriptions.size === 0) this.end(clientId);
    else this.#save(clientId, session);
  }

  end(clientId: string): void {
    const session = this.#byClient.get(clientId);
    if (session === undefined) return;
    for (const subscription of session.subscriptions.values()) this.#unindex(subscription);
    this.#byClient.delete(clientId);
    if (!session.online) this.#away--;
    this.#kv.remove(KEY + clientId);
  }

  setOnline(clientId: string, online: boolean): void {
    if (online) this.#online.add(clientId);
    else this.#online.delete(clientId);
    const session = this.#byClient.get(clientId);
    if (session === undefined || session.online === online) return;
    session.online = online;
    this.#away += online ? -1 : 1;
    this.#byClient.delete(clientId);
    this.#byClient.set(clientId, session);
  }

  of(clientId: string): Subscription[] {
    return [...(this.#byClient.get(clientId)?.subscriptions.values() ?? [])].map(({ clientId: _owner, ...subscription }) => subscription);
  }

  clientsWith(topic: string): string[] {
    return [...this.#byClient].filter(([, session]) => session.subscriptions.has(topic)).map(([clientId]) => clientId);
  }

  /** Appends the QoS 1 and 2 subscriptions that match, at most one per client and filter. */
  collect(topic: string, into: DurableSubscription[]): void {
    if (this.#byTopic.size > 0) this.#byTopic.collect(topic, into);
  }

  #open(clientId: string): Session {
    const session: Session = { subscriptions: new Map(), online: this.#online.has(clientId) };
    this.#byClient.set(clientId, session);
    if (!session.online) this.#away++;
    if (this.#byClient.size > LIMITS.durableSessionsMax) {
      const oldest = this.#byClient.entries().find(([id, candidate]) => !candidate.online && id !== clientId);
      if (oldest !== undefined) {
        this.end(oldest[0]);
        this.#onEvicted(oldest[0]);
      }
    }
    return session;
  }

  #unindex(subscription: DurableSubscription | undefined): void {
    if (subscription !== undefined && subscription.qos > 0) this.#byTopic.remove(subscription.topic, (other) => other === subscription);
  }

  #save(clientId: string, session: Session): void {
    const rows = [...session.subscriptions.values()].map(({ topic, qos, rh, rap, nl }) => ({ topic, qos, rh, rap, nl }));
    this.#kv.put(KEY + clientId, Buffer.from(JSON.stringify(rows)));
  }

  #restore(clientId: string, rows: readonly unknown[]): void {
    const session = this.#open(clientId);
    for (const row of rows) {
      if (typeof row !== 'object' || row === null || !('topic' in row) || !('qos' in row)) continue;
      const { topic, qos } = row;
      if (typeof topic !== 'string' || typeof qos !== 'number') continue;
      const subscription: DurableSubscription = { rh: undefined, rap: undefined, nl: undefined, ...row, clientId, topic, qos };
      session.subscriptions.set(topic, subscription);
      if (qos > 0) this.#byTopic.add(topic, subscription);
    }
  }
}
