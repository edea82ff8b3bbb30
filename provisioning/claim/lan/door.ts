/** The listener and its advertisement, for as long as somebody may come: opened and closed by turns, and tried again where the port is taken. */
import type { ErrorCode } from '#runtime/core/errors.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { ClaimSettings } from '#runtime/core/settings.ts';
import { ClaimAdvertisement } from './discovery.ts';
import { ClaimListener, type ListenerPorts } from './listener.ts';

const LOOPBACK = /^(?:127\.|localhost$)/;

export class ClaimDoor implements AsyncDisposable {
  readonly #settings: ClaimSettings;
  readonly #ports: ListenerPorts;
  #listener: ClaimListener | undefined;
  #advertisement: ClaimAdvertisement | undefined;
  #told = '';

  constructor(settings: ClaimSettings, ports: ListenerPorts) {
    this.#settings = settings;
    this.#ports = ports;
  }

  /** Undefined while it is closed. */
  get port(): number | undefined { return this.#listener?.port; }

  send(message: Uint8Array): void { this.#listener?.send(message); }

  /** MUST be called every second or so. `discriminators`: of the codes that wait; undefined: nobody may come. */
  async turn(discriminators: readonly number[] | undefined): Promise<void> {
    if (!discriminators) return this[Symbol.asyncDispose]();
    this.#listener?.tick();
    this.#listener ??= await this.#open();
    if (!this.#listener) return;
    const { port } = this.#listener;
    const told = `${port} ${discriminators.join(',')}`;
    if (this.#advertisement && told !== this.#told) this.#advertisement.update({ port, discriminators });
    this.#advertisement ??= new ClaimAdvertisement({ port, discriminators }, LOOPBACK.test(this.#settings.host) ? 'loopback' : 'everywhere', (why) => { this.#ports.note('claim.discovery', why); });
    this.#told = told;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const [listener, advertisement] = [this.#listener, this.#advertisement];
    this.#listener = undefined;
    this.#advertisement = undefined;
    advertisement?.[Symbol.dispose]();
    await listener?.[Symbol.asyncDispose]();
  }

  async #open(): Promise<ClaimListener | undefined> {
    try {
      return await ClaimListener.open(this.#settings.host, this.#settings.port, this.#ports);
    } catch (error) {
      if (!(error instanceof TenzroError)) throw error;
      const code: ErrorCode = error.code;
      this.#ports.note(code, error.message);
      return undefined;
    }
  }
}
