/** The composition root of a fleet's own broker, in the controller's process: joins the front door, the register of gateways and the controller's folder. */
import { hostname, networkInterfaces } from 'node:os';
import { openBroker, type Broker } from '#runtime/broker/broker.ts';
import { FLEET_BOUNDS } from '#runtime/broker/bounds.ts';
import { FleetAdmission, type GatewayRegister } from '#runtime/broker/fleetAdmission.ts';
import type { ListenerFacts } from '#runtime/broker/listeners.ts';
import { messageOf } from '#runtime/core/errors.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import type { FleetLink, Intake, KeyValueStore, Log } from '#runtime/core/ports.ts';
import { filesOf } from '#runtime/controller/house.ts';
import type { PartContext } from '#runtime/controller/part.ts';
import { readPeople, stampOf } from '#runtime/controller/people.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import type { Hub } from '#runtime/link/hub.ts';

export interface FleetBrokerOptions {
  readonly listen: { readonly host: string; /** 0 picks a free one. */ readonly port: number };
  readonly register: GatewayRegister & { watch(onChange: (gateway: string) => void): Disposable };
  readonly hub: Hub;
  readonly onStoreState: (state: string, detail: string) => void;
}

export interface FleetBroker extends AsyncDisposable {
  readonly link: FleetLink;
  /** As gateways reach it. */
  readonly url: string;
  /** Names are those of `tenzro fleet status --json`. */
  readonly facts: () => JsonObject;
}

/** Nothing is recorded here: what is retained the broker flushes itself, and a shipment counts by its receipt only. */
const PASS_ON: Intake = { accept: (_message, done) => { done(); } };
/** Long before the 90 days of the broker's certificate are over. */
const RENEW_MS = 24 * 3_600_000;
const LOOK_MS = 2_000;

/** Throws `broker.port_in_use`, `broker.listener`, `controller.users`, `ledger.*`. */
export async function openFleetBroker({ dir, house: { authority, hosts }, clock, counters, log }: PartContext, { listen, register, hub, onStoreState }: FleetBrokerOptions): Promise<FleetBroker> {
  await using opened = new AsyncDisposableStack();
  const nowMs = (): number => Math.floor(clock.wallMicros() / 1_000);
  const store = opened.use(await openKeyValueStore(filesOf(dir).broker, onStoreState));
  const admission = new FleetAdmission(register, clock);
  const people = new PeopleFile(filesOf(dir).users, admission, log);
  await people.look();
  const isOut = (key: Uint8Array | undefined, gateway: string): boolean => key !== undefined && register.admits(key) !== gateway;
  const names = (): readonly string[] => (hosts.length > 0 ? hosts : ownNames());
  const material = async () => {
    const { key, certificate } = authority.brokerIdentity([...new Set([...names(), ...LOCAL])], nowMs());
    return { key, cert: certificate };
  };
  const broker = opened.use(await openBroker({ listeners: [{ ...listen, anonymous: false, tls: { material, clients: 'any' } }], admission, intake: PASS_ON, store, log: log.child({ room: 'broker' }), counters, clock, bounds: FLEET_BOUNDS }));
  opened.use(register.watch((gateway) => { broker.cut([gateway], (client) => isOut(client.keyDigest(), gateway)); }));
  opened.defer(every(LOOK_MS, log, async () => {
    const gone = await people.look();
    broker.cut(gone, (client) => client.keyDigest() === undefined);
  }));
  opened.defer(every(RENEW_MS, log, () => broker.renewTls()));
  const link = openInnerLink(broker, store, hub);
  const resources = opened.move();
  const listening = (): ListenerFacts => broker.listeners()[0] ?? { ...listen, tls: true, auth: 'certificate or password' };
  return {
    link, url: `mqtts://${urlHost(names()[0] ?? 'localhost')}:${listening().port}`,
    facts: () => {
      const { host, port, tlsVersion = 'none', groups = {} } = listening();
      const users = broker.clients().map(({ user }) => user ?? '');
      return { host, port, tlsVersion, groups, clients: users.length, users: [...new Set(users)].toSorted() };
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** The controller's own way to its broker: no socket, no password, always there. */
function openInnerLink(broker: Broker, store: KeyValueStore, hub: Hub): FleetLink {
  const link: FleetLink = {
    isReady: true, keyExchange: 'none', fault: '',
    ready: async (signal) => !signal.aborted,
    async publish(topic, payload, { retain }) {
      const copy = Uint8Array.from(payload);
      await Promise.resolve(); // who hears a message may answer it at once: not in the middle of its delivery
      await broker.publish(topic, copy, { retain, qos: 1 });
      if (retain) await store.flushed();
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
  broker.observe('te/#', (topic, payload) => { hub.receive(topic, payload); });
  for (const { topic, payload } of broker.retained(hub.subscriptions.map(({ filter }) => filter))) hub.receive(topic, payload);
  hub.connected(link, 'the controller\'s own broker');
  return link;
}

class PeopleFile {
  readonly #path: string;
  readonly #admission: FleetAdmission;
  readonly #log: Log;
  #known = new Map<string, string>();
  #stamp = '';

  constructor(path: string, admission: FleetAdmission, log: Log) {
    [this.#path, this.#admission, this.#log] = [path, admission, log];
  }

  /** Names that may not come in any more, or not with that password. A file that does not hold leaves the one before in force, loudly. */
  async look(): Promise<readonly string[]> {
    const stamp = await stampOf(this.#path);
    if (stamp === this.#stamp) return [];
    this.#stamp = stamp;
    try {
      const people = await readPeople(this.#path);
      this.#admission.setPeople(people);
      const before = this.#known;
      this.#known = new Map(people.map(({ name, passwordHash }) => [name, passwordHash]));
      return [...before].filter(([name, hash]) => this.#known.get(name) !== hash).map(([name]) => name);
    } catch (error) {
      this.#log.error({ error: messageOf(error) }, 'the file of users does not hold: the one before stays in force');
      return [];
    }
  }
}

/** Calls `work` again and again, never twice at once, until it is disposed of. */
function every(intervalMs: number, log: Log, work: () => Promise<void>): () => void {
  let busy = false;
  const timer = setInterval(() => {
    if (busy) return;
    busy = true;
    work().catch((error: unknown) => { log.error({ error: messageOf(error) }, 'the broker is as it was'); }).finally(() => { busy = false; });
  }, intervalMs);
  return () => { clearInterval(timer); };
}

/** Under these it is reached on this machine, however else it is called. */
const LOCAL = ['localhost', '127.0.0.1', '::1'];

/** Host name and addresses of this machine on its networks, those of IPv6 that hold everywhere. */
function ownNames(): readonly string[] {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []).filter(({ internal, address }) => !internal && !/^fe80:/i.test(address)).map(({ address }) => address);
  return [hostname(), ...addresses];
}

const urlHost = (host: string): string => (host.includes(':') ? `[${host}]` : host);
