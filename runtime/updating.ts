/**
 * The composition root of updates: joins the slots of this machine with the commands `firmware_update` and `software_update`, and tells the chain what became
 * of a system. The health gate itself is another process (cli/updateConfirm.ts): what is on trial does not judge itself.
 */
import { mkdir, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { folderPaths } from '#drivers/slots/folderPaths.ts';
import { openFolderSlots } from '#drivers/slots/folders.ts';
import { RaucSlots, raucPlaces } from '#drivers/slots/rauc.ts';
import { checkUrl } from '#models/fetch.ts';
import { listenInFolder, type OwnSocket } from '#provisioning/ownSocket.ts';
import { whenAborted } from '#runtime/core/abort.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Counters, Log, Slots, SlotsStatus, UpdateCommand, UpdateKind, Updater } from '#runtime/core/ports.ts';
import type { Settings } from '#runtime/core/settings.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { KIND, UPDATE_BODY, type Cbor, type Draft, type Maybe } from '#runtime/core/types.ts';
import { onlyKnown, textIn, wholeIn, wrong, type Parameters } from '#runtime/fleet/types/parameters.ts';
import type { GatewayStatus } from '#runtime/observe/status.ts';
import { afterStart } from '#runtime/update/afterStart.ts';
import { giveUp, inspectBundle, installBundle, type BundleOrder } from '#runtime/update/install.ts';
import { UpdateRecords, updateFolder, type UpdateEvent, type UpdateRecord } from '#runtime/update/record.ts';
import { compatibleOf } from '#runtime/crypto/appBundle.ts';
import { compareVersions } from '#runtime/update/version.ts';

const { createServer } = process.getBuiltinModule('node:http');

export type SlotsHere = Readonly<Record<UpdateKind, Maybe<Slots>>>;

/** What this machine can replace. `endGateway`: ends this run of the gateway for another one. */
export async function slotsHere(dataDir: string, endGateway: () => void): Promise<SlotsHere> {
  return { firmware: await RaucSlots.here(raucPlaces(updateFolder(dataDir))), software: await foldersHere(endGateway) };
}

/** A gateway runs without a second slot, too. */
async function foldersHere(endGateway: () => void): Promise<Maybe<Slots>> {
  try {
    const folders = await openFolderSlots({ paths: folderPaths(), compatible: compatibleOf(process.arch), compare: compareVersions, owner: 0, endGateway });
    return folders ? { kind: 'value', value: folders } : { kind: 'none', reason: 'this installation has no folders to change between: it was not started by the package with systemd, or it comes with the image, which is replaced whole (firmware)' };
  } catch (error) {
    return { kind: 'none', reason: messageOf(error) };
  }
}

const NOTHING = { kind: 'none', reason: 'this gateway was started without a second slot to update into: update it as it was installed' } as const;
/** Where nobody looked. */
export const NO_SLOTS: SlotsHere = { firmware: NOTHING, software: NOTHING };

/** One installation at a time, whoever asks. Throws `update.busy`, and `update.state` for root beside a gateway of another user, which could not read what it leaves. */
export async function lockUpdates(dataDir: string): Promise<OwnSocket> {
  const folder = updateFolder(dataDir);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const { uid } = await stat(dataDir);
  if (uid !== process.geteuid?.()) throw new TenzroError('update.state', `${dataDir} belongs to another user: run this as that one (sudo -u tenzro tenzro update …)`);
  return listenInFolder(createServer(), folder, { name: 'lock', taken: () => new TenzroError('update.busy', 'something is being installed') });
}

export interface UpdatingOptions {
  readonly settings: Pick<Settings, 'dataDir' | 'update'>;
  readonly slots: SlotsHere;
  /** A fleet is configured and not reached. */
  readonly isOffline: () => boolean;
  readonly ledger: { append(draft: Draft): Promise<number> };
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

const KINDS = ['firmware', 'software'] as const satisfies readonly UpdateKind[];
const SHA256 = /^[0-9a-f]{64}$/;
const URL_CHARACTERS_MAX = 2_048;
/** What was refused at the machine may wait a little for its entry. */
const IDLE_LOOK_MS = 15_000;

export class Updating implements Updater {
  readonly #options: UpdatingOptions;
  readonly #records: UpdateRecords;
  readonly #outcomes: Readonly<Record<UpdateKind, PromiseWithResolvers<UpdateRecord | undefined>>> = { firmware: Promise.withResolvers(), software: Promise.withResolvers() };
  #progress: GatewayStatus['update'] = null;
  /** Something is to be told. */
  #told = Promise.withResolvers<void>();

  constructor(options: UpdatingOptions) {
    this.#options = options;
    this.#records = new UpdateRecords(options.settings.dataDir);
  }

  get progress(): GatewayStatus['update'] { return this.#progress; }

  support(kind: UpdateKind): Maybe<true> {
    const slots = this.#options.slots[kind];
    return slots.kind === 'none' ? slots : { kind: 'value', value: true };
  }

  check(kind: UpdateKind, parameters: Parameters): void {
    this.#slots(kind);
    orderOf(parameters);
    if (parameters['allow_downgrade'] === true && !this.#options.settings.update.allowDowngrade) throw new TenzroError('command.consent', 'this gateway does not go back to older versions on command: update.allowDowngrade in its configuration');
  }

  async inspect(kind: UpdateKind, parameters: Parameters, signal: AbortSignal): Promise<JsonObject> {
    const { facts, verdict } = await inspectBundle(orderOf(parameters), { slots: this.#slots(kind), records: this.#records, clock: this.#options.clock }, signal);
    return { version: facts.version, ...(verdict === 'already' ? { effective: 'already' } : {}) };
  }

  async install(kind: UpdateKind, { id, parameters }: UpdateCommand, signal: AbortSignal): Promise<JsonObject> {
    const { isOffline, clock, log, settings } = this.#options;
    const slots = this.#slots(kind);
    await using resources = new AsyncDisposableStack();
    resources.use(await lockUpdates(settings.dataDir));
    try {
      const report = (percent: number): void => {
        if (this.#progress?.percent !== percent) log.info({ what: kind, percent }, 'installing');
        this.#progress = { what: kind, percent };
      };
      report(0);
      const record = await installBundle({ ...orderOf(parameters), command: id }, { slots, records: this.#records, clock, wasOffline: isOffline(), report }, signal);
      if (!record) return { effective: 'already' };
      log.warn({ what: kind, from: record.from, to: record.to, slot: record.slot }, 'installed: starting into it, on trial');
      await this.#restart(slots, record, signal);
    } finally {
      this.#progress = null;
    }
    await whenAborted(signal);
    throw new TenzroError('command.timeout', 'the restart did not come in time');
  }

  async ended(kind: UpdateKind, { id }: UpdateCommand): Promise<JsonObject | undefined> {
    const record = await this.#outcomes[kind].promise;
    if (record?.command !== id) return undefined;
    if (record.phase === 'returned') throw new TenzroError('update.returned', returnedWords(record));
    return { effective: 'now', version: record.to, slot: record.slot, ...(record.from === undefined ? {} : { replaced: record.from }) };
  }

  /** Until `signal` aborts. */
  async follow(signal: AbortSignal): Promise<void> {
    const settled = KINDS.map(async (kind) => { 
      this.#outcomes[kind].resolve(await this.#settle(kind, signal));
      this.#told.resolve();
    });
    const told = this.#tell(signal);
    await Promise.all([...settled, told]);
  }

  #slots(kind: UpdateKind): Slots {
    const slots = this.#options.slots[kind];
    if (slots.kind === 'none') throw new TenzroError('update.unsupported', slots.reason);
    return slots.value;
  }

  async #restart(slots: Slots, record: UpdateRecord, signal: AbortSignal): Promise<void> {
    try {
      signal.throwIfAborted();
      await this.#records.write({ ...record, restarts: record.restarts + 1 });
      await slots.restart(signal);
    } catch (error) {
      await giveUp({ slots, records: this.#records });
      throw error;
    }
  }

  /** How the newest update of that kind ended; waits while it is on trial. Undefined: there was none, or the gateway stops first. */
  async #settle(kind: UpdateKind, signal: AbortSignal): Promise<UpdateRecord | undefined> {
    const slots = this.#options.slots[kind];
    if (slots.kind === 'none') return undefined;
    try {
      let record = await this.#records.read(kind);
      if (record) record = await this.#afterStart(record, slots.value, signal);
      while (record?.phase === 'trial' && !signal.aborted) {
        await sleep(LIMITS.updateLookMs, undefined, { signal }).catch(() => undefined); // aborted: the loop ends
        record = await this.#records.read(kind);
      }
      return record?.phase === 'trial' ? undefined : record;
    } catch (error) {
      this.#options.log.error({ what: kind, error: messageOf(error) }, 'what became of an update waits for the next start');
      return undefined;
    }
  }

  async #afterStart(record: UpdateRecord, slots: Slots, signal: AbortSignal): Promise<UpdateRecord | undefined> {
    const next = afterStart(record, await this.#statusWhenDone(slots, signal));
    switch (next) {
      case 'committed': return record.phase === 'committed' ? record : concludeUpdate(this.#records, record, 'committed');
      case 'returned': return record.phase === 'returned' ? record : concludeUpdate(this.#records, record, 'returned');
      case 'trial': {
        const onTrial: UpdateRecord = { ...record, phase: 'trial' };
        if (record.phase !== 'trial') await this.#records.write(onTrial);
        return onTrial;
      }
      case 'restart':
        await this.#restart(slots, record, signal);
        return record;
      case 'interrupted':
        await this.#giveUpUnlessBusy(slots);
        return undefined;
    }
  }

  /** Who writes a slot goes on when who asked for it is gone. */
  async #statusWhenDone(slots: Slots, signal: AbortSignal): Promise<SlotsStatus> {
    for (;;) {
      try {
        return await slots.status(signal);
      } catch (error) {
        if (!(error instanceof TenzroError) || error.code !== 'update.busy') throw error;
        await sleep(LIMITS.updateLookMs, undefined, { signal });
      }
    }
  }

  /** Another process may be in the middle of it. */
  async #giveUpUnlessBusy(slots: Slots): Promise<void> {
    await using resources = new AsyncDisposableStack();
    try {
      resources.use(await lockUpdates(this.#options.settings.dataDir));
    } catch (error) {
      if (error instanceof TenzroError && error.code === 'update.busy') return;
      throw error;
    }
    await giveUp({ slots, records: this.#records });
  }

  /** What nobody told the chain yet, here and in other processes. */
  async #tell(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#told = Promise.withResolvers();
      try {
        for (const { name, event } of await this.#records.untold()) {
          await this.#record(event);
          await this.#records.told(name);
        }
      } catch (error) {
        this.#options.log.warn({ error: messageOf(error) }, 'what became of an update is told later');
      }
      const idle = new AbortController();
      await Promise.race([this.#told.promise, sleep(IDLE_LOOK_MS, undefined, { signal: AbortSignal.any([signal, idle.signal]) }).catch(() => undefined)]); // aborted: nobody waits any more
      idle.abort();
    }
  }

  async #record(event: UpdateEvent): Promise<void> {
    const { ledger, clock, counters, log } = this.#options;
    counters.add(`update.${event.change}`);
    log.warn({ ...event }, `update ${event.change}`);
    const body = new Map<number, Cbor>(Object.entries(event).flatMap(([name, value]) => (typeof value === 'string' ? [[UPDATE_BODY[name as keyof UpdateEvent], value] as const] : [])));
    await ledger.append({ kind: KIND.update, source: MAIN_ENTITY, wallMicros: clock.wallMicros(), monoMicros: clock.monoMicros(), body });
  }
}

/** Ends an update: for the chain first, so that a crash tells it twice rather than never. */
export async function concludeUpdate(records: UpdateRecords, record: UpdateRecord, change: 'committed' | 'returned'): Promise<UpdateRecord> {
  const { what, from, to, command } = record;
  const known = { what, to, ...(from === undefined ? {} : { from }), ...(command === undefined ? {} : { command }) };
  await records.tell(change === 'committed' ? { ...known, change } : { ...known, change, code: 'update.returned', reason: returnedWords(record) });
  const ended: UpdateRecord = { ...record, phase: change };
  await records.write(ended);
  return ended;
}

const returnedWords = ({ to, from, reason }: UpdateRecord): string => `${to} did not prove itself, ${from ?? 'the one before'} runs again: ${reason ?? 'it never came as far as to say why'}`;

function orderOf(parameters: Parameters): BundleOrder {
  onlyKnown(parameters, ['url', 'sha256', 'bytes', 'allow_downgrade']);
  const { sha256, bytes, allow_downgrade: isDowngradeAllowed = false } = parameters;
  if (sha256 !== undefined && (typeof sha256 !== 'string' || !SHA256.test(sha256))) throw wrong('sha256 is not 64 lower-case hexadecimal digits');
  if (typeof isDowngradeAllowed !== 'boolean') throw wrong('allow_downgrade is neither true nor false');
  const source = textIn(parameters, 'url', URL_CHARACTERS_MAX);
  checkUrl(source);
  return { source, isDowngradeAllowed, ...(sha256 === undefined ? {} : { sha256 }), ...(bytes === undefined ? {} : { bytes: wholeIn(parameters, 'bytes', 1, LIMITS.updateBundleBytesMax) }) };
}
