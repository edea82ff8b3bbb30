/**
 * A configuration that the fleet put in place, until it has proved itself. Its record stands beside the file, where the starting process finds it before it
 * reads any configuration: what the gateway cannot start with goes back without anybody's help.
 * INVARIANTS: the record is on disk before the file is replaced, and says that it goes back before it does · the text before is restored byte for byte · a
 * file that somebody else has changed since is left alone.
 */
import { existsSync, readFileSync } from 'node:fs';
import { toHex } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { isJsonObject, type Json } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { removeFlushed, replaceConfigFile, replaceFile } from './replace.ts';

/** Who put it there, and so who ends the trial. */
export type TrialOrigin =
  | { readonly kind: 'twin'; readonly version: number }
  /** Without `confirmSeconds` it has proved itself as soon as the gateway runs. */
  | { readonly kind: 'command'; readonly id: string; readonly confirmSeconds?: number };

export interface Trial {
  readonly origin: TrialOrigin;
  /** Of the text on trial, hexadecimal. */
  readonly sha256: string;
  /** The text to go back to; null: there was no file. */
  readonly before: string | null;
  /** Starts under it so far. */
  readonly starts: number;
  /** Why it went back. */
  readonly takenBack?: string;
}

const VERSION = 1;
const OWNER_ONLY = 0o600;

export class ConfigTrial {
  readonly #file: string;
  readonly #recordFile: string;

  /** Absolute path of the configuration file. */
  constructor(file: string) {
    this.#file = file;
    this.#recordFile = `${file}.trial`;
  }

  /** The record; undefined where there is none, or where it is damaged. */
  get current(): Trial | undefined { return recordIn(textOf(this.#recordFile)); }

  /** Puts a text on trial in the place of the file; returns where the file before was copied to. Throws `config.on_trial`, `config.unreadable`. */
  begin(text: string, origin: TrialOrigin): string | undefined {
    const { current } = this;
    const isOpen = current && (current.takenBack !== undefined || this.#holds(current));
    const isUntried = current?.origin.kind === 'command' && current.starts === 0; // the next start was to try it
    if (isOpen && !isUntried) throw new TenzroError('config.on_trial', `the configuration of ${wordsOf(current.origin)} has not proved itself yet`);
    this.#write({ origin, sha256: digestOf(text), before: isOpen ? current.before : textOf(this.#file) ?? null, starts: 0 });
    return replaceConfigFile(this.#file, text);
  }

  /** For the starting process, before it reads the file: counts the start, finishes what a kill interrupted, and takes back what was started too often. Returns why it went back. */
  start(): string | undefined {
    const { current } = this;
    if (!current) return undefined;
    if (current.takenBack !== undefined) this.#restore(current);
    else if (!this.#holds(current)) this.end(); // it never came into force, or somebody changed the file since
    else if (current.starts > LIMITS.twinProbationStartsMax) return this.takeBack(`the gateway was started ${current.starts} times under it, and it had not proved itself`);
    else this.#write({ ...current, starts: current.starts + 1 });
    return undefined;
  }

  /** Puts the text before back in place, durably. Returns the reason; undefined where nothing was on trial. The record stays, for its origin to learn the reason. */
  takeBack(reason: string): string | undefined {
    const { current } = this;
    if (!current || current.takenBack !== undefined || !this.#holds(current)) return undefined;
    const takenBack = reason.slice(0, LIMITS.twinReasonBytesMax);
    this.#write({ ...current, takenBack });
    this.#restore(current);
    return takenBack;
  }

  /** The trial is over, either way. */
  end(): void { removeFlushed(this.#recordFile); }

  #holds({ sha256: expected }: Trial): boolean {
    const text = textOf(this.#file);
    return text !== undefined && digestOf(text) === expected;
  }

  #restore(trial: Trial): void {
    if (!this.#holds(trial)) return;
    if (trial.before === null) removeFlushed(this.#file);
    else replaceConfigFile(this.#file, trial.before);
  }

  #write({ origin, ...trial }: Trial): void {
    replaceFile(this.#recordFile, JSON.stringify({ version: VERSION, origin: { ...origin }, ...trial }), OWNER_ONLY);
  }
}

const digestOf = (text: string): string => toHex(sha256(Buffer.from(text, 'utf8')));
const wordsOf = (origin: TrialOrigin): string => (origin.kind === 'twin' ? `version ${origin.version} of the twin` : `command ${origin.id}`);

/** Undefined where there is no such file. Throws `config.unreadable`. */
function textOf(path: string): string | undefined {
  try {
    return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
  } catch (cause) {
    throw new TenzroError('config.unreadable', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}

function recordIn(text: string | undefined): Trial | undefined {
  const fields = text === undefined ? undefined : jsonOf(text);
  if (!isJsonObject(fields) || fields['version'] !== VERSION) return undefined;
  const { origin: said, sha256: digest, before, starts, takenBack } = fields;
  const origin = originOf(said);
  if (!origin || typeof digest !== 'string' || (typeof before !== 'string' && before !== null) || typeof starts !== 'number') return undefined;
  return { origin, sha256: digest, before, starts, ...(typeof takenBack === 'string' ? { takenBack } : {}) };
}

function originOf(said: Json | undefined): TrialOrigin | undefined {
  if (!isJsonObject(said)) return undefined;
  const { kind, version, id, confirmSeconds } = said;
  if (kind === 'twin' && typeof version === 'number') return { kind, version };
  if (kind !== 'command' || typeof id !== 'string') return undefined;
  return { kind, id, ...(typeof confirmSeconds === 'number' ? { confirmSeconds } : {}) };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // damaged: whoever put it there sees that its text is not in force
  }
}
