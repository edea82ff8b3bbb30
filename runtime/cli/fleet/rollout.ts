/** `tenzro fleet rollout`: signs all that a roll-out may need, hands it to the controller, and shows how it goes. */
import { userInfo } from 'node:os';
import { callController } from '#runtime/controller/apiClient.ts';
import { parseRollout, planFile, type RolloutPlan } from '#runtime/controller/rolloutPlan.ts';
import { neededCommands } from '#runtime/controller/rolloutNeeds.ts';
import { beginRollout, cancelIdOf } from '#runtime/controller/rolloutState.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { isJsonObject, type JsonObject } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { printable } from '#runtime/core/printable.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { EXIT, type Io } from '../io.ts';
import { gatewaysOf } from './groups.ts';
import { openOwnerKey, type OwnerFlags } from './owner.ts';
import { inFile, shortList, spanOf } from './plan.ts';
import { barOf, Pace, standingOf, type Standing } from './rolloutBar.ts';
import { signFor, type Signed } from './run.ts';

export interface RolloutFlags { readonly dir: string; readonly json?: boolean }
export interface StartFlags extends OwnerFlags { readonly watch: boolean; readonly json?: boolean }

const SIGNED_AT_ONCE = 100;
/** Pauses, and nights before somebody resumes, belong to its time too. */
const SLACK_FACTOR = 2;
const SLACK_SECONDS = 86_400;

/** Throws `fleet.file`, `fleet.key`, `controller.*`. */
export async function rolloutStart(io: Io, file: string, flags: StartFlags): Promise<void> {
  const plan = inFile(file, parseRollout);
  const { gateways, unknown } = await gatewaysOf(flags.dir, `@${plan.group}`);
  if (unknown.length > 0) io.error(`never heard of, and left out: ${shortList(unknown)}`);
  const prepared = await callController(flags.dir, 'rollouts.prepare', { plan: planFile(plan), gateways });
  const [ttlSeconds, missing] = [validityFor(Number(prepared['longestSeconds'])), Number(prepared['missing'])];
  const signer = await openOwnerKey(io, flags);
  io.error(`${plan.id}: ${gateways.length} gateways; signing ${missing} messages, valid for ${spanOf(Math.ceil(ttlSeconds / 3_600) * 3_600)}`);
  await handIn(io, plan, signMessages(signer, plan, gateways, ttlSeconds), missing, flags.dir);
  const standing = await callController(flags.dir, 'rollouts.start', { id: plan.id });
  if (flags.watch) await rolloutWatch(io, plan.id, flags);
  else if (flags.json) io.json(standing);
  else io.line(`${plan.id} runs: tenzro fleet rollout watch ${plan.id} --dir ${printable(flags.dir)}`);
}

/** Throws `fleet.file`. */
function validityFor(longestSeconds: number): number {
  if (longestSeconds > LIMITS.commandSecondsMax) throw new TenzroError('fleet.file', `by its plan it may take ${Math.ceil(longestSeconds / 86_400)} days, and a signed command lasts ${LIMITS.commandSecondsMax / 86_400}: shorten soaks or answerSeconds, raise concurrency, or make two roll-outs of it`);
  return Math.min(LIMITS.commandSecondsMax, SLACK_FACTOR * longestSeconds + SLACK_SECONDS);
}

/** Each command that it may need, in both directions, with the cancel that would end it. */
function* signMessages(signer: Signer, plan: RolloutPlan, gateways: readonly string[], ttlSeconds: number): Iterable<Signed> {
  const issued = Math.floor(systemClock.wallMicros() / 1_000_000);
  const common = { issued, ttlSeconds, isDryRun: false };
  for (const { gateway, direction, commandId } of neededCommands(beginRollout(plan, gateways, 0))) {
    const { type, parameters } = direction === 'undo' && plan.rollback ? plan.rollback : plan.command;
    yield signFor(signer, gateway, { ...common, type, id: commandId, parameters });
    yield signFor(signer, gateway, { ...common, type: 'cancel', id: cancelIdOf(commandId), parameters: { type, id: commandId } });
  }
}

async function handIn(io: Io, { id }: RolloutPlan, messages: Iterable<Signed>, total: number, dir: string): Promise<void> {
  let [done, some]: [number, JsonObject[]] = [0, []];
  const send = async (): Promise<void> => {
    await callController(dir, 'rollouts.sign', { id, commands: some }, { signal: io.signal });
    [done, some] = [done + some.length, []];
    if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${done} of ${total} signed${done === total ? '\n' : ''}`);
  };
  for (const { gateway, message } of messages) {
    some.push({ gateway, message });
    if (some.length === SIGNED_AT_ONCE) await send();
  }
  if (some.length > 0) await send();
}

/** Exit 1 where it did not complete, or somebody failed. */
export async function rolloutWatch(io: Io, id: string, { dir, json }: RolloutFlags): Promise<void> {
  const shown = await callController(dir, 'rollouts.show', { id });
  const soaksMs = soaksOf(shown);
  io.catchSignals();
  const pace = new Pace();
  let last: Standing | undefined;
  const show = (standing: Standing): void => {
    const nowMs = systemClock.wallMicros() / 1_000;
    if (io.isTTY) process.stdout.write(`\r\u001b[K${printable(barOf(standing, nowMs, pace.left(standing, soaksMs, nowMs), process.stdout.columns))}`);
    else if (last?.phase !== standing.phase || last.stage !== standing.stage || last.isPaused !== standing.isPaused) io.line(`${standing.phase}${standing.isPaused ? ' (paused)' : ''}: ${barOf(standing, nowMs, undefined)}`);
    last = standing;
  };
  const second = setInterval(() => { if (last && io.isTTY && !json) show(last); }, 1_000);
  try {
    const end = await callController(dir, 'rollouts.watch', { id }, {
      signal: io.signal,
      onEvent: (event) => {
        const standing = standingOf(event);
        pace.see(standing, systemClock.wallMicros() / 1_000);
        if (json) io.json(event);
        else show(standing);
      },
    });
    if (io.isTTY && !json) process.stdout.write('\r\u001b[K');
    tellEnd(io, end, json === true);
  } catch (error) {
    if (!io.signal.aborted) throw error;
    io.error('\ninterrupted: the roll-out goes on; tenzro fleet rollout pause or abort would stop it');
  } finally {
    clearInterval(second);
  }
}

/** In milliseconds, by stage. */
function soaksOf({ plan }: JsonObject): readonly number[] {
  return isJsonObject(plan) ? parseRollout(plan).stages.map(({ soakSeconds }) => soakSeconds * 1_000) : [];
}

function tellEnd(io: Io, end: JsonObject, isJson: boolean): void {
  const { outcome, why, failed, total } = standingOf(end);
  if (outcome !== 'completed' || failed > 0) io.exitCode = EXIT.problem;
  if (isJson) return io.json(end);
  const { report } = end;
  const listOf = (name: string): readonly string[] => (isJsonObject(report) && Array.isArray(report[name]) ? (report[name] as readonly string[]) : []);
  io.line(`${io.paint(outcome === '' ? 'not over yet' : outcome, outcome === 'completed' && failed === 0 ? 'green' : 'red')}${why === '' ? '' : `: ${printable(why)}`}`);
  for (const name of ['changed', 'undone', 'untouched']) if (listOf(name).length > 0) io.line(`${name.padEnd(10)} ${listOf(name).length} of ${total}: ${shortList(listOf(name))}`);
  for (const [name, title] of [['failures', 'failed'], ['undoFailures', 'not undone']] as const) {
    for (const failure of listOf(name) as readonly unknown[]) tellFailure(io, title, failure);
  }
}

function tellFailure(io: Io, title: string, failure: unknown): void {
  const { reason, gateways } = isJsonObject(failure) ? failure : {};
  const names = Array.isArray(gateways) ? (gateways as readonly string[]) : [];
  io.line(`${title.padEnd(10)} ${names.length}: ${io.paint(printable(typeof reason === 'string' ? reason : ''), 'red')}\n           ${shortList(names)}`);
}

export async function rolloutLs(io: Io, { dir, json }: RolloutFlags): Promise<void> {
  const listed = await callController(dir, 'rollouts.list', {});
  if (json) return io.json(listed);
  const rollouts = (Array.isArray(listed['rollouts']) ? (listed['rollouts'] as readonly JsonObject[]) : []).map(standingOf);
  if (rollouts.length === 0) io.line('no roll-outs');
  for (const standing of rollouts) io.line(`${standing.id.padEnd(24)} ${(standing.outcome || standing.phase).padEnd(12)} ${printable(barOf(standing, systemClock.wallMicros() / 1_000, undefined))}`);
}

export async function rolloutShow(io: Io, id: string, { dir, json }: RolloutFlags): Promise<void> {
  const shown = await callController(dir, 'rollouts.show', { id });
  if (json) return io.json(shown);
  const standing = standingOf(shown);
  io.line(`${standing.phase}: ${printable(barOf(standing, systemClock.wallMicros() / 1_000, undefined))}`);
  tellEnd(io, shown, false);
}

/** Needs no key: it only stops, or sends what was signed when the roll-out began. */
export async function rolloutOrder(io: Io, order: 'pause' | 'resume' | 'abort' | 'rollback', id: string, { dir, why, json }: RolloutFlags & { readonly why?: string }): Promise<void> {
  const standing = await callController(dir, `rollouts.${order}`, { id, by: userInfo().username, ...(order === 'abort' || order === 'rollback' ? { why: why ?? `${order} by order` } : {}) });
  if (json) io.json(standing);
  else io.line(printable(barOf(standingOf(standing), systemClock.wallMicros() / 1_000, undefined)));
}
