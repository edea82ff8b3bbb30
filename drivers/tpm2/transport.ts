/** Ways to a TPM. A transport carries one command at a time (`Tpm` sees to that) and knows of a response only where it ends. */
import { open, type FileHandle } from 'node:fs/promises';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { garbled, responseSize } from './codec.ts';

export interface Transport extends AsyncDisposable {
  /**
   * One command, one response. Rejects with `tpm.unavailable` (nobody there), `tpm.connection` (gone in mid-command: whether the command was
   * executed is unknown), `tpm.response`, or `tpm.timeout` when `signal` aborts. After a rejection the next call connects anew.
   */
  transact(command: Buffer, signal: AbortSignal): Promise<Buffer>;
}

/** Rejects with `tpm.timeout` as soon as `signal` aborts; the work itself goes on unobserved. */
export async function abandonable<T>(work: Promise<T>, signal: AbortSignal, what: string): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(new TenzroError('tpm.timeout', `${what}: gave up waiting (${messageOf(signal.reason)})`, { cause: signal.reason }));
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** A TPM behind a byte stream: swtpm's plain socket, TCP or unix, or a socket pair. Responses are framed by the size in their header. */
export class StreamTransport implements Transport {
  readonly #open: (signal: AbortSignal) => Promise<Duplex>;
  #link: StreamLink | undefined;

  constructor(openStream: (signal: AbortSignal) => Promise<Duplex>) { this.#open = openStream; }

  async transact(command: Buffer, signal: AbortSignal): Promise<Buffer> {
    if (!this.#link?.usable) {
      this.#link?.destroy();
      this.#link = new StreamLink(await this.#open(signal));
    }
    const link = this.#link;
    try {
      return await abandonable(link.exchange(command), signal, 'the TPM');
    } catch (error) {
      link.destroy(); // a late response must not be taken for the next command's
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#link?.destroy();
    this.#link = undefined;
  }
}

class StreamLink {
  readonly #stream: Duplex;
  #received: Buffer = Buffer.alloc(0);
  #waiting: PromiseWithResolvers<Buffer> | undefined;
  #gone = false;

  constructor(stream: Duplex) {
    this.#stream = stream;
    stream.on('data', (chunk: Buffer) => this.#onData(chunk));
    stream.on('error', (cause) => this.#end(new TenzroError('tpm.connection', `the connection to the TPM broke: ${cause.message}`, { cause })));
    stream.on('close', () => this.#end(new TenzroError('tpm.connection', 'the TPM closed the connection')));
  }

  /** False also when bytes came that nobody asked for. */
  get usable(): boolean { return !this.#gone && this.#received.length === 0; }

  exchange(command: Buffer): Promise<Buffer> {
    const waiting = Promise.withResolvers<Buffer>();
    this.#waiting = waiting;
    this.#stream.write(command);
    return waiting.promise;
  }

  destroy(): void {
    this.#gone = true;
    this.#stream.destroy();
  }

  #onData(chunk: Buffer): void {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
    const waiting = this.#waiting;
    if (!waiting) return this.destroy();
    try {
      const size = responseSize(this.#received);
      if (size === undefined || this.#received.length < size) return;
      if (this.#received.length > size) throw garbled(`${this.#received.length - size} bytes follow it`);
      const response = this.#received;
      this.#received = Buffer.alloc(0);
      this.#waiting = undefined;
      waiting.resolve(response);
    } catch (error) {
      this.#waiting = undefined;
      waiting.reject(error);
    }
  }

  #end(error: TenzroError): void {
    this.#gone = true;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.reject(error);
  }
}

/** `host:port`, or the path of a unix socket. */
export function socketTransport(address: string): Transport {
  const [, host, port] = /^([^/]+):(\d{1,5})$/.exec(address) ?? [];
  const target = host === undefined || port === undefined ? { path: address } : { host, port: Number(port), noDelay: true };
  return new StreamTransport(async (signal) => {
    const socket = connect(target);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    socket.once('connect', resolve);
    socket.once('error', (cause) => reject(new TenzroError('tpm.unavailable', `no TPM answers at ${address}: ${cause.message}`, { cause })));
    try {
      await abandonable(promise, signal, address);
    } catch (error) {
      socket.destroy();
      throw error;
    }
    socket.removeAllListeners('error');
    return socket;
  });
}

/**
 * The kernel's device, best the one with a resource manager. One write is one whole command; the kernel blocks there or in the read until the
 * TPM is done, on a thread of libuv's pool.
 */
export function deviceTransport(path: string): Transport { return new DeviceTransport(path); }

class DeviceTransport implements Transport {
  readonly #path: string;
  #file: FileHandle | undefined;

  constructor(path: string) { this.#path = path; }

  async transact(command: Buffer, signal: AbortSignal): Promise<Buffer> {
    const file = this.#file ?? await this.#open();
    this.#file = file;
    const work = exchangeWithFile(file, command);
    try {
      return await abandonable(work, signal, this.#path);
    } catch (error) {
      this.#file = undefined;
      const close = (): Promise<void> => file.close();
      void work.then(close, close); // not before the kernel lets go of it
      throw error;
    }
  }

  async #open(): Promise<FileHandle> {
    try {
      return await open(this.#path, 'r+');
    } catch (cause) {
      throw new TenzroError('tpm.unavailable', `cannot open ${this.#path}: ${messageOf(cause)}`, { cause });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }
}

/**
 * The kernel's resource manager does not pass on a command that names a handle which this connection has not loaded (EINVAL: tpm2_map_command in
 * Linux drivers/char/tpm/tpm2-space.c), and the connection goes on. This is what a TPM itself says to that: TPM_RC_REFERENCE_H0, Part 2 §6.6.3.
 */
const NOTHING_LOADED = Buffer.from('80010000000a00000910', 'hex');

async function exchangeWithFile(file: FileHandle, command: Buffer): Promise<Buffer> {
  const failed = (what: string, cause?: unknown): TenzroError => new TenzroError('tpm.connection', `the TPM device ${what}${cause === undefined ? '' : `: ${messageOf(cause)}`}`, { cause });
  const written = await file.write(command, 0, command.length, null).catch((cause: unknown) => {
    if (cause instanceof Error && 'code' in cause && cause.code === 'EINVAL') return undefined;
    throw failed('refused the command', cause);
  });
  if (written === undefined) return Buffer.from(NOTHING_LOADED);
  if (written.bytesWritten !== command.length) throw failed('took half a command');
  const buffer = Buffer.alloc(LIMITS.tpmCommandBytesMax);
  let length = 0;
  for (;;) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length, null).catch((cause: unknown) => { throw failed('gave no response', cause); });
    length += bytesRead;
    const size = responseSize(buffer.subarray(0, length));
    if (size !== undefined && length > size) throw garbled(`${length - size} bytes follow it`);
    if (size === length) return Buffer.from(buffer.subarray(0, length));
    if (bytesRead === 0) throw garbled('it ends early');
  }
}
