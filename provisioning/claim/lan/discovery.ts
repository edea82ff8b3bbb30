/**
 * How gateway and claimer find each other on a local network: DNS-SD (RFC 6763), service `_tenzro-claim._tcp`. Names are random and last as long as the
 * listener; nothing that is advertised names a gateway or its owner. What is found is a place to try, and no more: the protocol says who is there.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Multicast, type Answer } from './multicast.ts';

const CLAIM_SERVICE = '_tenzro-claim._tcp.local';
const VERSION = 1;
const NAME_BYTES = 8;
/** RFC 6762 §10, for records that name a host. */
const TTL_SECONDS = 120;
/** RFC 6762 §6: a record is not multicast again on an interface within a second; §8.3: it is announced twice, a second apart. */
const REPEAT_MS = 1_000;
/** RFC 6762 §5.2: intervals between questions grow from one second. */
const ASK_FIRST_MS = 1_000;
const ASK_MAX_MS = 8_000;
const PLACES_MAX = 256;
const DISCRIMINATOR_MAX = 4_095;
const CODES_MAX = 4;

/** Where a claim may be tried. */
export interface ClaimPlace {
  /** IPv4, as it was heard on the link. */
  readonly address: string;
  readonly port: number;
  /** Of the codes that wait there; none: it waits for orders and questions of its owner. */
  readonly discriminators: readonly number[];
}

export interface Advertised {
  /** Of the listener. */
  readonly port: number;
  readonly discriminators: readonly number[];
}

/** Says on every interface (or on loopback alone) that somebody waits here, until it is disposed of. */
export class ClaimAdvertisement implements Disposable {
  readonly #multicast: Multicast;
  readonly #name = randomBytes(NAME_BYTES).toString('hex');
  /** By interface: the answer just given, or about to be. */
  readonly #quiet = new Map<string, NodeJS.Timeout>();
  readonly #due = new Set<string>();
  #advertised: Advertised;

  /** `fault` MUST NOT throw. */
  constructor(advertised: Advertised, scope: 'loopback' | 'everywhere', fault: (why: string) => void) {
    this.#advertised = advertised;
    this.#multicast = new Multicast(scope, {
      query: (names, via) => { if (names.some((name) => name.toLowerCase() === CLAIM_SERVICE)) this.#answer(via); },
      joined: (via) => { this.#answer(via); this.#answer(via); },
      fault,
    });
  }

  /** Other codes wait now. */
  update(advertised: Advertised): void {
    this.#advertised = advertised;
    for (const via of this.#multicast.interfaces) this.#answer(via);
  }

  /** RFC 6762 §10.1: a record with no time left takes itself back. */
  [Symbol.dispose](): void {
    for (const timer of this.#quiet.values()) clearTimeout(timer);
    for (const via of this.#multicast.interfaces) this.#multicast.answer(via, this.#records(via, 0));
    setImmediate(() => { this.#multicast[Symbol.dispose](); });
  }

  /** At once, or when a second has gone by since the last one: then one answer stands for all. */
  #answer(via: string): void {
    if (this.#quiet.has(via)) {
      this.#due.add(via);
      return;
    }
    this.#multicast.answer(via, this.#records(via, TTL_SECONDS));
    this.#quiet.set(via, setTimeout(() => {
      this.#quiet.delete(via);
      if (this.#due.delete(via)) this.#answer(via);
    }, REPEAT_MS).unref());
  }

  #records(via: string, ttl: number): readonly Answer[] {
    const { port, discriminators } = this.#advertised;
    const [instance, host] = [`${this.#name}.${CLAIM_SERVICE}`, `${this.#name}.local`];
    const data = [`v=${VERSION}`, ...(discriminators.length > 0 ? [`d=${discriminators.join(',')}`] : [])];
    return [
      { name: CLAIM_SERVICE, type: 'PTR', ttl, data: instance },
      { name: instance, type: 'SRV', ttl, flush: true, data: { port, target: host } },
      { name: instance, type: 'TXT', ttl, flush: true, data },
      { name: host, type: 'A', ttl, flush: true, data: via },
    ];
  }
}

export interface BrowseOptions {
  readonly scope?: 'loopback' | 'everywhere';
  /** Each place once, and again when other codes wait there. MUST NOT throw. */
  readonly onPlace: (place: ClaimPlace) => void;
  readonly fault?: (why: string) => void;
}

/** Asks who waits, again and again; resolves when `signal` aborts. Whatever arrives is anybody's word. */
export async function browseClaims({ scope = 'everywhere', onPlace, fault = () => undefined }: BrowseOptions, signal: AbortSignal): Promise<void> {
  const told = new Map<string, string>();
  using multicast = new Multicast(scope, {
    answers(answers, from) {
      const place = placeOf(answers, from);
      if (!place) return;
      const [key, value] = [`${place.address}:${place.port}`, place.discriminators.join(',')];
      if (told.get(key) === value || (!told.has(key) && told.size >= PLACES_MAX)) return;
      told.set(key, value);
      onPlace(place);
    },
    joined: () => { ask(); },
    fault,
  });
  const ask = (): void => { multicast.ask([{ name: CLAIM_SERVICE, type: 'PTR' }]); };
  for (let waitMs = ASK_FIRST_MS; !signal.aborted; waitMs = Math.min(waitMs * 2, ASK_MAX_MS)) {
    await sleep(waitMs, undefined, { signal }).catch(() => undefined); // aborted: the loop ends
    if (!signal.aborted) ask();
  }
}

/** The address that it came from, and no other: nobody can send a claimer elsewhere. */
function placeOf(answers: readonly Answer[], from: string): ClaimPlace | undefined {
  let port: number | undefined;
  let discriminators: readonly number[] | undefined;
  for (const answer of answers) {
    if (!answer.name.toLowerCase().endsWith(`.${CLAIM_SERVICE}`) || !('ttl' in answer) || answer.ttl === 0) continue;
    if (answer.type === 'SRV') ({ port } = answer.data);
    if (answer.type === 'TXT') discriminators = discriminatorsOf(answer.data);
  }
  if (port === undefined || port === 0 || discriminators === undefined) return undefined;
  return { address: from, port, discriminators };
}

/** Undefined for another version. */
function discriminatorsOf(data: unknown): readonly number[] | undefined {
  const texts = (Array.isArray(data) ? data : [data]).filter((part) => part instanceof Uint8Array).map((part) => Buffer.from(part).toString('latin1'));
  if (!texts.includes(`v=${VERSION}`)) return undefined;
  const listed = texts.find((text) => text.startsWith('d='))?.slice(2).split(',', CODES_MAX) ?? [];
  return listed.filter((text) => /^\d{1,4}$/.test(text)).map(Number).filter((number) => number <= DISCRIMINATOR_MAX);
}
