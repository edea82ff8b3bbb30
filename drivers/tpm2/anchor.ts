/** Fulfils the sealer's `Anchor` with a TPM 2.0. No statement leaves it unjudged: what the bus carried is hostile until the attestation key's signature fits. */
import { TenzroError } from '#runtime/core/errors.ts';
import type { Anchor } from '#runtime/core/ports.ts';
import { NV_ATTRIBUTE } from '#runtime/crypto/tpmEvidence.ts';
import { StatementJudge } from '#runtime/crypto/tpmStatement.ts';
import { BLOCK_PCR, COUNTER_INDEX, HANDLE, PERSISTENT, QUOTED_PCRS } from './constants.ts';
import { permanent } from './command.ts';
import { readEndorsement, type EndorsementOptions } from './ek.ts';
import { RC_FORMAT_1, TpmRefusal } from './errors.ts';
import type { LoadedKey, TpmObject } from './keys.ts';
import type { NvIndex } from './nv.ts';
import { atHandle, isMadeFrom } from './persistent.ts';
import { akP256 } from './templates.ts';
import type { Tpm } from './tpm.ts';

/** While a kernel with IMA starts programs, PCR 10 moves with each of their files. */
const QUOTE_TRIES = 10;

/** The attestation key of each TPM's latest anchor: it gives way to that of the next. */
const attestationKeys = new WeakMap<Tpm, LoadedKey>();

/** Starts the TPM where nobody has, and takes the persistent attestation key (vault.ts makes it), or makes one for as long as the TPM runs. After any error of the anchor, open a new one: loaded keys may be gone. */
export async function openAnchor(tpm: Tpm, signal: AbortSignal, options: EndorsementOptions = {}): Promise<Anchor> {
  await tpm.startup(signal);
  await attestationKeys.get(tpm)?.[Symbol.asyncDispose]();
  await tpm.flushLeftovers(signal);
  const persistent = await atHandle(tpm, PERSISTENT.attestationKey, signal);
  if (persistent && isMadeFrom(persistent.public.area, akP256())) return new TpmAnchor(tpm, persistent, options);
  const ak = await tpm.keys.createPrimary(HANDLE.endorsement, akP256(), signal);
  attestationKeys.set(tpm, ak);
  return new TpmAnchor(tpm, ak, options);
}

class TpmAnchor implements Anchor {
  readonly #tpm: Tpm;
  readonly #ak: TpmObject;
  readonly #judge: StatementJudge;
  readonly #endorsement: EndorsementOptions;

  constructor(tpm: Tpm, ak: TpmObject, endorsement: EndorsementOptions) {
    this.#tpm = tpm;
    this.#ak = ak;
    this.#judge = new StatementJudge(ak.public);
    this.#endorsement = endorsement;
  }

  get akPublic(): Uint8Array { return this.#ak.public.area; }

  endorsement(signal: AbortSignal): ReturnType<Anchor['endorsement']> { return readEndorsement(this.#tpm, signal, this.#endorsement); }

  async pcr14(signal: AbortSignal): Promise<Uint8Array> {
    const value = (await this.#tpm.pcr.read([BLOCK_PCR], signal))[0]?.[1];
    if (!value) throw new TenzroError('tpm.unsupported', 'the TPM shows no PCR 14');
    return value;
  }

  extend(digest: Uint8Array, signal: AbortSignal): Promise<void> { return this.#tpm.pcr.extend(BLOCK_PCR, digest, signal); }

  /** Values and quote are two commands: when another program extends a PCR between them, both are taken again. */
  async quote(digest: Uint8Array, signal: AbortSignal): ReturnType<Anchor['quote']> {
    for (let tries = 0; tries < QUOTE_TRIES; tries += 1) {
      const pcrs = await this.#tpm.pcr.read(QUOTED_PCRS, signal);
      const statement = await this.#tpm.attest.quote(this.#ak, digest, QUOTED_PCRS, signal);
      if (this.#judge.isQuoteOf(statement, digest, pcrs)) return { ...statement, pcrs };
    }
    throw new TenzroError('tpm.busy', 'the quoted PCRs are never those that were read before: a program extends them all the time, or the answers are altered');
  }

  async counter(digest: Uint8Array, signal: AbortSignal): ReturnType<Anchor['counter']> {
    const counter = await this.#begunCounter(signal);
    const statement = await this.#tpm.attest.nv(this.#ak, counter, digest, signal);
    this.#judge.counterIn(statement, digest, counter.public.area);
    return { ...statement, nvPublic: counter.public.area };
  }

  async increment(signal: AbortSignal): Promise<void> { await this.#tpm.nv.increment(await this.#begunCounter(signal), signal); }

  async look(signal: AbortSignal): ReturnType<Anchor['look']> {
    const counter = await this.#readCounter(signal);
    const { resetCount } = await this.#tpm.info.readClock(signal);
    return {
      pcr14: await this.pcr14(signal), resetCount,
      counter: counter && isBegun(counter) ? { kind: 'value', value: { value: await this.#tpm.nv.readCounter(counter, signal), nvPublic: counter.public.area } }
        : { kind: 'none', reason: `the TPM has no counter at NV index 0x${COUNTER_INDEX.toString(16)}` },
    };
  }

  /** Asked for each time: who deletes and redefines it under us must not go unnoticed. A counter has no value, and its name is not final, before its first increment. */
  async #begunCounter(signal: AbortSignal): Promise<NvIndex> {
    let counter = await this.#readCounter(signal);
    if (!counter) {
      await this.#tpm.nv.defineCounter(COUNTER_INDEX, permanent(HANDLE.owner), signal);
      counter = await this.#tpm.nv.readPublic(COUNTER_INDEX, signal);
    }
    if (isBegun(counter)) return counter;
    await this.#tpm.nv.increment(counter, signal);
    return this.#tpm.nv.readPublic(COUNTER_INDEX, signal);
  }

  async #readCounter(signal: AbortSignal): Promise<NvIndex | undefined> {
    try {
      const counter = await this.#tpm.nv.readPublic(COUNTER_INDEX, signal);
      if ((counter.public.attributes & NV_ATTRIBUTE.typeMask) !== NV_ATTRIBUTE.typeCounter) throw new TenzroError('tpm.unsupported', `NV index 0x${COUNTER_INDEX.toString(16)} is in use and not a counter`);
      return counter;
    } catch (error) {
      if (error instanceof TpmRefusal && error.base === RC_FORMAT_1.handle) return undefined;
      throw error;
    }
  }
}

const isBegun = (counter: NvIndex): boolean => (counter.public.attributes & NV_ATTRIBUTE.written) !== 0;
