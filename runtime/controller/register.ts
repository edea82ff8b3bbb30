/**
 * The gateways of a fleet: who was claimed with which key, and what became of them. A change is in force at once, and on disk together with its act when the
 * call resolves: whoever is told of it finds it again after a kill. INVARIANT: a name, a key and a TLS key belong to one gateway each.
 */
import { toHex } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { FLEET_NAME } from '#runtime/core/twin.ts';
import { CONTROLLER, type Act, type ActBook } from './acts.ts';
import { decodeGateway, encodeGateway, type IssuedCertificate, type RegisteredGateway } from './registerCodec.ts';

export type { RegisteredGateway } from './registerCodec.ts';

/** What an operator judged at a claim. */
export type Candidate = Pick<RegisteredGateway, 'name' | 'claimId' | 'identityKey' | 'spki' | 'tpm' | 'statement' | 'ownerKeys'>;

/** For the broker: who may come in by TLS. */
export interface Admission {
  /** The gateway whose key that is (SHA-256 of its SubjectPublicKeyInfo); undefined for a stranger, and for who was revoked or released. */
  admits(spkiDigest: Uint8Array): string | undefined;
  /** Told the name of each gateway that changed: who is no longer admitted is to be cut off. MUST NOT throw. */
  watch(onChange: (gateway: string) => void): Disposable;
}

const PREFIX = 'gateway/';
const isAdmitted = ({ state }: RegisteredGateway): boolean => state === 'begun' || state === 'claimed';

export class Register implements Admission {
  readonly #store: KeyValueStore;
  readonly #acts: ActBook;
  readonly #clock: Clock;
  readonly #gateways = new Map<string, RegisteredGateway>();
  readonly #bySpki = new Map<string, string>();
  /** Of keys that are announced: one that is a gateway's already counts before it. */
  readonly #byNext = new Map<string, string>();
  readonly #watchers = new Set<(gateway: string) => void>();

  /** Reads every gateway. Throws `ledger.corrupt`. */
  constructor(store: KeyValueStore, acts: ActBook, clock: Clock) {
    [this.#store, this.#acts, this.#clock] = [store, acts, clock];
    for (const gateway of registeredIn(store)) this.#hold(gateway);
  }

  get size(): number { return this.#gateways.size; }
  get(name: string): RegisteredGateway | undefined { return this.#gateways.get(name); }
  all(): readonly RegisteredGateway[] { return [...this.#gateways.values()]; }

  /** It belongs to the fleet now: not one that was revoked or released. */
  isMember(name: string): boolean {
    const gateway = this.#gateways.get(name);
    return gateway !== undefined && isAdmitted(gateway);
  }

  admits(spkiDigest: Uint8Array): string | undefined {
    const spki = toHex(spkiDigest);
    const gateway = this.#gateways.get(this.#bySpki.get(spki) ?? this.#byNext.get(spki) ?? '');
    return gateway && isAdmitted(gateway) ? gateway.name : undefined;
  }

  watch(onChange: (gateway: string) => void): Disposable {
    this.#watchers.add(onChange);
    return { [Symbol.dispose]: () => { this.#watchers.delete(onChange); } };
  }

  /**
   * Before anything is handed over; again for the same key: another try. Throws `controller.taken` for a name or key that is another's or claimed already,
   * `controller.revoked` and `controller.full`.
   */
  async begin(candidate: Candidate, who: string): Promise<RegisteredGateway> {
    const { name, identityKey, spki } = candidate;
    if (!FLEET_NAME.test(name)) throw new TenzroError('controller.request', 'a gateway\'s name is 1 to 64 letters, digits, _ and -');
    this.#checkFree(name, identityKey, spki);
    if (!this.#gateways.has(name) && this.size >= LIMITS.fleetGatewaysMax) throw new TenzroError('controller.full', `${this.size} gateways are in the register already`);
    const chains = this.#gateways.get(name)?.chains ?? [];
    return this.#put({ ...candidate, state: 'begun', sinceMicros: this.#now(), why: '', chains }, { who, what: 'gateway.begun', about: name, detail: `identity key ${identityKey}, claim ${candidate.claimId}` });
  }

  /** The gateway said, signed, that it became ours. Again: nothing happens. Throws `controller.unknown` for another claim. */
  async claimed(name: string, claimId: string, who: string): Promise<RegisteredGateway> {
    const gateway = this.#known(name);
    if (gateway.claimId !== claimId) throw new TenzroError('controller.unknown', `${name} is of another claim than ${claimId}`);
    if (gateway.state === 'claimed') return gateway;
    if (gateway.state !== 'begun') throw stateError(gateway);
    const micros = this.#now();
    return this.#put({ ...gateway, state: 'claimed', sinceMicros: micros, claimedMicros: micros }, { who, what: 'gateway.claimed', about: name, detail: `identity key ${gateway.identityKey}` });
  }

  /** The claim did not come about: the gateway said so, signed. */
  async abandoned(name: string, claimId: string, who: string): Promise<void> {
    const gateway = this.#gateways.get(name);
    if (gateway?.state === 'begun' && gateway.claimId === claimId) await this.#drop(gateway, { who, what: 'gateway.abandoned', about: name });
  }

  /** It gave up its owner, at the owner's order. */
  async released(name: string, who: string, why = ''): Promise<RegisteredGateway> {
    return this.#end(this.#known(name), 'released', why, who);
  }

  /** It obeys other owner keys (thumbprints), and said so, signed. Again: nothing happens. */
  async rotated(name: string, ownerKeys: readonly string[], who: string): Promise<RegisteredGateway> {
    const gateway = this.#known(name);
    if (!isAdmitted(gateway)) throw stateError(gateway);
    if (gateway.ownerKeys.join() === ownerKeys.join()) return gateway;
    return this.#put({ ...gateway, ownerKeys }, { who, what: 'gateway.rotated', about: name, detail: `owner keys ${ownerKeys.join(', ')}; before ${gateway.ownerKeys.join(', ')}` });
  }

  async revoke(name: string, why: string, who: string): Promise<RegisteredGateway> {
    return this.#end(this.#known(name), 'revoked', why, who);
  }

  /** A deliberate second chance: who showed up twice is taken again; who was revoked, released or only begun leaves the register. Throws `controller.taken` for a claimed one. */
  async forget(name: string, who: string): Promise<'unfrozen' | 'forgotten'> {
    const gateway = this.#known(name);
    const { frozen, ...others } = gateway;
    if (frozen && isAdmitted(gateway)) {
      await this.#put(others, { who, what: 'gateway.unfrozen', about: name, detail: `it had been frozen: ${frozen.why}` });
      return 'unfrozen';
    }
    if (gateway.state === 'claimed') throw new TenzroError('controller.taken', `${name} is claimed: revoke or release it first`);
    await this.#drop(gateway, { who, what: 'gateway.forgotten', about: name, detail: `it was ${gateway.state}, identity key ${gateway.identityKey}` });
    return 'forgotten';
  }

  /** In the turn of the writes that belong to it; on disk with them. */
  noteFrozen(name: string, why: string): void {
    const gateway = this.#gateways.get(name);
    if (!gateway || gateway.frozen) return;
    this.#write({ ...gateway, frozen: { sinceMicros: this.#now(), why } }, { who: CONTROLLER, what: 'gateway.frozen', about: name, detail: why });
  }

  /** A chain of this gateway was taken for the first time: it has arrived, whoever was told so or not. */
  noteChain(name: string, chain: string): void {
    const gateway = this.#gateways.get(name);
    if (!gateway || gateway.chains.includes(chain)) return;
    const arrived: RegisteredGateway = gateway.state === 'begun' ? { ...gateway, state: 'claimed', sinceMicros: this.#now(), claimedMicros: this.#now() } : gateway;
    this.#write({ ...arrived, chains: [...gateway.chains, chain] }, { who: CONTROLLER, what: 'gateway.chain', about: name, detail: `chain ${chain}${gateway.chains.length === 0 ? '' : `, after ${gateway.chains.length} others`}` });
  }

  /** Another gateway has, or had, that key. */
  isTaken(spki: string, name: string): boolean { return (this.#bySpki.get(spki) ?? name) !== name; }

  /** Its newest chain named the TLS key that comes next: it may come in with either, until a chain of that key is there. What another gateway has, or announced before, is not told. */
  noteNext(name: string, next: string): void {
    const gateway = this.#gateways.get(name);
    if (!gateway || gateway.next === next || this.isTaken(next, name) || (this.#byNext.get(next) ?? name) !== name) return;
    this.#write({ ...gateway, next }, { who: CONTROLLER, what: 'gateway.announced', about: name, detail: `identity key ${gateway.identityKey} named a successor, whose TLS key is ${next}` });
  }

  /** Its own chain named the keys that follow; not `isTaken`. */
  noteSuccessor(name: string, keys: Pick<RegisteredGateway, 'identityKey' | 'spki'>): void {
    const gateway = this.#gateways.get(name);
    if (!gateway) return;
    this.#bySpki.delete(gateway.spki);
    const { certificate: _, next: __, ...others } = gateway;
    this.#write({ ...others, ...keys }, { who: CONTROLLER, what: 'gateway.successor', about: name, detail: `identity key ${gateway.identityKey} named ${keys.identityKey}` });
  }

  async certified(name: string, certificate: IssuedCertificate): Promise<void> {
    await this.#put({ ...this.#known(name), certificate }, { who: CONTROLLER, what: 'gateway.certified', about: name, detail: `serial ${certificate.serial}, until ${new Date(certificate.notAfterMs).toISOString()}` });
  }

  #checkFree(name: string, identityKey: string, spki: string): void {
    const [named, keyed] = [this.#gateways.get(name), this.#gateways.get(this.#bySpki.get(spki) ?? '')];
    if (named && named.identityKey !== identityKey) throw new TenzroError('controller.taken', `${name} is a gateway with another identity key already (${named.state})`);
    if (keyed && keyed.name !== name) throw new TenzroError('controller.taken', `this gateway is in the register as ${keyed.name} (${keyed.state})`);
    if (named?.state === 'revoked' || named?.state === 'claimed') throw stateError(named);
  }

  async #end(gateway: RegisteredGateway, state: 'released' | 'revoked', why: string, who: string): Promise<RegisteredGateway> {
    if (gateway.state === state) return gateway;
    if (gateway.state === 'revoked') throw stateError(gateway);
    return this.#put({ ...gateway, state, sinceMicros: this.#now(), why }, { who, what: `gateway.${state}`, about: gateway.name, detail: why });
  }

  #known(name: string): RegisteredGateway {
    const gateway = this.#gateways.get(name);
    if (!gateway) throw new TenzroError('controller.unknown', `no gateway is called '${name.slice(0, 64)}' here`);
    return gateway;
  }

  async #put(gateway: RegisteredGateway, act: Act): Promise<RegisteredGateway> {
    this.#write(gateway, act);
    await this.#store.flushed();
    return gateway;
  }

  #write(gateway: RegisteredGateway, act: Act): void {
    this.#store.put(`${PREFIX}${gateway.name}`, encodeGateway(gateway));
    this.#acts.note(act);
    this.#hold(gateway);
    this.#tell(gateway.name);
  }

  async #drop({ name, spki, next = '' }: RegisteredGateway, act: Act): Promise<void> {
    this.#store.remove(`${PREFIX}${name}`);
    this.#acts.note(act);
    this.#gateways.delete(name);
    this.#bySpki.delete(spki);
    this.#byNext.delete(next);
    this.#tell(name);
    await this.#store.flushed();
  }

  #hold(gateway: RegisteredGateway): void {
    const { next = '' } = this.#gateways.get(gateway.name) ?? {};
    if (next !== gateway.next) this.#byNext.delete(next);
    this.#gateways.set(gateway.name, gateway);
    this.#bySpki.set(gateway.spki, gateway.name);
    if (gateway.next !== undefined) this.#byNext.set(gateway.next, gateway.name);
  }

  #tell(name: string): void {
    for (const watcher of this.#watchers) watcher(name);
  }

  #now(): number { return Math.max(0, this.#clock.wallMicros()); }
}

/** What is on disk, beside a running controller too. Throws `ledger.corrupt`. */
export function* registeredIn(store: KeyValueStore): Generator<RegisteredGateway> {
  for (const { value } of store.range(PREFIX)) yield decodeGateway(value);
}

const stateError = ({ name, state, why }: RegisteredGateway): TenzroError =>
  new TenzroError(state === 'revoked' ? 'controller.revoked' : 'controller.taken', `${name} is ${state}${why === '' ? '' : `: ${why}`}`);
