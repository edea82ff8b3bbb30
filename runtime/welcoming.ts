/** The composition root of `tenzro fleet claim --show`: waits for the gateway that scans the operator's code, and claims it over the connection that it makes. */
import type { Dial } from '#provisioning/claim/lan/dial.ts';
import { Welcome } from '#provisioning/claim/lan/welcome.ts';
import { TenzroError, messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { Attempt, type ClaimerOptions, type ClaimWishes } from './claimer.ts';

export interface WelcomeOptions {
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
  /** Of the code; whoever made it zeroes it. */
  readonly secret: Uint8Array;
  readonly lifetimeMs: number;
  /** Told once: show the code now. */
  readonly onOpen: (port: number) => void;
}

/** Whoever fails so did not know the secret. */
const STRANGER: readonly ErrorCode[] = ['claim.confirmation', 'claim.identity', 'claim.secret_wrong'];
/** Another gateway, or the same one again, may still come. */
const PASSING: readonly ErrorCode[] = [...STRANGER, 'claim.link', 'claim.timeout', 'claim.abandoned', 'claim.claimed', 'claim.busy', 'claim.secret_none', 'claim.secret_expired', 'claim.locked'];

/** Resolves with the gateway's name when it is ours. Throws `claim.shown_over` after five strangers or when the time is over, and as `Claimer.claim` does. */
export async function welcomeGateway(options: ClaimerOptions, wishes: ClaimWishes, { host, port, secret, lifetimeMs, onOpen }: WelcomeOptions, signal: AbortSignal): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const whole = new AbortController();
  const seat: { turn?: AbortController; isHeld: boolean; isOver: boolean; strangers: number } = { isHeld: false, isOver: false, strangers: 0 };
  const onCaller = (dial: Dial, caller: string): void => {
    if (seat.isHeld) return void dial({ message: () => undefined, closed: () => undefined }, whole.signal).then((channel) => { channel[Symbol.dispose](); }); // somebody holds the secret
    seat.turn?.abort();
    const turn = (seat.turn = new AbortController());
    const watched: ClaimerOptions = { ...options, onStep: (step) => { if (step.kind === 'words') seat.isHeld = true; options.onStep(step); } };
    new Attempt(watched, { secret }, wishes).run(dial, AbortSignal.any([whole.signal, turn.signal])).then(resolve, (error: unknown) => {
      if (seat.turn === turn) seat.isHeld = false;
      const code = error instanceof TenzroError ? error.code : 'core.system';
      if (!PASSING.includes(code)) return reject(error);
      options.onStep({ kind: 'passed', address: caller, why: messageOf(error) });
      if (seat.isOver) return reject(timeOver(lifetimeMs));
      if (STRANGER.includes(code)) seat.strangers += 1;
      if (seat.strangers >= LIMITS.claimFailuresMax) reject(new TenzroError('claim.shown_over', `${seat.strangers} callers did not know the secret`));
    });
  };
  const over = setTimeout(() => {
    seat.isOver = true;
    if (!seat.isHeld) reject(timeOver(lifetimeMs));
  }, lifetimeMs);
  const given = (): void => { reject(new TenzroError('claim.abandoned', 'given up by the operator')); };
  signal.addEventListener('abort', given, { once: true });
  promise.catch(() => undefined); // it may end before it is awaited
  try {
    await using welcome = await Welcome.open(host, port, onCaller);
    onOpen(welcome.port);
    try {
      return await promise;
    } finally {
      whole.abort();
    }
  } finally {
    clearTimeout(over);
    signal.removeEventListener('abort', given);
  }
}

const timeOver = (lifetimeMs: number): TenzroError => new TenzroError('claim.shown_over', `nobody came within ${lifetimeMs / 60_000} minutes`);
