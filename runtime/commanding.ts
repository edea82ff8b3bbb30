/** The composition root of commands: joins their follower with the broker's topics, the configuration file, fresh proofs and this process. */
import { readFileSync } from 'node:fs';
import { MqttActuator, type LocalBroker } from '#drivers/mqtt/actuator.ts';
import { toHex } from '#runtime/core/bytes.ts';
import type { FreshProofs } from '#runtime/attest/freshProofs.ts';
import type { Broker } from '#runtime/broker/broker.ts';
import { payloadBytes } from '#runtime/broker/packets.ts';
import { storedRetained } from '#runtime/broker/retained.ts';
import { readConfigText } from '#runtime/config/load.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { mayCommand, type CommandType, type Operator } from '#runtime/core/command.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { Owner } from '#runtime/core/fleet.ts';
import type { Counters, FleetLink, KeyValueStore, LinkUser, Log, Updater } from '#runtime/core/ports.ts';
import type { Settings } from '#runtime/core/settings.ts';
import type { Maybe } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { Commander } from '#runtime/fleet/commander.ts';
import { handlersOf, supportedTypes } from '#runtime/fleet/handlers.ts';
import type { ModelKeeper } from '#runtime/fleet/types/modelInstall.ts';
import { Releaser, type ReleasePorts } from '#runtime/fleet/types/release.ts';
import type { ConfigFile } from '#runtime/fleet/types/upkeep.ts';
import { operatorsOf, readOperators } from '#runtime/fleet/operators.ts';
import { CommandTopics } from '#runtime/fleet/topics.ts';
import type { ChainReader } from '#runtime/ledger/reader.ts';
import type { WriterClient } from '#runtime/ledger/writerClient.ts';
import type { ConfigHost, Twinning } from './twinning.ts';

export interface CommandingOptions {
  readonly settings: Settings;
  /** Folder of package.json. */
  readonly appRoot: string;
  readonly host: ConfigHost;
  readonly trials: Pick<Twinning, 'begin' | 'ended'>;
  readonly writer: WriterClient;
  readonly reader: ChainReader;
  /** Of the broker: what it retains is read again at each start. */
  readonly store: KeyValueStore;
  readonly broker: Broker;
  readonly freshProofs: FreshProofs;
  readonly status: () => object;
  /** JSON lines of this run, oldest first, redacted. */
  readonly logLines: () => readonly string[];
  readonly models: ModelKeeper;
  readonly updater: Updater;
  /** When a controller gave the newest receipt, µs since 1970; 0: none yet. */
  readonly receiptMicros: () => number;
  /** Whether it is known who owns the gateway, or that nobody does. */
  readonly isOwnerKnown: () => boolean;
  /** By JWK thumbprint. */
  readonly isKeyRevoked: (kid: string) => boolean;
  /** Of a gateway that can be claimed. */
  readonly release: Maybe<Omit<ReleasePorts, 'store' | 'log'>>;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

export interface Commanding {
  readonly commander: Commander;
  /** Configured ones and the owner's keys. */
  operators(): readonly Operator[];
  /** Keys of an owner that is gone do not count from now on. */
  setOwner(owner: Owner | undefined): void;
  /** Keys were revoked: what they commanded and has not ended fails. */
  operatorsChanged(): void;
  /** Commands over one more broker, whose topics begin with the gateway's name. */
  overFleet(): LinkUser;
  /** Until `signal` aborts. What the gateway's own broker retained is heard from now on: judging it takes all parts of the gateway. */
  follow(signal: AbortSignal): Promise<void>;
}

export function openCommanding({ settings, appRoot, host, trials, writer, reader, store, broker, freshProofs, models, release, updater, isOwnerKnown, isKeyRevoked, ...ports }: CommandingOptions): Commanding {
  const { counters, log } = ports;
  const configured = readOperators(settings.fleet, (error) => {
    counters.add(error.code);
    log.error({ code: error.code, hint: error.hint }, error.message);
  });
  let owners: readonly Operator[] = [];
  const operators = (): readonly Operator[] => [...owners, ...configured].filter(({ kid }) => !isKeyRevoked(kid));
  const handlers = handlersOf({
    ...ports, restart: host.reload, consent: settings.fleet, models: { kind: 'value', value: models }, updater: { kind: 'value', value: updater },
    actuator: new MqttActuator(settings.actuators, localBroker(broker), ports.clock),
    releaser: release.kind === 'none' ? release : { kind: 'value', value: new Releaser({ ...release.value, store, log }) },
    config: configFileOf({ file: host.configFile, appRoot, trials, owners: () => owners }), raiseTime: (micros) => { commander.raiseTime(micros, true); return commander.time.now; },
    prove: async (nonce) => {
      const { sequence, bundle } = await freshProofs.prove(nonce);
      return { sequence, bundleSha256: toHex(sha256(bundle)), bundleBytes: bundle.length };
    },
  });
  const commander: Commander = new Commander({ ...ports, gateway: settings.node.name, maintenance: settings.fleet.maintenance, operators, areOperatorsKnown: isOwnerKnown, handlers, ledger: writer, reader, store });
  const supported = (): ReadonlySet<CommandType> => new Set(supportedTypes(handlers).filter((type) => operators().some((operator) => mayCommand(operator, type))));
  const { topics: own, hear } = openOwnTopics(commander, { broker, log });
  const fleets = new Set<FleetCommands>();
  own.sayCapabilities(supported());
  return {
    commander, operators,
    setOwner(owner) {
      owners = owner ? operatorsOf(owner) : [];
      if (!owner) commander.operatorsChanged(); // what waits would begin if the same owner came again
      for (const topics of [own, ...fleets]) topics.sayCapabilities(supported());
    },
    operatorsChanged() {
      commander.operatorsChanged();
      for (const topics of [own, ...fleets]) topics.sayCapabilities(supported());
    },
    async follow(signal) {
      const retained = [...storedRetained(store)];
      for (const packet of retained) hear(packet.topic, payloadBytes(packet));
      await commander.follow(signal);
    },
    overFleet: () => new FleetCommands({ commander, gateway: settings.node.name, supported, fleets, log }),
  };
}

const localBroker = (broker: Broker): LocalBroker => ({
  publish: (topic, payload) => broker.publish(topic, payload, { retain: false, qos: 0 }),
  observe: (filter, seen) => broker.observe(filter, seen),
});

function openOwnTopics(commander: Commander, { broker, log }: Pick<CommandingOptions, 'broker' | 'log'>): { readonly topics: CommandTopics; readonly hear: (topic: string, payload: Uint8Array) => void } {
  /** A turn later: who observes a message must not overtake it. */
  const topics = new CommandTopics(undefined, (topic, payload) => {
    setImmediate(() => {
      broker.publish(topic, payload, { retain: true, qos: 1 }).catch((error: unknown) => log.debug({ topic, error: messageOf(error) }, 'not published'));
    });
  });
  const hear = (topic: string, payload: Uint8Array): void => {
    const place = topics.placeOf(topic);
    if (place) commander.receive(topics, place, payload);
  };
  broker.observe(topics.filter, hear);
  return { topics, hear };
}

interface FleetCommandsOptions {
  readonly commander: Commander;
  readonly gateway: string;
  readonly supported: () => ReadonlySet<CommandType>;
  /** Those that are connected. */
  readonly fleets: Set<FleetCommands>;
  readonly log: Log;
}

/** Commands over a fleet's broker. What is said while it is away is said when it is back, for then it delivers what it retains. */
class FleetCommands implements LinkUser {
  readonly filters: readonly string[];
  readonly qos = 0;
  readonly #options: FleetCommandsOptions;
  readonly #topics: CommandTopics;
  /** By topic: a broker may deliver what it retains before it confirms the subscription, and then nothing can be said yet. */
  readonly #unsaid = new Map<string, string>();
  #link: FleetLink | undefined;

  constructor(options: FleetCommandsOptions) {
    this.#options = options;
    this.#topics = new CommandTopics(options.gateway, (topic, payload) => { this.#publish(topic, payload); });
    this.filters = [this.#topics.filter];
  }

  receive(topic: string, payload: Uint8Array): void {
    const place = this.#topics.placeOf(topic);
    if (place) this.#options.commander.receive(this.#topics, place, payload);
  }

  connected(link: FleetLink): void {
    this.#link = link;
    this.#options.fleets.add(this);
    this.sayCapabilities(this.#options.supported());
    for (const [topic, payload] of this.#unsaid) this.#publish(topic, payload);
    this.#unsaid.clear();
  }

  lost(): void {
    this.#unsaid.clear();
    this.#options.fleets.delete(this);
    this.#options.commander.forget(this.#topics);
  }

  sayCapabilities(supported: ReadonlySet<CommandType>): void { this.#topics.sayCapabilities(supported); }

  #publish(topic: string, payload: string): void {
    if (!this.#link?.isReady) return void this.#unsaid.set(topic, payload);
    this.#link.publish(topic, Buffer.from(payload), { retain: true }).catch((error: unknown) => { this.#options.log.debug({ topic, error: messageOf(error) }, 'not published'); });
  }
}

interface ConfigPlace {
  readonly file: string;
  readonly appRoot: string;
  readonly trials: CommandingOptions['trials'];
  readonly owners: () => readonly Operator[];
}

function configFileOf({ file, appRoot, trials, owners }: ConfigPlace): ConfigFile {
  const held = (): string | undefined => {
    try {
      return readFileSync(file, 'utf8');
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw refused(cause);
    }
  };
  return {
    check(text) {
      const [before, after] = [held() ?? '', text].map((version) => settingsOf(version, file, appRoot));
      if (before?.dataDir !== after?.dataDir) throw new TenzroError('command.config', 'dataDir would change, and another chain begin: do that at the machine');
      const stays = after ? readOperators(after.fleet, (error) => { throw refused(error); }) : [];
      if (![...owners(), ...stays].some((operator) => mayCommand(operator, 'config_update'))) throw new TenzroError('command.config', 'nobody in it may config_update: it could not be changed again');
    },
    replace(text, command) {
      try {
        const backup = trials.begin(text, command);
        return { file, sha256: toHex(sha256(Buffer.from(text))), ...(backup === undefined ? {} : { backup }) };
      } catch (cause) {
        throw refused(cause);
      }
    },
    holds: (text) => held() === text,
    ended: (id) => trials.ended(id),
  };
}

function settingsOf(text: string, file: string, appRoot: string): Settings {
  try {
    return readConfigText(text, file, appRoot);
  } catch (cause) {
    throw refused(cause);
  }
}

const refused = (cause: unknown): TenzroError => new TenzroError('command.config', messageOf(cause), { cause });
