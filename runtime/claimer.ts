/** The composition root of `tenzro fleet claim`: joins the protocol's claimer, enrolment, the fleet's policy, its controller, and what is pending on disk. */
import { setTimeout as sleep } from 'node:timers/promises';
import { attemptClaim, inquireClaim, type ClaimOutcome, type ConversationOptions } from '#provisioning/claim/converse.ts';
import type { Candidate } from '#provisioning/claim/claimerRun.ts';
import type { ClaimRecord, ClaimSecret } from '#provisioning/claim/claimer.ts';
import type { ClaimStore, KeptClaim } from '#provisioning/claim/claimStore.ts';
import type { ClaimCode } from '#provisioning/claim/code.ts';
import { atPlacesOf, whereItMayBe, type PlaceAttempt } from '#provisioning/claim/find.ts';
import { signHandOver, signOrder, type HandOver, type OwnerOrder } from '#provisioning/claim/handOver.ts';
import { judgeDevice } from '#provisioning/claim/judge.ts';
import { dialTo, hostAndPort, parseAddress, type ClaimChannel, type Dial } from '#provisioning/claim/lan/dial.ts';
import { giveOrder } from '#provisioning/claim/order.ts';
import { claimerSuite } from '#provisioning/claim/realSuite.ts';
import { Enroller } from '#provisioning/enrolment/enroller.ts';
import { decodeRequest } from '#provisioning/enrolment/messages.ts';
import { toHex } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { FleetOffice, RegisterEntry } from '#runtime/controller/claimClient.ts';
import { judgeEkCertificates, type EkVerdict } from '#runtime/crypto/ekCertificate.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { signEnrolment } from '#runtime/ledger/enrolment.ts';
import { ekAnchorsOf, type Policy } from '#runtime/verify/policy.ts';
import { withChains } from './controllerMain.ts';
import { viewOfDevice, type DeviceView } from './claimJudge.ts';

/** How far a claim is, for whoever watches. */
export type ClaimStep =
  | { readonly kind: 'looking'; readonly discriminator: number }
  | { readonly kind: 'connected'; readonly address: string }
  /** At that place somebody else answers, or nobody. */
  | { readonly kind: 'passed'; readonly address: string; readonly why: string }
  /** Both sides hold the secret. */
  | { readonly kind: 'words'; readonly words: string; readonly gateway: string; readonly device: DeviceView }
  | { readonly kind: 'handing' }
  | { readonly kind: 'asking' }
  | { readonly kind: 'owned' }
  | { readonly kind: 'receipted'; readonly blocks: number };

export interface ClaimerOptions {
  readonly office: FleetOffice;
  readonly store: ClaimStore;
  /** Signs hand-over and enrolment: one of the two. */
  readonly owner: Signer;
  readonly otherOwnerKey: Uint8Array;
  readonly policy: Policy;
  readonly clock: Clock;
  readonly onStep: (step: ClaimStep) => void;
  /** The operator looks at the device and its words. */
  readonly confirm: (view: DeviceView, gateway: string, words: string) => Promise<boolean>;
  readonly note: (code: string, detail: string) => void;
}

export interface ClaimWishes {
  /** Where it is; undefined: it is looked for. */
  readonly address?: string;
  /** node.name of a gateway without a TPM, which cannot state it; of others it must agree. */
  readonly name?: string;
  readonly networks: HandOver['networks'];
  /** mqtts:// URL; undefined: the controller's, its own at the address where the gateway sees this machine. */
  readonly broker?: string;
  /** X.509 DER, of a broker that others run; undefined: the fleet's. */
  readonly brokerCa?: Uint8Array;
  /** For a broker that knows gateways by name and password; such a gateway gets no certificate. */
  readonly brokerPassword?: string;
}

const RECEIPT_PAUSE_MS = 250;
/** For connection and offer. Anybody can answer to a gateway's number; whoever does not say in time who it is loses its turn. */
const OFFER_MS = 5_000;
/** For the proof, which takes a slow TPM some seconds. */
const PROOF_MS = 30_000;

export class Claimer {
  readonly #options: ClaimerOptions;

  constructor(options: ClaimerOptions) { this.#options = options; }

  /** Resolves with the gateway's name when it is ours and registered. Throws `claim.*`, `controller.*`, `enrol.*`; `claim.in_doubt` where `resume` has to end it. */
  async claim(code: ClaimCode, wishes: ClaimWishes, signal: AbortSignal): Promise<string> {
    const { onStep } = this.#options;
    const attempt = (): Attempt => new Attempt(this.#options, code, wishes);
    if (wishes.address !== undefined) return attempt().run(dialTo(...hostPort(wishes.address)), signal);
    onStep({ kind: 'looking', discriminator: code.discriminator });
    return atPlacesOf(code.discriminator, attempt, (place, error) => { onStep({ kind: 'passed', address: hostAndPort(place.address, place.port), why: error.message }); }, signal);
  }

  /** Asks for a claim that is pending on disk. */
  async resume(claim: KeptClaim, signal: AbortSignal): Promise<'owned' | 'failed'> {
    return await whereItMayBe(dialTo(...hostPort(claim.address)), async (dial) => {
      this.#options.onStep({ kind: 'asking' });
      const patience = AbortSignal.any([signal, AbortSignal.timeout(6_000)]);
      const outcome = await inquireClaim(claim, conversation(this.#options, dial, (record) => settle(this.#options, { ...claim, ...record })), patience);
      if (outcome.kind === 'unknown') throw new TenzroError('claim.timeout', `${claim.gateway} does not answer there`);
      return outcome.kind;
    }, signal);
  }

  /** Resolves when the controller in `dir` has verified and kept blocks of that gateway that came since then; the receipt leaves at that moment. */
  async receipted(dir: string, gateway: string, sinceMicros: number, signal: AbortSignal): Promise<void> {
    for (;;) {
      const heads = await withChains(dir, (chains) => chains.all().flatMap(([, { gateway: name, head, seenMicros }]) => (name === gateway && head && seenMicros >= sinceMicros ? [head] : [])));
      const [head] = heads;
      if (head) return this.#options.onStep({ kind: 'receipted', blocks: head.sequence + 1 });
      await sleep(RECEIPT_PAUSE_MS, undefined, { signal });
    }
  }
}

/** Orders a gateway that is ours, wherever it answers now. */
export async function orderGateway({ kept, owner, change, signal }: {
  readonly kept: KeptClaim; readonly owner: Signer; readonly change: Pick<OwnerOrder, 'verb' | 'ownerKeys'>; readonly signal: AbortSignal;
}): Promise<'released' | 'rotated' | 'none'> {
  const { claimId, signingKey } = kept;
  let given: ReturnType<typeof signOrder> | undefined;
  /** The same one again where its answer was lost: the gateway repeats it, though its generation has risen. */
  const order = (generation: number): ReturnType<typeof signOrder> => (given ??= signOrder({ claimId, device: sha256(signingKey), generation, ...change }, owner));
  const { standing } = await whereItMayBe(dialTo(...hostPort(kept.address)), (dial) => giveOrder({ dial, claim: kept, order }, signal), signal);
  return standing === 'released' || standing === 'rotated' ? standing : 'none';
}

/** One claim, from hello to its end. */
export class Attempt implements PlaceAttempt<string> {
  readonly #options: ClaimerOptions;
  readonly #code: ClaimSecret & { readonly discriminator?: number };
  readonly #wishes: ClaimWishes;
  #verdict: EkVerdict | undefined;
  #candidate: RegisterEntry | undefined;
  #address = '';
  #isProven = false;

  constructor(options: ClaimerOptions, code: ClaimSecret & { readonly discriminator?: number }, wishes: ClaimWishes) { [this.#options, this.#code, this.#wishes] = [options, code, wishes]; }

  get isProven(): boolean { return this.#isProven; }

  /** A gateway that dialled itself cannot be dialled again there: its doubt is `resume`'s. */
  async run(dial: Dial, signal: AbortSignal): Promise<string> {
    using turn = new Turn(signal, OFFER_MS);
    try {
      return await this.#run(dial, turn, signal);
    } catch (cause) {
      throw turn.isOver ? new TenzroError('claim.timeout', 'whoever answers there did not show in time that it is the gateway', { cause }) : cause;
    }
  }

  async #run(dial: Dial, turn: Turn, signal: AbortSignal): Promise<string> {
    using enroller = this.#enroller();
    const talk: ConversationOptions = {
      ...conversation(this.#options, dial, (record) => this.#write(record)),
      challenge: (request) => enroller.begin(request),
      known: () => { turn.lasts(PROOF_MS); },
      judge: (candidate, channel, judging) => {
        this.#isProven = true;
        turn.lasts(undefined);
        return this.#judge(candidate, channel, enroller, judging);
      },
      connected: ({ address }) => {
        if (this.#address !== address) this.#options.onStep({ kind: 'connected', address });
        this.#address = address;
      },
    };
    const first = await attemptClaim(this.#code, talk, turn.signal);
    if (first.kind === 'unknown' && this.#code.keyDigest) this.#options.onStep({ kind: 'asking' });
    return await this.#end(first.kind === 'unknown' && this.#code.keyDigest ? await inquireClaim(first.record, talk, AbortSignal.any([signal, AbortSignal.timeout(60_000)])) : first);
  }

  async #end(outcome: ClaimOutcome): Promise<string> {
    const { name: gateway = '', claimId } = this.#candidate ?? {};
    if (outcome.kind === 'failed') {
      if (claimId) await this.#options.office.abandoned(gateway, claimId);
      throw new TenzroError(outcome.code, outcome.detail);
    }
    if (outcome.kind === 'unknown') throw new TenzroError('claim.in_doubt', `${gateway} was handed everything, and has not said yet whether it is yours`);
    this.#options.onStep({ kind: 'owned' });
    return gateway;
  }

  /** The owner's own key states what was proven: it is at hand, whatever the controller does, and no stolen server can state anything. */
  #enroller(): Enroller {
    const { owner, clock, policy, office } = this.#options;
    return new Enroller({
      name: office.facts.name, clock, firstUse: 'accept', sign: (enrolment) => signEnrolment(owner, enrolment),
      judge: (ek, certificates, during) => (this.#verdict = judgeEkCertificates(ek, certificates, ekAnchorsOf(policy), during)),
    });
  }

  async #judge(candidate: Candidate, channel: ClaimChannel, enroller: Enroller, signal: AbortSignal): Promise<Uint8Array> {
    const { offer, claimId, transcript, words } = candidate;
    const { owner, otherOwnerKey, policy, office, clock, onStep, confirm } = this.#options;
    const { statement, pcrs } = judgeDevice(candidate, enroller);
    const gateway = this.#nameOf(offer.request);
    const device = viewOfDevice(this.#verdict, pcrs, policy);
    onStep({ kind: 'words', words, gateway, device });
    if (!await confirm(device, gateway, words)) throw new TenzroError('claim.refused', `${gateway} was not accepted`);
    signal.throwIfAborted();
    const ownerKeys = [owner.publicKey, otherOwnerKey] as const;
    const asked = offer.request && decodeRequest(offer.request);
    this.#candidate = { name: gateway, claimId, identityKey: offer.signingKey, tpm: asked && { ak: toHex(sha256(asked.akPublic)), ek: toHex(sha256(asked.ekPublic)) }, statement, ownerKeys };
    await office.begin(this.#candidate);
    const { networks, broker = office.facts.brokerAt(channel.localAddress), brokerCa: fleetCa = office.facts.ca, brokerPassword: password } = this.#wishes;
    const login = password === undefined ? undefined : { user: gateway, password };
    const certificates = login ? [] : await office.certificates(gateway, offer.signingKey);
    return signHandOver({
      claimId, transcript, networks, broker, fleetCa, ownerKeys,
      time: Math.floor(clock.wallMicros() / 1_000_000), statement, receiptKey: office.facts.receiptKey, certificates, login,
    }, owner);
  }

  #nameOf(request: Uint8Array | undefined): string {
    const stated = request && decodeRequest(request).device;
    const { name } = this.#wishes;
    if (stated !== undefined && name !== undefined && stated !== name) throw new TenzroError('claim.identity', `the gateway calls itself ${stated}, not ${name}`);
    const found = stated ?? name;
    if (found === undefined) throw new TenzroError('cli.usage', 'a gateway without a TPM does not state its name: give it with --name, as node.name in its configuration says');
    return found;
  }

  /** Pending on disk before anything leaves; ended in the register before it is on disk. */
  async #write(record: ClaimRecord): Promise<void> {
    const candidate = this.#candidate;
    if (!candidate) throw new TenzroError('core.invariant', 'a claim is judged before it is written');
    const { clock, store, onStep } = this.#options;
    const kept: KeptClaim = { ...record, gateway: candidate.name, address: this.#address, discriminator: this.#code.discriminator ?? 0, begun: Math.floor(clock.wallMicros() / 1_000_000), generation: 0 };
    if (record.outcome !== 'pending') return settle(this.#options, kept);
    await store.write(kept);
    onStep({ kind: 'handing' });
  }
}

/** The time that somebody has who has proven nothing yet. */
class Turn implements Disposable {
  readonly signal: AbortSignal;
  readonly #over = new AbortController();
  #timer: NodeJS.Timeout | undefined;

  constructor(signal: AbortSignal, milliseconds: number) {
    this.signal = AbortSignal.any([signal, this.#over.signal]);
    this.lasts(milliseconds);
  }

  get isOver(): boolean { return this.#over.signal.aborted; }

  /** From now on; undefined: as long as it takes. */
  lasts(milliseconds: number | undefined): void {
    clearTimeout(this.#timer);
    if (milliseconds !== undefined) this.#timer = setTimeout(() => { this.#over.abort(); }, milliseconds);
  }

  [Symbol.dispose](): void { this.lasts(undefined); }
}

/** The device has spoken: first the register knows it, then the disk; a crash between the two asks again. */
async function settle({ office, store }: Pick<ClaimerOptions, 'office' | 'store'>, kept: KeptClaim): Promise<void> {
  if (kept.outcome === 'owned') await office.claimed(kept.gateway, kept.claimId);
  if (kept.outcome === 'failed') await office.abandoned(kept.gateway, kept.claimId);
  await store.write(kept);
}

/** Of a claim that is asked for only. */
const conversation = ({ clock, note }: ClaimerOptions, dial: Dial, write: ConversationOptions['write']): ConversationOptions => ({
  suite: claimerSuite, clock, dial, write, note,
  challenge: () => { throw new TenzroError('core.invariant', 'nothing is challenged here'); },
  judge: () => Promise.reject(new TenzroError('core.invariant', 'nothing is judged here')),
});

function hostPort(address: string): readonly [host: string, port: number] {
  const { host, port } = parseAddress(address);
  return [host, port];
}
