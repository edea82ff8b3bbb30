/** What a gateway says about itself on its fleet's broker: retained, again at each connect and whenever it changed. What says `down` is the link's last will. */
import { messageOf } from '#runtime/core/errors.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import type { FleetLink, LinkUser, Log } from '#runtime/core/ports.ts';

export const statusTopic = (gateway: string): string => `te/${gateway}/status`;
export const STATUS_DOWN = '{"status":"down"}';

export interface StatusVoiceOptions {
  readonly gateway: string;
  /** What stands beside `status` and `keyExchange`; nothing that changes all the time. */
  readonly statement: () => JsonObject;
  readonly log: Log;
}

export class StatusVoice implements LinkUser {
  readonly filters = [];
  readonly #options: StatusVoiceOptions;
  #link: FleetLink | undefined;
  #said = '';

  constructor(options: StatusVoiceOptions) { this.#options = options; }

  receive(): void { /* it asks for nothing */ }

  connected(link: FleetLink): void {
    this.#link = link;
    this.#said = '';
    this.refresh();
  }

  /** Call it now and then. */
  refresh(): void {
    const { gateway, statement, log } = this.#options;
    if (!this.#link?.isReady) return;
    const { keyExchange = 'unknown' } = this.#link;
    const text = JSON.stringify({ status: 'up', keyExchange, ...statement() });
    if (text === this.#said) return;
    this.#said = text;
    this.#link.publish(statusTopic(gateway), Buffer.from(text), { retain: true }).catch((error: unknown) => {
      this.#said = '';
      log.debug({ error: messageOf(error) }, 'status not said');
    });
  }
}
