/**
 * Composition root of the access point: joins its pure machine with the radio, the page and the name server. One effect after another, in one loop: nothing else
 * here orders the radio. A claim does too; while one is under way, this stands still.
 */
import { existsSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { AccessPoint } from '#drivers/network/accessPoint.ts';
import { WpaSupplicantWifi } from '#drivers/network/wpaSupplicant.ts';
import { credentialsOf, type Credentials } from '#provisioning/portal/credentials.ts';
import { IMAGE_FILE } from '#drivers/slots/rauc.ts';
import { openNameServer } from '#provisioning/portal/dnsServer.ts';
import { nameOf, type FoundNetwork, type HandedNetwork } from '#provisioning/portal/form.ts';
import { CLOSED, step, type Ownership, type PortalInput } from '#provisioning/portal/portal.ts';
import { openPage, type PortalPage } from '#provisioning/portal/server.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import type { Counters, Log } from '#runtime/core/ports.ts';
import type { Settings } from '#runtime/core/settings.ts';
import type { ClaimStatus, PortalStatus } from '#runtime/observe/status.ts';

export interface PortalOptions {
  readonly settings: Settings;
  readonly claimState: () => ClaimStatus['state'];
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
  /** For people at the machine. MUST NOT throw. */
  readonly say: (text: string) => void;
}

/** As systemd-networkd gives it to an access point: image/system/root/etc/systemd/network/50-tenzro-portal.network. */
const ADDRESS = '192.168.73.1';
const PAGE_URL = `http://${ADDRESS}/`;
const PORT = { page: 80, names: 53 } as const;
const TURN_MS = 1_000;
/** How often an open access point is looked for: the radio is not ours alone. */
const LOOK_MS = 10_000;
/** Open beside known networks, before these get another chance; and how long a look at the page keeps it open. */
const OPEN_MS = 600_000;
const USED_MS = 300_000;
/** The answer to the form reaches the phone before its network goes. */
const ANSWERED_MS = 1_500;
/** For systemd-networkd to give the access point its address, and for one over a network on trial. */
const ADDRESS_MS = 20_000;
const CLEAN_UP_MS = 10_000;
const LINK_LOCAL = /^(?:169\.254\.|fe80:)/i;

export class Portal {
  readonly #options: PortalOptions;
  readonly #isEnabled: boolean;
  readonly #accessPoint = new AccessPoint();
  readonly #wifi = new WpaSupplicantWifi();
  #state = CLOSED;
  #found: readonly FoundNetwork[] = [];
  #handed: { readonly network: HandedNetwork; readonly atMs: number } | undefined;
  #served: { readonly page: PortalPage; readonly all: AsyncDisposableStack } | undefined;
  #openedMs = 0;
  #seenOpenMs = 0;
  /** Whether the radio is free of what a process before this one opened. */
  #isClean = false;
  #fault: { readonly code: ErrorCode; readonly detail: string } | undefined;

  constructor(options: PortalOptions) {
    this.#options = options;
    const { portal, claim } = options.settings;
    this.#isEnabled = claim.enabled && (portal.mode === 'on' || (portal.mode === 'auto' && existsSync(IMAGE_FILE)));
  }

  status(): PortalStatus {
    const { phase, last } = this.#state;
    return {
      state: this.#isEnabled ? phase.kind : 'disabled', url: this.#served ? PAGE_URL : null, last: last ? { network: last.network, reason: last.reason ?? null } : null,
      code: this.#fault?.code ?? null, detail: this.#fault?.detail ?? null,
    };
  }

  /** Until `signal` aborts; then there is no access point of ours. */
  async follow(signal: AbortSignal): Promise<void> {
    if (!this.#isEnabled) return;
    while (!signal.aborted) {
      await this.#turn(signal).catch((error: unknown) => { if (!signal.aborted) this.#note(error instanceof TenzroError ? error.code : 'core.system', messageOf(error)); });
      await sleep(TURN_MS, undefined, { signal }).catch(() => undefined); // aborted: the loop ends
    }
    if (this.#state.phase.kind === 'open') await this.#close().catch((error: unknown) => { this.#note('portal.access_point', messageOf(error)); });
  }

  get #nowMs(): number { return this.#options.clock.monoMicros() / 1_000; }

  async #turn(signal: AbortSignal): Promise<void> {
    const nowMs = this.#nowMs;
    const handed = this.#handed;
    if (handed && nowMs - handed.atMs >= ANSWERED_MS) return this.#apply({ kind: 'handed', network: nameOf(handed.network.ssid) }, signal);
    const ownership = ownershipOf(this.#options.claimState());
    if (!this.#isClean && ownership !== 'busy') {
      await this.#accessPoint.close(signal);
      this.#isClean = true;
    }
    if (ownership !== 'busy' && this.#state.phase.kind === 'open' && nowMs - this.#seenOpenMs >= LOOK_MS) {
      this.#seenOpenMs = nowMs;
      const { ssid } = await this.#credentials();
      if (!await this.#accessPoint.isOpen(ssid, signal).catch(() => false)) return this.#apply({ kind: 'lost', nowMs }, signal);
    }
    const isUsed = this.#handed !== undefined || nowMs - (this.#served?.page.seenMs ?? -Infinity) < USED_MS;
    await this.#apply({ kind: 'look', nowMs, ownership, hasNetwork: hasNetwork(), isUsed }, signal);
    if (this.#state.phase.kind === 'open' && !this.#served) await this.#serve();
  }

  async #apply(input: PortalInput, signal: AbortSignal): Promise<void> {
    const { state, effects } = step(this.#state, input, { waitMs: this.#options.settings.portal.waitSeconds * 1_000, openMs: OPEN_MS });
    this.#state = state;
    for (const effect of effects) {
      if (effect === 'open') await this.#open(signal);
      else if (effect === 'close') await this.#close();
      else await this.#apply({ kind: 'tried', reason: await this.#try(signal), nowMs: this.#nowMs }, signal);
    }
  }

  async #open(signal: AbortSignal): Promise<void> {
    try {
      const { ssid, passphrase } = await this.#credentials();
      this.#found = await this.#accessPoint.scan(signal).catch(() => this.#found); // names can be typed
      const isKnown = await this.#accessPoint.knowsOthers(signal);
      await this.#accessPoint.open(ssid, passphrase, signal);
      this.#openedMs = this.#seenOpenMs = this.#nowMs;
      this.#fault = undefined;
      this.#options.say(`no network: the access point ${ssid} is open, its passphrase is on the screen`);
      await this.#apply({ kind: 'opened', nowMs: this.#openedMs, isKnown }, signal);
    } catch (error) {
      await this.#apply({ kind: 'notOpened', nowMs: this.#nowMs }, signal);
      throw error;
    }
  }

  #credentials(): Promise<Credentials> { return credentialsOf(this.#options.settings.dataDir); }

  /** Tried at each turn: the address comes a while after the access point does. */
  async #serve(): Promise<void> {
    const { ssid } = await this.#credentials();
    const { counters } = this.#options;
    const refused = (reason: string): void => { counters.add(`portal.refused.${reason}`); };
    await using opening = new AsyncDisposableStack();
    try {
      const page = opening.use(await openPage({
        host: ADDRESS, port: PORT.page, title: ssid, nowMs: () => this.#nowMs, refused, view: () => ({ networks: this.#found, last: this.#state.last }),
        handed: (network) => {
          if (this.#handed) return false;
          this.#handed = { network, atMs: this.#nowMs };
          return true;
        },
      }));
      opening.use(await openNameServer({ host: ADDRESS, port: PORT.names, refused: () => { refused('name'); } }));
      this.#served = { page, all: opening.move() };
      this.#fault = undefined;
    } catch (error) {
      if (this.#nowMs - this.#openedMs > ADDRESS_MS) this.#note('portal.listen', messageOf(error));
    }
  }

  async #close(): Promise<void> {
    await this.#endPage();
    await this.#accessPoint.close(AbortSignal.timeout(CLEAN_UP_MS));
  }

  async #endPage(): Promise<void> {
    const served = this.#served;
    this.#served = undefined;
    this.#handed = undefined;
    await served?.all.disposeAsync();
  }

  /** Undefined: it works, and is kept; else why not, and everything is as before. */
  async #try(signal: AbortSignal): Promise<string | undefined> {
    const network = this.#handed?.network;
    await this.#endPage();
    if (!network) return 'nothing was handed over';
    try {
      await this.#wifi.try(network, signal);
      await addressed(signal);
      await this.#wifi.keepHanded(network, signal);
      this.#options.say(`${nameOf(network.ssid)} works, and is kept`);
      return undefined;
    } catch (error) {
      await this.#wifi.remove(AbortSignal.timeout(CLEAN_UP_MS)).catch((left: unknown) => { this.#note('portal.access_point', messageOf(left)); });
      this.#options.say(`${nameOf(network.ssid)} did not work: ${messageOf(error)}`);
      return messageOf(error);
    }
  }

  #note(code: ErrorCode, detail: string): void {
    const { counters, log } = this.#options;
    counters.add(code);
    const isNew = this.#fault?.code !== code || this.#fault.detail !== detail;
    this.#fault = { code, detail };
    if (isNew) log.warn({ room: 'portal', code, hint: new TenzroError(code, detail).hint }, detail);
  }
}

const ownershipOf = (state: ClaimStatus['state']): Ownership => (state === 'owned' ? 'owned' : state === 'unready' || state === 'claiming' ? 'busy' : 'free');

/** Any but our own: by cable or by air. */
const hasNetwork = (): boolean => Object.values(networkInterfaces()).flatMap((found) => found ?? []).some(({ internal, address }) => !internal && address !== ADDRESS && !LINK_LOCAL.test(address));

async function addressed(signal: AbortSignal): Promise<void> {
  const isOver = AbortSignal.any([signal, AbortSignal.timeout(ADDRESS_MS)]);
  while (!hasNetwork()) {
    if (isOver.aborted) throw new TenzroError('portal.access_point', `the network let us in, and gave no address in ${ADDRESS_MS / 1_000} s`);
    await sleep(TURN_MS, undefined, { signal: isOver }).catch(() => undefined); // over: said above
  }
}
