/** `tenzro fleet run|cancel|commands`: signs commands with the owner's key, hands them to the controller, and tells what became of them. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { callController } from '#runtime/controller/apiClient.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { COMMAND_CLASS, COMMAND_TYPES, isCommandType, type CommandClaims } from '#runtime/core/command.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { isJsonObject, type JsonObject } from '#runtime/core/json.ts';
import { printable } from '#runtime/core/printable.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { signCommand } from '#runtime/fleet/message.ts';
import { EXIT, type Io } from '../io.ts';
import { gatewaysOf } from './groups.ts';
import { openOwnerKey, type OwnerFlags } from './owner.ts';
import { shortList } from './plan.ts';
import { parametersOf, secondsOf, timeOf } from './sign.ts';
import { windowAt } from './window.ts';

export interface RunFlags extends OwnerFlags {
  readonly params?: string;
  readonly ttl?: string;
  readonly dryRun?: boolean;
  readonly urgent?: boolean;
  readonly notBefore?: string;
  readonly window?: string;
  readonly zone: string;
  readonly wait: boolean;
  readonly json?: boolean;
}

export interface Signed { readonly gateway: string; readonly message: JsonObject }
interface Outcome { readonly gateway: string; readonly type: string; readonly id: string; readonly state: string; readonly reason: string; readonly said: JsonObject }

const TTL = { interactive: '60s', job: '1h' } as const;
const SUBMITTED_AT_ONCE = 100;
const WATCHED_AT_ONCE = 5_000;
const SILENT_AFTER = 'silent';

/** Throws `cli.usage`, `fleet.key`, `controller.*`, `command.*`. Exit 1 where one did not succeed. */
export async function fleetRun(io: Io, target: string, type: string, words: readonly string[], flags: RunFlags): Promise<void> {
  if (!isCommandType(type) || type === 'cancel') throw new TenzroError('cli.usage', `'${type}' is none of ${COMMAND_TYPES.filter((known) => known !== 'cancel').join(', ')}`);
  const parameters = { ...parametersOf(flags.params ?? '{}'), ...wordsIn(words) };
  const when = timesOf(flags, COMMAND_CLASS[type]);
  const { gateways, unknown } = await gatewaysOf(flags.dir, target);
  if (unknown.length > 0) io.error(target.startsWith('@') ? `never heard of, and left out: ${shortList(unknown)}` : `${target} was never heard of: the command waits for it until its validity is over`);
  if (gateways.length === 0) throw new TenzroError('cli.usage', `${target} means no gateway now`);
  const signer = await openOwnerKey(io, flags);
  const id = randomBytes(8).toString('hex');
  const claims = { type, id, ...when, isDryRun: flags.dryRun === true, ...(flags.urgent === true ? { isUrgent: true } : {}), parameters };
  await send(io, 'commands.submit', gateways.map((gateway) => signFor(signer, gateway, claims)), flags);
}

/** Exit 1 where it could not be cancelled. */
export async function fleetCancel(io: Io, target: string, type: string, id: string, flags: Omit<RunFlags, 'zone'>): Promise<void> {
  const { gateways } = await gatewaysOf(flags.dir, target);
  const signer = await openOwnerKey(io, flags);
  const claims = { type: 'cancel', id: randomBytes(8).toString('hex'), ...timesOf({ ...flags, zone: 'UTC' }, 'interactive'), isDryRun: false, parameters: { type, id } };
  await send(io, 'commands.cancel', gateways.map((gateway) => signFor(signer, gateway, claims)), flags);
}

export const signFor = (signer: Signer, gateway: string, claims: Omit<CommandClaims, 'gateway' | 'target'>): Signed => ({ gateway, message: signCommand(signer, { ...claims, gateway, target: MAIN_ENTITY }) });

/** A window that is open, or opens, says when it may begin and how long it is valid. */
function timesOf({ ttl, notBefore, window, zone }: Pick<RunFlags, 'ttl' | 'notBefore' | 'window' | 'zone'>, kind: keyof typeof TTL): Pick<CommandClaims, 'issued' | 'ttlSeconds' | 'notBefore'> {
  const issued = Math.floor(systemClock.wallMicros() / 1_000_000);
  if (window === undefined) {
    const begins = notBefore === undefined ? undefined : timeOf(notBefore);
    const ttlSeconds = secondsOf(ttl ?? TTL[kind]);
    return { issued, ttlSeconds: begins !== undefined && ttl === undefined ? ttlSeconds + Math.max(0, begins - issued) : ttlSeconds, ...(begins === undefined ? {} : { notBefore: begins }) };
  }
  if (notBefore !== undefined || ttl !== undefined) throw new TenzroError('cli.usage', '--window says already what --not-before and --ttl would say');
  const { from, to } = windowAt(window, zone, issued * 1_000);
  return { issued, ttlSeconds: to - issued, ...(from === undefined ? {} : { notBefore: from }) };
}

/** `key=value`, the value as JSON where it is JSON and else as text; `key=@file`: the text of a file. */
function wordsIn(words: readonly string[]): JsonObject {
  return Object.fromEntries(words.map((word) => {
    const [, key, text] = /^([^=]+)=([\s\S]*)$/.exec(word) ?? [];
    if (key === undefined || text === undefined) throw new TenzroError('cli.usage', `'${word}': write key=value`);
    return [key, text.startsWith('@') ? textIn(text.slice(1)) : valueOf(text)];
  }));
}

function textIn(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new TenzroError('cli.usage', `cannot read ${file}: ${messageOf(cause)}`, { cause });
  }
}

function valueOf(text: string): JsonObject[string] {
  try {
    return JSON.parse(text) as JsonObject[string];
  } catch {
    return text;
  }
}

async function send(io: Io, method: string, signed: readonly Signed[], { dir, wait, json }: Pick<RunFlags, 'dir' | 'wait' | 'json'>): Promise<void> {
  for (let at = 0; at < signed.length; at += SUBMITTED_AT_ONCE) await callController(dir, method, { commands: signed.slice(at, at + SUBMITTED_AT_ONCE).map(({ gateway, message }) => ({ gateway, message })) });
  const names = signed.map(({ gateway, message: { type, id } }) => ({ gateway, type: textOf(type), id: textOf(id) }));
  if (!wait) return json ? io.json({ commands: names }) : io.line(`${names.length} handed in: tenzro fleet commands shows them (${names[0]?.type ?? ''}/${names[0]?.id ?? ''})`);
  io.catchSignals();
  const outcomes = await follow(io, dir, names, json === true);
  const failed = outcomes.filter(({ state }) => state !== 'successful');
  if (failed.length > 0) io.exitCode = EXIT.problem;
  if (json) io.json({ commands: outcomes });
  else if (!io.signal.aborted) tell(io, outcomes);
}

/** Resolves with how each of them ended; interrupted, with how far each is. */
async function follow(io: Io, dir: string, names: readonly { readonly gateway: string; readonly type: string; readonly id: string }[], isQuiet: boolean): Promise<readonly Outcome[]> {
  const outcomes = new Map<string, Outcome>();
  const bar = new StateLine(io, names.length, isQuiet);
  for (let at = 0; at < names.length && !io.signal.aborted; at += WATCHED_AT_ONCE) {
    await callController(dir, 'commands.watch', { commands: names.slice(at, at + WATCHED_AT_ONCE) }, {
      signal: io.signal,
      onEvent: (event) => {
        const outcome = outcomeOf(event);
        outcomes.set(outcome.gateway, outcome);
        bar.show(outcome, outcomes);
      },
    }).catch((error: unknown) => { if (!io.signal.aborted) throw error; });
  }
  bar.end();
  if (io.signal.aborted) io.error('interrupted: what is under way goes on; tenzro fleet commands shows it, tenzro fleet cancel stops it');
  return [...outcomes.values()];
}

function outcomeOf({ gateway, type, id, state, reason, said }: JsonObject): Outcome {
  return { gateway: textOf(gateway), type: textOf(type), id: textOf(id), state: textOf(state), reason: textOf(reason), said: isJsonObject(said) ? said : {} };
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

/** One line that changes on a terminal; else a line for each state of each gateway. */
class StateLine {
  readonly #io: Io;
  readonly #total: number;
  readonly #isQuiet: boolean;

  constructor(io: Io, total: number, isQuiet: boolean) {
    this.#io = io;
    this.#total = total;
    this.#isQuiet = isQuiet;
  }

  show({ gateway, state }: Outcome, outcomes: ReadonlyMap<string, Outcome>): void {
    if (this.#isQuiet) return;
    if (!this.#io.isTTY) return this.#io.error(`${gateway}: ${state}`);
    const counts = Map.groupBy(outcomes.values(), (outcome) => outcome.state);
    process.stdout.write(`\r\u001b[K${[...counts].map(([name, some]) => `${some.length} ${name}`).join(', ')} of ${this.#total}`);
  }

  end(): void { if (this.#io.isTTY && !this.#isQuiet) process.stdout.write('\r\u001b[K'); }
}

function tell(io: Io, outcomes: readonly Outcome[]): void {
  const [only] = outcomes;
  if (outcomes.length === 1 && only?.state === 'successful') return io.line(JSON.stringify(only.said['result'] ?? {}, undefined, 2).split('\n').map(printable).join('\n'));
  const done = outcomes.filter(({ state }) => state === 'successful');
  if (outcomes.length > 1) io.line(io.paint(`${done.length} of ${outcomes.length} successful`, done.length === outcomes.length ? 'green' : 'yellow'));
  const failed = Map.groupBy(outcomes.filter(({ state }) => state !== 'successful'), ({ state, reason }) => `${state === SILENT_AFTER ? 'silent, ' : ''}${reason === '' ? state : reason}`);
  for (const [reason, some] of [...failed].toSorted(([, a], [, b]) => b.length - a.length)) io.line(`${io.paint(printable(reason), 'red')}\n  ${some.length}: ${shortList(some.map(({ gateway }) => gateway))}`);
}

/** The newest first. */
export async function fleetCommands(io: Io, gateway: string | undefined, { dir, open, json }: { readonly dir: string; readonly open?: boolean; readonly json?: boolean }): Promise<void> {
  const listed = await callController(dir, 'commands.list', { ...(gateway === undefined ? {} : { gateway }), ...(open === true ? { open } : {}) });
  if (json) return io.json(listed);
  const commands = Array.isArray(listed['commands']) ? (listed['commands'] as readonly JsonObject[]) : [];
  for (const { submittedAt, ...command } of commands) {
    const { gateway: name, type, id, state, reason } = outcomeOf(command);
    io.line(`${textOf(submittedAt)}  ${name.padEnd(16)} ${`${type}/${id}`.padEnd(40)} ${state}${reason === '' ? '' : `  ${printable(reason)}`}`);
  }
}
