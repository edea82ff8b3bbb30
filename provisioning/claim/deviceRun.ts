/**
 * Runs the device's machine over any transport: bytes in, bytes out, effects through ports.
 *
 * Invariants: inputs are taken one after another, in the order of their arrival; work in flight (TPM, network, disk) never holds up the next message; what a
 * session left behind is aborted when the next one begins.
 */
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import { isLocked, startDevice, stepDevice, type DeviceEffect, type DeviceInput, type DeviceRecord, type DeviceState, type Ownership } from './device.ts';
import type { HandOver } from './handOver.ts';
import { decodeMessage, encodeMessage } from './messages.ts';
import { forget, type DeviceSuite } from './suite.ts';

/** What a device does for a claim. Every call may reject with a TenzroError. */
export interface DevicePorts {
  readonly clock: Clock;
  send(message: Uint8Array): void;
  /** MUST see every earlier write, or come after it failed for good. */
  read(): Promise<DeviceRecord>;
  /** Atomic: resolves when it is flushed. */
  write(record: DeviceRecord): Promise<void>;
  /** As `encodeDeviceEvidence` made it. `challenge`: enrolment's; absent where the offer had no request. */
  prove(challenge: Uint8Array | undefined, transcript: Uint8Array, signal: AbortSignal): Promise<Uint8Array>;
  /** Tries the networks and judges the statement. Nothing of it may outlive a restart before `own`. */
  apply(handOver: HandOver, signal: AbortSignal): Promise<void>;
  revert(): Promise<void>;
  /** Keeps the settings and records claim or rotation in the chain. Idempotent by the claim's id and the owner keys: it is called at every start. */
  own(owner: Ownership): Promise<void>;
  disown(): Promise<void>;
  /** Both sides show these words. */
  words(words: string): void;
  note(code: ErrorCode, detail: string): void;
  /** Somebody was told no, whatever he showed. */
  refused(code: ErrorCode): void;
}

export class ClaimDevice implements Disposable {
  readonly #suite: DeviceSuite;
  readonly #ports: DevicePorts;
  #state: DeviceState;
  #work = new AbortController();

  /** `boot`: names the boot of the machine, not of the process. */
  constructor(suite: DeviceSuite, ports: DevicePorts, boot: string) {
    this.#suite = suite;
    this.#ports = ports;
    const { state, effects } = startDevice(boot, ports.clock.monoMicros());
    this.#state = state;
    this.#perform(effects);
  }

  get state(): DeviceState { return this.#state; }
  get isLocked(): boolean { return isLocked(this.#state); }

  /** One message of a claimer or an owner. What is none is noted and changes nothing. */
  receive(bytes: Uint8Array): void {
    try {
      this.#take({ kind: 'received', message: decodeMessage(bytes), nowMicros: this.#now() });
    } catch (error) {
      if (!(error instanceof TenzroError) || error.class !== 'input') throw error;
      this.#ports.note(error.code, error.message);
    }
  }

  /** The codes that wait to be used, in the place of all before; `lifetimeMs` is Infinity for a printed one. */
  expect(codes: readonly { readonly secret: Uint8Array; readonly lifetimeMs: number }[]): void {
    const nowMicros = this.#now();
    this.#take({ kind: 'secrets', secrets: codes.map(({ secret, lifetimeMs }) => ({ secret, untilMicros: nowMicros + lifetimeMs * 1_000 })), nowMicros });
  }

  /** At an owner's command, judged elsewhere. Without effect while anything is under way: to be repeated while there is an owner. */
  release(): void { this.#take({ kind: 'release', nowMicros: this.#now() }); }

  /** The connection of whoever holds the session ended. */
  gone(): void { this.#take({ kind: 'gone', nowMicros: this.#now() }); }

  /** MUST be called every second or so: deadlines are seen here. */
  tick(): void { this.#take({ kind: 'tick', nowMicros: this.#now() }); }

  [Symbol.dispose](): void { this.#work.abort(); }

  #now(): number { return this.#ports.clock.monoMicros(); }

  #take(input: DeviceInput): void {
    const { state, effects } = stepDevice(this.#state, input, this.#suite);
    this.#state = state;
    this.#perform(effects);
  }

  #perform(effects: readonly DeviceEffect[]): void { for (const effect of effects) this.#do(effect); }

  #do(effect: DeviceEffect): void {
    const ports = this.#ports;
    switch (effect.kind) {
      case 'send':
        ports.send(encodeMessage(effect.message));
        if (effect.refusal !== undefined) ports.refused(effect.refusal);
        break;
      case 'words': ports.words(effect.words); break;
      case 'note': ports.note(effect.code, effect.detail); break;
      case 'forget': forget(effect.keys); break;
      case 'prove': this.#session(effect.number, async (signal) => ({ kind: 'proven', number: effect.number, evidence: await ports.prove(effect.challenge, effect.transcript, signal), nowMicros: this.#now() })); break;
      case 'apply': this.#session(effect.number, async (signal) => { await ports.apply(effect.handOver, signal); return { kind: 'applied', number: effect.number, nowMicros: this.#now() }; }); break;
      case 'read': this.#attempt(async () => { const record = await ports.read(); this.#take({ kind: 'read', number: effect.number, record, nowMicros: this.#now() }); }); break;
      case 'write': ports.write(effect.record).then(() => { this.#take({ kind: 'written', nowMicros: this.#now() }); }, (error: unknown) => { this.#tell(error); this.#take({ kind: 'unwritten', nowMicros: this.#now() }); }); break;
      case 'revert': this.#work.abort(); this.#attempt(() => ports.revert()); break;
      case 'own': this.#attempt(() => ports.own(effect.owner)); break;
      case 'disown': this.#attempt(() => ports.disown()); break;
    }
  }

  /** Work of one session: it ends with the next one's. */
  #session(number: number, work: (signal: AbortSignal) => Promise<DeviceInput>): void {
    this.#work.abort();
    this.#work = new AbortController();
    const { signal } = this.#work;
    work(signal).then((input) => { this.#take(input); }, (error: unknown) => {
      const { code, detail } = faultOf(error);
      this.#take({ kind: 'failed', number, code, detail, nowMicros: this.#now() });
    });
  }

  #attempt(work: () => Promise<void>): void { work().catch((error: unknown) => { this.#tell(error); }); }

  #tell(error: unknown): void {
    const { code, detail } = faultOf(error);
    this.#ports.note(code, detail);
  }
}

const faultOf = (error: unknown): { readonly code: ErrorCode; readonly detail: string } => ({ code: error instanceof TenzroError ? error.code : 'core.system', detail: messageOf(error) });
