/** One chaos run from a seed: load, commands, kills and a bad network until all are through, then peace, then what must hold. The seed decides what is tried; when it hits is up to the machine. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { auditChain, auditCommands, settled, type AuditFigures, type World } from './chaosAudit.ts';
import { Commands } from './chaosCommands.ts';
import { ChaosFleet, type Variant, type Victim } from './chaosFleet.ts';
import { Pump, Readings } from './chaosLoad.ts';
import type { Mangling, Tally } from './mqttMangler.ts';
import { randomOf } from './random.ts';

export interface ChaosWishes {
  readonly variant: Variant;
  readonly commands: number;
  readonly entries: number;
  readonly seed: number;
  /** Told every two seconds. */
  readonly onProgress?: (line: string) => void;
}

export interface ChaosReport extends AuditFigures {
  readonly seconds: { readonly chaos: number; readonly settling: number; readonly auditing: number };
  readonly commands: number;
  readonly acknowledged: number;
  readonly clashes: number;
  readonly forged: Commands['forged'];
  readonly kills: Readonly<Record<Victim, number>>;
  readonly gatewayStarts: number;
  readonly network: Readonly<Tally>;
}

const MANGLING: Mangling = { cut: 6, cutInside: 6, delay: 30, reorder: 50, duplicate: 60, replay: 40, lateSuback: 300 };
/** Commands under way: a gateway takes 32, and cancels beside them. A short run has fewer, so that it does not begin with all that it has. */
const OPEN_MAX = 24;
const OPEN_SHARE = 4;
const PROGRESS_MS = 2_000;
const KILL_PAUSE_MS = { min: 400, span: 3_000 };
const DOWN_MS_MAX = 1_200;
const BOTH_ONE_IN = 6;
/** So many readings may be ahead of the commands. */
const AHEAD = 0.1;

/** `dir`: an empty folder. Rejects with a Violation. */
export async function chaosRun(dir: string, { variant, commands: wanted, entries, seed, onProgress }: ChaosWishes): Promise<ChaosReport> {
  const random = randomOf(seed);
  await using fleet = await ChaosFleet.start({ dir, variant, mangling: MANGLING, random: randomOf(random(2 ** 31)) });
  const journalFile = join(dir, 'journal');
  const commands = new Commands({ fleet, journal: journalFile, random: randomOf(random(2 ** 31)), openMax: Math.min(OPEN_MAX, Math.ceil(wanted / OPEN_SHARE)) });
  const readings = new Readings(fleet.localPort, entries, () => entries * (AHEAD + commands.issued.length / wanted));
  const world: World = { fleet, readings, commands, pump: new Pump(fleet.localPort), journalFile };
  const [started, stop] = [performance.now(), new AbortController()];
  const line = (phase: string): string => progressLine(world, { phase, wanted, entries, seconds: (performance.now() - started) / 1_000 });
  const telling = setInterval(() => onProgress?.(line('chaos')), PROGRESS_MS);
  const pumping = world.pump.run(stop.signal);
  const fighting = new AbortController();
  try {
    const killing = keepKilling(fleet, randomOf(random(2 ** 31)), fighting.signal);
    await Promise.race([Promise.all([commands.run(wanted, stop.signal), readings.run(stop.signal)]), killing]);
    fighting.abort();
    await killing;
    const chaosEnd = performance.now();
    fleet.calm();
    await settled(world);
    const peace = performance.now();
    onProgress?.(line('audit'));
    const told = await auditCommands(world);
    stop.abort();
    await pumping;
    const disorder = await fleet.stop();
    if (disorder !== '') throw new Error(disorder);
    const kept = await auditChain(world);
    return {
      ...told, ...kept, commands: commands.issued.length, acknowledged: readings.count, clashes: commands.clashes, forged: commands.forged, kills: fleet.kills, gatewayStarts: fleet.gatewayStarts, network: fleet.tally,
      seconds: { chaos: secondsOf(chaosEnd - started), settling: secondsOf(peace - chaosEnd), auditing: secondsOf(performance.now() - peace) },
    };
  } finally {
    clearInterval(telling);
    fighting.abort();
    stop.abort();
    await pumping.catch(() => undefined); // whatever it is, it is told already
  }
}

/** Each victim once at least, also where everything else is through. A slow machine gets longer pauses: what is down all the time shows nothing. */
async function keepKilling(fleet: ChaosFleet, random: (below: number) => number, signal: AbortSignal): Promise<void> {
  const first = fleet.victims.toSorted(() => random(3) - 1);
  let restartMs = 0;
  for (let number = 0; !signal.aborted || number < first.length; number++) {
    await delay(2 * restartMs + KILL_PAUSE_MS.min + random(KILL_PAUSE_MS.span), undefined, { signal }).catch(() => undefined); // aborted: everything else is through
    if (signal.aborted && number >= first.length) return;
    const victims = new Set([first[number] ?? fleet.victims[random(fleet.victims.length)] ?? 'gateway', ...(random(BOTH_ONE_IN) === 0 ? ['gateway' as const] : [])]);
    const killed = performance.now();
    await Promise.all(Array.from(victims, (victim) => fleet.kill(victim, random(DOWN_MS_MAX))));
    restartMs = performance.now() - killed;
  }
}

const secondsOf = (ms: number): number => Math.round(ms / 100) / 10;

function progressLine({ fleet: { kills, tally }, readings, commands }: World, { phase, wanted, entries, seconds }: { readonly phase: string; readonly wanted: number; readonly entries: number; readonly seconds: number }): string {
  const { cut, cutInside, delay: delayed, reorder, duplicate, replay } = tally;
  return `${seconds.toFixed(0).padStart(4)} s ${phase}: ${commands.issued.length}/${wanted} commands, ${readings.count}/${entries} readings; killed ${kills.gateway} gateway ${kills.controller} controller ${kills.broker} broker; `
    + `${cut + cutInside} cut, ${delayed} delayed, ${reorder} re-ordered, ${duplicate + replay} duplicated, ${commands.forged.gateway} forged`;
}
