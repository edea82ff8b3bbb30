/** What a file on the boot partition asks of this one board, whoever wrote it. Values are judged here, once for all formats. Pure. */

export interface BoardNetwork {
  readonly ssid: string;
  /** WPA passphrase, the 64 hexadecimal digits that are made of one, or '' for an open network. A secret. */
  readonly passphrase: string;
  readonly hidden: boolean;
}

export interface Wishes {
  readonly hostname?: string;
  /** As in the time zone database: `Europe/Berlin`. */
  readonly timezone?: string;
  /** ISO 3166-1 alpha-2: which channels a radio may use. */
  readonly country?: string;
  readonly networks: readonly BoardNetwork[];
}

/** Both count from 1. */
export interface Place {
  readonly line: number;
  readonly column: number;
}

export interface FileProblem {
  readonly place: Place | undefined;
  /** Dotted; '' for the file itself. */
  readonly key: string;
  /** Never holds a passphrase. */
  readonly message: string;
  readonly hint: string | undefined;
}

/** What one file says. With problems nothing of it is taken over. */
export interface FileReading {
  readonly wishes: Wishes;
  /** What the file asks for and this image does not do, in words. */
  readonly ignored: readonly string[];
  readonly problems: readonly FileProblem[];
}

/** IEEE 802.11-2020 §9.4.2.2. */
const SSID_BYTES_MAX = 32;
const NETWORKS_MAX = 16;
/** RFC 1123 §2.1, one label. */
const HOSTNAME = /^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;
const TIMEZONE = /^[A-Za-z0-9_+-]{1,32}(?:\/[A-Za-z0-9_+-]{1,32}){0,2}$/;
const COUNTRY = /^[A-Z]{2}$/;
/** IEEE 802.11-2020 §J.4: 8 to 63 printable ASCII characters, or the key itself. */
const PASSPHRASE = /^(?:|[ -~]{8,63}|[0-9a-fA-F]{64})$/;

/** Gathers wishes of one file and what is wrong with them. `placeOf` knows where a key stands. */
export class WishReader {
  readonly #placeOf: (key: string) => Place | undefined;
  readonly #wishes: { -readonly [K in keyof Wishes]: Wishes[K] } = { networks: [] };
  readonly #ignored = new Set<string>();
  readonly #problems: FileProblem[] = [];

  constructor(placeOf: (key: string) => Place | undefined = () => undefined) { this.#placeOf = placeOf; }

  get reading(): FileReading { return { wishes: this.#wishes, ignored: [...this.#ignored], problems: this.#problems }; }

  hostname(key: string, value: unknown): void {
    const text = this.#text(key, value, HOSTNAME, 'a host name has 1 to 63 letters, digits and -, and neither begins nor ends with -');
    if (text !== undefined) this.#wishes.hostname = text;
  }

  timezone(key: string, value: unknown): void {
    const text = this.#text(key, value, TIMEZONE, 'a time zone is written as Europe/Berlin or Etc/UTC');
    if (text !== undefined) this.#wishes.timezone = text;
  }

  country(key: string, value: unknown): void {
    const text = this.#text(key, typeof value === 'string' ? value.toUpperCase() : value, COUNTRY, 'a country is written in two letters, as DE');
    if (text !== undefined) this.#wishes.country = text;
  }

  network(key: string, { ssid, passphrase, hidden }: { readonly ssid: unknown; readonly passphrase: unknown; readonly hidden: unknown }): void {
    const before = this.#problems.length;
    const isName = typeof ssid === 'string' && ssid !== '' && Buffer.byteLength(ssid) <= SSID_BYTES_MAX;
    if (!isName) this.problem(key, `the name of a network has 1 to ${SSID_BYTES_MAX} bytes`);
    if (typeof passphrase !== 'string' || !PASSPHRASE.test(passphrase)) this.problem(key, 'a passphrase is 8 to 63 printable ASCII characters in quotes, or 64 hexadecimal digits; none for an open network');
    if (typeof hidden !== 'boolean') this.problem(key, 'hidden is true or false');
    if (this.#wishes.networks.length >= NETWORKS_MAX) this.problem(key, `at most ${NETWORKS_MAX} networks are taken over`);
    if (this.#problems.length > before) return;
    this.#wishes.networks = [...this.#wishes.networks, { ssid: ssid as string, passphrase: passphrase as string, hidden: hidden as boolean }];
  }

  ignore(what: string): void { this.#ignored.add(what); }

  problem(key: string, message: string, { place, hint }: { readonly place?: Place; readonly hint?: string } = {}): void {
    this.#problems.push({ place: place ?? this.#placeOf(key), key, message, hint });
  }

  #text(key: string, value: unknown, pattern: RegExp, rule: string): string | undefined {
    if (typeof value === 'string' && pattern.test(value)) return value;
    this.problem(key, rule);
    return undefined;
  }
}

/** Those of later files win; networks of all of them stay, a name once. */
export function merged(all: readonly Wishes[]): Wishes {
  const networks = new Map(all.flatMap((wishes) => wishes.networks.map((network) => [network.ssid, network] as const)));
  return { ...Object.assign({}, ...all) as Wishes, networks: [...networks.values()] };
}
