/**
 * Two controllers with one key, of a folder that was copied, would each receipt what the other does not have. Whoever connects says hello; who serves with the
 * same key answers by the name of that hello, signed: so no replay passes for an answer, and the newcomer ends. Two that connect at once both end.
 */
import { randomBytes } from 'node:crypto';
import { TenzroError } from '#runtime/core/errors.ts';
import { canonicalJson, isJsonObject, parseBoundedJson, type JsonObject } from '#runtime/core/json.ts';
import type { FleetLink, LinkUser } from '#runtime/core/ports.ts';
import { whenAborted } from '#runtime/core/abort.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { parseDetached, signDetached } from '#runtime/crypto/jws.ts';
import type { ControllerPart, PartContext } from './part.ts';

const TYP = 'tenzro-serve+json';
const INSTANCE_BYTES = 16;
/** A message has a signature of 4,412 characters. */
const BOUNDS = { bytesMax: 8 * 1024, depthMax: 2, valuesMax: 8 };
/** Signatures that are looked at in a second: a flood costs no more. */
const LOOKS_MAX = 10;
const DIGITS = 16;

/** Below a topic of commands, which a fleet's broker lets its controller say and hear. */
const presenceTopic = (receiptKey: Uint8Array): string => `te/fleet/device/controller///cmd/serve/${Buffer.from(sha256(receiptKey)).toString('hex').slice(0, DIGITS)}`;

export class Presence implements LinkUser, ControllerPart {
  readonly filters: readonly string[];
  readonly qos = 0;
  readonly users: readonly LinkUser[] = [this];
  /** Of this run, hexadecimal. */
  readonly instance = randomBytes(INSTANCE_BYTES).toString('hex');
  readonly #context: Pick<PartContext, 'house' | 'clock' | 'counters' | 'log'>;
  readonly #other = Promise.withResolvers<never>();
  #link: FleetLink | undefined;
  #looks = { second: 0, count: 0 };

  constructor(context: Pick<PartContext, 'house' | 'clock' | 'counters' | 'log'>) {
    this.#context = context;
    this.filters = [presenceTopic(context.house.signer.publicKey)];
    this.#other.promise.catch(() => undefined); // whoever follows has it
  }

  connected(link: FleetLink): void {
    this.#link = link;
    this.#say('');
  }

  lost(): void { this.#link = undefined; }

  receive(_topic: string, payload: Uint8Array): void {
    const said = this.#read(payload);
    if (!said) return;
    const { counters, log } = this.#context;
    counters.add('controller.twice');
    if (said.hears === this.instance) return this.#other.reject(new TenzroError('controller.twice', `another controller serves with this key on this broker (instance ${said.instance})`));
    if (said.hears !== '') return;
    log.error({ code: 'controller.twice', instance: said.instance }, 'another controller with this key came to this broker: it is told to end. Who has a copy of this folder?');
    this.#say(said.instance);
  }

  /** Rejects with `controller.twice`. */
  async follow(signal: AbortSignal): Promise<void> { await Promise.race([whenAborted(signal), this.#other.promise]); }

  /** Of another instance, signed with our key; undefined for everything else, which is nobody's word. */
  #read(payload: Uint8Array): { readonly instance: string; readonly hears: string } | undefined {
    const { house: { signer } } = this.#context;
    try {
      const { instance, hears, signature } = objectOf(parseBoundedJson(payload, BOUNDS, (why) => new TenzroError('controller.request', why)));
      if (typeof instance !== 'string' || instance === this.instance || typeof hears !== 'string' || typeof signature !== 'string' || !this.#mayLook()) return undefined;
      return parseDetached(signature, TYP).isSignedBy(signer.publicKey, signedBytes(instance, hears)) ? { instance, hears } : undefined;
    } catch (error) {
      if (error instanceof TenzroError && error.class !== 'bug') return undefined;
      throw error;
    }
  }

  #mayLook(): boolean {
    const second = Math.floor(this.#context.clock.monoMicros() / 1_000_000);
    this.#looks = { second, count: this.#looks.second === second ? this.#looks.count + 1 : 1 };
    return this.#looks.count <= LOOKS_MAX;
  }

  #say(hears: string): void {
    const { house: { signer }, log } = this.#context;
    const { instance } = this;
    const message = JSON.stringify({ instance, hears, signature: signDetached(signer, signedBytes(instance, hears), TYP) });
    this.#link?.publish(this.filters[0] ?? '', Buffer.from(message), { retain: false }).catch((error: unknown) => { log.debug({ error }, 'not said'); });
  }
}

const signedBytes = (instance: string, hears: string): Buffer => Buffer.from(canonicalJson({ instance, hears }));
const objectOf = (value: unknown): JsonObject => (isJsonObject(value) ? value : {});
