/** `tenzro update confirm`: the health gate of a system on trial, as a process beside the gateway. systemd starts the system again where it ends with anything but 0. */
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Slots } from '#runtime/core/ports.ts';
import { printable } from '#runtime/core/printable.ts';
import type { Settings } from '#runtime/core/settings.ts';
import { readStatus } from '#runtime/observe/control.ts';
import type { GatewayStatus } from '#runtime/observe/status.ts';
import { beginGate, step, type GateInput, type GateLimits, type GateState } from '#runtime/update/gate.ts';
import { UpdateRecords } from '#runtime/update/record.ts';
import { concludeUpdate, slotsHere } from '#runtime/updating.ts';
import { EXIT, configOf, type CommonFlags, type Io } from './io.ts';

/** Exit 0: every system here is confirmed, now or before; 1: one did not prove itself in time; 2: it could not be judged. */
export async function updateConfirm(io: Io, flags: CommonFlags): Promise<void> {
  io.catchSignals();
  const { settings } = configOf(flags);
  const here = await slotsHere(settings.dataDir, () => undefined);
  const results: object[] = [];
  for (const slots of [here.firmware, here.software]) if (slots.kind === 'value') results.push(await confirmSlots(io, slots.value, settings, { isQuiet: flags.json === true }));
  if (flags.json) io.json({ systems: results });
  else if (results.length === 0) io.line('nothing to confirm: this installation has no second slot');
}

interface ConfirmOptions {
  readonly isQuiet: boolean;
  /** Shorter in tests. */
  readonly steadyMs?: number;
  readonly lookMs?: number;
}

/** Says by the exit code, too, that it failed. */
export async function confirmSlots(io: Pick<Io, 'signal' | 'line' | 'error' | 'exitCode'>, slots: Slots, { dataDir, update }: Pick<Settings, 'dataDir' | 'update'>, { isQuiet, steadyMs = LIMITS.updateSteadyMs, lookMs = LIMITS.updateLookMs }: ConfirmOptions): Promise<object> {
  const say = (text: string): void => { if (!isQuiet) io.line(text); };
  const records = new UpdateRecords(dataDir);
  const { booted, other } = await patiently(() => slots.status(io.signal), io.signal, { withinMs: update.trialSeconds * 1_000, lookMs });
  const record = await records.read(slots.holds);
  const mine = record?.phase === 'trial' || record?.phase === 'installing' ? record : undefined;
  const words = `${slots.holds} ${booted.version.kind === 'value' ? printable(booted.version.value) : 'of unknown version'} in slot ${booted.name}`;
  // Without a way back a restart would help nobody.
  if (booted.state === 'trial' && other.state === 'good') {
    say(`${words} is on trial`);
    const failed = await gate(io.signal, { dataDir, lookMs, say }, { steadyMs, withinMs: update.trialSeconds * 1_000, isOfflineFine: update.commitOffline || mine?.wasOffline === true });
    if (failed) {
      if (mine?.slot === booted.name) await records.write({ ...mine, phase: 'trial', reason: failed.join('; ') });
      const unhealthy = new TenzroError('update.unhealthy', `${words} has not proved itself: ${failed.join('; ')}`);
      io.error(`tenzro: ${printable(unhealthy.message)} (${unhealthy.code})`);
      io.error(unhealthy.hint);
      io.exitCode = EXIT.problem;
      return { what: slots.holds, slot: booted.name, was: booted.state, missing: failed };
    }
  }
  await slots.commit(io.signal);
  if (mine?.slot === booted.name) await concludeUpdate(records, mine, 'committed');
  else if (booted.state === 'trial' && other.state !== 'empty' && booted.version.kind === 'value') await records.tell({ change: 'committed', what: slots.holds, to: booted.version.value });
  say(`${words} is confirmed${booted.state === 'good' ? ', as it was before' : ''}`);
  return { what: slots.holds, slot: booted.name, was: booted.state };
}

/** Early in a start the slots' keeper may not be there yet; and a machine whose keeper is broken shall not restart every minute. */
async function patiently<T>(ask: () => Promise<T>, signal: AbortSignal, { withinMs, lookMs }: { readonly withinMs: number; readonly lookMs: number }): Promise<T> {
  const startMicros = systemClock.monoMicros();
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (systemClock.monoMicros() - startMicros > withinMs * 1_000) throw error;
      await sleep(lookMs, undefined, { signal });
    }
  }
}

/** What is missing when the time is over; undefined: nothing is. */
async function gate(signal: AbortSignal, { dataDir, lookMs, say }: { readonly dataDir: string; readonly lookMs: number; readonly say: (text: string) => void }, limits: GateLimits): Promise<readonly string[] | undefined> {
  const nowMs = (): number => systemClock.monoMicros() / 1_000;
  let [state, told]: [GateState, string] = [beginGate(nowMs()), ''];
  for (;;) {
    const { state: next, effect } = step(state, { nowMs: nowMs(), look: await lookAt(dataDir) }, limits);
    state = next;
    if (effect.do === 'commit') return undefined;
    if (effect.do === 'fail') return effect.missing;
    const missing = state.missing.join('; ');
    if (missing !== told) say(missing === '' ? 'healthy; it has to stay so for a moment' : `not yet: ${printable(missing)}`);
    told = missing;
    await sleep(lookMs, undefined, { signal });
  }
}

async function lookAt(dataDir: string): Promise<GateInput['look']> {
  try {
    const status = await readStatus(dataDir);
    return status.kind === 'value' ? lookOf(status.value) : { unanswered: status.reason };
  } catch (error) {
    return { unanswered: messageOf(error) };
  }
}

const lookOf = ({ pid, ready, health, blocksSealed, fleet: { upstreams } }: GatewayStatus): GateInput['look'] => ({
  pid, isReady: ready, stalled: health.stalled.map(({ name }) => name), blocks: blocksSealed,
  fleet: upstreams.length === 0 ? 'none' : upstreams.some(({ connected }) => connected) ? 'reached' : 'offline',
});
