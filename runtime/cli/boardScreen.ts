/**
 * `tenzro board screen`: what a screen without a keyboard shows. Asks the gateway; writes nothing but the code that waits to be used, a new one whenever the one
 * before is over. INVARIANT: a code is shown only while the gateway would take it.
 */
import { constants, openSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname, networkInterfaces } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import manifest from '../../package.json' with { type: 'json' };
import { encodeClaimCode, newClaimCode, spacedClaimCode } from '#provisioning/claim/code.ts';
import { modulesOf, QUIET_MODULES, terminalLines, type Modules, type TerminalLook } from '#provisioning/claim/qr.ts';
import { lifetimeMs, momentNow, shownFrom, WaitingCodes, type WaitingCode } from '#provisioning/claim/waiting.ts';
import { readCredentials } from '#provisioning/portal/credentials.ts';
import { boardFaults } from '#runtime/boardStatus.ts';
import { linesOf, pageOf, type ScreenView } from '#runtime/board/screen.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { readStatus } from '#runtime/observe/control.ts';
import type { GatewayStatus } from '#runtime/observe/status.ts';
import { TRANSPORTS, keyDigestOf } from './claim.ts';
import { configOf, type CommonFlags, type Io } from './io.ts';

export interface ScreenFlags extends CommonFlags {
  /** On tty1 and the kernel's serial consoles, instead of here. */
  readonly consoles?: boolean;
  /** Once, and the end. */
  readonly once?: boolean;
}

/** An owned gateway changes less, and nobody stands before it. */
const POLL_MS = { free: 2_000, owned: 10_000 } as const;
/** A code that is about to end is not worth typing. */
const RENEW_BEFORE_MS = 30_000;
const SCREEN = '/dev/tty1';
/** ECMA-48: cursor home, erase below, no attributes; DEC: no cursor. */
const CLEAR = '\u001b[?25l\u001b[0m\u001b[H\u001b[2J';

/** Somewhere to show it: a page is cleared before, lines go on. */
interface Surface {
  readonly look: TerminalLook;
  readonly isPage: boolean;
  show(text: string): void;
}

export async function boardScreen(io: Io, flags: ScreenFlags): Promise<void> {
  io.catchSignals();
  const { settings: { dataDir, claim } } = configOf(flags);
  const surfaces = flags.consoles ? consoles(io) : [{ look: io.color ? 'colour' as const : 'dark' as const, isPage: io.isTTY, show: (text: string) => { io.line(text); } }];
  const codes = new ShownCodes(dataDir, claim.enabled);
  let shown = '';
  let pollMs: number = POLL_MS.free;
  do {
    const running = await readStatus(dataDir);
    const status = running.kind === 'value' ? running.value : undefined;
    pollMs = status?.claim.state === 'owned' ? POLL_MS.owned : POLL_MS.free;
    const modules = await codes.forStatus(status);
    const view = viewOf(status, codes.text, status ? await portalLines(dataDir, status) : []);
    const now = JSON.stringify([view, codes.text]);
    if (now !== shown) for (const surface of surfaces) surface.show(textFor(surface, view, modules));
    shown = now;
  } while (!flags.once && (await pause(pollMs, io.signal)));
}

async function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  await sleep(ms, undefined, { signal }).catch(() => undefined); // aborted: the loop ends
  return !signal.aborted;
}

function textFor({ look, isPage }: Surface, view: ScreenView, modules: Modules | undefined): string {
  const full = modules && view.code ? { ...view, code: { ...view.code, qr: terminalLines(modules, look) } } : view;
  return isPage ? CLEAR + pageOf(full, (modules?.length ?? 0) + 2 * QUIET_MODULES).join('\r\n') : linesOf(full).join('\r\n');
}

/** The kernel's consoles as proc_consoles(5) and /sys/class/tty/console/active name them; a serial port that is no console belongs to a sensor. */
function consoles(io: Io): readonly Surface[] {
  const serial = readFileSync('/sys/class/tty/console/active', 'latin1').trim().split(/\s+/).filter((name) => /^tty[A-Z]/.test(name)).map((name) => `/dev/${name}`);
  return [SCREEN, ...serial].flatMap((path) => {
    try {
      const file = openSync(path, constants.O_WRONLY | constants.O_NOCTTY); // a console that hangs up shall not end us
      const isPage = path === SCREEN;
      return [{ look: isPage ? 'colour' as const : 'dark' as const, isPage, show: (text: string) => { writeFileSync(file, `${text}\r\n`); } }];
    } catch (error) {
      io.error(`${path} is not there: ${messageOf(error)}`);
      return [];
    }
  });
}

/** The code that this screen shows, kept alive while the gateway has no owner. */
class ShownCodes {
  readonly #dataDir: string;
  readonly #isEnabled: boolean;
  #keyDigest: Buffer | undefined;
  #current: (Pick<WaitingCode, 'until'> & { readonly text: string; readonly discriminator: number; readonly modules: Modules }) | undefined;
  #isSeen = false;
  /** Somebody else shows a code (tenzro claim show): it takes the place of ours until it is over. */
  #isYielding = false;

  constructor(dataDir: string, isEnabled: boolean) {
    this.#dataDir = dataDir;
    this.#isEnabled = isEnabled;
  }

  get text(): string | undefined { return this.#current?.text; }

  /** Undefined while no code of ours would be taken. */
  async forStatus(status: GatewayStatus | undefined): Promise<Modules | undefined> {
    const claim = status?.claim;
    const isFree = this.#isEnabled && (claim?.state === 'unclaimed' || claim?.state === 'waiting');
    if (claim) this.#look(claim);
    if (!isFree || this.#isYielding) this.#current = undefined;
    else if (!(await this.#isGood())) await this.#renew();
    return this.#current?.modules;
  }

  #look({ state, discriminators }: GatewayStatus['claim']): void {
    const isOurs = this.#current !== undefined && discriminators.includes(this.#current.discriminator);
    if (state === 'waiting' && this.#isSeen && !isOurs) this.#isYielding = true;
    if (state === 'unclaimed') this.#isYielding = false;
    this.#isSeen = isOurs;
  }

  async #isGood(): Promise<boolean> {
    return this.#current !== undefined && lifetimeMs({ until: this.#current.until } as WaitingCode, await momentNow()) > RENEW_BEFORE_MS;
  }

  /** Before the chain has its first block there are no keys that a code could name. */
  async #renew(): Promise<void> {
    this.#current = undefined;
    try {
      this.#keyDigest ??= await keyDigestOf(this.#dataDir);
    } catch (error) {
      if (error instanceof TenzroError && (error.code === 'claim.not_ready' || error.code === 'ledger.no_chain')) return;
      throw error;
    }
    const waiting = shownFrom(newClaimCode(this.#keyDigest, TRANSPORTS), await momentNow());
    try {
      await new WaitingCodes(this.#dataDir).write(waiting);
      const text = encodeClaimCode(waiting.code);
      this.#current = { until: waiting.until, text: spacedClaimCode(text), discriminator: waiting.code.discriminator, modules: modulesOf(text) };
    } finally {
      waiting.code.secret.fill(0);
    }
  }
}

function viewOf(status: GatewayStatus | undefined, code: string | undefined, portal: readonly string[]): ScreenView {
  return {
    title: `Tenzro Edge ${manifest.version}`, host: hostname(), addresses: addressesNow(), faults: boardFaults(),
    state: stateOf(status), lines: status ? [...linesAbout(status), ...portal] : [], code: code === undefined ? undefined : { qr: [], text: code },
  };
}

function stateOf(status: GatewayStatus | undefined): string {
  if (!status) return 'the gateway does not run yet';
  if (status.identity.state === 'locked') return `keys locked (${status.identity.code ?? ''}): ${status.identity.hint ?? ''}`;
  if (!status.ready) return 'starting';
  return status.health.ok ? 'running' : `stalled: ${status.health.stalled.map(({ name }) => name).join(', ')}`;
}

/** Nothing that changes with every reading: each change is a new page. */
function linesAbout({ claim, fleet }: GatewayStatus): readonly string[] {
  return [
    ...claim.state === 'claiming' ? [`somebody claims this gateway; the operator must see the same words: ${claim.words ?? ''}`] : [],
    ...claim.state === 'locked' ? ['five wrong codes: switch the power off and on'] : [],
    ...claim.state === 'owned' ? [`owned; words of its claim: ${claim.words ?? ''}`] : [],
    ...fleet.clock.state === 'unrefuted' ? [] : [`the clock is wrong (${fleet.clock.state})`],
    ...fleet.upstreams.map(({ name, connected, fault }) => `fleet ${name}: ${connected ? 'connected' : `offline${fault === null ? '' : ` (${fault})`}`}`),
  ];
}

/** The passphrase of the access point is nowhere else: who stands here may join it. */
async function portalLines(dataDir: string, { portal: { state, url, last, code, detail } }: GatewayStatus): Promise<readonly string[]> {
  const own = state === 'open' ? await readCredentials(dataDir) : undefined;
  return [
    ...last && last.reason !== null ? [`${last.network} did not work: ${last.reason}`] : [],
    ...state === 'trying' ? ['trying the network that was handed over'] : [],
    ...own ? [`Wi-Fi ${own.ssid}`, `passphrase ${own.passphrase}`, `then ${url ?? 'wait'}`] : [],
    ...code === null ? [] : [`${detail ?? ''} (${code})`],
  ];
}

const LINK_LOCAL = /^(?:169\.254\.|fe80:)/i;

function addressesNow(): readonly string[] {
  const all = Object.values(networkInterfaces()).flatMap((found) => found ?? []).filter(({ internal, address }) => !internal && !LINK_LOCAL.test(address));
  return all.toSorted((a, b) => a.family.localeCompare(b.family)).map(({ address }) => address);
}
