/** One bundle into the other slot: brought, looked at, judged, written, looked at again. Whatever goes wrong, what runs goes on and starts next. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { BundleFacts, BundleSource, Slots } from '#runtime/core/ports.ts';
import { BundleLink } from './link.ts';
import { judgeBundle } from './policy.ts';
import type { UpdateRecord, UpdateRecords } from './record.ts';
import { openRelay } from './relay.ts';

export interface BundleOrder {
  /** URL that was checked, or absolute path. */
  readonly source: string;
  /** What who asks expects; absent: the signature decides alone. `sha256` of a URL costs a transfer of its own. */
  readonly sha256?: string;
  readonly bytes?: number;
  readonly isDowngradeAllowed: boolean;
  /** Found lying there: what returned from here is not tried again. */
  readonly isFound?: boolean;
  readonly command?: string;
}

export interface InstallPorts {
  readonly slots: Slots;
  readonly records: UpdateRecords;
  readonly clock: Clock;
  readonly wasOffline: boolean;
  /** Percent of all work, and bytes that came over the network. */
  readonly report: (percent: number, receivedBytes: number) => void;
}

export type Judged = { readonly verdict: 'install' | 'already'; readonly facts: BundleFacts };

/** Looks only. Rejects with an `update.*` error. */
export async function inspectBundle(order: BundleOrder, ports: Pick<InstallPorts, 'slots' | 'records' | 'clock'>, signal: AbortSignal): Promise<Judged> {
  await using bundle = await Bundle.open(order, ports.clock, signal);
  return await bundle.explained(() => judged(order, bundle, ports, signal));
}

/** Resolves with the record of what starts next, on trial; undefined where it runs already. Rejects with an `update.*` error, and then what runs starts next. */
export async function installBundle(order: BundleOrder, ports: InstallPorts, signal: AbortSignal): Promise<UpdateRecord | undefined> {
  const { slots, records, report, wasOffline } = ports;
  await using bundle = await Bundle.open(order, ports.clock, signal);
  return await bundle.explained(async () => {
    const { verdict, facts } = await judged(order, bundle, ports, signal);
    if (verdict === 'already') return undefined;
    const { booted, other } = await slots.status(signal);
    const record: UpdateRecord = {
      what: slots.holds, phase: 'installing', to: facts.version, slot: other.name, wasOffline, restarts: 0,
      ...(booted.version.kind === 'value' ? { from: booted.version.value } : {}), ...(order.command === undefined ? {} : { command: order.command }),
    };
    await records.write(record);
    try {
      await slots.install(bundle.source, (percent) => { report(percent, bundle.receivedBytes); }, signal);
      await isWhatWasJudged(slots, facts, signal);
      signal.throwIfAborted();
      const onTrial: UpdateRecord = { ...record, phase: 'trial' };
      await records.write(onTrial);
      return onTrial;
    } catch (error) {
      if (!signal.aborted) await giveUp(ports).catch(() => undefined); // what is under way, or could not be given up, the next start gives up
      throw error;
    }
  });
}

/** Of what was begun and nobody wants: nothing starts by itself. */
export async function giveUp({ slots, records }: Pick<InstallPorts, 'slots' | 'records'>): Promise<void> {
  const late = AbortSignal.timeout(LIMITS.updateAnswerMs);
  const { booted, next } = await slots.status(late);
  if (next !== booted.name) await slots.abandon(late);
  await records.forget(slots.holds);
}

async function judged(order: BundleOrder, bundle: Bundle, { slots, records }: Pick<InstallPorts, 'slots' | 'records'>, signal: AbortSignal): Promise<Judged> {
  const status = await slots.status(signal);
  await bundle.check(order, signal);
  const facts = await slots.inspect(bundle.source, signal);
  const before = order.isFound === true ? await records.read(slots.holds) : undefined;
  return { facts, verdict: judgeBundle(facts, status, { isDowngradeAllowed: order.isDowngradeAllowed, ...(before?.phase === 'returned' ? { returnedVersion: before.to } : {}) }) };
}

/** A file may change between a look at it and its installation. */
async function isWhatWasJudged(slots: Slots, { version }: BundleFacts, signal: AbortSignal): Promise<void> {
  const { other, next } = await slots.status(signal);
  if (next !== other.name) throw new TenzroError('update.slots', `slot ${other.name} was written and does not start next`);
  if (other.version.kind === 'value' && other.version.value !== version) throw new TenzroError('update.changed', `${version} was looked at, and ${other.version.value} installed: it is given up`);
}

class Bundle implements AsyncDisposable {
  readonly source: BundleSource;
  readonly #resources: AsyncDisposableStack;
  readonly #link: BundleLink | undefined;

  static async open({ source }: BundleOrder, clock: Clock, signal: AbortSignal): Promise<Bundle> {
    await using resources = new AsyncDisposableStack();
    if (!/^https?:/i.test(source)) return new Bundle({ kind: 'file', path: source }, undefined, resources.move());
    const link = resources.use(await BundleLink.open({ url: source, clock }, signal));
    const relay = resources.use(await openRelay(link));
    return new Bundle({ kind: 'loopback', url: relay.url }, link, resources.move());
  }

  private constructor(source: BundleSource, link: BundleLink | undefined, resources: AsyncDisposableStack) {
    this.source = source;
    this.#link = link;
    this.#resources = resources;
  }

  get receivedBytes(): number { return this.#link?.receivedBytes ?? 0; }

  /** Who installs only sees that no more came; here is known why. */
  async explained<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw this.#link?.failure ?? error;
    }
  }

  /** Throws `update.digest`, `update.source`. */
  async check({ bytes, sha256 }: BundleOrder, signal: AbortSignal): Promise<void> {
    const sizeBytes = this.#link?.sizeBytes ?? await this.#fileBytes();
    if (bytes !== undefined && bytes !== sizeBytes) throw new TenzroError('update.digest', `the bundle has ${sizeBytes} bytes, expected were ${bytes}`);
    if (sha256 === undefined) return;
    const hash = createHash('sha256');
    for await (const block of this.#content(signal)) hash.update(block);
    const found = hash.digest('hex');
    if (found !== sha256) throw new TenzroError('update.digest', `the bundle has SHA-256 ${found.slice(0, 16)}…, expected was ${sha256.slice(0, 16)}…`);
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.#resources.disposeAsync(); }

  async #fileBytes(): Promise<number> {
    try {
      const about = await stat(this.source.kind === 'file' ? this.source.path : '');
      if (about.isFile() && about.size <= LIMITS.updateBundleBytesMax) return about.size;
    } catch (cause) {
      throw new TenzroError('update.source', messageOf(cause), { cause });
    }
    throw new TenzroError('update.source', `a bundle is a file of at most ${LIMITS.updateBundleBytesMax} bytes`);
  }

  async *#content(signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const link = this.#link;
    if (!link) return void (yield* createReadStream(this.source.kind === 'file' ? this.source.path : '', { signal }) as AsyncIterable<Buffer>);
    for (let index = 0; index * LIMITS.updateBlockBytes < link.sizeBytes; index++) yield await link.block(index, signal);
  }
}
