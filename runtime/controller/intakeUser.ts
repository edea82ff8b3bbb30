/** The intake over the fleet's broker: shipments come on `te/<gateway>/chain/<chain>/up`, answers go out retained on `…/receipt`. */
import { whenAborted } from '#runtime/core/abort.ts';
import { messageOf } from '#runtime/core/errors.ts';
import type { Counters, FleetLink, LinkUser, Log } from '#runtime/core/ports.ts';
import type { Intake, Sender } from './intake.ts';
import type { ControllerPart } from './part.ts';

export class IntakeUser implements ControllerPart, LinkUser {
  readonly filters = ['te/+/chain/+/up'];
  readonly users = [this];
  readonly #intake: Intake;
  readonly #counters: Counters;
  readonly #log: Log;
  readonly #failed = Promise.withResolvers<never>();
  #link: FleetLink | undefined;

  constructor(intake: Intake, { counters, log }: { readonly counters: Counters; readonly log: Log }) {
    this.#intake = intake;
    this.#counters = counters;
    this.#log = log;
    this.#failed.promise.catch(() => undefined); // whoever follows has it
  }

  connected(link: FleetLink): void { this.#link = link; }

  receive(topic: string, payload: Uint8Array): void {
    const sender = senderOf(topic);
    if (!sender) return this.#counters.add('controller.topic');
    this.#take(sender, Uint8Array.from(payload)).catch((error: unknown) => { this.#failed.reject(error); });
  }

  /** Rejects when the controller's own disk is broken: without it nothing can be receipted any more. */
  async follow(signal: AbortSignal): Promise<void> {
    await Promise.race([whenAborted(signal), this.#failed.promise]);
  }

  /** An answer that does not arrive is not missed: the gateway sends again. */
  async #take(sender: Sender, packed: Uint8Array): Promise<void> {
    const answer = await this.#intake.take(sender, packed);
    if (!answer) return;
    await this.#link?.publish(`te/${sender.gateway}/chain/${sender.chain}/receipt`, answer, { retain: true }).catch((error: unknown) => {
      this.#counters.add('link.offline');
      this.#log.debug({ ...sender, error: messageOf(error) }, 'an answer was not sent');
    });
  }
}

/** Ids of gateways have no dots and spaces; a chain's is 64 hexadecimal digits. */
function senderOf(topic: string): Sender | undefined {
  const [, gateway, chain] = /^te\/([A-Za-z0-9_-]{1,64})\/chain\/([0-9a-f]{64})\/up$/.exec(topic) ?? [];
  return gateway === undefined || chain === undefined ? undefined : { gateway, chain };
}
