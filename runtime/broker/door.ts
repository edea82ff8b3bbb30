/**
 * The decisions of the front door, called by the engine at its seams: who comes in, what is taken in, who gets what.
 *
 * `authorizePublish` is the seam of acknowledge-after-flush: the engine calls it in the order of arrival and sends PUBACK or PUBREC only
 * when its callback is called. The order of the ledger is taken there, synchronously, before anything can be awaited.
 */
import type { Socket } from 'node:net';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Counters, InboundMessage, Intake } from '#runtime/core/ports.ts';
import type { Admission, Visitor } from './admission.ts';
import { CONNACK, Connection, Refusal, type EngineClient, type UnflushedWindow } from './clients.ts';
import type { Emitter } from './emitter.ts';
import type { LaneDoor } from './fastLane.ts';
import type { Faults } from './faults.ts';
import type { ListenerPlan } from './listeners.ts';
import type { Packet, Qos, Subscription } from './packets.ts';
import { Permissions } from './permissions.ts';
import type { Persistence } from './persistence.ts';
import { clientIdFault, filterFault, publishTopicFault } from './topics.ts';

type Callback = (error?: Error | null) => void;

export interface DoorOptions {
  readonly admission: Admission;
  readonly intake: Intake;
  readonly persistence: Persistence;
  readonly emitter: Emitter;
  readonly faults: Faults;
  readonly counters: Counters;
}

/** What we look at of a CONNECT. */
interface ConnectPacket {
  clientId: string;
  readonly clean?: boolean | undefined;
  readonly username?: string | undefined;
  readonly will?: { readonly topic: string } | undefined;
}

const NOWHERE = '$nowhere';

/** One object for all messages: an intake copies what it needs before `accept` returns. */
class Message implements InboundMessage {
  clientId = '';
  topic = '';
  payload: Uint8Array = Buffer.alloc(0);
  qos: Qos = 0;
  retain = false;
  duplicate = false;
  packetId = 0;
}

export class Door {
  readonly #options: DoorOptions;
  readonly #connections = new WeakMap<EngineClient, Connection>();
  readonly #present = new Map<string, EngineClient>();
  readonly #byUser = new Map<string, Set<EngineClient>>();
  readonly #message = new Message();

  constructor(options: DoorOptions) { this.#options = options; }

  get present(): ReadonlyMap<string, EngineClient> { return this.#present; }
  /** Their connections, without a look at any other. */
  *presentAs(users: readonly string[]): Iterable<EngineClient> { for (const user of users) yield* this.#byUser.get(user) ?? []; }
  connectionOf(client: EngineClient): Connection | undefined { return this.#connections.get(client); }

  entered(client: EngineClient, socket: Socket, listener: ListenerPlan): void {
    this.#connections.set(client, new Connection(listener, socket, (error) => this.#unacknowledged(error, client.id)));
  }

  /** The door, as the fast lane of this connection sees it. */
  laneDoor(client: EngineClient): LaneDoor {
    const { intake, persistence, emitter } = this.#options;
    return {
      intake,
      plainVersion: () => (persistence.anyAway ? -1 - emitter.version : emitter.version),
      isPlain: (topic) => !persistence.anyAway && publishTopicFault(topic) === undefined && this.#connections.get(client)?.permissions.mayPublish(topic) === true && !emitter.hasListener(topic),
      lost: (error) => this.#unacknowledged(error, client.id),
    };
  }

  registered(client: EngineClient): void {
    this.#present.set(client.id, client);
    this.#connectionsAs(client)?.add(client);
    if (!client.clean) this.#options.persistence.setOnline(client.id, true);
  }

  left(client: EngineClient): void {
    if (this.#present.get(client.id) === client) this.#present.delete(client.id);
    const same = this.#connectionsAs(client);
    same?.delete(client);
    if (same?.size === 0) this.#byUser.delete(this.#connections.get(client)?.user ?? '');
    if (!client.clean) this.#options.persistence.setOnline(client.id, false);
  }

  #connectionsAs(client: EngineClient): Set<EngineClient> | undefined {
    const user = this.#connections.get(client)?.user;
    if (user === undefined) return undefined;
    const found = this.#byUser.get(user) ?? new Set();
    this.#byUser.set(user, found);
    return found;
  }

  unsubscribed(client: EngineClient, filters: readonly string[]): void { this.#connections.get(client)?.withdraw(filters); }

  /** Looks at the CONNECT packet before anything of it is believed. */
  preConnect(client: EngineClient, packet: ConnectPacket): TenzroError | undefined {
    const connection = this.#connections.get(client);
    if (connection === undefined) return new TenzroError('broker.internal', 'a CONNECT without a connection');
    const fault = clientIdFault(packet.clientId)
      // §3.1.3.1: an empty identifier cannot name a session that is to be kept
      ?? (packet.clientId === '' && packet.clean !== true ? new TenzroError('broker.client_id', 'an empty client id needs a clean session') : undefined);
    if (fault !== undefined) connection.refusal = new Refusal(CONNACK.identifierRejected, fault.code, fault.message);
    else if (packet.clientId !== '') packet.clientId = this.#scopeOf(connection, packet.username) + packet.clientId;
    connection.willTopic = packet.will?.topic;
    return packet.will === undefined ? undefined : publishTopicFault(packet.will.topic);
  }

  /** Undefined when the client may come in. */
  async authenticate(client: EngineClient, user: string | undefined, password: Buffer | undefined): Promise<Refusal | undefined> {
    const connection = this.#connections.get(client);
    if (connection === undefined) return new Refusal(CONNACK.unavailable, 'broker.internal', 'authentication without a connection');
    const admitted = connection.refusal ?? await this.#options.admission.admit(visitorOf(connection, user, password));
    if (admitted instanceof Refusal) return admitted;
    connection.user = admitted.user;
    connection.permissions = new Permissions(admitted.lists, { clientId: client.id, user: admitted.user });
    if (connection.willTopic !== undefined && !connection.permissions.mayPublish(connection.willTopic)) {
      const { code, message } = forbidden('publish', connection.willTopic, connection);
      return new Refusal(CONNACK.notAuthorised, code, message);
    }
    const holder = this.#present.get(client.id);
    if (holder === undefined) return undefined;
    if (this.#connections.get(holder)?.user !== connection.user) {
      return new Refusal(CONNACK.identifierRejected, 'broker.client_id_taken', `client id ${client.id} belongs to another user's connection`);
    }
    this.#options.counters.add('broker.takeovers');
    return undefined;
  }

  authorizePublish(client: EngineClient | null, packet: Packet, done: Callback): void {
    // the engine has no client for the will of one that an earlier run lost
    if (client === null) return this.#accept(packet.clientId ?? '', undefined, packet, done);
    const connection = this.#connections.get(client);
    const fault = publishTopicFault(packet.topic)
      ?? (connection?.permissions.mayPublish(packet.topic) === true ? undefined : forbidden('publish', packet.topic, connection));
    if (fault?.code === 'broker.topic_reserved') {
      // §3.3.5: acknowledged like any publish and taken to a topic that nobody may subscribe to
      this.#options.faults.report(fault, { client: client.id });
      packet.topic = NOWHERE;
      packet.retain = false;
      return done();
    }
    if (fault !== undefined) {
      // a will has no connection left to end with the error
      if (packet.messageId === undefined && packet.cmd === undefined) this.#options.faults.report(fault, { client: client.id });
      return done(fault);
    }
    if (packet.qos === 2 && packet.messageId !== undefined && connection !== undefined) return this.#acceptOnce(client.id, connection, packet.messageId, packet, done);
    this.#accept(client.id, connection, packet, done);
  }

  /** Grants, or marks as refused: the engine then answers 0x80 for this filter (§3.9.3). An error ends the connection. */
  authorizeSubscribe(client: EngineClient, subscription: Subscription): TenzroError | 'granted' | 'refused' {
    const malformed = filterFault(subscription.topic);
    if (malformed !== undefined) return malformed;
    const connection = this.#connections.get(client);
    const full = connection === undefined || (connection.subscriptionCount >= LIMITS.subscriptionsPerClientMax && !connection.isSubscribed(subscription.topic));
    if (!full && connection.permissions.maySubscribe(subscription.topic)) {
      connection.grant(subscription.topic, subscription.qos);
      return 'granted';
    }
    this.#options.faults.report(forbidden('subscribe', subscription.topic, connection), { client: client.id });
    // the engine stores all subscriptions of a packet when the first is granted: the mark keeps this one out
    subscription.qos = 128;
    if (!client.clean) void this.#options.persistence.removeSubscriptions(client, [subscription.topic]);
    return 'refused';
  }

  /** The packet as this subscriber gets it, or null. Never lets a subscriber that does not read grow without bound. */
  authorizeForward(client: EngineClient, packet: Packet): Packet | null {
    const connection = this.#connections.get(client);
    if (connection === undefined || !connection.permissions.mayReceive(packet.topic)) return null;
    const qos = connection.deliveredQos(packet.topic, packet.qos);
    if (client.conn.writableLength > LIMITS.subscriberBacklogBytesMax) {
      if (qos === 0) {
        this.#options.counters.add('broker.dropped_qos0');
        return null;
      }
      client.conn.destroy(new TenzroError('broker.subscriber_stalled', `${client.conn.writableLength} bytes wait for it`));
    }
    return qos === packet.qos ? packet : { ...packet, qos };
  }

  #scopeOf(connection: Connection, user: string | undefined): string { return this.#options.admission.scopeOf?.(visitorOf(connection, user, undefined)) ?? ''; }

  #accept(clientId: string, connection: Connection | undefined, packet: Packet, done: Callback): void {
    const { intake, persistence } = this.#options;
    const message = this.#message;
    message.clientId = clientId;
    message.topic = packet.topic;
    message.payload = typeof packet.payload === 'string' ? Buffer.from(packet.payload) : packet.payload;
    message.qos = packet.qos;
    message.retain = packet.retain;
    message.duplicate = packet.dup === true;
    message.packetId = packet.messageId ?? 0;
    if (packet.qos === 0 && connection !== undefined) this.#acceptUnacknowledged(connection.unflushed, message, done);
    else if (persistence.mustSecure(packet)) intake.accept(message, (error) => (error === undefined ? this.#settle(packet, done) : done(error)));
    else intake.accept(message, done);
  }

  /** What the engine must not forget goes to disk before the publisher hears of success. */
  #settle(packet: Packet, done: Callback): void {
    if (packet.qos === 0 || !this.#options.persistence.secure(packet, done)) done();
  }

  #acceptUnacknowledged(window: UnflushedWindow, message: InboundMessage, done: Callback): void {
    const prompt = window.enter();
    this.#options.intake.accept(message, window.flushed);
    if (prompt) done();
    else window.wait(done);
  }

  /** QoS 0 promises nothing: the message still reaches who listens, and the connection stays. */
  #unacknowledged(error: Error, clientId: string): void {
    if (error instanceof TenzroError) this.#options.faults.report(error, { client: clientId });
    else this.#options.faults.ended(error, { client: clientId });
  }

  /** §4.3.3: a publish repeated before its PUBREL is acknowledged again, and neither recorded nor delivered again. */
  #acceptOnce(clientId: string, connection: Connection, messageId: number, packet: Packet, done: Callback): void {
    if (this.#options.persistence.hasIncoming(clientId, messageId)) return done();
    const waiting = connection.exactlyOnce.get(messageId);
    if (waiting !== undefined) {
      waiting.push(done);
      return;
    }
    const callbacks: Callback[] = [done];
    connection.exactlyOnce.set(messageId, callbacks);
    this.#accept(clientId, connection, packet, (error) => {
      connection.exactlyOnce.delete(messageId);
      for (const callback of callbacks) callback(error);
    });
  }
}

const visitorOf = (connection: Connection, user: string | undefined, password: Buffer | undefined): Visitor =>
  ({ user, password, address: connection.address, mayBeAnonymous: connection.listener.anonymous, keyDigest: () => connection.keyDigest() });

function forbidden(what: 'publish' | 'subscribe', topic: string, connection: Connection | undefined): TenzroError {
  const who = connection?.user === undefined ? 'an anonymous client' : `user ${connection.user}`;
  return new TenzroError(what === 'publish' ? 'broker.publish_forbidden' : 'broker.subscribe_forbidden', `${who} may not ${what} ${JSON.stringify(topic.slice(0, 80))}`);
}
