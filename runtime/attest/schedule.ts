/** When the next block is due. Pure; times are monotonic microseconds. Alarms, boot, shutdown and requests do not wait for it. */
export interface Cadence {
  /** While the log grows. */
  readonly intervalMs: number;
  /** While it does not: silence is cheap, but never unbounded. */
  readonly idleIntervalMs: number;
}

export interface SealState {
  readonly sealedMicros: number;
  /** Entries under the last block. */
  readonly sealedSize: number;
  readonly size: number;
}

export function isDue({ sealedMicros, sealedSize, size }: SealState, { intervalMs, idleIntervalMs }: Cadence, nowMicros: number): boolean {
  return nowMicros >= sealedMicros + (size > sealedSize ? intervalMs : idleIntervalMs) * 1_000;
}

/** When to look again: at the next multiple of the shorter interval since the last block, so that a growing log never waits longer than that. */
export function nextLookMicros({ sealedMicros }: Pick<SealState, 'sealedMicros'>, { intervalMs, idleIntervalMs }: Cadence, nowMicros: number): number {
  const stepMicros = Math.min(intervalMs, idleIntervalMs) * 1_000;
  return sealedMicros + (Math.floor((nowMicros - sealedMicros) / stepMicros) + 1) * stepMicros;
}
