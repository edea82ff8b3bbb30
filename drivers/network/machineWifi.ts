/** Wi-Fi of this machine, through whichever program has it. One thing after another: a removal would meet a trial in the middle. */
import { TenzroError } from '#runtime/core/errors.ts';
import { NetworkManagerWifi } from './networkManager.ts';
import type { Wifi, WifiNetwork } from './wifi.ts';
import { WpaSupplicantWifi } from './wpaSupplicant.ts';

export class MachineWifi implements Wifi {
  readonly #services: readonly Wifi[] = [new NetworkManagerWifi(), new WpaSupplicantWifi()];
  #last: Promise<unknown> = Promise.resolve();

  async whyNot(signal: AbortSignal): Promise<string | undefined> {
    const found = await this.#find(signal);
    return typeof found === 'string' ? found : undefined;
  }

  async try(network: WifiNetwork, signal: AbortSignal): Promise<void> {
    await this.#inTurn(async () => { await (await this.#here(signal)).try(network, signal); });
  }

  async keep(networks: readonly WifiNetwork[], signal: AbortSignal): Promise<void> {
    await this.#inTurn(async () => { await (await this.#here(signal)).keep(networks, signal); });
  }

  async remove(signal: AbortSignal): Promise<void> {
    await this.#inTurn(async () => {
      for (const service of this.#services) await service.remove(signal);
    });
  }

  async #here(signal: AbortSignal): Promise<Wifi> {
    const found = await this.#find(signal);
    if (typeof found === 'string') throw new TenzroError('claim.network', found);
    return found;
  }

  /** The first that has Wi-Fi here, or why none has. */
  async #find(signal: AbortSignal): Promise<Wifi | string> {
    const reasons: string[] = [];
    for (const service of this.#services) {
      const why = await service.whyNot(signal);
      if (why === undefined) return service;
      reasons.push(why);
    }
    return reasons.join('; ');
  }

  async #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => undefined); // whoever asked has it
    await done;
  }
}
