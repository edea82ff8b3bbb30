/** What an operator asks a gateway about itself: a fresh proof, its status, its time. */
import { isoOfMicros, type Clock } from '#runtime/core/clock.ts';
import type { CommandHandler } from '#runtime/core/command.ts';
import { ABLE, wrong } from './parameters.ts';

/** 16 to 64 bytes in hexadecimal. */
const NONCE = /^(?:[0-9a-f]{2}){16,64}$/;

/** Seals a block over the nonce. */
export type Prove = (nonce: Uint8Array) => Promise<{ readonly sequence: number; readonly bundleSha256: string; readonly bundleBytes: number }>;

export const attest = (prove: Prove): CommandHandler => ({
  support: ABLE,
  async run({ parameters: { nonce }, isDryRun }) {
    if (typeof nonce !== 'string' || !NONCE.test(nonce)) throw wrong('nonce is not 16 to 64 bytes in lower-case hexadecimal');
    if (isDryRun) return { dry_run: true };
    const { sequence, bundleSha256, bundleBytes } = await prove(Buffer.from(nonce, 'hex'));
    return { nonce, sequence, bundle_sha256: bundleSha256, bundle_bytes: bundleBytes };
  },
});

export const diagnostics = (status: () => object): CommandHandler => ({ support: ABLE, run: async () => ({ ...status() }) });

/** A floor under the clock, for good; and a clock that is far ahead of it is read less by that much from now on. `raiseTime` returns the time that can be proved then, µs since 1970. */
export const syncTime = (raiseTime: (micros: number) => number, clock: Clock): CommandHandler => ({
  support: ABLE,
  async run({ issued, isDryRun }) {
    const wallMicros = clock.wallMicros();
    const provableMicros = isDryRun ? Math.max(wallMicros, issued * 1_000_000) : raiseTime(issued * 1_000_000);
    return { ...(isDryRun ? { dry_run: true } : {}), provable_time: isoOfMicros(provableMicros), clock: isoOfMicros(wallMicros), clock_behind_s: secondsOf(provableMicros - wallMicros), clock_ahead_s: secondsOf(wallMicros - provableMicros) };
  },
});

const secondsOf = (micros: number): number => Math.max(0, Math.round(micros / 1_000_000));
