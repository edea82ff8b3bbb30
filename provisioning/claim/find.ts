/** Where a gateway is: by the discriminator of its code, or, once it is owned, by asking who answers for its claim. What is found is a place to try. */
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { dialTo, type Dial } from './lan/dial.ts';
import { browseClaims, type ClaimPlace } from './lan/discovery.ts';

const PLACES_WAITING_MAX = 64;

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
 * Tries `attempt` at each place that announces this discriminator: a number of 4,096 may be another gateway's too, which `claim.identity` says. Throws
 * `claim.not_found` when the time is over, and whatever else an attempt throws.
 */
export async function atPlacesOf<T>(discriminator: number, attempt: (dial: Dial) => Promise<T>, onStranger: (place: ClaimPlace, error: TenzroError) => void, signal: AbortSignal): Promise<T> {
  for await (const place of placesHeard(AbortSignal.any([signal, AbortSignal.timeout(LIMITS.claimFindMs)]))) {
    if (!place.discriminators.includes(discriminator)) continue;
    try {
      return await attempt(dialTo(place.address, place.port));
    } catch (error) {
      if (!(error instanceof TenzroError) || (error.code !== 'claim.identity' && error.code !== 'claim.link')) throw error;
      onStranger(place, error);
    }
  }
  if (signal.aborted) throw new TenzroError('claim.abandoned', 'given up by the operator');
  throw new TenzroError('claim.not_found', `nobody announced number ${discriminator} within ${LIMITS.claimFindMs / 1_000} s`);
}

/** Tries `attempt` where it was last, then at every place that is heard, until one does not throw `claim.link` or `claim.timeout`. */
export async function whereItMayBe<T>(last: Dial, attempt: (dial: Dial) => Promise<T>, signal: AbortSignal): Promise<T> {
  const timeout = AbortSignal.timeout(LIMITS.claimFindMs);
  try {
    return await attempt(last);
  } catch (error) {
    if (!isAbsence(error)) throw error;
  }
  for await (const { address, port } of placesHeard(AbortSignal.any([signal, timeout]))) {
    try {
      return await attempt(dialTo(address, port));
    } catch (error) {
      if (!isAbsence(error)) throw error;
    }
  }
  throw new TenzroError('claim.not_found', 'the gateway of that claim answers nowhere on this network');
}

const isAbsence = (error: unknown): boolean => error instanceof TenzroError && (error.code === 'claim.link' || error.code === 'claim.timeout');
