/** How a roll-out stands, in one line. Pure. */
import type { Progress } from '#runtime/controller/rolloutReport.ts';
import type { JsonObject } from '#runtime/core/json.ts';

/** What `rollouts.*` says of one. */
export interface Standing extends Omit<Progress, 'phase'> {
  readonly id: string;
  /** A controller of another version may have further ones. */
  readonly phase: string;
  readonly outcome: string;
  readonly why: string;
  /** Undefined where it does not soak. */
  readonly soakUntilMs: number | undefined;
}

const CELLS = 24;
/** A shorter bar says nothing. */
const CELLS_MIN = 6;
const COUNTS = ['stage', 'stages', 'total', 'waiting', 'inFlight', 'succeeded', 'failed', 'undone', 'fraction'] as const;

export function standingOf(told: JsonObject): Standing {
  const text = (name: string): string => { const value = told[name]; return typeof value === 'string' ? value : ''; };
  const counts = Object.fromEntries(COUNTS.map((name) => { const value = told[name]; return [name, typeof value === 'number' ? value : 0]; })) as Record<(typeof COUNTS)[number], number>;
  const soakUntilMs = text('soakUntil') === '' ? undefined : Date.parse(text('soakUntil'));
  return { id: text('id'), phase: text('phase'), isPaused: told['isPaused'] === true, stageName: text('stageName'), outcome: text('outcome'), why: text('why'), ...counts, soakUntilMs };
}

/** Estimates from what was seen: gateways done per second of work, and the soaks that the plan still has. */
export class Pace {
  #workMs = 0;
  #done = 0;
  #last: { readonly ms: number; readonly done: number; readonly isWork: boolean } | undefined;

  see({ phase, succeeded, failed, undone }: Standing, nowMs: number): void {
    const done = succeeded + failed + undone;
    if (this.#last?.isWork === true) {
      this.#workMs += nowMs - this.#last.ms;
      this.#done += Math.max(0, done - this.#last.done);
    }
    this.#last = { ms: nowMs, done, isWork: phase === 'running' || phase === 'rollingBack' };
  }

  /** Milliseconds; undefined while nothing was seen that would tell. `soaksMs`: of the plan's stages. */
  left({ phase, stage, waiting, inFlight, soakUntilMs }: Standing, soaksMs: readonly number[], nowMs: number): number | undefined {
    const open = waiting + inFlight;
    if (phase === 'ended' || (open > 0 && this.#done === 0)) return undefined;
    const soak = soakUntilMs === undefined ? (soaksMs[stage - 1] ?? 0) : Math.max(0, soakUntilMs - nowMs);
    const later = soaksMs.slice(stage).reduce((sum, ms) => sum + ms, 0);
    return (open === 0 ? 0 : open * (this.#workMs / this.#done)) + soak + later;
  }
}

/** `2/3 canary [████····] 12 ok, 1 failed, 3 in flight of 24, soaks 0:42, about 3:00 left`. `columns`: of the terminal, where a line that wraps could not be overwritten. */
export function barOf(standing: Standing, nowMs: number, leftMs: number | undefined, columns = Infinity): string {
  const { stage, stages, stageName, total, succeeded, failed, inFlight, undone, fraction, isPaused, phase, soakUntilMs } = standing;
  const counts = [`${succeeded} ok`, ...(failed > 0 ? [`${failed} failed`] : []), ...(undone > 0 ? [`${undone} undone`] : []), ...(inFlight > 0 ? [`${inFlight} in flight`] : [])].join(', ');
  const soak = phase === 'soaking' && soakUntilMs !== undefined ? `, soaks ${clockOf(soakUntilMs - nowMs)}` : '';
  const state = isPaused ? ', PAUSED' : phase === 'stopping' || phase === 'rollingBack' ? `, ${phase === 'stopping' ? 'stopping' : 'rolling back'}` : '';
  const [head, tail] = [`${stage}/${stages} ${stageName} `, `${counts} of ${total}${state}${soak}${leftMs === undefined || isPaused ? '' : `, about ${clockOf(leftMs)} left`}`];
  const cells = Math.min(CELLS, columns - 1 - head.length - tail.length - '[] '.length);
  const full = Math.round(Math.min(1, Math.max(0, fraction)) * cells);
  const line = cells < CELLS_MIN ? head + tail : `${head}[${'█'.repeat(full)}${'·'.repeat(cells - full)}] ${tail}`;
  return line.length < columns ? line : `${line.slice(0, Math.max(0, columns - 2))}…`;
}

function clockOf(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  const [hours, minutes] = [Math.floor(seconds / 3_600), Math.floor(seconds / 60) % 60];
  const two = (value: number): string => String(value).padStart(2, '0');
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}
