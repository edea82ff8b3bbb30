/**
 * Who may come in at a fleet's broker: gateways by the identity key that their certificate carries and the handshake proved, people by password. A certificate
 * decides alone; dates and issuers are not asked: a key is in the register or it is not.
 */
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { toHex } from '#runtime/core/bytes.ts';
import type { UserSettings } from '#runtime/core/settings.ts';
import { PasswordAdmission, type Admission, type Admitted, type Visitor } from './admission.ts';
import { CONNACK, Refusal } from './clients.ts';
import type { PermissionLists } from './permissions.ts';

export interface GatewayRegister {
  /** Name of the gateway whose key that is (SHA-256 of its SubjectPublicKeyInfo); undefined for a stranger, and for who was revoked or released. */
  admits(keyDigest: Uint8Array): string | undefined;
}

/** A gateway speaks for itself; receipts, which twin is desired and holds, its certificate and what was revoked are the fleet's word. */
export const GATEWAY_LISTS: PermissionLists = {
  publish: ['te/%u/#', '!te/%u/chain/+/receipt', '!te/%u/device/+/+/+/twin/+/desired', '!te/%u/device/+/+/+/twin/+/confirm', '!te/%u/certificate', '!te/%u/revoked/#'],
  subscribe: ['te/%u/#'],
};

/** People look on. */
export const WATCHER_LISTS: PermissionLists = { publish: [], subscribe: ['te/#'] };

const SCOPE_CHARS_MAX = 64;

export class FleetAdmission implements Admission {
  readonly #register: GatewayRegister;
  readonly #clock: Clock;
  #people: PasswordAdmission;

  constructor(register: GatewayRegister, clock: Clock) {
    this.#register = register;
    this.#clock = clock;
    this.#people = new PasswordAdmission([], clock);
  }

  /** From now on these may log in. Throws `broker.password_hash`, and leaves it as it was. */
  setPeople(people: readonly Pick<UserSettings, 'name' | 'passwordHash'>[]): void {
    this.#people = new PasswordAdmission(people.map((person) => ({ ...person, ...WATCHER_LISTS })), this.#clock);
  }

  async admit(visitor: Visitor): Promise<Admitted | Refusal> {
    const key = keyOf(visitor);
    if (key instanceof Refusal) return key;
    if (key === undefined) return this.#people.admit(visitor);
    const gateway = this.#register.admits(key);
    if (gateway === undefined) return new Refusal(CONNACK.notAuthorised, 'broker.unregistered', `no gateway of this fleet has the key ${toHex(key)}`);
    return { user: gateway, lists: GATEWAY_LISTS };
  }

  /** Nobody can be in the way of another by taking its client id. */
  scopeOf(visitor: Visitor): string {
    const key = keyOf(visitor);
    if (key instanceof Refusal || key === undefined) return `user:${(visitor.user ?? '').slice(0, SCOPE_CHARS_MAX)}/`;
    return `${this.#register.admits(key) ?? ''}/`;
  }
}

function keyOf(visitor: Visitor): Uint8Array | undefined | Refusal {
  try {
    return visitor.keyDigest();
  } catch (cause) {
    if (cause instanceof TenzroError) return new Refusal(CONNACK.notAuthorised, cause.code, cause.message, { cause });
    throw cause;
  }
}
