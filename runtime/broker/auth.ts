/** Who a client is: passwords as scrypt hashes (RFC 7914), checked off the event loop, in constant time, and not too often. */
import { createHmac, randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { UserSettings } from '#runtime/core/settings.ts';

/** OWASP Password Storage Cheat Sheet, scrypt: N = 2^14, r = 8, p = 5 (16 MiB of memory). */
const COST = { N: 16_384, r: 8, p: 5 };
const SALT_BYTES = 16;
const HASH_BYTES = 32;
const MEMORY_BYTES_MAX = 256 * 1024 * 1024;

/** A user of this name only states what loopback clients without a name may do; nobody logs in as it. */
export const ANONYMOUS = 'anonymous';

export type Login = 'accepted' | 'refused' | 'locked' | 'busy';

interface PasswordHash { readonly N: number; readonly r: number; readonly p: number; readonly salt: Buffer; readonly hash: Buffer }

/** `scrypt$<N>$<r>$<p>$<salt base64>$<hash base64>` with a fresh salt. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(SALT_BYTES);
  const hash = await derive(Buffer.from(password), { ...COST, salt, hash: Buffer.alloc(HASH_BYTES) });
  return `scrypt$${COST.N}$${COST.r}$${COST.p}$${salt.toString('base64')}$${hash.toString('base64')}`;
}

/** Throws `broker.password_hash` for anything that `hashPassword` could not have made. */
export function parsePasswordHash(text: string): PasswordHash {
  const match = /^scrypt\$(\d{1,8})\$(\d{1,3})\$(\d{1,3})\$([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+)$/.exec(text);
  const [N, r, p] = [Number(match?.[1]), Number(match?.[2]), Number(match?.[3])];
  const [salt, hash] = [Buffer.from(match?.[4] ?? '', 'base64'), Buffer.from(match?.[5] ?? '', 'base64')];
  const sound = match !== null && N >= 2 && (N & (N - 1)) === 0 && r > 0 && p > 0 && 128 * N * r <= MEMORY_BYTES_MAX / 2
    && salt.length >= 8 && hash.length >= 16 && hash.length <= 64;
  if (!sound) throw new TenzroError('broker.password_hash', 'a password hash is not of the form scrypt$N$r$p$salt$hash');
  return { N, r, p, salt, hash };
}

export async function verifyPassword(password: Buffer, expected: PasswordHash): Promise<boolean> {
  return timingSafeEqual(await derive(password, expected), expected.hash);
}

function derive(password: Buffer, { N, r, p, salt, hash }: PasswordHash): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(password, salt, hash.length, { N, r, p, maxmem: MEMORY_BYTES_MAX }, (error, key) => (error === null ? resolve(key) : reject(error)));
  });
}

export class Authenticator {
  readonly #hashes: ReadonlyMap<string, PasswordHash>;
  /** Checked for names that nobody has, so that the answer takes as long. */
  readonly #nobody: PasswordHash = { ...COST, salt: randomBytes(SALT_BYTES), hash: randomBytes(HASH_BYTES) };
  /** Fast keyed digests of passwords accepted before: a fleet that reconnects does not cost a scrypt each. */
  readonly #accepted = new Map<string, Buffer>();
  readonly #digestKey = randomBytes(32);
  readonly #throttle: LoginThrottle;
  #checks: Promise<unknown> = Promise.resolve();
  #queued = 0;

  constructor(users: readonly UserSettings[], clock: Clock) {
    const named = users.filter(({ name }) => name !== ANONYMOUS);
    this.#hashes = new Map(named.map(({ name, passwordHash }) => [name, parsePasswordHash(passwordHash)]));
    this.#throttle = new LoginThrottle(clock);
  }

  /** One check at a time: hashing must not take the machine from the data path. */
  async login(user: string, password: Buffer, address: string): Promise<Login> {
    if (this.#throttle.locked(address)) return 'locked';
    const digest = createHmac('sha256', this.#digestKey).update(password).digest();
    if (this.#knows(user, digest)) return 'accepted';
    if (this.#queued >= LIMITS.passwordChecksQueuedMax) return 'busy';
    this.#queued++;
    const expected = this.#hashes.get(user);
    const check = this.#checks.then(() => this.#knows(user, digest) || verifyPassword(password, expected ?? this.#nobody));
    this.#checks = check.catch(() => false).finally(() => { this.#queued--; });
    if (await check && expected !== undefined) {
      this.#accepted.set(user, digest);
      this.#throttle.succeeded(address);
      return 'accepted';
    }
    this.#throttle.failed(address);
    return 'refused';
  }

  #knows(user: string, digest: Buffer): boolean {
    const accepted = this.#accepted.get(user);
    return accepted !== undefined && timingSafeEqual(accepted, digest);
  }
}

/** After LIMITS.loginFailuresMax failures in a row an address waits: 1 s, 2 s, 4 s … up to LIMITS.loginLockMaxMs. */
export class LoginThrottle {
  readonly #clock: Clock;
  readonly #byAddress = new Map<string, { failures: number; untilMicros: number }>();

  constructor(clock: Clock) { this.#clock = clock; }

  locked(address: string): boolean {
    return (this.#byAddress.get(address)?.untilMicros ?? 0) > this.#clock.monoMicros();
  }

  failed(address: string): void {
    const failures = (this.#byAddress.get(address)?.failures ?? 0) + 1;
    const excess = failures - LIMITS.loginFailuresMax;
    const lockMs = excess < 0 ? 0 : Math.min(1000 * 2 ** excess, LIMITS.loginLockMaxMs);
    this.#byAddress.delete(address);
    this.#byAddress.set(address, { failures, untilMicros: this.#clock.monoMicros() + lockMs * 1000 });
    const [oldest] = this.#byAddress.keys();
    if (this.#byAddress.size > LIMITS.connectionsMax && oldest !== undefined) this.#byAddress.delete(oldest);
  }

  succeeded(address: string): void { this.#byAddress.delete(address); }
}
