/** An operator over TCP, for a gateway in its own process: real keys, a real authority, the real protocol; no controller behind it. */
import { generateKeyPairSync } from 'node:crypto';
import type { ClaimRecord } from '#provisioning/claim/claimer.ts';
import type { Candidate } from '#provisioning/claim/claimerRun.ts';
import type { ClaimCode } from '#provisioning/claim/code.ts';
import { attemptClaim, inquireClaim, type ClaimOutcome, type ConversationOptions } from '#provisioning/claim/converse.ts';
import { signHandOver, type HandOver } from '#provisioning/claim/handOver.ts';
import { judgeDevice } from '#provisioning/claim/judge.ts';
import { dialTo } from '#provisioning/claim/lan/dial.ts';
import { claimerSuite } from '#provisioning/claim/realSuite.ts';
import { Enroller } from '#provisioning/enrolment/enroller.ts';
import { systemClock as clock } from '#runtime/core/clock.ts';
import { rootCertificate } from '#runtime/crypto/certificate.ts';
import { newSeed, signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';
import { signEnrolment } from '#runtime/ledger/enrolment.ts';

const DAY_MS = 86_400_000;

export class Operator implements Disposable {
  readonly owners: readonly [Signer, Signer] = [signerOfSeed(newSeed()), signerOfSeed(newSeed())];
  readonly fleetCa: Buffer;
  readonly records: ClaimRecord[] = [];
  words = '';
  /** What else, or instead, is handed over. */
  wishes: Partial<HandOver> = {};
  /** The operator looks at the words; what it does there happens between proof and hand-over. */
  look: () => Promise<void> = async () => undefined;
  readonly #enroller = new Enroller({ name: 'a fleet', clock, judge: () => ({ kind: 'unchained', why: 'there is no EK certificate' }), firstUse: 'accept', sign: (enrolment) => signEnrolment(this.owners[0], enrolment) });

  constructor() {
    const now = clock.wallMicros() / 1_000;
    this.fleetCa = rootCertificate({ privateKey: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey, commonName: 'a fleet', pathLength: 1, notBeforeMs: now - DAY_MS, notAfterMs: now + DAY_MS });
  }

  get record(): ClaimRecord {
    const record = this.records.at(-1);
    if (!record) throw new Error('nothing was handed over');
    return record;
  }

  claim(code: ClaimCode, port: number, signal: AbortSignal = AbortSignal.timeout(30_000)): Promise<ClaimOutcome> { return attemptClaim(code, this.#conversation(port), signal); }

  /** Asks what became of the last claim. */
  ask(port: number): Promise<ClaimOutcome> { return inquireClaim(this.record, this.#conversation(port), AbortSignal.timeout(20_000)); }

  [Symbol.dispose](): void { this.#enroller[Symbol.dispose](); }

  #conversation(port: number): ConversationOptions {
    return {
      suite: claimerSuite, clock, dial: dialTo('127.0.0.1', port), challenge: (request) => this.#enroller.begin(request), note: () => undefined,
      judge: (candidate) => this.#judge(candidate), write: async (record) => { this.records.push(record); },
    };
  }

  async #judge(candidate: Candidate): Promise<Uint8Array> {
    const { claimId, transcript, words } = candidate;
    const { statement } = judgeDevice(candidate, this.#enroller);
    this.words = words;
    await this.look();
    const [first, second] = this.owners;
    return signHandOver({
      claimId, transcript, networks: [], broker: 'mqtts://127.0.0.1:1', fleetCa: this.fleetCa, ownerKeys: [first.publicKey, second.publicKey], time: Math.floor(clock.wallMicros() / 1_000_000),
      statement, receiptKey: Buffer.alloc(32, 7), certificates: [], login: undefined, ...this.wishes,
    }, first);
  }
}
