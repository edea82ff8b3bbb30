/**
 * Multicast DNS (RFC 6762) on every IPv4 interface of this machine, loopback too: one socket each, because a socket sends on one interface. Interfaces
 * that come and go are noticed. The only file that knows the package.
 */
import { networkInterfaces } from 'node:os';
import makeMdns from 'multicast-dns';

export type Answer = makeMdns.ResponseOutgoingPacket['answers'][number];
export type Question = makeMdns.QueryOutgoingPacket['questions'][number];

export interface MulticastPorts {
  /** MUST NOT throw. `from`: IPv4 address of the sender; `via`: ours on the interface that it is answered on. */
  query?(names: readonly string[], via: string): void;
  answers?(answers: readonly Answer[], from: string): void;
  /** An interface was taken into use. */
  joined?(via: string): void;
  /** What could not be read, sent or joined. */
  fault(why: string): void;
}

/** Answers of one packet that are looked at. */
const ANSWERS_MAX = 64;
const RESCAN_MS = 5_000;
const LOOPBACK = /^127\./;

export class Multicast implements Disposable {
  readonly #ports: MulticastPorts;
  readonly #scope: 'loopback' | 'everywhere';
  readonly #sockets = new Map<string, makeMdns.MulticastDNS>();
  readonly #rescan: NodeJS.Timeout;

  constructor(scope: 'loopback' | 'everywhere', ports: MulticastPorts) {
    this.#ports = ports;
    this.#scope = scope;
    this.#scan();
    this.#rescan = setInterval(() => { this.#scan(); }, RESCAN_MS).unref();
  }

  ask(questions: readonly Question[]): void {
    for (const socket of this.#sockets.values()) socket.query([...questions], (error) => { this.#sent(error); });
  }

  /** On the interface that has this address. */
  answer(via: string, answers: readonly Answer[], additionals: readonly Answer[] = []): void {
    this.#sockets.get(via)?.respond({ answers: [...answers], additionals: [...additionals] }, (error) => { this.#sent(error); });
  }

  get interfaces(): readonly string[] { return [...this.#sockets.keys()]; }

  [Symbol.dispose](): void {
    clearInterval(this.#rescan);
    for (const address of this.interfaces) this.#close(address);
  }

  #scan(): void {
    const here = new Set(Object.values(networkInterfaces()).flat().flatMap((entry) => (entry?.family === 'IPv4' && (this.#scope === 'everywhere' || LOOPBACK.test(entry.address)) ? [entry.address] : [])));
    for (const address of this.interfaces) if (!here.has(address)) this.#close(address);
    for (const address of here) if (!this.#sockets.has(address)) this.#open(address);
  }

  /** Bound to every address: a socket that is bound to one of ours gets no multicast on Linux. */
  #open(via: string): void {
    const socket = makeMdns({ interface: via, bind: '0.0.0.0' });
    this.#sockets.set(via, socket);
    socket.on('query', ({ questions = [] }) => { this.#ports.query?.(questions.slice(0, ANSWERS_MAX).map(({ name }) => name), via); });
    socket.on('response', ({ answers = [], additionals = [] }, { address }) => { this.#ports.answers?.([...answers, ...additionals].slice(0, ANSWERS_MAX), address); });
    socket.on('warning', (error) => { this.#ports.fault(error.message); });
    socket.on('error', (error) => { this.#ports.fault(error.message); this.#close(via); });
    socket.on('ready', () => { this.#ports.joined?.(via); });
  }

  #close(address: string): void {
    const socket = this.#sockets.get(address);
    this.#sockets.delete(address);
    socket?.destroy();
  }

  #sent(error: Error | null | undefined): void { if (error) this.#ports.fault(error.message); }
}
