/**
 * The gateway's side of the application's folders: the port `Slots` on a machine with the package and systemd. It can write none of them: it hands over a bundle and a
 * request, root's keeper answers in a file.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, open, rm, type FileHandle } from 'node:fs/promises';
import { get, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { BundleFacts, BundleSource, Slot, Slots, SlotsStatus } from '#runtime/core/ports.ts';
import { BUNDLE_HEAD_BYTES, openStatement, statementLength } from '#runtime/crypto/appBundle.ts';
import { fitting, folderAt, inSlots, readRunning, readSmall, readState, replaceSmall, slotsFault, versionAt, type FolderPaths } from './folderPaths.ts';
import { choose, targetOf, type Folder, type FolderState, type Place } from './folderState.ts';
import { parseResult, type Request } from './handover.ts';
import { releaseKeys } from './releaseKeys.ts';

export interface FolderSlotsOptions {
  readonly paths: FolderPaths;
  readonly compatible: string;
  /** Negative, zero, positive: order of versions. */
  readonly compare: (a: string, b: string) => number;
  /** User id that has to own the release keys: root's. */
  readonly owner: number;
  /** Ends the gateway in an orderly way, so that systemd starts what is chosen next. */
  readonly endGateway: () => void;
}

/** Unpacking on a slow card. */
const ANSWER_MS = 15 * 60_000;
const POLL_MS = 200;
const OWNER_ONLY = { folder: 0o700, file: 0o600 } as const;
/** Of the work: fetching; the rest is root's. */
const HANDED_OVER_PERCENT = 40;

/** Undefined where no launcher chose a folder: no systemd, no package. Rejects with `update.slots`. */
export async function openFolderSlots(options: FolderSlotsOptions): Promise<Slots | undefined> {
  return await readRunning(options.paths) === undefined ? undefined : new FolderSlots(options);
}

class FolderSlots implements Slots {
  readonly holds = 'software';
  readonly restarts = 'gateway';
  readonly #options: FolderSlotsOptions;

  constructor(options: FolderSlotsOptions) { this.#options = options; }

  async status(signal: AbortSignal): Promise<SlotsStatus> {
    return inSlots(async () => {
      signal.throwIfAborted();
      const { paths, compatible, compare } = this.#options;
      const [state, running, fits] = await Promise.all([readState(paths), readRunning(paths), fitting(paths, compare)]);
      const booted = running ?? 'package';
      const other = otherOf(state, booted, fits);
      return { compatible, booted: await this.#slot(booted, state), other: await this.#slot(other, state), next: choose(state, fits).place };
    });
  }

  async #slot(place: Place, { trial, left }: FolderState): Promise<Slot> {
    const version = await versionAt(folderAt(this.#options.paths, place));
    if (version === undefined) return { name: place, version: { kind: 'none', reason: 'nothing whole is in it' }, state: 'empty', triesLeft: 0 };
    const known = { name: place, version: { kind: 'value', value: version } } as const;
    return place === trial ? { ...known, state: await this.#isTrial(place, left) ? 'trial' : 'bad', triesLeft: left } : { ...known, state: 'good' };
  }

  /** The last try runs with none left. */
  async #isTrial(place: Place, left: number): Promise<boolean> { return left > 0 || await readRunning(this.#options.paths) === place; }

  async inspect(source: BundleSource, signal: AbortSignal): Promise<BundleFacts> {
    return inSlots(async () => {
      const { paths, owner } = this.#options;
      const head = await readStart(source, 0, BUNDLE_HEAD_BYTES, signal);
      const statement = await readStart(source, BUNDLE_HEAD_BYTES, statementLength(head), signal);
      const { compatible, version } = openStatement(statement, await releaseKeys(paths.keys, owner));
      return { compatible, version };
    });
  }

  async install(source: BundleSource, report: (percent: number) => void, signal: AbortSignal): Promise<void> {
    const { paths: { handover } } = this.#options;
    const bundle = join(handover, 'bundle');
    await inSlots(async () => {
      await mkdir(handover, { recursive: true, mode: OWNER_ONLY.folder });
      await rm(bundle, { force: true, recursive: true });
      try {
        await using target = await open(bundle, 'wx', OWNER_ONLY.file);
        for await (const chunk of await contentOf(source, 0, signal)) await target.writeFile(chunk);
        await target.sync();
      } catch (cause) {
        await rm(bundle, { force: true });
        throw cause;
      }
    });
    report(HANDED_OVER_PERCENT);
    await this.#ask('install', signal);
    report(100);
  }

  async commit(signal: AbortSignal): Promise<void> {
    const { paths } = this.#options;
    const [{ trial }, running] = await Promise.all([readState(paths), readRunning(paths)]);
    if (running === trial) await this.#ask('commit', signal);
  }

  async revert(signal: AbortSignal): Promise<void> { await this.#ask('revert', signal); }

  async abandon(signal: AbortSignal): Promise<void> { await this.#ask('abandon', signal); }

  async restart(signal: AbortSignal): Promise<void> {
    await inSlots(async () => { signal.throwIfAborted(); });
    this.#options.endGateway();
  }

  /** One request at a time: whoever installs meanwhile gets `update.busy`. */
  async #ask(what: Request['do'], signal: AbortSignal): Promise<void> {
    const { handover, home } = this.#options.paths;
    const id = randomUUID();
    const file = join(handover, 'request');
    await inSlots(async () => mkdir(handover, { recursive: true, mode: OWNER_ONLY.folder }));
    if (await readSmall(file) !== undefined) throw new TenzroError('update.busy', 'another request waits for root\'s keeper of the folders');
    await replaceSmall(file, `${JSON.stringify({ id, do: what } satisfies Request)}\n`, OWNER_ONLY.file);
    const outcome = await this.#answer(join(home, 'result'), id, signal).catch(async (error: unknown) => {
      await rm(file, { force: true });
      throw slotsFault(error);
    });
    if (outcome.error) throw outcome.error;
  }

  async #answer(path: string, id: string, signal: AbortSignal): Promise<NonNullable<ReturnType<typeof parseResult>>> {
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]);
    for (;;) {
      const outcome = parseResult(await readSmall(path) ?? '', id);
      if (outcome) return outcome;
      await sleep(POLL_MS, undefined, { signal: deadline });
    }
  }
}

/** What a trial is against; else what was tried last; else what `revert` would start. */
function otherOf(state: FolderState, booted: Place, fits: (folder: Folder) => boolean): Place {
  if (booted === state.trial) return state.committed;
  if (state.trial !== 'none') return state.trial;
  const folder = targetOf({ ...state, committed: booted });
  return booted === 'package' || fits(folder) ? folder : 'package';
}

async function readStart(source: BundleSource, from: number, length: number, signal: AbortSignal): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let gathered = 0;
  for await (const chunk of await contentOf(source, from, signal, from + length - 1)) {
    chunks.push(chunk);
    gathered += chunk.length;
    if (gathered >= length) break;
  }
  if (gathered < length) throw new TenzroError('update.bundle', 'the bundle is cut');
  return Buffer.concat(chunks).subarray(0, length);
}

/** From a byte on, to `last` at most where it is said. Rejects with `update.slots`, `update.bundle`. */
async function contentOf(source: BundleSource, from: number, signal: AbortSignal, last?: number): Promise<AsyncIterable<Uint8Array>> {
  if (source.kind === 'file') {
    const file: FileHandle = await open(source.path);
    return file.createReadStream({ start: from, ...(last === undefined ? {} : { end: last }), signal });
  }
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    get(source.url, { signal, headers: { range: `bytes=${from}-${last ?? ''}` } }, resolve).once('error', (error) => { reject(new TenzroError('update.slots', messageOf(error), { cause: error })); });
  });
  if (response.statusCode === 206 || (response.statusCode === 200 && from === 0)) return Readable.from(response);
  response.resume();
  throw new TenzroError('update.bundle', `the bundle's source answers ${response.statusCode ?? 0}`);
}
