/**
 * What a controller keeps retained at the broker for each gateway of the register, so that it reaches those who are away: their newest certificate, and what the
 * owners revoked. What the broker has is compared with what it should have, at each connection and now and then: a topic that somebody cleared or changed is
 * mended.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { toHex } from '#runtime/core/bytes.ts';
import { messageOf } from '#runtime/core/errors.ts';
import type { FleetLink, LinkUser, Log } from '#runtime/core/ports.ts';
import { sha256 } from '#runtime/crypto/hash.ts';

export interface Posting {
  readonly topic: string;
  /** Empty: nothing shall be retained there any more. */
  readonly payload: Uint8Array;
}

export interface PostingsOptions {
  /** Whether it is in the fleet. */
  readonly isMember: (gateway: string) => boolean;
  /** All that shall be retained for it. */
  readonly wanted: (gateway: string) => Iterable<Posting>;
  readonly log: Log;
}

/** What is retained comes within moments of a connection. */
const SETTLE_MS = 2_000;
const TOPIC = /^te\/([A-Za-z0-9_-]{1,64})\/(?:certificate|revoked\/[A-Za-z0-9_-]{1,64})$/;

export class Postings implements LinkUser {
  readonly filters = ['te/+/certificate', 'te/+/revoked/+'];
  readonly #options: PostingsOptions;
  /** SHA-256 of what the broker retains, by topic. */
  readonly #heard = new Map<string, string>();
  #link: FleetLink | undefined;
  #wake = Promise.withResolvers<void>();

  constructor(options: PostingsOptions) { this.#options = options; }

  receive(topic: string, payload: Uint8Array): void {
    const [, gateway = ''] = TOPIC.exec(topic) ?? [];
    if (!this.#options.isMember(gateway)) return;
    if (payload.length === 0) this.#heard.delete(topic);
    else this.#heard.set(topic, toHex(sha256(payload)));
  }

  connected(link: FleetLink): void {
    this.#link = link;
    this.#wake.resolve();
  }

  lost(): void {
    this.#link = undefined;
    this.#heard.clear();
  }

  /** Puts right what the broker retains for those gateways; where it is away, the next connection does. */
  async post(gateways: Iterable<string>): Promise<void> {
    for (const gateway of gateways) {
      for (const { topic, payload } of this.#options.wanted(gateway)) {
        const wanted = payload.length === 0 ? undefined : toHex(sha256(payload));
        if (this.#heard.get(topic) !== wanted) await this.#publish(topic, payload);
      }
    }
  }

  async #publish(topic: string, payload: Uint8Array): Promise<void> {
    try {
      await this.#link?.publish(topic, payload, { retain: true });
    } catch (error) {
      this.#options.log.debug({ topic, error: messageOf(error) }, 'waits for the link');
    }
  }

  /** Resolves after `ms`, and soon after a connection; at once when `signal` aborts. */
  async rest(ms: number, signal: AbortSignal): Promise<void> {
    const done = new AbortController();
    const stopped = AbortSignal.any([signal, done.signal]);
    this.#wake = Promise.withResolvers();
    const pause = (length: number): Promise<void> => sleep(length, undefined, { signal: stopped }).catch(() => undefined); // over: the caller looks
    await Promise.race([pause(ms), this.#wake.promise.then(() => pause(SETTLE_MS))]);
    done.abort();
  }
}
