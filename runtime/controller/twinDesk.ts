/**
 * Twins at the controller: keeps what owners desired of each gateway, as they signed it, and what the gateways report; tells each gateway what it has not
 * taken up, and confirms what it tries with the receipt key. It cannot desire anything by itself.
 * INVARIANT: what is desired is on disk before it is sent.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { toHex } from '#runtime/core/bytes.ts';
import { mayCommand, type Operator } from '#runtime/core/command.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import type { Counters, FleetLink, KeyValueStore, LinkUser, Log } from '#runtime/core/ports.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { decodeDesired, decodeReported, encodeConfirmation, TWIN_TYP, twinSigningInput, twinTopic, type Reported } from '#runtime/core/twin.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { parseDetached, signDetached } from '#runtime/crypto/jws.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { CONTROLLER, type ActBook } from './acts.ts';
import type { RefusalBook } from './refusals.ts';
import { TwinStore, type KeptTwin } from './twinStore.ts';
import { confirmationOf, deltaOf, desire, mergeReported, nextVersion } from './twins.ts';

export interface TwinDeskOptions {
  readonly store: KeyValueStore;
  /** Of receipts. */
  readonly signer: Signer;
  /** The fleet's owners. */
  readonly operators: () => readonly Operator[];
  /** Of whom reports are taken; default: of anybody. */
  readonly isMember?: (gateway: string) => boolean;
  readonly acts: ActBook;
  readonly refused?: RefusalBook;
  readonly counters: Counters;
  readonly log: Log;
}

/** What is known of one twin, as `tenzro fleet twin --json` says it. */
export interface TwinView extends JsonObject {
  readonly gateway: string;
  readonly name: string;
  /** The version that the next change is to be signed as. */
  readonly next: number;
  /** The key that it is to name. */
  readonly confirmKey: string;
}

const TOPIC = new RegExp(`^te/([A-Za-z0-9_-]{1,64})/${MAIN_ENTITY}/twin/([A-Za-z0-9_-]{1,64})$`);
const hasEnded = (state: Reported['state']): boolean => ['confirmed', 'reverted', 'refused', 'local'].includes(state);
const WATCH_MS = 200;

export class TwinDesk implements LinkUser {
  readonly filters = [`te/+/${MAIN_ENTITY}/twin/+`];
  readonly #options: TwinDeskOptions;
  readonly #kept: TwinStore;
  readonly #confirmKey: string;
  #link: FleetLink | undefined;

  constructor(options: TwinDeskOptions) {
    this.#options = options;
    this.#kept = new TwinStore(options.store);
    this.#confirmKey = toHex(sha256(options.signer.publicKey));
  }

  connected(link: FleetLink): void {
    this.#link = link;
    for (const twin of this.#kept.all()) this.#tell(twin);
  }

  receive(topic: string, payload: Uint8Array): void {
    const [, gateway, name] = TOPIC.exec(topic) ?? [];
    if (gateway === undefined || name === undefined || payload.length === 0) return;
    if (this.#options.isMember?.(gateway) === false) return this.#options.counters.add('twin.stranger');
    try {
      this.#take(this.#kept.get(gateway, name), decodeReported(payload));
    } catch (error) {
      this.#options.counters.add(error instanceof TenzroError ? error.code : 'core.invariant');
      this.#options.log.debug({ gateway, twin: name }, messageOf(error));
    }
  }

  #take(before: KeptTwin, reported: Reported): void {
    const { acts, log, counters } = this.#options;
    const merge = mergeReported(before, reported);
    if (merge.kind === 'stale') return this.#tell(before);
    const conflict = before.conflict ?? (merge.kind === 'conflict' ? merge.reason : undefined);
    const after = { ...before, reported, ...(conflict === undefined ? {} : { conflict }) };
    if (merge.kind === 'conflict') counters.add('twin.conflict');
    if (merge.kind === 'conflict' && before.conflict === undefined) { // told once, until an owner sets it right: each act is signed and kept for good
      log.error({ gateway: before.gateway, twin: before.name }, `twin: ${merge.reason}: two gateways under one name, or a restored disk`);
      acts.note({ who: CONTROLLER, what: 'twin.conflict', about: before.gateway, detail: `${before.name}: ${merge.reason}` });
    }
    this.#kept.put(after);
    this.#tell(after);
  }

  /** What its gateway has not taken up, and that it was heard. In a conflict nothing is confirmed: it would keep what one of two gateways tries. */
  #tell(twin: KeptTwin): void {
    const { gateway, name, message, conflict } = twin;
    if (message && deltaOf(new Map([[name, twin]])).size > 0) this.#send(gateway, name, 'desired', message);
    const confirmation = confirmationOf(twin);
    if (!confirmation || conflict !== undefined) return;
    const { signer } = this.#options;
    this.#send(gateway, name, 'confirm', encodeConfirmation(confirmation, signer.publicKey, signDetached(signer, twinSigningInput(gateway, name, 'confirm', confirmation), TWIN_TYP.confirm)));
  }

  #send(gateway: string, name: string, what: 'desired' | 'confirm', payload: Uint8Array): void {
    if (!this.#link?.isReady) return; // the next connection brings it
    this.#link.publish(twinTopic(gateway, name, what), payload, { retain: true }).catch((error: unknown) => { this.#options.log.debug({ gateway, error: messageOf(error) }, 'a twin waits for the link'); });
  }

  /** `bytes`: as an owner signed it. Resolves when it is on disk. Throws `controller.request`, `twin.*`, `jws.malformed`. */
  async set(gateway: string, name: string, bytes: Uint8Array, { despiteConflict }: { readonly despiteConflict: boolean }): Promise<number> {
    const { store, acts } = this.#options;
    twinTopic(gateway, name, 'desired'); // throws for what is no name
    const { message, signature } = decodeDesired(bytes);
    const operator = this.#signerOf(signature, twinSigningInput(gateway, name, 'desired', message), gateway);
    if (message.confirmKey !== this.#confirmKey) throw refused(`it may be confirmed by ${message.confirmKey}, and this controller's key is ${this.#confirmKey}`);
    const before = this.#kept.get(gateway, name);
    if (before.conflict !== undefined && !despiteConflict) throw new TenzroError('twin.conflict', `${gateway}: ${before.conflict}`);
    const { conflict: _, ...held } = before;
    const after: KeptTwin = { ...held, ...desire(held, message), message: Buffer.from(bytes) };
    acts.note({ who: operator.name, what: 'twin.desired', about: gateway, detail: `${name} version ${message.version}` });
    this.#kept.put(after);
    await store.flushed();
    this.#tell(after);
    return message.version;
  }

  /** Whoever signed what nobody here may is recorded. Throws `controller.request`, `jws.malformed`. */
  #signerOf(signature: string, input: Uint8Array, gateway: string): Operator {
    try {
      return this.#judgedSigner(signature, input);
    } catch (error) {
      if (error instanceof TenzroError) this.#options.refused?.add(gateway, error);
      throw error;
    }
  }

  #judgedSigner(signature: string, input: Uint8Array): Operator {
    const jws = parseDetached(signature, TWIN_TYP.desired);
    const operator = this.#options.operators().find(({ kid }) => kid === jws.kid);
    if (!operator || !mayCommand(operator, 'config_update')) throw refused(`no owner of this fleet has key ${jws.kid.slice(0, 43)}`);
    if (!jws.isSignedBy(operator.publicKey, input)) throw refused(`the signature is not by ${operator.name}, or not for this gateway and twin`);
    return operator;
  }

  /** Tells each report on that version until it has ended. Undefined where `signal` aborts first. */
  async ended(gateway: string, name: string, version: number, { onReport, signal }: { readonly onReport: (reported: Reported) => void; readonly signal: AbortSignal }): Promise<Reported | undefined> {
    for (let told = 0; !signal.aborted;) {
      const { reported } = this.#kept.get(gateway, name);
      if (reported && reported.version >= version && reported.revision > told) {
        told = reported.revision;
        onReport(reported);
        if (reported.version > version || hasEnded(reported.state)) return reported;
      }
      await sleep(WATCH_MS, undefined, { signal }).catch(() => undefined); // aborted: the loop ends
    }
    return undefined;
  }

  show(gateway: string, name: string): TwinView { return this.#viewOf(this.#kept.get(gateway, name)); }
  list(): readonly TwinView[] { return this.#kept.all().map((twin) => this.#viewOf(twin)); }

  #viewOf(twin: KeptTwin): TwinView {
    const { gateway, name, desired, reported, conflict } = twin;
    return { gateway, name, next: nextVersion(twin), confirmKey: this.#confirmKey, desired: desired ? { ...desired } : null, reported: reported ? { ...reported } : null, conflict: conflict ?? null };
  }
}

const refused = (why: string): TenzroError => new TenzroError('controller.request', why);
