/**
 * A bundle at a URL, fetched in blocks as they are asked for, and a few ahead; nothing is kept but the newest blocks and the end. A connection that breaks or
 * falls silent is taken up at the byte where it stood (RFC 9110 §14, ranges; §13.1.5, If-Range), with pauses that double. INVARIANTS: the file is the same
 * from the first byte to the last, or nobody gets any more of it · its end, where a bundle's signature stands, is read once: who looks at a bundle and who
 * installs it see the same one.
 */
import { get as getPlain, type IncomingMessage } from 'node:http';
import { get as getTls } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';

export interface LinkOptions {
  /** http: or https:, without a login. */
  readonly url: string;
  readonly clock: Clock;
  /** Shorter in tests. */
  readonly limits?: { readonly [name in keyof LinkLimits]?: number };
}

export interface LinkLimits {
  readonly silenceMs: number;
  readonly giveUpMs: number;
  readonly retryMs: number;
  readonly retryMaxMs: number;
}

const DEFAULTS: LinkLimits = { silenceMs: LIMITS.modelFetchSilenceMs, giveUpMs: LIMITS.updateGiveUpMs, retryMs: LIMITS.modelFetchRetryMs, retryMaxMs: LIMITS.modelFetchRetryMaxMs };
const BLOCK = LIMITS.updateBlockBytes;
/** These may be right another time (RFC 9110 §15); of the others a retry changes nothing. */
const PASSING: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504]);

interface Begun { readonly index: number; readonly bytes: Buffer; filled: number }
interface Waiter { readonly index: number; readonly promise: Promise<Buffer>; readonly resolve: (block: Buffer) => void; readonly reject: (error: unknown) => void }

export class BundleLink implements Disposable {
  readonly sizeBytes: number;
  readonly #options: LinkOptions;
  readonly #limits: LinkLimits;
  /** Says that the file is the one that we began with; undefined where the server says nothing that does. */
  readonly #validator: string | undefined;
  /** The newest last. */
  readonly #blocks = new Map<number, Buffer>();
  readonly #waiting = new Map<number, Waiter>();
  readonly #ended = new AbortController();
  /** Of the block that was under way when the connection broke. */
  #partial: Begun | undefined;
  #newestAsked = -1;
  #wake = Promise.withResolvers<void>();
  #failure: TenzroError | undefined;
  #received = 0;

  /** Rejects with `update.source` where there is nothing to be had, or not in parts. */
  static async open(options: LinkOptions, signal: AbortSignal): Promise<BundleLink> {
    const limits = { ...DEFAULTS, ...options.limits };
    const head = await untilAnswered(options, limits, signal);
    return new BundleLink(options, limits, head);
  }

  private constructor(options: LinkOptions, limits: LinkLimits, { sizeBytes, validator }: Head) {
    this.#options = options;
    this.#limits = limits;
    this.sizeBytes = sizeBytes;
    this.#validator = validator;
    void this.#run();
  }

  /** Bytes that came, those fetched twice counted twice. */
  get receivedBytes(): number { return this.#received; }
  /** Why there is no more of it. */
  get failure(): TenzroError | undefined { return this.#failure; }

  /** Block `index` of `LIMITS.updateBlockBytes`, the last one shorter. Rejects with `update.source`, `update.changed`, and when `signal` aborts. Not to be altered. */
  async block(index: number, signal: AbortSignal): Promise<Buffer> {
    const held = this.#blocks.get(index);
    this.#newestAsked = index;
    if (held) {
      this.#wake.resolve(); // what follows it may be fetched
      return held;
    }
    if (this.#failure) throw this.#failure;
    const waiter = this.#waiting.get(index) ?? this.#wait(index);
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const onAbort = (): void => { reject(signal.reason instanceof Error ? signal.reason : new Error('aborted')); };
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      return await Promise.race([waiter.promise, aborted]);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  [Symbol.dispose](): void {
    this.#fail(new TenzroError('update.source', 'nobody wants the bundle any more'));
  }

  #wait(index: number): Waiter {
    const waiter = { index, ...Promise.withResolvers<Buffer>() };
    waiter.promise.catch(() => undefined); // who waited may be gone
    this.#waiting.set(index, waiter);
    this.#wake.resolve();
    return waiter;
  }

  /** What to fetch now: what somebody waits for, else what will be asked for. */
  #next(): number | undefined {
    const [first] = [...this.#waiting.keys()].toSorted((a, b) => a - b);
    if (first !== undefined) return first;
    for (let index = this.#newestAsked + 1; index <= this.#newestAsked + LIMITS.updateBlocksAhead && index * BLOCK < this.sizeBytes && this.#newestAsked >= 0; index++) if (!this.#blocks.has(index)) return index;
    return undefined;
  }

  async #run(): Promise<void> {
    const { retryMs, retryMaxMs, giveUpMs } = this.#limits;
    let [pauseMs, heardMicros] = [retryMs, this.#options.clock.monoMicros()];
    while (!this.#failure) {
      const next = this.#next();
      if (next === undefined) {
        await this.#idle();
        heardMicros = this.#options.clock.monoMicros();
        continue;
      }
      const before = this.#received;
      try {
        await this.#fetch(next);
      } catch (error) {
        if (error instanceof TenzroError && error.retryAfterMs === undefined) return this.#fail(error);
        const nowMicros = this.#options.clock.monoMicros();
        if (this.#received > before) [pauseMs, heardMicros] = [retryMs, nowMicros];
        else if (nowMicros - heardMicros > giveUpMs * 1_000) return this.#fail(new TenzroError('update.source', `not a byte for ${giveUpMs / 1_000} s: ${messageOf(error)}`, { cause: error }));
        await sleep(pauseMs * (0.5 + Math.random()), undefined, { signal: this.#ended.signal }).catch(() => undefined); // it ended
        pauseMs = Math.min(retryMaxMs, pauseMs * 2);
      }
    }
  }

  async #idle(): Promise<void> {
    this.#wake = Promise.withResolvers();
    if (this.#next() === undefined && !this.#failure) await this.#wake.promise;
  }

  /** One connection: block after block, for as long as the one that follows is the next to fetch; it waits where that is far ahead of who asks. */
  async #fetch(index: number): Promise<void> {
    let partial = this.#partial?.index === index ? this.#partial : this.#begin(index);
    const from = index * BLOCK + partial.filled;
    const headers = { range: `bytes=${from}-`, ...(this.#validator === undefined ? {} : { 'if-range': this.#validator }) };
    using answer = await ask(this.#options.url, headers, this.#limits.silenceMs, this.#ended.signal);
    this.#checkSame(answer.response, from);
    for await (const chunk of answer.chunks()) {
      this.#received += chunk.length;
      for (let at = 0; at < chunk.length;) {
        const copied = chunk.copy(partial.bytes, partial.filled, at);
        at += copied;
        partial.filled += copied;
        if (partial.filled < partial.bytes.length) continue;
        this.#keep(partial.index, partial.bytes);
        this.#partial = undefined;
        if (!await this.#isFollowing(partial.index + 1)) return;
        partial = this.#begin(partial.index + 1);
      }
    }
    throw new TenzroError('update.source', 'the server ended before the file did', { retryAfterMs: this.#limits.retryMs });
  }

  #begin(index: number): Begun {
    return this.#partial = { index, bytes: Buffer.allocUnsafe(Math.min(BLOCK, this.sizeBytes - index * BLOCK)), filled: 0 };
  }

  /** Whether that is what to fetch next, as soon as anything is. */
  async #isFollowing(index: number): Promise<boolean> {
    if (index * BLOCK >= this.sizeBytes) return false;
    while (this.#next() === undefined && !this.#failure) await this.#idle();
    return this.#next() === index && !this.#failure;
  }

  #keep(index: number, bytes: Buffer): void {
    this.#blocks.set(index, bytes);
    const firstOfTail = Math.floor(Math.max(0, this.sizeBytes - LIMITS.updateTailBytes) / BLOCK);
    const oldest = [...this.#blocks.keys()].find((held) => held < firstOfTail);
    if (this.#blocks.size > LIMITS.updateBlocksMax && oldest !== undefined) this.#blocks.delete(oldest);
    this.#waiting.get(index)?.resolve(bytes);
    this.#waiting.delete(index);
  }

  #checkSame(response: IncomingMessage, from: number): void {
    const { sizeBytes, validator } = headOf(response, from);
    if (sizeBytes !== this.sizeBytes || (this.#validator !== undefined && validator !== this.#validator)) throw new TenzroError('update.changed', 'the server has another file now than at the beginning');
  }

  #fail(error: TenzroError): void {
    this.#failure ??= error;
    this.#ended.abort();
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
    this.#wake.resolve();
  }
}

interface Head {
  readonly sizeBytes: number;
  readonly validator: string | undefined;
}

/** As blocks are: what passes is asked again. */
async function untilAnswered({ url, clock }: LinkOptions, { silenceMs, giveUpMs, retryMs, retryMaxMs }: LinkLimits, signal: AbortSignal): Promise<Head> {
  const startMicros = clock.monoMicros();
  for (let pauseMs = retryMs; ; pauseMs = Math.min(retryMaxMs, pauseMs * 2)) {
    try {
      using answer = await ask(url, { range: 'bytes=0-3' }, silenceMs, signal);
      return headOf(answer.response, 0);
    } catch (error) {
      if (signal.aborted || (error instanceof TenzroError && error.retryAfterMs === undefined)) throw error;
      if (clock.monoMicros() - startMicros > giveUpMs * 1_000) throw new TenzroError('update.source', `no answer for ${giveUpMs / 1_000} s: ${messageOf(error)}`, { cause: error });
      await sleep(pauseMs * (0.5 + Math.random()), undefined, { signal });
    }
  }
}

interface Answer extends Disposable {
  readonly response: IncomingMessage;
  /** Ends with an error where the server falls silent; who reads slowly is not its fault. */
  chunks(): AsyncGenerator<Buffer, void>;
}

async function ask(url: string, headers: Readonly<Record<string, string>>, silenceMs: number, signal: AbortSignal): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const get = url.startsWith('https:') ? getTls : getPlain;
  const request = get(url, { agent: false, signal, headers: { 'accept-encoding': 'identity', ...headers } }, resolve);
  request.on('error', reject);
  const silent = (): void => { request.destroy(new TenzroError('update.source', `the server says nothing for ${silenceMs} ms`, { retryAfterMs: silenceMs })); };
  const timer = setTimeout(silent, silenceMs);
  const response = await promise.finally(() => { clearTimeout(timer); });
  return {
    response,
    async *chunks() {
      const iterator: AsyncIterator<Buffer, undefined> = (response as AsyncIterable<Buffer, undefined>)[Symbol.asyncIterator]();
      for (;;) {
        const watch = setTimeout(silent, silenceMs);
        const { value, done } = await iterator.next().finally(() => { clearTimeout(watch); });
        if (done === true) return;
        yield value;
      }
    },
    [Symbol.dispose]() {
      response.on('error', () => undefined); // it is cut by us
      request.destroy();
    },
  };
}

/** Throws `update.source`, `update.changed`. A redirection is not followed: who was named is who is asked. */
function headOf({ statusCode = 0, headers }: IncomingMessage, from: number): Head {
  if (PASSING.has(statusCode)) throw new TenzroError('update.source', `the server answers HTTP ${statusCode}`, { retryAfterMs: LIMITS.modelFetchRetryMs });
  if (statusCode === 416 || (statusCode === 200 && from > 0)) throw new TenzroError('update.changed', 'the server has another file now than at the beginning, or sends no parts');
  if (statusCode === 200) throw new TenzroError('update.source', 'the server does not send parts of files (Range), so a broken transfer could not be taken up');
  if (statusCode !== 206) throw new TenzroError('update.source', `the server answers HTTP ${statusCode}${statusCode >= 300 && statusCode < 400 ? ', which is not followed' : ''}`);
  if ((headers['content-encoding'] ?? 'identity') !== 'identity') throw new TenzroError('update.source', 'the server sends it encoded');
  const [, start, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(headers['content-range'] ?? '') ?? [];
  if (Number(start) !== from) throw new TenzroError('update.source', 'the server sends another range than was asked for');
  const sizeBytes = Number(total);
  if (sizeBytes < 1 || sizeBytes > LIMITS.updateBundleBytesMax) throw new TenzroError('update.source', `a bundle has at most ${LIMITS.updateBundleBytesMax} bytes, this one has ${total}`);
  const { etag } = headers;
  return { sizeBytes, validator: etag !== undefined && !etag.startsWith('W/') ? etag : headers['last-modified'] };
}
