/** Runs the operator's machine over any transport: bytes in, bytes out, effects through ports. Inputs are taken one after another, in the order of their arrival. */
import { randomBytes } from 'node:crypto';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import { stepClaimer, type ClaimerEffect, type ClaimerInput, type ClaimerState, type ClaimRecord, type ClaimSecret } from './claimer.ts';
import { CLAIM_ID_BYTES, decodeMessage, encodeMessage, NONCE_BYTES, type Offer } from './messages.ts';
import { forget, type ClaimerSuite } from './suite.ts';

/** What is to be judged before anything is handed over. */
export interface Candidate {
  readonly offer: Offer;
  readonly claimId: Uint8Array;
  /** That was sent; undefined where the offer has no request. */
  readonly challenge: Uint8Array | undefined;
  /** For `judgeDevice`. */
  readonly evidence: Uint8Array;
  readonly transcript: Uint8Array;
  readonly words: string;
}

export interface ClaimerPorts {
  readonly clock: Clock;
  send(message: Uint8Array): void;
  /** Whoever answers has the keys of the code (of an operator's own code: some keys). */
  known?(): void;
  /** Enrolment's challenge for an offer's request: `Enroller.begin`. */
  challenge(request: Uint8Array): Uint8Array;
  /** Judges the device (`judgeDevice`, and what the operator's policy asks for) and signs its hand-over (`signHandOver`). Rejects with a TenzroError where it does not belong into the fleet. */
  judge(candidate: Candidate, signal: AbortSignal): Promise<Uint8Array>;
  /** Durable, by the claim's id. */
  write(record: ClaimRecord): Promise<void>;
  /** It is not known whether the device is ours: `ask` when it can be reached again. */
  doubt(): void;
  end(outcome: 'owned' | 'failed', code: string, detail: string): void;
  /** What arrived and is no message. */
  note(code: ErrorCode, detail: string): void;
}

export class Claim implements Disposable {
  readonly #suite: ClaimerSuite;
  readonly #ports: ClaimerPorts;
  readonly #work = new AbortController();
  #state: ClaimerState = { kind: 'idle' };

  constructor(suite: ClaimerSuite, ports: ClaimerPorts) {
    this.#suite = suite;
    this.#ports = ports;
  }

  get state(): ClaimerState { return this.#state; }

  start(code: ClaimSecret): void {
    this.#take({ kind: 'start', code, claimId: randomBytes(CLAIM_ID_BYTES), nonce: randomBytes(NONCE_BYTES), nowMicros: this.#now() });
  }

  /** After a restart: a pending claim can be asked for. */
  resume(record: ClaimRecord): void { this.#take({ kind: 'resume', record, nowMicros: this.#now() }); }

  /** May be repeated as often as the state is `unknown`. */
  ask(): void { this.#take({ kind: 'ask', nonce: randomBytes(NONCE_BYTES), nowMicros: this.#now() }); }

  /** Does nothing once the hand-over has left. */
  abandon(): void { this.#take({ kind: 'abandon', nowMicros: this.#now() }); }

  /** MUST be called every second or so: deadlines are seen here. */
  tick(): void { this.#take({ kind: 'tick', nowMicros: this.#now() }); }

  receive(bytes: Uint8Array): void {
    try {
      this.#take({ kind: 'received', message: decodeMessage(bytes), nowMicros: this.#now() });
    } catch (error) {
      if (!(error instanceof TenzroError) || error.class !== 'input') throw error;
      this.#ports.note(error.code, error.message);
    }
  }

  [Symbol.dispose](): void { this.#work.abort(); }

  #now(): number { return this.#ports.clock.monoMicros(); }

  #take(input: ClaimerInput): void {
    const { state, effects } = stepClaimer(this.#state, input, this.#suite);
    this.#state = state;
    for (const effect of effects) this.#do(effect);
  }

  #do(effect: ClaimerEffect): void {
    const ports = this.#ports;
    switch (effect.kind) {
      case 'send': ports.send(encodeMessage(effect.message)); break;
      case 'forget': forget(effect.keys); break;
      case 'doubt': ports.doubt(); break;
      case 'end': ports.end(effect.outcome, effect.code, effect.detail); break;
      case 'challenge': this.#challenge(effect.request); break;
      case 'judge': ports.judge(effect, this.#work.signal).then((handOver) => { this.#take({ kind: 'judged', handOver, nowMicros: this.#now() }); }, (error: unknown) => { this.#reject(error); }); break;
      case 'write': ports.write(effect.record).then(() => { this.#take({ kind: 'written', nowMicros: this.#now() }); }, (error: unknown) => {
        ports.note(codeOf(error), messageOf(error));
        this.#take({ kind: 'unwritten', nowMicros: this.#now() });
      }); break;
    }
  }

  #challenge(request: Uint8Array | undefined): void {
    this.#ports.known?.();
    try {
      this.#take({ kind: 'challenged', challenge: request && this.#ports.challenge(request), nowMicros: this.#now() });
    } catch (error) {
      this.#reject(error);
    }
  }

  #reject(error: unknown): void { this.#take({ kind: 'rejected', code: codeOf(error), detail: messageOf(error), nowMicros: this.#now() }); }
}

const codeOf = (error: unknown): ErrorCode => (error instanceof TenzroError ? error.code : 'core.system');
