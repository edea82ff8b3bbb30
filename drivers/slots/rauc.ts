/**
 * The two system slots of an image, through RAUC's service (https://rauc.readthedocs.io, D-Bus API): its own client where that does, busctl where not. The
 * service runs as root and judges signatures; we are nobody and ask. INVARIANT: what RAUC was told to install it goes on with when we are gone; what nobody
 * wants any more is abandoned when it has ended.
 */
import { spawn } from 'node:child_process';
import { access, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { isJsonObject } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { BundleFacts, BundleSource, Slots, SlotsStatus } from '#runtime/core/ports.ts';
import type { Maybe } from '#runtime/core/types.ts';
import { errorOf, factsIn, statusIn, type Committed, type Known } from './raucSays.ts';

export interface RaucPlaces {
  /** Of the slot that runs: {"compatible", "version"}. */
  readonly imageFile: string;
  readonly systemConf: string;
  /** Which installations proved themselves: ours, on what outlasts them. */
  readonly committedFile: string;
  /** Made by us, it makes root restart the machine. */
  readonly askFile: string;
}

/** Only a system made from our image has it: what it was made for, and its version. */
export const IMAGE_FILE = '/usr/lib/tenzro-edge/image.json';

/** `stateDir`: on what outlasts every system. */
export const raucPlaces = (stateDir: string): RaucPlaces => ({ imageFile: IMAGE_FILE, systemConf: '/etc/rauc/system.conf', committedFile: `${stateDir}/committed.json`, askFile: '/run/tenzro/ask/reboot' });

const OBJECT = ['de.pengutronix.rauc', '/', 'de.pengutronix.rauc.Installer'] as const;
const OWNER_ONLY = 0o600;
const LINE_CHARACTERS_MAX = 4_096;
const ANSWER_CHARACTERS_MAX = 256 * 1024;

export class RaucSlots implements Slots {
  readonly holds = 'firmware';
  readonly restarts = 'machine';
  readonly #places: RaucPlaces;
  /** An installation that nobody waits for any more. */
  #leftover: Promise<void> = Promise.resolve();

  constructor(places: RaucPlaces) { this.#places = places; }

  /** Whether this system was made from an image of ours. */
  static async here(places: RaucPlaces): Promise<Maybe<RaucSlots>> {
    try {
      await Promise.all([access(places.imageFile), access(places.systemConf)]);
      return { kind: 'value', value: new RaucSlots(places) };
    } catch {
      return { kind: 'none', reason: 'this system has no second slot to update into: it was not made from an image of Tenzro Edge' };
    }
  }

  async status(signal: AbortSignal): Promise<SlotsStatus> {
    const { installation: _installation, ...status } = await this.#look(signal);
    return status;
  }

  async inspect(source: BundleSource, signal: AbortSignal): Promise<BundleFacts> {
    const place = source.kind === 'file' ? source.path : source.url;
    try {
      return factsIn(await answered('busctl', ['--json=short', 'call', ...OBJECT, 'InspectBundle', 'sa{sv}', place, '0'], signal));
    } catch (error) {
      if (!(error instanceof TenzroError) || !error.message.includes('No such method')) throw error; // RAUC before 1.9
      return factsIn(await answered('busctl', ['--json=short', 'call', ...OBJECT, 'Info', 's', place], signal));
    }
  }

  async install(source: BundleSource, report: (percent: number) => void, signal: AbortSignal): Promise<void> {
    await this.#leftover;
    signal.throwIfAborted();
    const { promise: stopped, reject: stop } = Promise.withResolvers<never>();
    const onAbort = (): void => { stop(new TenzroError('update.slots', 'the installation was stopped', { cause: signal.reason })); };
    signal.addEventListener('abort', onAbort, { once: true });
    const running = installed(source.kind === 'file' ? source.path : source.url, report);
    try {
      await Promise.race([running, stopped]);
    } catch (error) {
      if (signal.aborted) this.#leftover = running.then(() => this.abandon(AbortSignal.timeout(LIMITS.updateAnswerMs)), () => undefined).catch(() => undefined); // the next start looks at it again
      throw error;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  async commit(signal: AbortSignal): Promise<void> {
    await answered('rauc', ['status', 'mark-good'], signal);
    const { booted, installation } = await this.#look(signal);
    if (booted.state === 'good' || booted.version.kind === 'none') return;
    const { committed } = await this.#known();
    await this.#remember({ ...committed, [booted.name]: { installation, version: booted.version.value } });
  }

  async revert(signal: AbortSignal): Promise<void> {
    const { other } = await this.status(signal);
    if (other.state !== 'good') throw new TenzroError('update.no_way_back', `slot ${other.name} is ${other.state}`);
    await answered('rauc', ['status', 'mark-active', 'other'], signal);
  }

  async abandon(signal: AbortSignal): Promise<void> {
    await answered('rauc', ['status', 'mark-active', 'booted'], signal);
    await answered('rauc', ['status', 'mark-bad', 'other'], signal);
  }

  async restart(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    try {
      await writeFile(this.#places.askFile, '');
    } catch (cause) {
      throw new TenzroError('update.slots', `the machine cannot be told to restart (${messageOf(cause)}): start it again, and the other slot runs`, { cause });
    }
  }

  async #look(signal: AbortSignal): Promise<ReturnType<typeof statusIn>> {
    return statusIn(await answered('rauc', ['status', '--detailed', '--output-format=json'], signal), await this.#known());
  }

  async #known(): Promise<Known> {
    const [image, kept] = await Promise.all([objectIn(this.#places.imageFile), objectIn(this.#places.committedFile)]);
    const version = image['version'];
    if (typeof version !== 'string') throw new TenzroError('update.slots', `${this.#places.imageFile} does not say which version runs`);
    const committed = Object.entries(kept).flatMap(([slot, said]): (readonly [string, Committed])[] => {
      const { installation, version: was } = isJsonObject(said) ? said : {};
      return typeof installation === 'string' && typeof was === 'string' ? [[slot, { installation, version: was }]] : [];
    });
    return { version, committed: Object.fromEntries(committed) };
  }

  /** Whole or not at all. Without it a good system has to prove itself once more. */
  async #remember(committed: Readonly<Record<string, Committed>>): Promise<void> {
    const { committedFile } = this.#places;
    await mkdir(dirname(committedFile), { recursive: true, mode: 0o700 });
    await writeFile(`${committedFile}.new`, JSON.stringify(committed), { mode: OWNER_ONLY, flush: true });
    await rename(`${committedFile}.new`, committedFile);
  }
}

/** {} for what is not there, or damaged. */
async function objectIn(file: string): Promise<Readonly<Record<string, unknown>>> {
  try {
    const value: unknown = JSON.parse(await readFile(file, 'utf8'));
    return isJsonObject(value) ? value : {};
  } catch {
    return {};
  }
}

/** Not by a shell; without a word from outside but places of bundles. */
function start(program: string, args: readonly string[], signal?: AbortSignal): ReturnType<typeof spawn> {
  return spawn(program, [...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, LC_ALL: 'C' }, ...(signal ? { signal } : {}) });
}

/** What it prints. Rejects with an `update.*` error. */
async function answered(program: string, args: readonly string[], signal: AbortSignal): Promise<string> {
  const child = start(program, args, AbortSignal.any([signal, AbortSignal.timeout(LIMITS.updateAnswerMs)]));
  const { promise, resolve, reject } = Promise.withResolvers<number | null>();
  let [said, complained] = ['', ''];
  child.stdout?.setEncoding('utf8').on('data', (text: string) => { said = (said + text).slice(0, ANSWER_CHARACTERS_MAX); });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => { complained = (complained + text).slice(-LINE_CHARACTERS_MAX); });
  child.once('error', reject).once('close', resolve);
  const code = await promise.catch((cause: unknown) => { throw new TenzroError('update.slots', `${program}: ${messageOf(cause)}`, { cause }); });
  // `rauc status` ends with 0 also where its service does not answer.
  if (code !== 0 || said === '') throw errorOf(lastLine(complained) || `${program} ended with ${code}`);
  return said;
}

const lastLine = (text: string): string => text.trim().split('\n').at(-1)?.replace(/^Call failed: |^Error [^:]*: /, '') ?? '';

/** Resolves when the other slot is whole and starts next. */
async function installed(place: string, report: (percent: number) => void): Promise<void> {
  const child = start('rauc', ['install', place]);
  const { promise, resolve, reject } = Promise.withResolvers<number | null>();
  let [problem, complained] = ['', ''];
  child.stderr?.setEncoding('utf8').on('data', (text: string) => { complained = (complained + text).slice(-LINE_CHARACTERS_MAX); });
  if (child.stdout) {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const percent = /^\s*(\d{1,3})% /.exec(line)?.[1];
      if (percent !== undefined) report(Math.min(100, Number(percent)));
      else if (line.startsWith('LastError: ')) problem = line.slice('LastError: '.length, LINE_CHARACTERS_MAX);
    });
  }
  child.once('error', reject).once('close', resolve);
  const code = await promise.catch((cause: unknown) => { throw new TenzroError('update.slots', `rauc: ${messageOf(cause)}`, { cause }); });
  if (code !== 0) throw errorOf(problem || lastLine(complained) || `rauc install ended with ${code}`);
}
