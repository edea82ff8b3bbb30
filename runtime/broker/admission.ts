/** Who may come in, and what each may do there: asked once per connection. */
import type { Clock } from '#runtime/core/clock.ts';
import { messageOf } from '#runtime/core/errors.ts';
import type { MqttSettings, UserSettings } from '#runtime/core/settings.ts';
import { ANONYMOUS, Authenticator } from './auth.ts';
import { CONNACK, Refusal } from './clients.ts';
import { planListeners, type ListenerPlan } from './listeners.ts';
import { ANONYMOUS_PERMISSIONS, type PermissionLists } from './permissions.ts';

export interface Visitor {
  readonly user: string | undefined;
  readonly password: Buffer | undefined;
  readonly address: string;
  /** Its listener lets clients in that say no name. */
  readonly mayBeAnonymous: boolean;
  /** SHA-256 of the SubjectPublicKeyInfo of the key that it proved in the TLS handshake; undefined where it showed no certificate. Throws `tls.certificate`. */
  keyDigest(): Uint8Array | undefined;
}

export interface Admitted {
  /** Under which it is known here; undefined for an anonymous one. */
  readonly user: string | undefined;
  readonly lists: PermissionLists;
}

export interface Admission {
  /** Never rejects. */
  admit(visitor: Visitor): Promise<Admitted | Refusal>;
  /** Client ids of different scopes never meet; not yet believed when it is asked. Without it all ids are of one scope. MUST NOT throw. */
  scopeOf?(visitor: Visitor): string;
}

/** Users with passwords, and where the listener allows it, anybody. */
export class PasswordAdmission implements Admission {
  readonly #users: readonly UserSettings[];
  readonly #authenticator: Authenticator;

  /** Throws `broker.password_hash`. */
  constructor(users: readonly UserSettings[], clock: Clock) {
    this.#users = users;
    this.#authenticator = new Authenticator(users, clock);
  }

  async admit({ user, password, address, mayBeAnonymous }: Visitor): Promise<Admitted | Refusal> {
    const lists = this.#users.find(({ name }) => name === (user ?? ANONYMOUS)) ?? ANONYMOUS_PERMISSIONS;
    if (user === undefined) return mayBeAnonymous ? { user, lists } : new Refusal(CONNACK.notAuthorised, 'broker.credentials', 'the listener asks for user and password');
    try {
      const login = await this.#authenticator.login(user, password ?? Buffer.alloc(0), address);
      if (login === 'accepted') return { user, lists };
      if (login === 'refused') return new Refusal(CONNACK.badCredentials, 'broker.credentials', `user ${JSON.stringify(user.slice(0, 60))} was refused`);
      return new Refusal(CONNACK.unavailable, 'broker.too_many_attempts', `logins are ${login} for ${address}`);
    } catch (cause) {
      return new Refusal(CONNACK.unavailable, 'broker.internal', `password check: ${messageOf(cause)}`, { cause });
    }
  }
}

/** Of a gateway, by its configuration. Throws `broker.listener_open` and `broker.password_hash`. */
export const gatewayDoor = (settings: MqttSettings, clock: Clock): { readonly listeners: readonly ListenerPlan[]; readonly admission: Admission } =>
  ({ listeners: planListeners(settings), admission: new PasswordAdmission(settings.users, clock) });
