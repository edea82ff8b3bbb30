/** What the front door knows of a connection beyond the engine: who it is, what it may, and what it was granted. */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { TenzroError, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { matchesFilter } from '#runtime/core/topic.ts';
import { spkiPinOfCertificate } from '#runtime/crypto/certificate.ts';
import type { ListenerPlan } from './listeners.ts';
import type { Qos } from './packets.ts';
import { ANONYMOUS_PERMISSIONS, Permissions } from './permissions.ts';

/** The part of the engine's client that we touch. */
export interface EngineClient {
  readonly id: string;
  readonly clean: boolean;
  readonly conn: Duplex;
}

/** CONNACK return codes of MQTT 3.1.1 §3.2.2.3 that we send. */
export const CONNACK = { identifierRejected: 2, unavailable: 3, badCredentials: 4, notAuthorised: 5 } as const;

/** A reason not to let a client in. The engine sends `returnCode` in its CONNACK and ends the connection with the error. */
export class Refusal extends TenzroError {
  readonly returnCode: 2 | 3 | 4 | 5;

  constructor(returnCode: 2 | 3 | 4 | 5, code: ErrorCode, message: string, options?: { cause: unknown }) {
    super(code, message, options);
    this.returnCode = returnCode;
  }
}

/**
 * QoS 0 does not wait for the disk, so that delivery is prompt; but only so many messages of one client may be on their way there, or a
 * flood would be dropped where reading slower keeps it. One callback serves all messages.
 */
export class UnflushedWindow {
  #open = 0;
  readonly #waiting: (() => void)[] = [];
  /** What the intake calls for each message. */
  readonly flushed: (error?: Error) => void;

  constructor(onRefused: (error: Error) => void) {
    this.flushed = (error) => {
      this.#open--;
      if (error !== undefined) onRefused(error);
      this.#waiting.shift()?.();
    };
  }

  /** Counts one in; false when its sender has to `wait`. */
  enter(): boolean { return ++this.#open <= LIMITS.unflushedPerClientMax; }
  wait(proceed: () => void): void { this.#waiting.push(proceed); }
}

export class Connection {
  readonly unflushed: UnflushedWindow;
  readonly listener: ListenerPlan;
  readonly address: string;
  readonly #socket: Socket;
  user: string | undefined;
  permissions = new Permissions(ANONYMOUS_PERMISSIONS, { clientId: '', user: undefined });
  /** Where it wants to be spoken for when it vanishes. */
  willTopic: string | undefined;
  /** Found in the CONNECT packet, answered when the engine asks for authentication. */
  refusal: Refusal | undefined;
  /** QoS 2 publishes on their way to the disk, with the repetitions that wait for the same outcome. */
  readonly exactlyOnce = new Map<number, ((error?: Error) => void)[]>();
  readonly #granted = new Map<string, number>();
  /** Of a handshake that is over: read once. */
  #proved: { readonly digest: Uint8Array | undefined } | undefined;
  #lowestGranted = 2;

  constructor(listener: ListenerPlan, socket: Socket, onRefused: (error: Error) => void) {
    this.unflushed = new UnflushedWindow(onRefused);
    this.listener = listener;
    this.address = socket.remoteAddress ?? '';
    this.#socket = socket;
  }

  /** `spkiPin` of the key that it proved; undefined where it showed no certificate. Throws `tls.certificate`. */
  keyDigest(): Uint8Array | undefined { return (this.#proved ??= { digest: this.#readKeyDigest() }).digest; }

  #readKeyDigest(): Uint8Array | undefined {
    const certificate = this.#socket instanceof TLSSocket ? this.#socket.getPeerX509Certificate() : undefined;
    return certificate && spkiPinOfCertificate(certificate.raw);
  }

  get subscriptionCount(): number { return this.#granted.size; }
  isSubscribed(filter: string): boolean { return this.#granted.has(filter); }

  grant(filter: string, qos: number): void {
    this.#granted.set(filter, qos);
    this.#lowestGranted = Math.min(...this.#granted.values());
  }

  withdraw(filters: readonly string[]): void {
    for (const filter of filters) this.#granted.delete(filter);
    this.#lowestGranted = Math.min(2, ...this.#granted.values());
  }

  /** The QoS at which a message reaches this subscriber: the highest of its matching subscriptions, or the message's if lower (§3.8.4). */
  deliveredQos(topic: string, published: Qos): Qos {
    if (published <= this.#lowestGranted) return published;
    let highest = -1;
    for (const [filter, qos] of this.#granted) if (qos > highest && matchesFilter(filter, topic)) highest = qos;
    if (highest < 0 || highest >= published) return published;
    return highest === 0 ? 0 : 1;
  }
}
