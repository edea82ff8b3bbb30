/** Milliseconds of CLOCK_MONOTONIC, which all processes of a machine share. */
export const nowMs = (): number => Number(process.hrtime.bigint() / 1_000n) / 1_000;
