/** Where a gateway is: by the discriminator of its code, or, once it is owned, by asking who answers for its claim. What is found is a place to try. */
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { dialTo, type Dial } from './lan/dial.ts';
import { browseClaims, type ClaimPlace } from './lan/discovery.ts';

const PLACES_WAITING_MAX = 64;
/** Whoever was refused looks on so long for another one of that number: anybody can refuse. */
const LINGER_MS = 3_000;

/** One try at one place. */
export interface PlaceAttempt<T> {
  /** Whoever is there has keys and secret of the code: what becomes of this try is what becomes of the claim. */
  readonly isProven: boolean;
  /** MUST end in a bounded time unless it is proven. */
  run(dial: Dial, signal: AbortSignal): Promise<T>;
}

/** Places as they are heard, until `signal` aborts. */
export async function* placesHeard(signal: AbortSignal): AsyncGenerator<ClaimPlace, void, undefined> {
  const heard: ClaimPlace[] = [];
  let wake = Promise.withResolvers<void>();
  const tell = (): void => { wake.resolve(); };
  const leaving = new AbortController();
  const browsing = browseClaims({ onPlace: (place) => { if (heard.length < PLACES_WAITING_MAX) heard.push(place); tell(); } }, AbortSignal.any([signal, leaving.signal]));
  signal.addEventListener('abort', tell, { once: true });
  try {
    while (!signal.aborted) {
      const place = heard.shift();
      if (place) {
        yield place;
        continue;
      }
      await wake.promise;
      wake = Promise.withResolvers<void>();
    }
  } finally {
    signal.removeEventListener('abort', tell);
    leaving.abort();
    await browsing;
  }
}

/**
 * Tries each place that announces this discriminator, until one has proven that it is the gateway of the code: a number of 4,096 may be another's too, and
 * anybody can announce it, answer nothing, or refuse. Throws `claim.not_found` some time after the last place, what was said there where that was a refusal,
 * and whatever a proven one throws.
 */
export async function atPlacesOf<T>(discriminator: number, attempt: () => PlaceAttempt<T>, onStranger: (place: ClaimPlace, error: TenzroError) => void, signal: AbortSignal): Promise<T> {
  const over = new AbortController();
  let refusal: TenzroError | undefined;
  let timer = setTimeout(() => { over.abort(); }, LIMITS.claimFindMs);
  try {
    for await (const place of placesHeard(AbortSignal.any([signal, over.signal]))) {
      if (!place.discriminators.includes(discriminator)) continue;
      clearTimeout(timer);
      const one = attempt();
      try {
        return await one.run(dialTo(place.address, place.port), signal);
      } catch (error) {
        if (one.isProven || signal.aborted || !(error instanceof TenzroError) || error.class === 'bug') throw error;
        onStranger(place, error);
        if (!isAbsence(error) && error.code !== 'claim.identity') refusal = error;
      }
      timer = setTimeout(() => { over.abort(); }, refusal ? LINGER_MS : LIMITS.claimFindMs);
    }
  } finally {
    clearTimeout(timer);
  }
  if (signal.aborted) throw new TenzroError('claim.abandoned', 'given up by the operator');
  throw refusal ?? new TenzroError('claim.not_found', `nobody announced number ${discriminator} within ${LIMITS.claimFindMs / 1_000} s`);
}

/** Tries `attempt` where it was last, then at every place that is heard, until one does not throw `claim.link` or `claim.timeout`. Throws `claim.not_found` some time after the last place: there may be many gateways. */
export async function whereItMayBe<T>(last: Dial, attempt: (dial: Dial) => Promise<T>, signal: AbortSignal): Promise<T> {
  try {
    return await attempt(last);
  } catch (error) {
    if (!isAbsence(error)) throw error;
  }
  const over = new AbortController();
  const wait = (): NodeJS.Timeout => setTimeout(() => { over.abort(); }, LIMITS.claimFindMs);
  let timer = wait();
  try {
    for await (const { address, port } of placesHeard(AbortSignal.any([signal, over.signal]))) {
      clearTimeout(timer);
      try {
        return await attempt(dialTo(address, port));
      } catch (error) {
        if (!isAbsence(error)) throw error;
      }
      timer = wait();
    }
  } finally {
    clearTimeout(timer);
  }
  if (signal.aborted) throw new TenzroError('claim.abandoned', 'given up by the operator');
  throw new TenzroError('claim.not_found', 'the gateway of that claim answers nowhere on this network');
}

const isAbsence = (error: unknown): boolean => error instanceof TenzroError && (error.code === 'claim.link' || error.code === 'claim.timeout');
