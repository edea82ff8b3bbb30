/** The composition root of one upstream: joins a fleet's broker with the chain's way there, the gateway's status and whoever else speaks over it. */
import { constants } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { refuseOthers } from '#provisioning/ownFile.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { Upstream } from '#runtime/core/fleet.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Counters, KeyValueStore, LinkUser, Log } from '#runtime/core/ports.ts';
import type { ForwardRule, UplinkSettings } from '#runtime/core/settings.ts';
import type { UpstreamStatus } from '#runtime/core/types.ts';
import { judgeBrokerChain } from '#runtime/crypto/brokerChain.ts';
import { clientCertificate, clientKey } from '#runtime/crypto/clientIdentity.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import type { ChainReader } from '#runtime/ledger/reader.ts';
import type { WriterClient } from '#runtime/ledger/writerClient.ts';
import { Hub } from '#runtime/link/hub.ts';
import type { OpenLink } from '#runtime/link/mqttLink.ts';
import { STATUS_DOWN, StatusVoice, statusTopic } from '#runtime/link/statusVoice.ts';
import { Uplink } from '#runtime/uplink/follower.ts';

/** `isPublic`: `ca` are the system's authorities, judged by the wall clock as everywhere. */
type Credentials = Pick<Upstream, 'ca' | 'login' | 'certificate'> & { readonly isPublic?: boolean };

/** An upstream, of which what lies in files is read when it is connected to. */
export interface UpstreamPlan extends Omit<Upstream, keyof Credentials> {
  /** Rejects with `config.unreadable` or `link.credentials`: the operator's to mend, while we run. */
  readonly credentials: () => Promise<Credentials>;
}

export const plannedOf = (upstream: Upstream): UpstreamPlan => ({ ...upstream, credentials: async () => upstream });

export function configuredPlan({ name, url, caFile, user, passwordFile, certificate, receiptKey, maxBytesPerSecond, forward }: UplinkSettings): UpstreamPlan {
  return {
    name, url, receiptKey: Buffer.from(receiptKey, 'hex'), maxBytesPerSecond, forward,
    credentials: async () => ({
      ca: await authoritiesOf(caFile), isPublic: caFile === '', ...(user === '' ? {} : { login: { user, password: passwordFile === '' ? '' : await passwordIn(passwordFile) } }),
      ...(certificate ? { certificate: { kind: 'own' } } : {}),
    }),
  };
}

export interface UplinkingOptions {
  /** Gateway id. */
  readonly gateway: string;
  readonly writer: WriterClient;
  readonly reader: ChainReader;
  readonly store: KeyValueStore;
  /** The identity's. Rejects with `identity.*` while the keys are locked. */
  readonly signer: () => Promise<Signer>;
  /** A time that has passed beyond doubt, µs since 1970, where a controller gave a receipt at that one. */
  readonly passedMicros: (receiptMicros: number) => number;
  /** Whether the owner took that authority or broker back: SHA-256 of its SubjectPublicKeyInfo. */
  readonly isAuthorityRevoked: (spkiDigest: Uint8Array) => boolean;
  /** The site's own rules, for every upstream. */
  readonly forward: readonly ForwardRule[];
  /** Who else speaks over the link to this upstream. */
  readonly usersOf: (name: string) => readonly LinkUser[];
  /** What the gateway says of itself there, beside `status`. */
  readonly statement: () => JsonObject;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

export class Uplinking {
  readonly plan: UpstreamPlan;
  readonly #options: UplinkingOptions;
  readonly #uplink: Uplink;
  readonly #voice: StatusVoice;
  #link: OpenLink | undefined;
  #fault = 'not connected yet';

  constructor(plan: UpstreamPlan, options: UplinkingOptions) {
    const { gateway, reader } = options;
    this.plan = plan;
    this.#options = options;
    this.#uplink = new Uplink({ ...options, upstream: plan, device: gateway, source: reader });
    this.#voice = new StatusVoice(options);
  }

  /** SHA-256 of the newest receipt. */
  get receiptDigest(): Uint8Array | undefined { return this.#uplink.receiptDigest; }

  status(): UpstreamStatus {
    const { isReady = false, keyExchange = null, fault = this.#fault } = this.#link ?? {};
    const standing = this.#uplink.status();
    return { name: this.plan.name, broker: this.plan.url, connected: isReady, keyExchange, ...standing, fault: standing.fault ?? (isReady ? null : fault) };
  }

  /** Says the gateway's status again where it changed. */
  refresh(): void { this.#voice.refresh(); }

  /** When the controller gave its newest receipt, µs since 1970; 0: none yet. */
  get receiptMicros(): number { return this.#uplink.provenMicros; }

  /** PEM of the certificate to show at the next connection. */
  async certify(certificate: string): Promise<void> {
    const link = this.#link;
    if (!link) return;
    const key = clientKey(await this.#options.signer());
    try {
      link.present({ cert: certificate, key });
    } finally {
      key.fill(0);
    }
  }

  /** Until `signal` aborts, and the connection was closed in an orderly way. */
  async run(signal: AbortSignal): Promise<void> {
    this.#uplink.restore();
    const link = await this.#open(signal);
    if (!link) return;
    this.#link = link;
    try {
      await this.#uplink.follow(link, signal);
    } finally {
      await link[Symbol.asyncDispose]();
      this.#link = undefined;
      this.#fault = 'not connected any more';
    }
  }

  async #open(signal: AbortSignal): Promise<OpenLink | undefined> {
    const { counters, log } = this.#options;
    for (let retryMs: number = LIMITS.linkRetryMs; !signal.aborted; retryMs = Math.min(retryMs * 2, LIMITS.linkRetryMaxMs)) {
      try {
        return await this.#connect();
      } catch (error) {
        if (!(error instanceof TenzroError) || error.class === 'bug') throw error;
        this.#fault = error.message;
        counters.add(error.code);
        log.warn({ upstream: this.plan.name, code: error.code, hint: error.hint }, error.message);
        await sleep(retryMs, undefined, { signal }).catch(() => undefined); // aborted: the loop looks
      }
    }
    return undefined;
  }

  /** `mqtt` is loaded only where there is an upstream. */
  async #connect(): Promise<OpenLink> {
    const { gateway, signer: openSigner, usersOf, passedMicros, isAuthorityRevoked, counters, log } = this.#options;
    const { name, url } = this.plan;
    const { ca, login, certificate, isPublic = false } = await this.plan.credentials();
    const signer = certificate ? await openSigner() : undefined;
    const { openLink } = await import('#runtime/link/mqttLink.ts');
    const identity = signer && { cert: certificate?.kind === 'issued' ? certificate.pem : clientCertificate(signer, gateway), key: clientKey(signer) };
    try {
      return openLink({
        url, ca, ...(isPublic ? {} : { judge: (chain, host) => judgeBrokerChain({ chain, roots: ca, host, provenMicros: passedMicros(this.#uplink.provenMicros), isRevoked: isAuthorityRevoked }) }), clientId: `te-${gateway}-${name}`, ...login, ...(identity ? { identity } : {}), will: { topic: statusTopic(gateway), payload: STATUS_DOWN },
        onFault: ({ code }) => { counters.add(code); }, hub: new Hub([this.#uplink, this.#voice, ...usersOf(name)], log.child({ room: `uplink ${name}` })),
      });
    } finally {
      identity?.key.fill(0);
    }
  }
}

/** PEM of a file, or the system's authorities. Rejects with `config.unreadable`. */
export async function authoritiesOf(caFile: string): Promise<string | string[]> {
  if (caFile === '') return process.getBuiltinModule('node:tls').getCACertificates('system');
  try {
    return await readFile(caFile, 'utf8');
  } catch (cause) {
    throw new TenzroError('config.unreadable', `cannot read ${caFile}: ${messageOf(cause)}`, { cause });
  }
}

/** First line of a file that nobody else can read. Rejects with `link.credentials`. */
export async function passwordIn(path: string): Promise<string> {
  try {
    await using file = await open(path, constants.O_RDONLY);
    refuseOthers(path, await file.stat(), 'link.credentials');
    const [line = ''] = (await file.readFile('utf8')).split(/\r?\n/);
    return line;
  } catch (cause) {
    if (cause instanceof TenzroError) throw cause;
    throw new TenzroError('link.credentials', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}
