/** The way to an MQTT broker: the only shipped file that imports `mqtt`. MQTT 3.1.1 with QoS 0 and 1, so that every broker of a fleet will do. */
import { setTimeout as sleep } from 'node:timers/promises';
import { createSecureContext, TLSSocket, type SecureContext } from 'node:tls';
import { connect, MqttClient, type IClientOptions } from 'mqtt';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { FleetLink } from '#runtime/core/ports.ts';
import { negotiatedGroup, secureClientOptions } from '#runtime/crypto/tls.ts';
import type { Hub } from './hub.ts';
import { openStream } from './stream.ts';

const CLIENT = { protocolVersion: 4, clean: true, queueQoSZero: false, reconnectOnConnackError: true } as const;

/** A client that keeps connecting, also to a broker that refuses it today (mqtt.js by itself gives up then), and queues nothing of QoS 0. */
export const connectMqtt = (options: IClientOptions): MqttClient => connect({ ...CLIENT, ...options });

export interface LinkOptions {
  /** `mqtts://host:port`, or `mqtt://` where nobody listens on the way. */
  readonly url: string;
  /** PEM certificates that the broker's must chain to. */
  readonly ca: string | readonly string[];
  /**
   * What is wrong with the certificates (DER, the broker's first) that were shown by `host`; undefined: nothing. In place of OpenSSL's judgement, which asks
   * the wall clock; without it, that one counts.
   */
  readonly judge?: (chain: readonly Uint8Array[], host: string) => string | undefined;
  readonly user?: string;
  readonly password?: string;
  /** Shown to a broker that asks for a certificate, PEM. The key may be zeroed when `openLink` has returned. */
  readonly identity?: { readonly cert: string; readonly key: Buffer };
  readonly clientId: string;
  /** Retained: what the broker says for us when the connection breaks, and we at an orderly end. */
  readonly will?: { readonly topic: string; readonly payload: string };
  /** Whose subscriptions are made again on every connect: a resumed session does not bring retained messages. */
  readonly hub: Hub;
  /** The broker is not who it says (`tls.certificate`), or sends what it may not (`link.packet`). MUST NOT throw. */
  readonly onFault?: (error: TenzroError) => void;
}

const KEEPALIVE_S = 30;
const CONNECT_TIMEOUT_MS = 10_000;
const CLOSE_TIMEOUT_MS = 2_000;

export interface OpenLink extends FleetLink {
  /** Shown from the next connection on; the key may be zeroed when it returns. Throws where key and certificate do not fit. */
  present(identity: NonNullable<LinkOptions['identity']>): void;
}

/** Returns at once and keeps connecting, each time after a longer pause of another length. */
export function openLink(options: LinkOptions): OpenLink { return new MqttLink(options); }

class MqttLink implements OpenLink {
  readonly #client: MqttClient;
  readonly #options: LinkOptions;
  #context: SecureContext | undefined;
  #isReady = false;
  #retryMs: number = LIMITS.linkRetryMs;
  #lastError = 'not connected yet';
  #keyExchange: string | undefined;
  /** What mqtt.js keeps to send again. */
  #unacknowledgedBytes = 0;
  #wake = Promise.withResolvers<void>();

  constructor(options: LinkOptions) {
    const { url, judge, user, password, identity, clientId, will, hub, onFault } = options;
    this.#options = options;
    const { protocol, hostname, port } = new URL(url);
    const isTls = protocol === 'mqtts:';
    const host = hostname.replace(/^\[|\]$/g, '');
    this.#context = isTls ? contextOf(options, identity) : undefined;
    const place = { host, port: Number(port) || (isTls ? 8883 : 1883) };
    const plan: IClientOptions = {
      ...place, protocol: isTls ? 'mqtts' : 'mqtt', clientId, keepalive: KEEPALIVE_S, connectTimeout: CONNECT_TIMEOUT_MS, reconnectPeriod: jittered(this.#retryMs), resubscribe: false,
      ...(user === undefined ? {} : { username: user }), ...(password === undefined ? {} : { password }),
      ...(will ? { will: { topic: will.topic, payload: Buffer.from(will.payload), qos: 1, retain: true } } : {}),
    };
    this.#client = new MqttClient(() => openStream({ ...place, context: this.#context, judge }), { ...CLIENT, ...plan });
    this.#client.on('connect', () => { this.#connected().catch((error: unknown) => { this.#lastError = messageOf(error); }); });
    this.#client.on('close', () => { this.#lost(); });
    this.#client.on('error', (error) => {
      this.#lastError = messageOf(error);
      if (error instanceof TenzroError) onFault?.(error);
    });
    this.#client.on('message', (topic, payload) => { hub.receive(topic, payload); });
  }

  get isReady(): boolean { return this.#isReady; }
  get keyExchange(): string | undefined { return this.#keyExchange; }
  get fault(): string { return this.#lastError; }

  present(identity: NonNullable<LinkOptions['identity']>): void {
    if (!this.#context) return;
    this.#context = contextOf(this.#options, identity);
  }

  async ready(signal: AbortSignal): Promise<boolean> {
    const aborted = Promise.withResolvers<void>();
    const stop = (): void => { aborted.resolve(); };
    signal.addEventListener('abort', stop, { once: true });
    while (!this.#isReady && !signal.aborted) await Promise.race([this.#wake.promise, aborted.promise]);
    signal.removeEventListener('abort', stop);
    return !signal.aborted;
  }

  async publish(topic: string, payload: Uint8Array, { retain }: { readonly retain: boolean }): Promise<void> {
    if (!this.#isReady) throw new TenzroError('link.offline', `${this.#options.url}: ${this.#lastError}`);
    if (this.#unacknowledgedBytes > LIMITS.linkUnacknowledgedBytesMax) throw new TenzroError('link.offline', `${this.#options.url}: the broker acknowledges nothing`);
    this.#unacknowledgedBytes += payload.length;
    try {
      await this.#client.publishAsync(topic, Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength), { qos: 1, retain });
    } catch (cause) {
      throw new TenzroError('link.offline', `${this.#options.url}: ${messageOf(cause)}`, { cause });
    } finally {
      this.#unacknowledgedBytes -= payload.length;
    }
  }

  async #connected(): Promise<void> {
    const { hub, url } = this.#options;
    const { stream } = this.#client;
    this.#keyExchange = stream instanceof TLSSocket ? negotiatedGroup(stream) : 'none';
    const wanted = Object.fromEntries(hub.subscriptions.map(({ filter, qos }) => [filter, { qos }]));
    const granted = hub.subscriptions.length === 0 ? [] : await this.#client.subscribeAsync(wanted);
    if (granted.some(({ qos }) => qos > 2)) { // MQTT 3.1.1 §3.9.3: 0x80 is failure
      this.#lastError = `the broker does not let us subscribe to ${hub.subscriptions.map(({ filter }) => filter).join(', ')}`;
      this.#client.stream.destroy();
      return;
    }
    this.#retryMs = LIMITS.linkRetryMs;
    this.#isReady = true;
    this.#wake.resolve();
    hub.connected(this, `${url}, key exchange ${this.#keyExchange}`);
  }

  #lost(): void {
    this.#notReady(this.#lastError);
    this.#client.options.reconnectPeriod = jittered(this.#retryMs);
    this.#retryMs = Math.min(this.#retryMs * 2, LIMITS.linkRetryMaxMs);
  }

  #notReady(why: string): void {
    if (!this.#isReady) return;
    this.#isReady = false;
    this.#wake = Promise.withResolvers<void>();
    this.#options.hub.lost(why);
  }

  /** An orderly DISCONNECT discards the will: it says itself that it goes. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { will } = this.#options;
    if (this.#isReady && will) await within(CLOSE_TIMEOUT_MS, this.#client.publishAsync(will.topic, will.payload, { qos: 1, retain: true }));
    const wasReady = this.#isReady;
    this.#notReady('closed');
    await within(CLOSE_TIMEOUT_MS, this.#client.endAsync(!wasReady));
  }
}

const contextOf = ({ ca }: LinkOptions, identity: LinkOptions['identity']): SecureContext =>
  createSecureContext({ ...secureClientOptions(), ca: typeof ca === 'string' ? ca : [...ca], ...identity });

/** Waits for a courtesy, but not for ever, and not for its success. */
async function within(timeoutMs: number, courtesy: Promise<unknown>): Promise<void> {
  const done = new AbortController();
  await Promise.race([courtesy.catch(() => undefined), sleep(timeoutMs, undefined, { signal: done.signal }).catch(() => undefined)]);
  done.abort();
}

const jittered = (ms: number): number => Math.round(ms * (0.5 + Math.random()));
