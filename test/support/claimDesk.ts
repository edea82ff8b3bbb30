/** Both sides of a claim in one process: a gateway with a real TPM (emulated) and real keys, an operator, and a wire between them that a test can bend. */
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { activatorOf } from '#drivers/tpm2/activate.ts';
import { openAnchor } from '#drivers/tpm2/anchor.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { Claim, type Candidate } from '#provisioning/claim/claimerRun.ts';
import type { ClaimRecord } from '#provisioning/claim/claimer.ts';
import { claimKeyDigest, newClaimCode, type ClaimCode } from '#provisioning/claim/code.ts';
import type { DeviceRecord, Ownership } from '#provisioning/claim/device.ts';
import { ClaimDevice } from '#provisioning/claim/deviceRun.ts';
import { encodeDeviceEvidence, signHandOver, type DeviceEvidence, type HandOver } from '#provisioning/claim/handOver.ts';
import { judgeDevice } from '#provisioning/claim/judge.ts';
import { claimQuoteDigest, encodeQuote, type PcrValues } from '#provisioning/claim/quote.ts';
import { claimerSuite, deviceSuite } from '#provisioning/claim/realSuite.ts';
import { Enroller } from '#provisioning/enrolment/enroller.ts';
import { answerChallenge } from '#provisioning/enrolment/gateway.ts';
import { encodeRequest } from '#provisioning/enrolment/messages.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Activator, Anchor } from '#runtime/core/ports.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';
import { parseEnrolment, signEnrolment } from '#runtime/ledger/enrolment.ts';
import { transportTo } from './swtpm.ts';

const NEVER = new AbortController().signal;
const seed = (text: string): Buffer => sha256(Buffer.from(text));
export const PASSPHRASE = 'correct horse battery';

/** A clock that a test moves. */
export class DeskClock implements Clock {
  micros = 1_795_392_000_000_000;
  wallMicros(): number { return this.micros; }
  monoMicros(): number { return this.micros; }
  pass(milliseconds: number): void { this.micros += milliseconds * 1_000; }
}

/** What may happen to a message: it goes on, goes on as something else, or is lost. */
export type Bend = (bytes: Uint8Array) => Uint8Array | undefined;

/** The gateway: its TPM and disk outlive its processes. */
export class ClaimableGateway implements AsyncDisposable {
  readonly signer: Signer = signerOfSeed(seed('gateway'));
  readonly clock: DeskClock;
  readonly notes: string[] = [];
  readonly owned: Ownership[] = [];
  record: DeviceRecord = { generation: 0, burnt: [], failures: { boot: 'first', count: 0 } };
  words = '';
  settings: 'none' | 'trial' | 'kept' = 'none';
  /** What goes out; the test sets it. */
  send: (bytes: Uint8Array) => void = () => undefined;
  /** Fails the next write, after it reached the disk or before. */
  breakWrite: 'no' | 'before' | 'after' = 'no';
  /** What becomes of its evidence on the way out of it. */
  evidence = (made: DeviceEvidence): DeviceEvidence => made;
  quoteFor: (transcript: Uint8Array) => Uint8Array = claimQuoteDigest;
  /** Set before it starts: it began without one. */
  hasTpm = true;
  readonly #tpm: Tpm;
  readonly #anchor: Anchor;
  readonly #activator: Activator;
  readonly request: Uint8Array;

  private constructor(clock: DeskClock, tpm: Tpm, anchor: Anchor, ekPublic: Uint8Array) {
    this.clock = clock;
    this.#tpm = tpm;
    this.#anchor = anchor;
    this.#activator = activatorOf(tpm, { ekPublic, akPublic: anchor.akPublic });
    this.request = encodeRequest({ device: 'workshop', chainId: seed('chain'), ekPublic, akPublic: anchor.akPublic, signingKey: this.signer.publicKey, certificates: [] });
  }

  static async on(address: string, clock: DeskClock): Promise<ClaimableGateway> {
    const tpm = new Tpm(transportTo(address));
    const anchor = await openAnchor(tpm, NEVER);
    return new ClaimableGateway(clock, tpm, anchor, (await anchor.endorsement(NEVER)).ekPublic);
  }

  newCode(): ClaimCode { return newClaimCode(claimKeyDigest({ signingKey: sha256(this.signer.publicKey), ...(this.hasTpm ? { ak: sha256(this.#anchor.akPublic) } : {}) }), ['lan']); }

  /** A process of the gateway, in that boot of the machine. */
  async start(codes: readonly { readonly secret: Uint8Array; readonly lifetimeMs: number }[], boot = 'first'): Promise<ClaimDevice> {
    const device = new ClaimDevice(deviceSuite({ signer: this.signer, ...(this.hasTpm ? { request: this.request } : {}) }), {
      clock: this.clock,
      send: (bytes) => { this.send(bytes); },
      read: async () => this.record,
      write: async (record) => { await this.#write(record); },
      prove: (challenge, transcript, signal) => this.#prove(challenge, transcript, signal),
      apply: async (handOver) => { this.#apply(handOver); },
      revert: async () => { if (this.settings === 'trial') this.settings = 'none'; },
      own: async (owner) => { this.settings = 'kept'; this.owned.push(owner); },
      disown: async () => { this.settings = 'none'; },
      words: (words) => { this.words = words; },
      note: (code) => { this.notes.push(code); },
      refused: () => undefined,
    }, boot);
    device.expect(codes);
    await turn();
    return device;
  }

  async #write(record: DeviceRecord): Promise<void> {
    const { breakWrite } = this;
    this.breakWrite = 'no';
    if (breakWrite !== 'before') this.record = record;
    if (breakWrite !== 'no') throw new TenzroError('claim.store', 'the disk said no');
  }

  async #prove(challenge: Uint8Array | undefined, transcript: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    assert.equal(challenge !== undefined, this.hasTpm);
    if (!challenge) return encodeDeviceEvidence({ answer: undefined, quote: undefined });
    const answer = await answerChallenge(this.request, challenge, { activator: this.#activator, signer: this.signer }, signal);
    return encodeDeviceEvidence(this.evidence({ answer, quote: encodeQuote(await this.#anchor.quote(this.quoteFor(transcript), signal)) }));
  }

  #apply({ networks, statement }: HandOver): void {
    this.settings = 'trial';
    assert.equal(statement && parseEnrolment(statement).isSigned(), this.hasTpm || undefined);
    if (networks.some(({ passphrase }) => passphrase !== PASSPHRASE)) throw new TenzroError('claim.apply', 'no network took the passphrase');
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.#tpm[Symbol.asyncDispose](); }
}

/** The operator's desk: owner keys, enroller, and the claims that it has written down. */
export class Desk {
  readonly owners: readonly [Signer, Signer];
  readonly records: ClaimRecord[] = [];
  readonly clock: DeskClock;
  pcrs: PcrValues = [];
  passphrase = PASSPHRASE;
  readonly #enroller: Enroller;

  constructor(name: string, clock: DeskClock) {
    this.clock = clock;
    this.owners = [signerOfSeed(seed(`${name} 1`)), signerOfSeed(seed(`${name} 2`))];
    this.#enroller = new Enroller({ name, clock, judge: () => ({ kind: 'unchained', why: 'there is no EK certificate' }), firstUse: 'accept', sign: (enrolment) => signEnrolment(this.owners[0], enrolment) });
  }

  /** For a conversation: what it judges and challenges by. */
  get ports() {
    return { challenge: (request: Uint8Array) => this.#enroller.begin(request), judge: async (candidate: Candidate) => this.#judge(candidate) };
  }

  claim(send: (bytes: Uint8Array) => void): { readonly claim: Claim; readonly ended: Promise<string> } {
    const { promise: ended, resolve } = Promise.withResolvers<string>();
    const claim = new Claim(claimerSuite, {
      clock: this.clock, send,
      challenge: (request) => this.#enroller.begin(request),
      judge: async (candidate) => this.#judge(candidate),
      write: async (record) => { this.records.push(record); },
      doubt: () => { resolve('unknown'); },
      end: (outcome, code) => { resolve(outcome === 'owned' ? outcome : code); },
      note: (code) => { resolve(code); },
    });
    return { claim, ended };
  }

  #judge(candidate: Candidate): Uint8Array {
    const { claimId, transcript } = candidate;
    const { statement, pcrs } = judgeDevice(candidate, this.#enroller);
    this.pcrs = pcrs;
    const [first, second] = this.owners;
    return signHandOver({
      claimId, transcript, networks: [{ ssid: Buffer.from('workshop'), passphrase: this.passphrase }], broker: 'mqtts://fleet.local:8883', fleetCa: Buffer.from('a certificate'),
      ownerKeys: [first.publicKey, second.publicKey], time: Math.floor(this.clock.wallMicros() / 1_000_000), statement, receiptKey: Buffer.alloc(32, 7), certificates: [], login: undefined,
    }, first);
  }
}

/** Joins one claim with a device; everything that went over the wire, for whoever listens. */
export class Wire {
  readonly heard: Buffer[] = [];
  down: Bend = (bytes) => bytes;
  up: Bend = (bytes) => bytes;

  carry(bytes: Uint8Array, bend: Bend, to: { receive(bytes: Uint8Array): void }): void {
    this.heard.push(Buffer.from(bytes));
    const arrived = bend(bytes);
    if (arrived) queueMicrotask(() => { to.receive(arrived); });
  }
}
