/**
 * The MQTT front door: aedes behind our adapter. The only file that imports it.
 *
 * A PUBACK (QoS 1) or PUBREC (QoS 2) means that the intake called back: the message is flushed, or policy does not record it.
 */
import type { Socket } from 'node:net';
import { Aedes } from 'aedes';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Counters, Intake, KeyValueStore, Log } from '#runtime/core/ports.ts';
import type { Admission } from './admission.ts';
import { GATEWAY_BOUNDS, type BrokerBounds } from './bounds.ts';
import type { EngineClient } from './clients.ts';
import { Door } from './door.ts';
import { Emitter } from './emitter.ts';
import { FastLane, type LaneClient } from './fastLane.ts';
import { Faults } from './faults.ts';
import { openListener, type ListenerFacts, type ListenerPlan, type OpenListener, type Reception } from './listeners.ts';
import { payloadBytes, type Packet } from './packets.ts';
import { Persistence, type PersistenceLoss } from './persistence.ts';

const BACKLOG_CHECK_MS = 1_000;

export interface BrokerOptions {
  readonly listeners: readonly ListenerPlan[];
  readonly admission: Admission;
  readonly intake: Intake;
  /** Where sessions and retained messages are kept; stays the caller's to close, after the broker. */
  readonly store: KeyValueStore;
  readonly log: Log;
  readonly counters: Counters;
  readonly clock: Clock;
  /** How long a connection may take for its CONNECT; LIMITS.connectTimeoutMs where it is not given. */
  readonly connectTimeoutMs?: number;
  /** Those of a gateway where they are not given. */
  readonly bounds?: BrokerBounds;
}

interface ClientFacts {
  readonly id: string;
  readonly user: string | undefined;
  readonly address: string;
  /** `spkiPin` of the key that it proved in TLS; undefined where it showed no certificate. */
  keyDigest(): Uint8Array | undefined;
}

export interface Broker extends AsyncDisposable {
  /** Publishes in the gateway's own name: delivered and retained like any message, never recorded. Resolves when it was handed on. */
  publish(topic: string, payload: Uint8Array | string, options: { readonly retain: boolean; readonly qos: 0 | 1 }): Promise<void>;
  /** Every message on topics that `filter` matches, by whomever, once it is retained; the payload is valid during the call only. `seen` MUST NOT throw, nor publish. */
  observe(filter: string, seen: (topic: string, payload: Uint8Array) => void): void;
  listeners(): readonly ListenerFacts[];
  clients(): readonly ClientFacts[];
  /** What is retained on topics that `filters` match; the payloads are not the caller's to change. */
  retained(filters: readonly string[]): Iterable<{ readonly topic: string; readonly payload: Uint8Array }>;
  /** Ends connections of these users as lost ones: their wills fire. */
  cut(users: readonly string[], isOut: (client: ClientFacts) => boolean): void;
  /** New connections get what the listeners' plans give now. Rejects with `broker.listener`. */
  renewTls(): Promise<void>;
}

/** Opens all listeners. Throws `broker.port_in_use` and `broker.listener`. */
export async function openBroker(options: BrokerOptions): Promise<Broker> {
  const { counters, clock, bounds = GATEWAY_BOUNDS } = options;
  const faults = new Faults(options.log, counters, clock);
  await using opened = new AsyncDisposableStack();
  const emitter = new Emitter();
  const persistence = new Persistence(options.store, (loss, name) => faults.report(new TenzroError(LOSSES[loss].code, LOSSES[loss].message), { about: name }), bounds);
  const door = new Door({ ...options, persistence, emitter, faults });
  const engine = await openEngine(door, emitter, persistence, faults, options.connectTimeoutMs ?? LIMITS.connectTimeoutMs);
  opened.defer(() => persistence.destroy());
  const sockets = new Set<Socket>();
  const listeners: OpenListener[] = [];
  opened.defer(() => closeAll(engine, listeners, sockets));

  const reception: Reception = {
    onSocket: (socket, listener, inbound, outbound) => {
      const client = engine.handle(socket);
      door.entered(client, socket, listener);
      inbound.open(new FastLane(socket, client as typeof client & Pick<LaneClient, '_keepaliveTimer'>, door.laneDoor(client), (packetId) => outbound.acknowledge(packetId)));
    },
    onSecured: (group, address) => {
      counters.add(`broker.tls.${group}`);
      options.log.debug({ address, group }, 'TLS handshake');
    },
    onFault: (error, address) => faults.report(error, { address }),
  };
  for (const plan of options.listeners) listeners.push(await openListener(plan, reception, { open: sockets, bounds }));
  const watch = setInterval(() => {
    relieve(door, bounds.backlogTotalBytesMax);
    counters.set('broker.connections', sockets.size);
  }, BACKLOG_CHECK_MS);
  opened.defer(() => clearInterval(watch));

  const resources = opened.move();
  return {
    publish: (topic, payload, { retain, qos }) => new Promise((resolve, reject) => {
      const packet = { cmd: 'publish' as const, topic, payload: Buffer.from(payload), retain, qos, dup: false };
      engine.publish(packet, (error) => (error ? reject(error) : resolve()));
    }),
    observe: (filter, seen) => {
      emitter.on(filter, (message, done) => {
        seen(message.topic, payloadBytes(message as Packet));
        done();
      });
    },
    listeners: () => listeners.map((listener) => listener.facts()),
    clients: () => [...door.present.values()].map((client) => factsOf(door, client)),
    *retained(filters) {
      for (const packet of persistence.retained(filters)) yield { topic: packet.topic, payload: payloadBytes(packet) };
    },
    cut: (users, isOut) => {
      for (const client of door.presentAs(users)) if (isOut(factsOf(door, client))) client.conn.destroy(new TenzroError('broker.cut', `client ${client.id} may not stay`));
    },
    async renewTls() { await Promise.all(listeners.map((listener) => listener.renew())); },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

function factsOf(door: Door, client: EngineClient): ClientFacts {
  const connection = door.connectionOf(client);
  return { id: client.id, user: connection?.user, address: connection?.address ?? '', keyDigest: () => connection?.keyDigest() };
}

/** No new ones, then the engine says goodbye to its clients (their wills fire), then whoever has not even said CONNECT goes. */
async function closeAll(engine: Aedes, listeners: readonly OpenListener[], sockets: ReadonlySet<Socket>): Promise<void> {
  const closing = listeners.map((listener) => listener.close());
  await new Promise<void>((resolve) => { engine.close(resolve); });
  for (const socket of sockets) socket.destroy();
  await Promise.all(closing);
}

async function openEngine(door: Door, emitter: Emitter, persistence: Persistence, faults: Faults, connectTimeoutMs: number): Promise<Aedes> {
  const engine = await Aedes.createBroker({
    mq: emitter,
    persistence,
    connectTimeout: connectTimeoutMs,
    drainTimeout: LIMITS.subscriberDrainTimeoutMs,
    queueLimit: LIMITS.inFlightPerClientMax,
    maxInflightInbound: LIMITS.exactlyOnceOpenMax,
    maxTopicLevels: LIMITS.topicLevelsMax,
    // MQTT 3.1 wants 23 characters at most; devices in the field do not care
    maxClientsIdLength: LIMITS.clientIdBytesMax,
    preConnect: (client, packet, done) => {
      const fault = door.preConnect(client, packet);
      done(fault ?? null, fault === undefined);
    },
    authenticate: (client, user, password, answer) => {
      void door.authenticate(client, user, password).then((refusal) => answer(refusal ?? null, refusal === undefined));
    },
    authorizePublish: (client, packet, done) => door.authorizePublish(client, packet, done),
    authorizeSubscribe: (client, subscription, done) => {
      const answer = door.authorizeSubscribe(client, subscription);
      if (answer instanceof TenzroError) return done(answer);
      // a turn later: all filters of the packet are judged before the first is stored
      // and as QoS 1 at least: the engine fixes QoS 0 per filter, the door knows the highest of those that match
      const granted = { ...subscription, qos: subscription.qos === 2 ? 2 as const : 1 as const };
      queueMicrotask(() => done(null, answer === 'granted' ? granted : null));
    },
    authorizeForward: (client, packet) => door.authorizeForward(client, packet) as typeof packet | null,
  });
  engine.on('client', (client) => door.registered(client));
  engine.on('clientDisconnect', (client) => door.left(client));
  engine.on('unsubscribe', (filters, client) => door.unsubscribed(client, filters));
  engine.on('clientError', (client, error) => faults.ended(error, { client: client.id }));
  engine.on('connectionError', (client, error) => faults.ended(error, { address: door.connectionOf(client)?.address ?? '' }));
  engine.addListener('error', (cause: Error) => faults.report(new TenzroError('broker.internal', cause.message, { cause }), {}));
  return engine;
}

const LOSSES = {
  retained_full: { code: 'broker.retained_full', message: 'a message was delivered but not retained' },
  queue_dropped: { code: 'broker.session_lost', message: 'the oldest message queued for a client was dropped' },
  session_evicted: { code: 'broker.session_lost', message: 'the session away longest was ended' },
} as const satisfies Record<PersistenceLoss, { code: ErrorCode; message: string }>;

/** Cuts the subscribers with the largest backlogs while all backlogs together are beyond the bound. */
function relieve(door: Door, totalBytesMax: number): void {
  let total = 0;
  for (const client of door.present.values()) total += client.conn.writableLength;
  if (total <= totalBytesMax) return;
  for (const client of [...door.present.values()].toSorted((a, b) => b.conn.writableLength - a.conn.writableLength)) {
    if (total <= totalBytesMax) return;
    total -= client.conn.writableLength;
    client.conn.destroy(new TenzroError('broker.subscriber_stalled', `${client.conn.writableLength} bytes wait for it, ${total} for others`));
  }
}
