/** A measured number beside the same number of a peer, taken in the same run, and how to take both fairly. */
export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** What it is held against; '' where it stands alone. */
  readonly peer: string;
  readonly peerValue: number | null;
  /** value / peerValue, where rounds were paired the median of the rounds' ratios. */
  readonly ratio: number | null;
  /** How it was taken or what limits it: one line under the table. */
  readonly note: string;
}

export interface BenchOptions {
  readonly isQuick: boolean;
  readonly say: (text: string) => void;
}

/** One set-up that yields one or more figures. */
export interface Bench {
  /** For `--only`. */
  readonly name: string;
  run(options: BenchOptions): Promise<Figure[]>;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle];
  if (upper === undefined) throw new Error('a median needs values');
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? upper)) / 2;
}

/** A figure of rounds that were taken in turn, ours and the peer's: a noisy machine then disturbs both alike. */
export function paired(name: string, unit: string, ours: readonly number[], peer: string, theirs: readonly number[], note: string): Figure {
  const ratios = ours.map((value, round) => value / (theirs[round] ?? Number.NaN));
  return { name, value: median(ours), unit, peer, peerValue: median(theirs), ratio: median(ratios), note };
}

export const alone = (name: string, unit: string, value: number, note: string): Figure => ({ name, value, unit, peer: '', peerValue: null, ratio: null, note });

/** Calls `step` until `minMs` have passed; `step` says how many units it did. Units per second. */
export async function ratePerSecond(minMs: number, step: () => number | Promise<number>): Promise<number> {
  const from = performance.now();
  let units = 0;
  let elapsed = 0;
  do {
    units += await step();
    elapsed = performance.now() - from;
  } while (elapsed < minMs);
  return (units / elapsed) * 1000;
}
