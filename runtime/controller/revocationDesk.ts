/**
 * What the owners of a fleet revoked, as they signed it elsewhere: kept here, and delivered to every gateway. The controller can revoke nothing by itself.
 * INVARIANT: a list is on disk, with its act, before it is sent.
 */
import type { Operator } from '#runtime/core/command.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { judgeRevocation, mergeRevocation, NOTHING_REVOKED, parseRevocation, type Revoked } from '#runtime/crypto/revocation.ts';
import type { ActBook } from './acts.ts';
import type { Api } from './api.ts';

export interface RevocationDeskOptions {
  readonly store: KeyValueStore;
  readonly acts: ActBook;
  /** Those of the fleet's folder. */
  readonly owners: () => readonly Pick<Operator, 'publicKey'>[];
  /** SHA-256 of the SubjectPublicKeyInfo of the fleet's root, hexadecimal. */
  readonly authority: string;
  /** There is another list to deliver. MUST NOT throw. */
  readonly onTaken: () => void;
}

/** As its owner signed it. */
export interface KeptList {
  readonly kid: string;
  readonly message: Uint8Array;
}

const PREFIX = 'revoked/';

export class RevocationDesk {
  readonly #options: RevocationDeskOptions;
  readonly #lists = new Map<string, Uint8Array>();
  #revoked: Revoked = NOTHING_REVOKED;

  /** Throws `ledger.corrupt`. */
  constructor(options: RevocationDeskOptions) {
    this.#options = options;
    for (const { key, value } of options.store.range(PREFIX)) this.#hold(key.slice(PREFIX.length), Uint8Array.from(value));
  }

  /** One for each owner key that signed any. */
  get lists(): readonly KeptList[] { return Array.from(this.#lists, ([kid, message]) => ({ kid, message })); }
  isKeyRevoked(kid: string): boolean { return this.#revoked.keys.has(kid); }

  /** Resolves when it is on disk. Throws `fleet.revocation` and `jws.malformed` for what no gateway would take. */
  async submit(message: Uint8Array): Promise<void> {
    const { store, acts, owners, authority, onTaken } = this.#options;
    const signed = parseRevocation(message);
    const { list, kid } = signed;
    judgeRevocation(signed, { owners: owners().map(({ publicKey }) => publicKey), authority, before: this.#revoked });
    acts.note({ who: kid, what: 'fleet.revoked', about: kid, detail: `version ${list.version}: ${[...list.keys.map((key) => `key ${key.kid}`), ...list.authorities.map(({ spki }) => `authority ${spki}`), ...list.receiptKeys.map(({ key, next }) => `receipt key ${key}, next ${next}`)].join('; ').slice(0, DETAIL_CHARS_MAX)}` });
    store.put(`${PREFIX}${kid}`, message);
    this.#hold(kid, message);
    await store.flushed();
    onTaken();
  }

  /** It was judged when it was taken; owners may have changed since. */
  #hold(kid: string, message: Uint8Array): void {
    this.#lists.set(kid, message);
    this.#revoked = mergeRevocation(this.#revoked, parseRevocation(message).list, kid);
  }
}

const DETAIL_CHARS_MAX = 400;

export const revocationApi = (desk: RevocationDesk): Api => ({
  'revocations.list': async () => ({ lists: desk.lists.map(({ kid, message }) => ({ kid, message: Buffer.from(message).toString('utf8') })) }),
  'revocations.submit': async ({ message }) => {
    if (typeof message !== 'string') throw new TenzroError('controller.request', 'message is missing');
    await desk.submit(Buffer.from(message, 'utf8'));
    return {};
  },
});
