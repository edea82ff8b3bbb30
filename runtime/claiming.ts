/**
 * The composition root of the device's side of a claim: joins the pure machine with the gateway's keys and TPM, its record on disk, the local network and the
 * chain. Who owns the gateway is what the record says; everything else follows it, again at each start, until it has.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { joinFirst } from '#drivers/network/join.ts';
import { MachineWifi } from '#drivers/network/machineWifi.ts';
import type { WifiNetwork } from '#drivers/network/wifi.ts';
import { openAnchor } from '#drivers/tpm2/anchor.ts';
import type { Tpm } from '#drivers/tpm2/tpm.ts';
import { claimKeyDigest } from '#provisioning/claim/code.ts';
import { isLocked, type DeviceRecord, type Ownership } from '#provisioning/claim/device.ts';
import { ClaimDevice } from '#provisioning/claim/deviceRun.ts';
import { DeviceStore } from '#provisioning/claim/deviceStore.ts';
import { encodeDeviceEvidence, openHandOver, type HandOver } from '#provisioning/claim/handOver.ts';
import { brokerPlace, checkJoining, ownerOf } from '#provisioning/claim/joining.ts';
import { ClaimDoor } from '#provisioning/claim/lan/door.ts';
import { claimQuoteDigest, encodeQuote } from '#provisioning/claim/quote.ts';
import { deviceSuite } from '#provisioning/claim/realSuite.ts';
import { lifetimeMs, momentNow, WaitingCodes, type WaitingCode } from '#provisioning/claim/waiting.ts';
import { decodeRequest } from '#provisioning/enrolment/messages.ts';
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { TenzroError, invariant, messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import type { Owner } from '#runtime/core/fleet.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import type { Settings } from '#runtime/core/settings.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import type { KnownOwner } from '#runtime/fleet/types/release.ts';
import { decodeBlock } from '#runtime/ledger/block.ts';
import { parseEnrolment, tupleDifference } from '#runtime/ledger/enrolment.ts';
import type { ClaimStatus } from '#runtime/observe/status.ts';
import { ClaimChain } from './claimChain.ts';
import { ClaimRefusals } from './claimRefusals.ts';
import { enrolleeOf, type LeasingOptions } from './leasing.ts';

export interface ClaimingOptions extends Pick<LeasingOptions, 'writer' | 'reader' | 'identity' | 'clock' | 'counters' | 'log'> {
  readonly settings: Settings;
  /** Undefined without one. */
  readonly tpm: Tpm | undefined;
  readonly store: KeyValueStore;
  /** At the claim, at each start while owned, and when owner keys were rotated. A rejection is told, and it is called again. */
  readonly onOwned: (owner: Owner) => Promise<void>;
  readonly onDisowned: () => Promise<void>;
  /** The owner's clock, µs since 1970: the time is not before it; `isNow`: it was told just now. */
  readonly onTime: (micros: number, isNow: boolean) => void;
  /** Whether the owner took that key of its own back: it orders nothing any more. */
  readonly isOwnerKeyRevoked: (publicKey: Uint8Array) => boolean;
  /** For people at the machine. MUST NOT throw. */
  readonly say: (text: string) => void;
}

const TURN_MS = 1_000;
/** Pause before locked keys, or a chain without a block, are asked again. */
const KEYS_RETRY_MS = 2_000;
const RELEASE_PAUSE_MS = 100;
/** Turns until networks that could not be set are tried again. */
const NETWORK_TURNS = 5;
/** What is worth an entry: whoever causes it knows the secret, or used up one of five attempts. */
const RECORDED: ReadonlySet<ErrorCode> = new Set(['claim.secret_wrong', 'claim.locked', 'claim.hand_over', 'claim.apply', 'claim.evidence']);
/** What the machine does wrong to us, and people have to mend. */
const TOLD: ReadonlySet<ErrorCode> = new Set(['claim.state', 'claim.store', 'claim.newer_version', 'claim.listen', 'claim.network']);

export class Claiming {
  readonly #options: ClaimingOptions;
  readonly #records: DeviceStore;
  readonly #codes: WaitingCodes;
  readonly #chain: ClaimChain;
  readonly #refusals: ClaimRefusals;
  readonly #door: ClaimDoor;
  readonly #wifi = new MachineWifi();
  #device: ClaimDevice | undefined;
  #signal: AbortSignal | undefined;
  /** The time of a hand-over that came in this run, and is no ownership yet. */
  #told: number | undefined;
  #waiting: readonly WaitingCode[] = [];
  #words: string | undefined;
  #fault: { readonly code: string; readonly detail: string } | undefined;
  /** What everything else knows of the record: undefined before it was told. */
  #settled: { readonly owner: Ownership | undefined } | undefined;
  #settling: Promise<void> = Promise.resolve();
  /** Those that the machine should have and has not yet. */
  #unset: { readonly networks: readonly WifiNetwork[]; turns: number } | undefined;

  constructor(options: ClaimingOptions) {
    const { settings, clock } = options;
    this.#options = options;
    this.#records = new DeviceStore(settings.dataDir);
    this.#codes = new WaitingCodes(settings.dataDir);
    this.#chain = new ClaimChain(options);
    this.#refusals = new ClaimRefusals({ ...options, record: (code, reason) => { this.#chain.failed(code, reason); } });
    this.#door = new ClaimDoor(settings.claim, {
      clock, note: (code, detail) => { this.#note(code, detail); }, isHeld: () => isHeld(this.#device), gone: () => { this.#device?.gone(); },
      receive: (message) => {
        const before = this.#device?.state.phase;
        this.#device?.receive(message);
        return this.#device?.state.phase !== before;
      },
    });
  }

  status(): ClaimStatus {
    const { record, phase } = this.#device?.state ?? {};
    const at = !this.#device ? 'unready' : record?.owner ? 'owned' : isLocked(this.#device.state) ? 'locked' : phase && isHeld(this.#device) ? 'claiming' : this.#waiting.length > 0 ? 'waiting' : 'unclaimed';
    return {
      state: at, port: this.#door.port ?? null, words: record?.owner?.words ?? this.#words ?? null, generation: record?.generation ?? null,
      claimId: record?.owner ? toHex(record.owner.claimId) : null, discriminators: record?.owner ? [] : this.#waiting.map(({ code }) => code.discriminator),
      code: this.#fault?.code ?? null, detail: this.#fault?.detail ?? null,
    };
  }

  get owner(): KnownOwner {
    const state = this.#device?.state;
    if (!state || state.phase.kind === 'reading') return { kind: 'unknown' };
    return state.record.owner ? { kind: 'owner', claimId: toHex(state.record.owner.claimId) } : { kind: 'nobody' };
  }

  /** Whether it is known that nobody owns it, or who does, to all who have to know. */
  get isSettled(): boolean { return this.owner.kind === 'nobody' || this.#settled !== undefined; }

  /** At the command of the owner who claimed it so (claim id, hexadecimal): resolves when the record names them no more, and everybody knows. */
  async release(claimId: string): Promise<void> {
    for (;;) {
      const { owner } = this;
      if (owner.kind === 'nobody') break;
      if (owner.kind === 'owner' && owner.claimId !== claimId) return;
      if (this.#signal?.aborted) throw new TenzroError('claim.abandoned', 'the gateway is stopping');
      this.#device?.release();
      await sleep(RELEASE_PAUSE_MS, undefined, { ref: false });
    }
    await this.#settle(undefined);
  }

  /** Until `signal` aborts. */
  async follow(signal: AbortSignal): Promise<void> {
    this.#signal = signal;
    const own = await this.#identity(signal);
    if (!own) return;
    await using _ = this.#door;
    const suite = deviceSuite(own);
    const openOrder: typeof suite.openOrder = (order, ownerKeys) => suite.openOrder(order, ownerKeys.filter((key) => !this.#options.isOwnerKeyRevoked(key)));
    using device = new ClaimDevice({ ...suite, openOrder }, {
      clock: this.#options.clock,
      send: (message) => { this.#door.send(message); },
      read: async () => (await this.#records.read()) ?? NOBODY,
      write: (record) => this.#records.write(record),
      prove: (challenge, transcript, ended) => this.#prove(own, challenge, transcript, ended),
      apply: (handOver, ended) => this.#apply(own, handOver, ended),
      revert: async () => {
        await this.#setNetworks([]).catch((error: unknown) => { this.#note('claim.network', messageOf(error)); });
        await this.#settle(undefined);
      },
      own: (owner) => this.#settle(owner),
      disown: () => this.#settle(undefined),
      words: (words) => { this.#words = words; this.#options.say(`somebody claims this gateway: both screens must show  ${words}`); },
      note: (code, detail) => { this.#note(code, detail); },
      refused: (code) => { this.#refusals.add(code); },
    }, (await momentNow()).boot);
    this.#device = device;
    while (!signal.aborted) {
      await this.#turn(device, own.keyDigest).catch((error: unknown) => { this.#note(error instanceof TenzroError ? error.code : 'core.system', messageOf(error)); });
      await sleep(TURN_MS, undefined, { signal }).catch(() => undefined); // aborted: the loop ends
    }
  }

  async #turn(device: ClaimDevice, keyDigest: Uint8Array): Promise<void> {
    device.tick();
    this.#refusals.due();
    const { record, phase } = device.state;
    if (phase.kind === 'open' && this.#settled?.owner !== record.owner) await this.#settle(record.owner);
    if (phase.kind === 'open' && this.#unset && (this.#unset.turns += 1) >= NETWORK_TURNS) await this.#setNetworks(this.#unset.networks);
    await this.#readCodes(device, keyDigest);
    const isWanted = this.#options.settings.claim.enabled && (record.owner !== undefined || this.#waiting.length > 0 || phase.kind === 'offered' || isHeld(device));
    await this.#door.turn(isWanted ? this.#waiting.map(({ code }) => code.discriminator) : undefined);
  }

  /** What `tenzro claim show` wrote or took away since. A secret in use stays the same bytes. */
  async #readCodes(device: ClaimDevice, keyDigest: Uint8Array): Promise<void> {
    const now = await momentNow();
    const found = device.state.record.owner ? [] : Object.values(await this.#codes.usable(keyDigest, now));
    const isSame = found.length === this.#waiting.length && found.every(({ code }, at) => equalBytes(code.secret, this.#waiting[at]?.code.secret ?? new Uint8Array(0)));
    if (isSame) return zero(found);
    const before = this.#waiting;
    this.#waiting = found;
    device.expect(found.map((waiting) => ({ secret: waiting.code.secret, lifetimeMs: lifetimeMs(waiting, now) })));
    zero(before);
  }

  /** Keys may be locked, and a new chain has no block yet: waits. Undefined when `signal` aborts first. */
  async #identity(signal: AbortSignal): Promise<GatewayKeys | undefined> {
    const { reader, identity, tpm } = this.#options;
    for (; !signal.aborted; await sleep(KEYS_RETRY_MS, undefined, { signal }).catch(() => undefined)) {
      if (reader.blockCount() === 0) continue;
      try {
        const { signer } = await identity.keys();
        const { identity: held } = decodeBlock(reader.block(0).payload);
        invariant(held, 'a genesis has an identity');
        const request = tpm && held.akPublic && held.ekPublic ? await enrolleeOf(tpm, reader, identity).request() : undefined;
        const keyDigest = claimKeyDigest({ signingKey: sha256(held.signingKey), ...(held.akPublic ? { ak: sha256(held.akPublic) } : {}) });
        return { signer, keyDigest, ...(request ? { request } : {}) };
      } catch (error) {
        if (!(error instanceof TenzroError) || error.class === 'bug') throw error;
        this.#fault = { code: error.code, detail: error.message };
      }
    }
    return undefined;
  }

  async #prove({ signer, request }: GatewayKeys, challenge: Uint8Array | undefined, transcript: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    const { tpm, reader, identity } = this.#options;
    if (!tpm || !request || !challenge) return encodeDeviceEvidence({ answer: undefined, quote: undefined });
    const answer = await enrolleeOf(tpm, reader, identity).answer(request, challenge, signer, signal);
    const anchor = await openAnchor(tpm, signal);
    return encodeDeviceEvidence({ answer, quote: encodeQuote(await anchor.quote(claimQuoteDigest(transcript), signal)) });
  }

  /** Throws `claim.hand_over` and `claim.apply`. */
  async #apply({ signer, request }: GatewayKeys, handOver: HandOver, signal: AbortSignal): Promise<void> {
    checkJoining(handOver, signer.publicKey);
    if ((request === undefined) !== (handOver.statement === undefined)) throw new TenzroError('claim.hand_over', request ? 'it enrols nobody' : 'it enrols a TPM that there is not');
    if (request && handOver.statement) checkStatement(request, handOver.statement);
    this.#told = handOver.time;
    if (handOver.networks.length > 0) await joinFirst(this.#wifi, handOver.networks, brokerPlace(handOver.broker), signal);
  }

  /** One after another, in the order in which the record changed. */
  #settle(owner: Ownership | undefined): Promise<void> {
    const work = async (): Promise<void> => {
      if (this.#settled && this.#settled.owner === owner) return;
      await (owner ? this.#own(owner) : this.#disown());
      this.#settled = { owner };
    };
    const done = this.#settling.then(work);
    this.#settling = done.catch(() => undefined); // whoever asked has it, and the next turn asks again
    return done;
  }

  async #own({ claimId, ownerKeys, handOver: bytes, words }: Ownership): Promise<void> {
    const { onOwned, onTime, say } = this.#options;
    const handOver = openHandOver(bytes);
    await this.#codes.removeAll();
    await this.#chain.owned({ claimId, ownerKeys, words, handOver: bytes, fleetCa: handOver.fleetCa, statement: handOver.statement });
    onTime(handOver.time * 1_000_000, this.#told === handOver.time);
    this.#told = undefined;
    await onOwned(ownerOf(handOver, ownerKeys, words));
    if (handOver.networks.length > 0) await this.#setNetworks(handOver.networks).catch((error: unknown) => { this.#note('claim.network', messageOf(error)); });
    this.#words = undefined;
    say(`this gateway has an owner, who is reached over ${handOver.broker}`);
  }

  async #disown(): Promise<void> {
    if (!await this.#chain.released()) return;
    await this.#setNetworks([]);
    await this.#codes.removeAll();
    await this.#options.onDisowned();
    this.#options.say('this gateway has no owner any more: tenzro claim show makes a new code');
  }

  /** The owner's, or nobody's: what was there before. Where it rejects, turns try again. */
  async #setNetworks(networks: readonly WifiNetwork[]): Promise<void> {
    if (!this.#signal) return;
    const unset = { networks, turns: 0 };
    this.#unset = unset;
    await (networks.length > 0 ? this.#wifi.keep(networks, this.#signal) : this.#wifi.remove(this.#signal));
    if (this.#unset === unset) this.#unset = undefined;
  }

  #note(code: ErrorCode, detail: string): void {
    const { counters, log, say } = this.#options;
    counters.add(code);
    if (!RECORDED.has(code) && !TOLD.has(code)) return log.debug({ room: 'claim', code }, detail);
    const isNew = this.#fault?.code !== code || this.#fault.detail !== detail;
    this.#fault = { code, detail };
    if (isNew) {
      log.warn({ room: 'claim', code, hint: new TenzroError(code, detail).hint }, detail);
      say(`claim: ${detail} (${code})`);
    }
    if (!RECORDED.has(code)) return;
    this.#chain.failed(code, detail);
  }
}

interface GatewayKeys {
  readonly signer: Signer;
  readonly keyDigest: Uint8Array;
  /** Enrolment's; absent where the chain began without a TPM. */
  readonly request?: Uint8Array;
}

/** Nobody ever claimed it. */
const NOBODY: DeviceRecord = { generation: 0, burnt: [], failures: { boot: 'none', count: 0 } };
const HELD: ReadonlySet<string> = new Set(['proving', 'awaiting', 'applying', 'writing']);
const isHeld = (device: ClaimDevice | undefined): boolean => device !== undefined && HELD.has(device.state.phase.kind);
const zero = (codes: readonly WaitingCode[]): void => { for (const { code } of codes) code.secret.fill(0); };

/** Signed or not is for the chain's verifiers to judge; that it is about this gateway is ours. Throws `claim.hand_over`. */
function checkStatement(request: Uint8Array, statement: Uint8Array): void {
  const { device, chainId, ekPublic, akPublic, signingKey, exchangeKey } = decodeRequest(request);
  const own = { device, chainId, ek: sha256(ekPublic), ak: sha256(akPublic), signingKey: sha256(signingKey), ...(exchangeKey ? { exchangeKey: sha256(exchangeKey) } : {}) };
  const parsed = parseEnrolment(statement);
  const difference = tupleDifference(parsed.enrolment.tuple, own);
  if (difference !== undefined || !parsed.isSigned()) throw new TenzroError('claim.hand_over', difference === undefined ? 'the enrolment statement is not signed by the key that it names' : `the enrolment statement is about another gateway: its ${difference} differs`);
}
