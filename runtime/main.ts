/**
 * The composition root of the main thread; attestation.ts joins what attests. Data flows one way: front door and own sensors → writer thread →
 * ledger; after that everything follows the ledger by its own cursor (inference, attestation, console). What is opened last is closed first.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import manifest from '../package.json' with { type: 'json' };
import { keepOutOfDumps } from '#provisioning/identity/memory.ts';
import type { BlockInfo } from '#runtime/attest/sealer.ts';
import { gatewayDoor } from '#runtime/broker/admission.ts';
import { openBroker, type Broker } from '#runtime/broker/broker.ts';
import { payloadBytes } from '#runtime/broker/packets.ts';
import { storedRetained } from '#runtime/broker/retained.ts';
import { chainStatusOf } from '#runtime/ledger/chainStatus.ts';
import type { GatewayEvent } from '#runtime/core/gatewayEvent.ts';
import { whenAborted } from '#runtime/core/abort.ts';
import { isoOfMicros, systemClock as clock } from '#runtime/core/clock.ts';
import { TenzroError, invariant, messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import { settleWhenIdle } from '#runtime/core/footprint.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import type { Log } from '#runtime/core/ports.ts';
import type { Settings } from '#runtime/core/settings.ts';
import { ERRORS_TOPIC, MAIN_ENTITY, formatTopic, isTe } from '#runtime/core/topic.ts';
import { CONFIG_BODY, KIND, MODEL_BODY, SHUTDOWN_BODY, type Cbor, type KindNumber } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { openInference, type Inference } from '#runtime/infer/follower.ts';
import type { ModelStatus } from '#runtime/infer/messages.ts';
import type { VerdictChange } from '#runtime/infer/verdicts.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import { makeFolder } from '#runtime/ledger/folder.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import { openReader, type ChainReader } from '#runtime/ledger/reader.ts';
import { WriterClient, type WriterEvents } from '#runtime/ledger/writerClient.ts';
import { openControl } from '#runtime/observe/control.ts';
import { CounterTable } from '#runtime/observe/counters.ts';
import { createLog } from '#runtime/observe/log.ts';
import { LogRing } from '#runtime/observe/logRing.ts';
import { ProgressWatch } from '#runtime/observe/progress.ts';
import type { GatewayStatus, IdentityStatus } from '#runtime/observe/status.ts';
import { openAttestation, type Attestation } from './attestation.ts';
import { boardFaults } from './boardStatus.ts';
import { Claiming } from './claiming.ts';
import { openBelonging, type Belonging } from './belonging.ts';
import { anchorStatus, listenerStatus, urlOf } from './mainStatus.ts';
import { INSTALLED_MODELS, Modelling } from './modelling.ts';
import { Portal } from './portal.ts';
import { feedSystem, playScenario } from './sources.ts';
import type { ConfigHost } from './twinning.ts';
import type { SlotsHere } from './updating.ts';
import { INFERENCE_SILENT_MS, Supervision } from './supervision.ts';
import type { WriterData } from './writer.ts';

export interface GatewayOptions {
  readonly settings: Settings;
  /** Folder of package.json. */
  readonly appRoot: string;
  /** Name of the scenario to play; none without. */
  readonly scenario?: string;
  /** What people see. MUST NOT throw. */
  readonly show?: (event: GatewayEvent) => void;
  readonly color: boolean;
  readonly host: ConfigHost;
  readonly slots?: SlotsHere;
}

/** A ledger that has not drained by then has no space. */
const DRAIN_DEADLINE_MS = 5_000;
/** What is not sealed by then stays for the next start's first block. */
const SEAL_DEADLINE_MS = 10_000;
const STALL_MS = 30_000;
const WATCH_INTERVAL_MS = 1_000;
/** A console that lags behind shows what is new, not everything. */
const CONSOLE_LAG_MAX = 512;
const ERRORS_PER_SECOND_MAX = 10;
const TRUST_TOPIC = formatTopic({ kind: 'channel', entity: MAIN_ENTITY, channel: 'twin', type: 'trust', suffix: '' });

/** Runs until `signal` aborts and the shutdown is complete. Throws a TenzroError when it cannot start, or when the ledger fails for good. */
export async function runGateway(options: GatewayOptions, signal: AbortSignal): Promise<void> {
  keepOutOfDumps();
  makeFolder(options.settings.dataDir);
  await using resources = new AsyncDisposableStack();
  const gateway = await Gateway.open(options, resources);
  await gateway.run(signal);
}

class Gateway {
  readonly #options: GatewayOptions;
  readonly #log: Log;
  readonly #counters = new CounterTable();
  readonly #ring = new LogRing();
  readonly #progress = new ProgressWatch(clock, STALL_MS);
  readonly #failed = Promise.withResolvers<never>();
  readonly #show: (event: GatewayEvent) => void;
  readonly #supervision: Supervision;
  #parts: Parts | undefined;
  readonly #since = isoOfMicros(clock.wallMicros());
  #lastBlock: BlockInfo | undefined;
  #blocksSealed = 0;
  #errorsThisSecond = 0;

  static async open(options: GatewayOptions, resources: AsyncDisposableStack): Promise<Gateway> {
    const gateway = new Gateway(options);
    resources.use(gateway.#supervision);
    gateway.#parts = await gateway.#openParts(resources);
    await gateway.#openControl(resources);
    for (const { code, detail, hint } of boardFaults()) gateway.#log.error({ room: 'board', code, hint }, detail);
    return gateway;
  }

  /** Data matter more than a look at them: where the socket cannot be made, the gateway runs without. */
  async #openControl(resources: AsyncDisposableStack): Promise<void> {
    try {
      resources.use(await openControl({ dataDir: this.#options.settings.dataDir, status: () => this.#status(), freshBundle: (nonce, options) => this.#freshBundle(nonce, options) }));
    } catch (error) {
      if (!(error instanceof TenzroError) || error.code !== 'control.unavailable') throw error;
      this.#counters.add(error.code);
      this.#log.error({ room: 'control', code: error.code, hint: error.hint }, error.message);
    }
  }

  private constructor(options: GatewayOptions) {
    this.#options = options;
    this.#show = options.show ?? (() => undefined);
    const people = options.show !== undefined;
    this.#log = createLog({ level: people && options.settings.log.level === 'info' ? 'warn' : options.settings.log.level, form: people ? 'people' : 'json', color: options.color, ring: this.#ring });
    this.#supervision = new Supervision({ env: process.env, clock, log: this.#log.child({ room: 'supervision' }), counters: this.#counters });
    this.#failed.promise.catch(() => undefined); // whoever runs has it
  }

  async #openParts(resources: AsyncDisposableStack): Promise<Parts> {
    const { settings, appRoot } = this.#options;
    const { dataDir } = settings;
    const writer = resources.use(await this.#startWriter());
    const reader = resources.use(await openReader(dataDir));
    const store = resources.use(await openKeyValueStore(join(dataDir, 'broker'), (state, detail) => this.#onStoreState('broker', state, detail)));
    for (const packet of storedRetained(store)) if (isTe(packet.topic)) writer.learn(packet.topic, payloadBytes(packet));
    const broker = await openBroker({ ...gatewayDoor(settings.mqtt, clock), intake: writer, store, log: this.#log.child({ room: 'broker' }), counters: this.#counters, clock });
    const doors = resources.use(new AsyncDisposableStack());
    doors.use(broker);
    const inference = openInference({
      settings: settings.infer, dataDir, installedDir: join(dataDir, INSTALLED_MODELS), thread: new URL('./inferThread.ts', import.meta.url), ledger: writer, clock, counters: this.#counters,
      log: this.#log.child({ room: 'infer' }), onVerdict: (change) => this.#onVerdict(change), onModel: (model) => this.#onModel(model),
    });
    const attestation = resources.use(openAttestation({
      settings, appRoot, writer, reader, clock, counters: this.#counters, log: this.#log.child({ room: 'attest' }), onBlock: (info) => this.#onBlock(info), onIdentity: (status) => this.#onIdentity(status),
      receipt: () => this.#parts?.belonging.upstreams.receiptDigest, leasing: { store, onTrust: (message) => this.#publish(TRUST_TOPIC, message, { retain: true }) },
      modelDigests: () => inference.status().filter(({ state }) => state.kind === 'value').map(({ digest }) => Buffer.from(digest, 'hex')),
    }));
    const { attester, freshProofs } = attestation;
    const belonging = openBelonging({
      ...this.#options, signer: async () => (await attestation.identity.keys()).signer, statement: () => this.#statement(), isOwnerKnown: () => claiming.isSettled, writer, reader, store, broker, freshProofs, status: () => this.#status(), logLines: () => this.#ring.lines(), models: new Modelling(dataDir, settings.infer, inference), release: { kind: 'value', value: { owner: () => claiming.owner, delivered: () => belonging.delivered(reader.size()), release: (claimId) => claiming.release(claimId) } }, clock, counters: this.#counters, log: this.#log.child({ room: 'fleet' }),
    });
    const claiming = new Claiming({
      settings, writer, reader, store, identity: attestation.identity, tpm: attestation.tpm, clock, counters: this.#counters, log: this.#log.child({ room: 'claim' }), say: (text) => this.#say(text),
      onOwned: async (owner) => belonging.onOwned(owner), onDisowned: () => belonging.onDisowned(), onTime: (micros, isNow) => belonging.raiseTime(micros, isNow), isOwnerKeyRevoked: (key) => belonging.isOwnerKeyRevoked(key),
    });
    const portal = new Portal({ settings, claimState: () => claiming.status().state, clock, counters: this.#counters, log: this.#log.child({ room: 'portal' }), say: (text) => this.#say(text) });
    return { writer, reader, doors, broker, inference, attestation, attester, belonging, claiming, portal };
  }

  async #startWriter(): Promise<WriterClient> {
    const { settings } = this.#options;
    return WriterClient.start({
      clock, batchDelayMs: settings.ledger.batchDelayMs, events: this.#writerEvents(),
      spawn: (started) => {
        const workerData: WriterData = { dataDir: settings.dataDir, version: manifest.version, started, retention: { ...settings.ledger.retention, receiptKeys: settings.uplinks.map(({ receiptKey }) => receiptKey), isComplete: false }, ingest: settings.ingest, confidential: settings.confidential };
        return new Worker(new URL('./writer.ts', import.meta.url), { name: 'tenzro-writer', workerData, resourceLimits: WRITER_HEAP });
      },
    });
  }

  #writerEvents(): WriterEvents {
    return {
      onCommitted: ({ size, counts }) => {
        for (const [name, count] of Object.entries(counts)) if (count > 0) this.#counters.add(`ingest.${name}`, count);
        this.#parts?.inference.head(size);
        if (counts.alarms > 0) this.#sealForAlarm();
      },
      onReject: ({ code, detail, topic }) => {
        this.#counters.add(`ingest.rejected.${code}`);
        if (++this.#errorsThisSecond <= ERRORS_PER_SECOND_MAX) this.#publish(ERRORS_TOPIC, { code, topic, detail, hint: new TenzroError(code, detail).hint }, { retain: false });
      },
      onDrop: (count) => this.#counters.add('ledger.dropped', count),
      onState: (state, detail) => this.#onStoreState('ledger', state, detail),
      onFatal: (error) => this.#failed.reject(error),
    };
  }

  #onStoreState(room: string, state: 'ok' | ErrorCode, detail: string): void {
    if (state === 'ok') return this.#log.info({ room }, 'the disk takes writes again');
    this.#counters.add(state);
    this.#log.error({ room, code: state, hint: new TenzroError(state, detail).hint }, detail);
  }

  /** Until `signal` aborts or the ledger fails; then the shutdown, in the order of the data path. */
  async run(signal: AbortSignal): Promise<void> {
    const parts = this.#parts;
    invariant(parts, 'run comes after open');
    this.#showReady(parts);
    this.#supervision.ready([{ answered: () => parts.writer.answered(), silentMs: 0 }, { answered: () => parts.inference.answered(), silentMs: INFERENCE_SILENT_MS }], () => `${parts.writer.size} entries, trust ${this.#trust.level}`);
    settleWhenIdle();
    this.#record(KIND.config, [[CONFIG_BODY.digest, sha256(Buffer.from(JSON.stringify(this.#options.settings)))]]);
    const stop = { sources: new AbortController(), inference: new AbortController(), rest: new AbortController() };
    const feed = { settings: this.#options.settings, intake: parts.writer, broker: parts.broker, clock, counters: this.#counters };
    const sources = [feedSystem(feed, stop.sources.signal), this.#playScenario(parts, stop.sources.signal), parts.belonging.follow(stop.sources.signal), parts.claiming.follow(stop.sources.signal), parts.portal.follow(stop.sources.signal)].map((work) => this.#guard(work));
    const inference = this.#guard(parts.inference.follow(stop.inference.signal));
    const rest = [parts.attester.follow(stop.rest.signal), parts.attestation.lease?.follow(stop.rest.signal) ?? Promise.resolve(), parts.belonging.upstreams.follow(stop.rest.signal), this.#watch(parts, stop.rest.signal), this.#followOnConsole(parts, stop.rest.signal)].map((work) => this.#guard(work));
    try {
      await Promise.race([whenAborted(signal), this.#failed.promise]);
      this.#say('stopping: sources and connections end, then drain, flush and a last block');
      this.#supervision.stopping();
      stop.sources.abort();
      await Promise.all(sources); // they publish: the broker ends after them
      await parts.doors.disposeAsync();
      const drained = parts.writer.drain().then(() => stop.inference.abort()).then(() => inference).then(() => true);
      if (await Promise.race([drained, sleep(DRAIN_DEADLINE_MS, false, { ref: false })])) {
        this.#record(KIND.shutdown, [[SHUTDOWN_BODY.reason, 'signal']]);
        await this.#sealLast(parts);
      } else this.#say(`the ledger takes nothing (${parts.writer.state}): ${parts.writer.pendingBytes} bytes that nobody was told are stored are not`);
    } finally {
      for (const controller of Object.values(stop)) controller.abort();
      if (parts.writer.state !== 'ok') await parts.writer.close(); // or whoever waits for it would wait for ever
      await Promise.all([...sources, inference, ...rest]);
    }
  }

  /** A room's loop that throws is a defect of ours, or the end of the ledger: either ends the gateway with its error. */
  async #guard(work: Promise<void>): Promise<void> {
    await work.catch((error: unknown) => this.#failed.reject(error));
  }

  async #sealLast({ attester, writer }: Parts): Promise<void> {
    try {
      const sequence = await Promise.race([attester.sealNow('shutdown'), sleep(SEAL_DEADLINE_MS, undefined, { ref: false })]);
      this.#say(sequence === undefined ? `no last block within ${SEAL_DEADLINE_MS / 1000} s: the next start's first block covers what is flushed`
        : `last block ${sequence} sealed over ${this.#lastBlock?.treeSize ?? writer.size} entries`);
    } catch (error) {
      this.#say(`no last block (${messageOf(error)}): the next start's first block covers what is flushed`);
    }
  }

  async #playScenario({ broker }: Parts, signal: AbortSignal): Promise<void> {
    const { scenario } = this.#options;
    const port = broker.listeners()[0]?.port;
    if (scenario !== undefined && port !== undefined) await playScenario({ name: scenario, port, say: (line) => this.#say(line), log: this.#log }, signal);
  }

  async #watch({ writer, inference, attester }: Parts, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#errorsThisSecond = 0;
      this.#counters.set('ledger.pending_bytes', writer.pendingBytes);
      this.#progress.note('infer', inference.processed(), inference.status().length === 0 ? 0 : writer.size - inference.processed());
      this.#progress.note('attest', attester.processed(), writer.size - attester.processed());
      await sleep(WATCH_INTERVAL_MS, undefined, { signal }).catch(() => undefined); // aborted: the loop ends
    }
  }

  async #followOnConsole({ writer, reader }: Parts, signal: AbortSignal): Promise<void> {
    if (!this.#options.show) return;
    let next = Math.max(0, writer.size - 1);
    while (!signal.aborted) {
      await writer.grown(next, signal);
      next = Math.max(next, writer.size - CONSOLE_LAG_MAX);
      for (const { index, bytes } of reader.read(next, CONSOLE_LAG_MAX)) {
        this.#show({ type: 'entry', index, entry: decodeEntry(bytes) });
        next = index + 1;
      }
    }
  }

  #onVerdict({ model, source, verdict, score, threshold }: VerdictChange): void {
    const topic = formatTopic({ kind: 'channel', entity: source, channel: 'a', type: model, suffix: '' });
    const text = `${model}: score ${score.toFixed(2)} is ${verdict === 'anomaly' ? 'above' : 'below'} ${threshold.toFixed(2)}`;
    this.#publish(topic, verdict === 'anomaly' ? { text, severity: 'major' } : undefined, { retain: true });
    if (verdict === 'anomaly') this.#sealForAlarm();
  }

  #sealForAlarm(): void {
    this.#parts?.attester.sealNow('alarm').catch((error: unknown) => this.#log.warn({ error: messageOf(error) }, 'no block for the alarm yet'));
  }

  #onModel({ name, digest, provider, state }: ModelStatus): void {
    const what = state.kind === 'value' ? state.value : state.reason;
    this.#record(KIND.model, [[MODEL_BODY.name, name], [MODEL_BODY.digest, Buffer.from(digest, 'hex')], [MODEL_BODY.provider, provider], [MODEL_BODY.state, what]]);
    if (state.kind === 'value') this.#show({ type: 'model', name, digest, provider });
    else {
      this.#counters.add('infer.models_refused');
      this.#say(`going on without model ${name}: ${what}`);
    }
  }

  /** An entry of the gateway about itself. */
  #record(kind: KindNumber, body: readonly (readonly [number, Cbor])[]): void {
    this.#parts?.writer.append({ kind, source: MAIN_ENTITY, wallMicros: clock.wallMicros(), monoMicros: clock.monoMicros(), body: new Map(body) })
      .catch((error: unknown) => this.#log.warn({ kind, error: messageOf(error) }, 'not recorded'));
  }

  /** In the gateway's own name; an empty payload clears what is retained. */
  #publish(topic: string, message: object | undefined, { retain }: { readonly retain: boolean }): void {
    this.#parts?.broker.publish(topic, message === undefined ? '' : JSON.stringify(message), { retain, qos: 0 })
      .catch((error: unknown) => this.#log.debug({ topic, error: messageOf(error) }, 'not published'));
  }

  async #freshBundle(nonce: Uint8Array, options: { readonly from?: number }): Promise<Uint8Array> {
    invariant(this.#parts, 'the control socket comes after open');
    return this.#parts.attestation.freshProofs.freshBundle(nonce, options);
  }

  #onBlock(info: BlockInfo): void {
    const before = this.#trust;
    this.#lastBlock = info;
    this.#blocksSealed++;
    const { level, reason } = this.#trust;
    if (before.level !== level || before.reason !== reason) this.#show({ type: 'trust', level, reason });
    this.#log.info({ sequence: info.sequence, treeSize: info.treeSize, trust: level, resumed: info.resumed }, 'block sealed');
    this.#show({ type: 'block', sequence: info.sequence, treeSize: info.treeSize, root: info.root, level });
  }

  get #trust(): GatewayStatus['trust'] {
    return this.#parts?.attestation.trustOf(this.#lastBlock) ?? { level: 'none', reason: 'no block is sealed yet' };
  }

  #onIdentity({ state, code, detail, hint, protection, unprotected }: IdentityStatus): void {
    if (state === 'locked') {
      this.#counters.add(code ?? 'identity');
      this.#log.error({ room: 'identity', code, hint }, `the keys are locked, blocks wait: ${detail}`);
      this.#show({ type: 'note', text: `the keys are locked (${code}): ${detail}. Entries are recorded and blocks wait. ${hint}` });
    } else this.#log.info({ room: 'identity', state, protection, ...(unprotected === null ? {} : { unprotected }) }, 'keys');
  }

  #showReady({ broker, writer }: Parts): void {
    const { settings } = this.#options;
    const listeners = broker.listeners().map(urlOf);
    this.#log.info({ node: settings.node.name, listeners, dataDir: settings.dataDir, version: manifest.version }, 'ready');
    this.#show({ type: 'ready', node: settings.node.name, version: manifest.version, dataDir: settings.dataDir, listeners, afterMs: performance.now() });
    if (writer.quarantine === undefined) return;
    const { name, code } = writer.quarantine;
    const isEnded = code.startsWith('identity.');
    if (!isEnded) this.#counters.add('ledger.corrupt');
    this.#say(`the chain found here was ${isEnded ? `ended (${code})` : 'damaged'}: it was set aside as ${name} and a new one begun (tenzro log shows what was found)`);
  }

  #say(text: string): void {
    this.#log.info({}, text);
    this.#show({ type: 'note', text });
  }

  /** What fleets hear without asking. */
  #statement(): JsonObject {
    const { ready, version, chain, trust, health } = this.#status();
    return { version, chain: chain.id, since: this.#since, ready, ok: health.ok, trust: trust.level };
  }

  #status(): GatewayStatus {
    const { settings } = this.#options;
    const parts = this.#parts;
    invariant(parts, 'status comes after open');
    const stalled = this.#progress.stalled();
    return {
      ready: parts.writer.state === 'ok', node: settings.node.name, version: manifest.version, pid: process.pid, uptimeMs: Math.round(performance.now()), dataDir: settings.dataDir,
      chain: chainStatusOf(parts.reader),
      trust: this.#trust,
      anchor: anchorStatus(this.#lastBlock),
      identity: parts.attestation.identity.status(),
      claim: parts.claiming.status(), portal: parts.portal.status(),
      lease: parts.attestation.lease?.status() ?? null,
      fleet: parts.belonging.status(),
      broker: { listeners: parts.broker.listeners().map(listenerStatus), clients: parts.broker.clients().length },
      models: parts.inference.status(),
      blocksSealed: this.#blocksSealed, update: parts.belonging.updating.progress,
      health: { ok: stalled.length === 0, stalled }, board: boardFaults(),
      counters: this.#counters.snapshot(),
    };
  }
}

interface Parts {
  readonly writer: WriterClient;
  readonly reader: ChainReader;
  /** Everything that lets messages in; closed first. */
  readonly doors: AsyncDisposableStack;
  readonly broker: Broker;
  readonly inference: Inference;
  readonly attestation: Attestation;
  readonly attester: Attestation['attester'];
  readonly claiming: Claiming;
  readonly portal: Portal;
  readonly belonging: Belonging;
}

/** The writer keeps hardly anything on its heap: batches are off it. */
const WRITER_HEAP = { maxYoungGenerationSizeMb: 24, maxOldGenerationSizeMb: 128 } as const;
