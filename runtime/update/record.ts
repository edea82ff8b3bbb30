/**
 * What is known of updates beyond the run of any process: the newest one of each kind, and what the chain was not told yet. Small files below the data
 * directory, replaced whole. The gateway, `tenzro update` and the health gate share them; who installs holds the lock.
 */
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { isJsonObject, type JsonObject } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { UpdateKind } from '#runtime/core/ports.ts';
import type { UpdateChange } from '#runtime/core/types.ts';

export interface UpdateRecord {
  readonly what: UpdateKind;
  /** installing: the other slot may be half · trial: it starts, and has not proved itself · committed, returned: ended. */
  readonly phase: 'installing' | 'trial' | 'committed' | 'returned';
  /** Versions. */
  readonly from?: string;
  readonly to: string;
  /** That was installed. */
  readonly slot: string;
  /** Id of the command. */
  readonly command?: string;
  /** No fleet was reached before it either. */
  readonly wasOffline: boolean;
  /** Why it has not proved itself, as of its last try. */
  readonly reason?: string;
  /** How often its restart was asked for. */
  readonly restarts: number;
}

/** For the chain. */
export interface UpdateEvent {
  readonly change: UpdateChange;
  readonly what: UpdateKind;
  readonly from?: string;
  readonly to?: string;
  readonly code?: string;
  readonly reason?: string;
  readonly command?: string;
  readonly source?: string;
}

const OWNER_ONLY = 0o600;
const FOLDER_MODE = 0o700;
const PHASES: readonly string[] = ['installing', 'trial', 'committed', 'returned'] satisfies UpdateRecord['phase'][];
const CHANGES: readonly string[] = ['committed', 'returned', 'refused'] satisfies UpdateChange[];

/** Below the data directory. */
export const updateFolder = (dataDir: string): string => join(dataDir, 'update');

export class UpdateRecords {
  readonly #folder: string;
  readonly #events: string;

  constructor(dataDir: string) {
    this.#folder = updateFolder(dataDir);
    this.#events = join(this.#folder, 'events');
  }

  /** Undefined where there is none, or where it is damaged. Throws `update.state`. */
  async read(what: UpdateKind): Promise<UpdateRecord | undefined> {
    const said = await this.#object(join(this.#folder, `${what}.json`));
    const { phase, from, to, slot, command, wasOffline, reason, restarts } = said ?? {};
    if (typeof phase !== 'string' || !PHASES.includes(phase) || typeof to !== 'string' || typeof slot !== 'string') return undefined;
    return { what, phase: phase as UpdateRecord['phase'], to, slot, wasOffline: wasOffline === true, restarts: typeof restarts === 'number' ? restarts : 0, ...texts({ from, command, reason }) };
  }

  /** Durable when it resolves. Throws `update.state`. */
  async write(record: UpdateRecord): Promise<void> {
    await this.#put(this.#folder, `${record.what}.json`, JSON.stringify(record));
  }

  async forget(what: UpdateKind): Promise<void> {
    await this.#tried(() => rm(join(this.#folder, `${what}.json`), { force: true }));
  }

  /** For the gateway to tell the chain: at least once. Of too many the newest are not told. */
  async tell(event: UpdateEvent): Promise<void> {
    const names = await this.#eventNames();
    if (names.length >= LIMITS.updateEventsMax) return;
    const next = String(Number(names.at(-1)?.slice(0, -'.json'.length) ?? 0) + 1).padStart(12, '0');
    await this.#put(this.#events, `${next}.json`, JSON.stringify(event));
  }

  /** What was not told yet, oldest first. */
  async untold(): Promise<readonly { readonly name: string; readonly event: UpdateEvent }[]> {
    const found: { readonly name: string; readonly event: UpdateEvent }[] = [];
    for (const name of await this.#eventNames()) {
      const { change, what, from, to, code, reason, command, source } = await this.#object(join(this.#events, name)) ?? {};
      if (typeof change !== 'string' || !CHANGES.includes(change) || (what !== 'firmware' && what !== 'software')) await this.told(name);
      else found.push({ name, event: { change: change as UpdateChange, what, ...texts({ from, to, code, reason, command, source }) } });
    }
    return found;
  }

  async told(name: string): Promise<void> {
    await this.#tried(() => rm(join(this.#events, name), { force: true }));
  }

  async #eventNames(): Promise<readonly string[]> {
    return this.#tried(async () => {
      try {
        return (await readdir(this.#events)).filter((name) => /^\d{12}\.json$/.test(name)).toSorted();
      } catch (cause) {
        if (isAbsent(cause)) return [];
        throw cause;
      }
    });
  }

  async #object(path: string): Promise<JsonObject | undefined> {
    const text = await this.#tried(() => readFile(path, 'utf8').catch((cause: unknown) => { if (isAbsent(cause)) return ''; throw cause; }));
    try {
      const value: unknown = JSON.parse(text);
      return isJsonObject(value) ? value : undefined;
    } catch {
      return undefined; // none, or cut by hand: whoever reads it goes by what the slots say
    }
  }

  async #put(folder: string, name: string, text: string): Promise<void> {
    await this.#tried(async () => {
      await mkdir(folder, { recursive: true, mode: FOLDER_MODE });
      const temporary = join(folder, `.${name}.${process.pid}`);
      await using file = await open(temporary, 'w', OWNER_ONLY);
      await file.writeFile(text);
      await file.sync();
      await rename(temporary, join(folder, name));
      await using place = await open(folder);
      await place.sync();
    });
  }

  async #tried<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (cause) {
      throw new TenzroError('update.state', messageOf(cause), { cause });
    }
  }
}

const isAbsent = (cause: unknown): boolean => cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';

/** Those that are text, cut to what an entry takes. */
function texts<K extends string>(values: Readonly<Record<K, unknown>>): { readonly [name in K]?: string } {
  return Object.fromEntries(Object.entries(values).flatMap(([name, value]) => (typeof value === 'string' ? [[name, value.slice(0, LIMITS.twinReasonBytesMax)]] : []))) as { readonly [name in K]?: string };
}
