/**
 * Mixed TPM operations by concurrent callers over a connection that breaks now and then. Every answer is held against what the caller knows it must
 * be; where a break leaves open whether a command was carried out, either outcome is right, and the next look decides.
 */
import assert from 'node:assert/strict';
import { permanent } from '#drivers/tpm2/command.ts';
import { HANDLE, HANDLE_RANGE } from '#drivers/tpm2/constants.ts';
import { akP256, sealedData, srkP256 } from '#drivers/tpm2/templates.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { socketTransport } from '#drivers/tpm2/transport.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { parseAttest, publicKeyOf, verifyAttestSignature } from '#runtime/crypto/tpmEvidence.ts';
import { randomOf } from './random.ts';
import { tpmProxy } from './tpmProxy.ts';

const SIGNAL = new AbortController().signal;
/** PCRs that locality 0 may reset, one for each caller. */
const OWN_PCRS = [16, 23] as const;
const FIRST_COUNTER = 0x018054f0;
const BROKEN: ReadonlySet<string> = new Set(['tpm.connection', 'tpm.unavailable', 'tpm.session_lost']);

export interface SoakOptions {
  /** As `socketTransport` takes it. */
  readonly tpmAddress: string;
  readonly operations: number;
  readonly seed: number;
  /** One operation in so many begins with a connection that will break; 0: none does. */
  readonly breakOneIn: number;
  readonly onProgress?: (done: number) => void;
}

export interface SoakResult {
  readonly done: number;
  /** Operations that ended in a broken connection. */
  readonly broken: number;
  /** Connections that were broken on purpose. */
  readonly breaks: number;
  /** Handles of keys and sessions that are loaded at the end, in hex: those that a break orphaned in the TPM before anybody learnt of them. */
  readonly strays: readonly string[];
  /** Those that are still there when the driver has flushed what is not its own: a leak. */
  readonly left: readonly string[];
  /** Milliseconds of each operation that ended well. */
  readonly latencies: ReadonlyMap<string, readonly number[]>;
}

/** Rejects at the first wrong answer, and at the first error that no break explains. */
export async function soak({ tpmAddress, operations, seed, breakOneIn, onProgress }: SoakOptions): Promise<SoakResult> {
  await using proxy = await tpmProxy(tpmAddress);
  await using tpm = new Tpm(socketTransport(proxy.address));
  await tpm.startup(SIGNAL);
  await tpm.flushLeftovers(SIGNAL);
  const random = randomOf(seed);
  const tally = { done: 0, broken: 0, breaks: 0 };
  const latencies = new Map<string, number[]>();
  const callers = await Promise.all(OWN_PCRS.map((pcr, at) => Caller.open(tpm, pcr, FIRST_COUNTER + at, randomOf(seed + at + 1))));
  await Promise.all(callers.map(async (caller) => {
    while (tally.done < operations) {
      tally.done++;
      onProgress?.(tally.done);
      if (breakOneIn > 0 && random(breakOneIn) === 0) {
        tally.breaks++;
        proxy.faults.push({ kind: 'disconnect' });
      }
      const from = performance.now();
      try {
        const name = await caller.step();
        (latencies.get(name) ?? latencies.set(name, []).get(name))?.push(performance.now() - from);
      } catch (error) {
        if (!(error instanceof TenzroError) || !BROKEN.has(error.code)) throw new Error(`operation ${tally.done}, seed ${seed}`, { cause: error });
        tally.broken++;
      }
    }
  }));
  proxy.faults.length = 0;
  const strays = await loadedHandles(tpm);
  await tpm.flushLeftovers(SIGNAL);
  return { ...tally, latencies, strays, left: await loadedHandles(tpm) };
}

async function loadedHandles(tpm: Tpm): Promise<string[]> {
  const ranges = [HANDLE_RANGE.transient, HANDLE_RANGE.loadedSession, HANDLE_RANGE.savedSession];
  return (await Promise.all(ranges.map((first) => tpm.info.handles(first, SIGNAL)))).flat().map((handle) => `0x${handle.toString(16)}`);
}

class Caller {
  readonly #tpm: Tpm;
  readonly #pcr: number;
  readonly #counter: number;
  readonly #random: (below: number) => number;
  /** What the PCR may hold, and the counter: more than one value after a break. */
  #pcrValues: string[] = [];
  #counterValues: bigint[] = [];
  readonly #steps: readonly (readonly [string, () => Promise<void>])[] = [
    ['getRandom', () => this.#getRandom()], ['pcrExtend', () => this.#extend()], ['pcrRead', () => this.#readPcr()], ['pcrReset', () => this.#reset()],
    ['counter', () => this.#count()], ['quote', () => this.#quote()], ['seal', () => this.#seal()], ['session', () => this.#session()],
  ];

  private constructor(tpm: Tpm, pcr: number, counter: number, random: (below: number) => number) {
    this.#tpm = tpm;
    this.#pcr = pcr;
    this.#counter = counter;
    this.#random = random;
  }

  static async open(tpm: Tpm, pcr: number, counter: number, random: (below: number) => number): Promise<Caller> {
    const caller = new Caller(tpm, pcr, counter, random);
    const index = await tpm.nv.defineCounter(counter, permanent(HANDLE.owner), SIGNAL);
    await tpm.nv.increment(index, SIGNAL);
    caller.#counterValues = [await tpm.nv.readCounter(await tpm.nv.readPublic(counter, SIGNAL), SIGNAL)];
    caller.#pcrValues = [await caller.#pcrNow()];
    return caller;
  }

  /** One operation; resolves with its name. */
  async step(): Promise<string> {
    const [name, run] = this.#steps[this.#random(this.#steps.length)] ?? ['', async () => undefined];
    await run();
    return name;
  }

  #bytes(length: number): Buffer { return Buffer.from(Array.from({ length }, () => this.#random(256))); }

  async #getRandom(): Promise<void> {
    const length = 1 + this.#random(32);
    assert.equal((await this.#tpm.info.getRandom(length, SIGNAL)).length, length);
  }

  async #pcrNow(): Promise<string> { return toHex((await this.#tpm.pcr.read([this.#pcr], SIGNAL))[0]?.[1] ?? new Uint8Array(0)); }

  async #readPcr(): Promise<void> {
    const value = await this.#pcrNow();
    assert.ok(this.#pcrValues.includes(value), `PCR ${this.#pcr} holds ${value}, expected ${this.#pcrValues.join(' or ')}`);
    this.#pcrValues = [value];
  }

  async #extend(): Promise<void> {
    await this.#readPcr();
    const digest = this.#bytes(32);
    const after = toHex(sha256(Buffer.from(this.#pcrValues[0] ?? '', 'hex'), digest));
    this.#pcrValues.push(after);
    await this.#tpm.pcr.extend(this.#pcr, digest, SIGNAL);
    this.#pcrValues = [after];
  }

  async #reset(): Promise<void> {
    const after = toHex(Buffer.alloc(32));
    this.#pcrValues.push(after);
    await this.#tpm.pcr.reset(this.#pcr, SIGNAL);
    this.#pcrValues = [after];
  }

  async #count(): Promise<void> {
    const index = await this.#tpm.nv.readPublic(this.#counter, SIGNAL);
    const value = await this.#tpm.nv.readCounter(index, SIGNAL);
    assert.ok(this.#counterValues.includes(value), `counter at ${value}, expected ${this.#counterValues.join(' or ')}`);
    this.#counterValues = [value, value + 1n];
    await this.#tpm.nv.increment(index, SIGNAL);
    this.#counterValues = [value + 1n];
  }

  async #quote(): Promise<void> {
    await using ak = await this.#tpm.keys.createPrimary(HANDLE.endorsement, akP256(), SIGNAL);
    const nonce = this.#bytes(32);
    const { attest, signature } = await this.#tpm.attest.quote(ak, nonce, [0, this.#pcr], SIGNAL);
    assert.ok(verifyAttestSignature(publicKeyOf(ak.public.area), attest, signature), 'the quote is not signed by its AK');
    assert.deepEqual(Buffer.from(parseAttest(attest).extraData), nonce);
  }

  async #seal(): Promise<void> {
    const secret = this.#bytes(1 + this.#random(128));
    await using srk = await this.#tpm.keys.createPrimary(HANDLE.owner, srkP256(), SIGNAL);
    await using session = await this.#tpm.sessions.startHmac({ salt: srk }, SIGNAL);
    const wrapped = await this.#tpm.keys.create(srk, sealedData(), { data: secret }, SIGNAL, session.use({ encryptCommand: true }));
    await using object = await this.#tpm.keys.load(srk, wrapped, SIGNAL);
    assert.deepEqual(await this.#tpm.keys.unseal(object, SIGNAL, session.use({ encryptResponse: true })), secret);
  }

  async #session(): Promise<void> {
    await using srk = await this.#tpm.keys.createPrimary(HANDLE.owner, srkP256(), SIGNAL);
    await using session = await this.#tpm.sessions.startHmac({ salt: srk }, SIGNAL);
    for (let uses = 0; uses < 3; uses++) assert.equal((await this.#tpm.info.getRandom(32, SIGNAL, session.use({ encryptResponse: true }))).length, 32);
  }
}
