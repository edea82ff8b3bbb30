/** The composition root of commands: joins their follower with the broker's topics, the configuration file, fresh proofs and this process. */
import { readFileSync } from 'node:fs';
import { toHex } from '#runtime/core/bytes.ts';
import type { FreshProofs } from '#runtime/attest/freshProofs.ts';
import type { Broker } from '#runtime/broker/broker.ts';
import { payloadBytes } from '#runtime/broker/packets.ts';
import { storedRetained } from '#runtime/broker/retained.ts';
import { readConfigText } from '#runtime/config/load.ts';
import { replaceConfigFile } from '#runtime/config/replace.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { COMMAND_CLASS, COMMAND_TYPES, mayCommand } from '#runtime/core/command.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { Counters, Follower, KeyValueStore, Log } from '#runtime/core/ports.ts';
import type { Settings } from '#runtime/core/settings.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import type { Maybe } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { Commander } from '#runtime/fleet/commander.ts';
import { handlersOf, supportedTypes, type ConfigFile } from '#runtime/fleet/handlers.ts';
import type { Place } from '#runtime/fleet/judge.ts';
import { readOperators } from '#runtime/fleet/operators.ts';
import type { ChainReader } from '#runtime/ledger/reader.ts';
import type { WriterClient } from '#runtime/ledger/writerClient.ts';

/** What commands may do to the process that the gateway runs in. */
export interface CommandHost {
  /** Absolute path of the configuration file, also where there is none yet. */
  readonly configFile: string;
  /** Ends the gateway in an orderly way for a supervisor to start it again; none without one. */
  readonly restart: Maybe<() => void>;
}

export interface CommandingOptions {
  readonly settings: Settings;
  /** Folder of package.json. */
  readonly appRoot: string;
  readonly host: CommandHost;
  readonly writer: WriterClient;
  readonly reader: ChainReader;
  /** Of the broker: what it retains is read again at each start. */
  readonly store: KeyValueStore;
  readonly broker: Broker;
  readonly freshProofs: FreshProofs;
  readonly status: () => object;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

const TOPICS = `te/${MAIN_ENTITY}/cmd`;

export function openCommanding({ settings, appRoot, host, writer, reader, store, broker, freshProofs, status, ...ports }: CommandingOptions): Follower {
  const { counters, log } = ports;
  /** A turn later: who observes a message must not overtake it. */
  const publish = (topic: string, message: object | undefined): void => {
    setImmediate(() => {
      broker.publish(topic, message === undefined ? '' : JSON.stringify(message), { retain: true, qos: 1 })
        .catch((error: unknown) => log.debug({ topic, error: messageOf(error) }, 'not published'));
    });
  };
  const operators = readOperators(settings.fleet, (error) => {
    counters.add(error.code);
    log.error({ code: error.code, hint: error.hint }, error.message);
  });
  const handlers = handlersOf({
    ...ports, status, restart: host.restart, config: configFileOf(host.configFile, appRoot), raiseTime: (micros) => commander.raiseTime(micros),
    prove: async (nonce) => {
      const { sequence, bundle } = await freshProofs.prove(nonce);
      return { sequence, bundleSha256: toHex(sha256(bundle)), bundleBytes: bundle.length };
    },
  });
  const commander: Commander = new Commander({
    ...ports, gateway: settings.node.name, operators, handlers, ledger: writer, reader, store, announce: ({ type, id }, message) => publish(`${TOPICS}/${type}/${id}`, message),
  });
  const retained = [...storedRetained(store)].flatMap((packet) => { const place = placeOf(packet.topic); return place ? [{ place, packet }] : []; });
  commander.retained(retained.map(({ place }) => place));
  broker.observe(`${TOPICS}/#`, (topic, payload) => {
    const place = placeOf(topic);
    if (place) commander.receive(place, payload);
  });
  for (const { place, packet } of retained) commander.receive(place, payloadBytes(packet));
  const supported = new Set(supportedTypes(handlers).filter((type) => operators.some((operator) => mayCommand(operator, type))));
  for (const type of COMMAND_TYPES) publish(`${TOPICS}/${type}`, supported.has(type) ? { class: COMMAND_CLASS[type] } : undefined);
  return commander;
}

/** Undefined for capabilities, and for what is no topic of a command. */
function placeOf(topic: string): Place | undefined {
  const [type, id, ...others] = topic.startsWith(`${TOPICS}/`) ? topic.slice(TOPICS.length + 1).split('/') : [];
  return type && id && others.length === 0 ? { target: MAIN_ENTITY, type, id } : undefined;
}

function configFileOf(file: string, appRoot: string): ConfigFile {
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
      if (!stays.some((operator) => mayCommand(operator, 'config_update'))) throw new TenzroError('command.config', 'nobody in it may config_update: it could not be changed again');
    },
    replace(text) {
      try {
        const backup = replaceConfigFile(file, text);
        return { file, sha256: toHex(sha256(Buffer.from(text))), ...(backup === undefined ? {} : { backup }) };
      } catch (cause) {
        throw refused(cause);
      }
    },
    holds: (text) => held() === text,
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
