/**
 * The device's end of a claim over TCP. It trusts nobody: what a peer may send is bounded in size, rate and time, and whoever has not confirmed the code's
 * secret gives way to others. The peer whose message moved the claim last gets what the claim says later.
 */
import type { AddressInfo, Server, Socket } from 'node:net';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { encodeMessage } from '../messages.ts';
import { frame, FrameReader } from './framing.ts';
import { MessageRates } from './rates.ts';

const { createServer } = process.getBuiltinModule('node:net');

export interface ListenerPorts {
  readonly clock: Clock;
  /** One message; true: it moved the claim. What is to be answered at once is sent before this returns. MUST NOT throw. */
  receive(message: Uint8Array): boolean;
  /** A peer has confirmed the secret, and its session is under way. */
  isHeld(): boolean;
  /** The connection of the peer whose message moved the claim last ended. MUST NOT throw. */
  gone(): void;
  /** Whatever a peer did that it may not. MUST NOT throw. */
  note(code: ErrorCode, detail: string): void;
}

interface Peer {
  readonly socket: Socket;
  readonly address: string;
  readonly reader: FrameReader;
  readonly openedMicros: number;
  /** When its last whole message came: bytes that are none buy no time. */
  heardMicros: number;
}

const BACKLOG_BYTES_MAX = 2 * LIMITS.claimMessageBytesMax;

export class ClaimListener implements AsyncDisposable {
  readonly #ports: ListenerPorts;
  readonly #server: Server;
  readonly #rates: MessageRates;
  /** Oldest first. */
  readonly #peers = new Set<Peer>();
  #speaking: Peer | undefined;
  #holder: Peer | undefined;

  /** Port 0 picks a free one. Throws `claim.listen`. */
  static async open(host: string, port: number, ports: ListenerPorts): Promise<ClaimListener> {
    const listener = new ClaimListener(ports);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    listener.#server.once('error', reject).listen({ host, port }, resolve);
    await promise.catch((cause: unknown) => { throw new TenzroError('claim.listen', `cannot listen on ${host}:${port}: ${messageOf(cause)}`, { cause }); });
    listener.#server.on('error', (error) => { ports.note('claim.listen', error.message); });
    return listener;
  }

  private constructor(ports: ListenerPorts) {
    this.#ports = ports;
    this.#rates = new MessageRates(ports.clock);
    this.#server = createServer({ noDelay: true }, (socket) => { this.#admit(socket); });
  }

  get port(): number { return (this.#server.address() as AddressInfo).port; }

  /** To whom the claim is speaking; lost where nobody is there any more, as any message may be. */
  send(message: Uint8Array): void {
    const peer = this.#speaking ?? this.#holder;
    if (!peer || !this.#peers.has(peer)) return;
    if (peer.socket.writableLength > BACKLOG_BYTES_MAX) this.#drop(peer, 'it reads nothing');
    else peer.socket.write(frame(message));
  }

  /** MUST be called every second or so: deadlines are seen here. */
  tick(): void {
    const now = this.#ports.clock.monoMicros();
    for (const peer of this.#peers) {
      if (this.#isImmune(peer)) continue;
      if (now - peer.heardMicros > LIMITS.claimIdleMs * 1_000) this.#drop(peer, `no whole message within ${LIMITS.claimIdleMs / 1_000} s`);
      else if (now - peer.openedMicros > LIMITS.claimConnectionMs * 1_000) this.#drop(peer, `its ${LIMITS.claimConnectionMs / 1_000} s are over`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = Promise.withResolvers<void>();
    this.#server.close(() => { closed.resolve(); });
    for (const { socket } of this.#peers) socket.destroySoon();
    await closed.promise;
  }

  #isImmune(peer: Peer): boolean { return peer === this.#holder && this.#ports.isHeld(); }

  #admit(socket: Socket): void {
    const now = this.#ports.clock.monoMicros();
    const peer: Peer = { socket, address: socket.remoteAddress ?? '', reader: new FrameReader(), openedMicros: now, heardMicros: now };
    this.#peers.add(peer);
    socket.on('data', (chunk: Buffer) => { this.#read(peer, chunk); });
    socket.on('error', () => undefined); // its close follows
    socket.once('close', () => {
      this.#peers.delete(peer);
      if (peer === this.#holder) this.#ports.gone();
    });
    if (this.#peers.size > LIMITS.claimConnectionsMax) this.#makeRoom();
  }

  /** The oldest of the address that holds the most: who opens many gives way to himself. */
  #makeRoom(): void {
    const held = Map.groupBy([...this.#peers].filter((peer) => !this.#isImmune(peer)), ({ address }) => address);
    const [oldest] = [...held.values()].toSorted((a, b) => b.length - a.length)[0] ?? [];
    if (oldest) this.#drop(oldest, 'others wait');
  }

  #read(peer: Peer, chunk: Buffer): void {
    try {
      for (const message of peer.reader.push(chunk)) {
        if (!this.#peers.has(peer)) return;
        peer.heardMicros = this.#ports.clock.monoMicros();
        if (!this.#rates.take(peer.address)) return this.#refuse(peer);
        this.#speaking = peer;
        if (this.#ports.receive(message)) this.#holder = peer;
        this.#speaking = undefined;
      }
    } catch (error) {
      if (!(error instanceof TenzroError) || error.code !== 'claim.malformed') throw error;
      this.#drop(peer, error.message, error.code);
    }
  }

  /** Unsigned, and costs nothing. */
  #refuse(peer: Peer): void {
    this.#ports.note('claim.busy', `${peer.address} sends too many messages`);
    this.#peers.delete(peer);
    peer.socket.end(frame(encodeMessage({ kind: 'refused', reason: 'claim.busy' })), () => { peer.socket.destroy(); });
  }

  #drop(peer: Peer, why: string, code: ErrorCode = 'claim.timeout'): void {
    this.#ports.note(code, `${peer.address}: ${why}`);
    this.#peers.delete(peer);
    peer.socket.destroy();
  }
}
