/** `tenzro update status|check|install|revert|scan`: the second slot, from where the gateway stands. Signatures are the slots' to judge, here as for commands. */
import { readdir } from 'node:fs/promises';
import { createInterface } from 'node:readline/promises';
import { join, resolve } from 'node:path';
import { checkUrl } from '#models/fetch.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { Slot, Slots, SlotsStatus } from '#runtime/core/ports.ts';
import { printable } from '#runtime/core/printable.ts';
import type { Settings } from '#runtime/core/settings.ts';
import { readStatus } from '#runtime/observe/control.ts';
import { giveUp, inspectBundle, installBundle, type BundleOrder } from '#runtime/update/install.ts';
import { UpdateRecords, type UpdateRecord } from '#runtime/update/record.ts';
import { compareVersions } from '#runtime/update/version.ts';
import { lockUpdates, slotsHere, type SlotsHere } from '#runtime/updating.ts';
import { EXIT, configOf, type CommonFlags, type Io } from './io.ts';

export interface InstallFlags extends CommonFlags {
  readonly yes?: boolean;
  readonly allowDowngrade?: boolean;
  readonly sha256?: string;
}

type Find = (dataDir: string) => Promise<SlotsHere>;
const findHere: Find = (dataDir) => slotsHere(dataDir, () => undefined);

/** Of files on sticks: the name only says that they may be meant. */
const FOUND = /^tenzro-[\w.+~-]{1,120}\.raucb$/;
const FILES_MAX = 32;

export async function updateStatus(io: Io, flags: CommonFlags, find: Find = findHere): Promise<void> {
  const { settings } = configOf(flags);
  const slots = await slotsOf(settings, find);
  const [status, record] = [await slots.status(io.signal), await new UpdateRecords(settings.dataDir).read(slots.holds)];
  if (flags.json) return io.json({ holds: slots.holds, ...status, last: record ?? null });
  io.line(`made for  ${printable(status.compatible)}`);
  for (const slot of [status.booted, status.other]) io.line(slotLine(slot, status));
  if (record) io.line(`update    ${recordWords(record)}`);
}

export async function updateCheck(io: Io, source: string, flags: InstallFlags, find: Find = findHere): Promise<void> {
  io.catchSignals();
  const { settings } = configOf(flags);
  const slots = await slotsOf(settings, find);
  const { facts, verdict } = await inspectBundle(orderOf(source, flags), { slots, records: new UpdateRecords(settings.dataDir), clock: systemClock }, io.signal);
  if (flags.json) return io.json({ ...facts, verdict });
  io.line(verdict === 'already' ? `${printable(facts.version)} is what runs` : `${printable(facts.version)} can be installed: its signature is good, and it is for this machine`);
}

export async function updateInstall(io: Io, source: string, flags: InstallFlags, find: Find = findHere): Promise<void> {
  io.catchSignals();
  const { settings } = configOf(flags);
  const slots = await slotsOf(settings, find);
  const order = orderOf(source, flags);
  const { facts, verdict } = await inspectBundle(order, { slots, records: new UpdateRecords(settings.dataDir), clock: systemClock }, io.signal).catch(async (error: unknown) => refused(settings, slots, order, error));
  if (verdict === 'already') return flags.json ? io.json({ effective: 'already', version: facts.version }) : io.line(`${printable(facts.version)} runs already`);
  if (!flags.yes) await agree(io, `Install ${printable(facts.version)} and restart the ${slots.restarts}? (yes/no) `);
  await installNow(io, { slots, settings, order, isQuiet: flags.json === true });
  if (flags.json) io.json({ effective: slots.restarts === 'machine' ? 'restarting' : 'at the next start', version: facts.version });
}

export async function updateRevert(io: Io, flags: InstallFlags, find: Find = findHere): Promise<void> {
  const { settings } = configOf(flags);
  const slots = await slotsOf(settings, find);
  await using resources = new AsyncDisposableStack();
  resources.use(await lockUpdates(settings.dataDir));
  const { other } = await slots.status(io.signal);
  const version = other.version.kind === 'value' ? printable(other.version.value) : 'what is there';
  if (other.state === 'good' && !flags.yes) await agree(io, `Go back to ${version} in slot ${other.name}, and restart the ${slots.restarts}? (yes/no) `);
  await slots.revert(io.signal);
  await restart(io, slots, flags.json === true);
  if (flags.json) io.json({ slot: other.name, version });
}

/** Without folders: whether media are looked at, by the exit code. */
export async function updateScan(io: Io, folders: readonly string[], flags: CommonFlags, find: Find = findHere): Promise<void> {
  io.catchSignals();
  const { settings } = configOf(flags);
  if (!settings.update.fromMedia) {
    io.exitCode = folders.length === 0 ? EXIT.problem : EXIT.ok;
    return io.line('bundles on sticks and on the boot partition are left alone: update.fromMedia is false');
  }
  const slots = await slotsOf(settings, find);
  const files = (await Promise.all(folders.map(async (folder) => bundlesIn(folder)))).flat().slice(0, FILES_MAX);
  const orders: { readonly order: BundleOrder; readonly version: string }[] = [];
  for (const file of files) {
    const order: BundleOrder = { source: file, isDowngradeAllowed: false, isFound: true };
    try {
      const { facts, verdict } = await inspectBundle(order, { slots, records: new UpdateRecords(settings.dataDir), clock: systemClock }, io.signal);
      if (verdict === 'install') orders.push({ order, version: facts.version });
      io.line(`${printable(file)}: ${printable(facts.version)}${verdict === 'already' ? ' is what runs' : ''}`);
    } catch (error) {
      io.error(`${printable(file)}: ${printable(messageOf(error))}`);
      if (!(error instanceof TenzroError) || (error.code !== 'update.older' && error.code !== 'update.returned')) await tellRefused(settings, slots, order, error);
    }
  }
  const newest = orders.toSorted((a, b) => compareVersions(b.version, a.version))[0];
  if (newest) await installNow(io, { slots, settings, order: newest.order, isQuiet: true });
}

async function bundlesIn(folder: string): Promise<readonly string[]> {
  try {
    return (await readdir(folder, { withFileTypes: true })).filter((entry) => entry.isFile() && FOUND.test(entry.name)).map(({ name }) => join(resolve(folder), name));
  } catch (cause) {
    throw new TenzroError('update.source', messageOf(cause), { cause });
  }
}

interface Work { readonly slots: Slots; readonly settings: Settings; readonly order: BundleOrder; readonly isQuiet: boolean }

async function installNow(io: Io, { slots, settings, order, isQuiet }: Work): Promise<void> {
  await using resources = new AsyncDisposableStack();
  resources.use(await lockUpdates(settings.dataDir));
  const records = new UpdateRecords(settings.dataDir);
  const line = new ProgressLine(io.isTTY && !isQuiet);
  const record = await installBundle(order, { slots, records, clock: systemClock, wasOffline: await isOffline(settings.dataDir), report: (percent, receivedBytes) => { line.show(percent, receivedBytes); } }, io.signal)
    .catch(async (error: unknown) => refused(settings, slots, order, error)).finally(() => { line.end(); });
  if (!record) return;
  if (!isQuiet) io.line(`${printable(record.to)} is in slot ${record.slot}, and starts on trial`);
  try {
    await restart(io, slots, isQuiet);
  } catch (error) {
    await giveUp({ slots, records });
    throw error;
  }
}

async function restart(io: Io, slots: Slots, isQuiet: boolean): Promise<void> {
  if (slots.restarts === 'machine') await slots.restart(io.signal);
  if (!isQuiet) io.line(slots.restarts === 'machine' ? 'the machine restarts now' : 'restart the gateway: sudo systemctl restart tenzro-edge');
}

/** What somebody offered and nobody may install stands in the chain; what went wrong by itself does not. */
async function refused(settings: Settings, slots: Slots, order: BundleOrder, error: unknown): Promise<never> {
  await tellRefused(settings, slots, order, error);
  throw error;
}

async function tellRefused({ dataDir }: Settings, slots: Slots, { source }: BundleOrder, error: unknown): Promise<void> {
  if (!(error instanceof TenzroError) || error.class !== 'input') return;
  await new UpdateRecords(dataDir).tell({ change: 'refused', what: slots.holds, code: error.code, reason: error.message, source });
}

/** The one kind that this machine can replace: an image is replaced whole. */
async function slotsOf({ dataDir }: Settings, find: Find): Promise<Slots> {
  const { firmware, software } = await find(dataDir);
  if (firmware.kind === 'value') return firmware.value;
  if (software.kind === 'value') return software.value;
  throw new TenzroError('update.unsupported', `${firmware.reason}; ${software.reason}`);
}

function orderOf(source: string, { sha256, allowDowngrade }: InstallFlags): BundleOrder {
  const isUrl = /^[a-z]+:\/\//i.test(source);
  if (isUrl) checkUrl(source);
  if (sha256 !== undefined && !/^[0-9a-f]{64}$/.test(sha256)) throw new TenzroError('cli.usage', '--sha256 is not 64 lower-case hexadecimal digits');
  return { source: isUrl ? source : resolve(source), isDowngradeAllowed: allowDowngrade === true, ...(sha256 === undefined ? {} : { sha256 }) };
}

async function isOffline(dataDir: string): Promise<boolean> {
  const status = await readStatus(dataDir);
  const upstreams = status.kind === 'value' ? status.value.fleet.upstreams : [];
  return upstreams.length > 0 && upstreams.every(({ connected }) => !connected);
}

async function agree(io: Io, question: string): Promise<void> {
  if (!process.stdin.isTTY) throw new TenzroError('cli.usage', 'there is no terminal to ask on: --yes says yes');
  using lines = createInterface({ input: process.stdin, output: process.stderr });
  if (!/^\s*y(?:es)?\s*$/i.test(await lines.question(question, { signal: io.signal }))) throw new TenzroError('cli.usage', 'nothing was changed');
}

function slotLine({ name, version, state, triesLeft }: Slot, { booted, next }: SlotsStatus): string {
  const facts = [state, ...(triesLeft === undefined ? [] : [`${triesLeft} tries left`]), ...(name === booted.name ? ['runs'] : []), ...(name === next ? ['starts next'] : [])];
  return `slot ${name.padEnd(4)} ${version.kind === 'value' ? printable(version.value) : `unknown: ${printable(version.reason)}`} (${facts.join(', ')})`;
}

const recordWords = ({ phase, from, to, reason }: UpdateRecord): string => `${printable(from ?? 'unknown')} → ${printable(to)}: ${phase}${reason === undefined || phase === 'committed' ? '' : `, ${printable(reason)}`}`;

const CELLS = 24;
const MEBIBYTE = 1024 * 1024;

/** On a terminal a line that is overwritten, else nothing. */
class ProgressLine {
  readonly #isShown: boolean;

  constructor(isShown: boolean) { this.#isShown = isShown; }

  show(percent: number, receivedBytes: number): void {
    if (!this.#isShown) return;
    const cells = Math.floor(percent / 100 * CELLS);
    process.stdout.write(`\rinstalling [${'█'.repeat(cells)}${'·'.repeat(CELLS - cells)}] ${percent} %${receivedBytes > 0 ? `, ${(receivedBytes / MEBIBYTE).toFixed(1)} MiB fetched` : ''}\u001b[K`);
  }

  end(): void { if (this.#isShown) process.stdout.write('\n'); }
}
