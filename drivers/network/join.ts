/** Joins the first of several networks that leads to a place, or none. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { Wifi, WifiNetwork } from './wifi.ts';

export interface Place {
  readonly host: string;
  readonly port: number;
}

/** For an address and a way to the place. */
const REACH_MS = 20_000;
const PAUSE_MS = 1_000;
const CLEAN_UP_MS = 10_000;

/** Leaves the network on trial over which the place answers. Rejects with `claim.apply`, and everything is as before; also when `signal` aborts. */
export async function joinFirst(wifi: Wifi, networks: readonly WifiNetwork[], place: Place, signal: AbortSignal): Promise<void> {
  if (networks.some(({ ssid }) => ssid.length === 0)) throw new TenzroError('claim.apply', 'a network that was handed over has no name');
  const why = await wifi.whyNot(signal);
  if (why !== undefined) throw new TenzroError('claim.apply', `networks were handed over, and there is no Wi-Fi to set up: ${why}`);
  let last: unknown;
  for (const network of networks) {
    try {
      await wifi.try(network, signal);
      return await reach(place, signal);
    } catch (error) {
      last = error;
      if (signal.aborted) break;
    }
  }
  await wifi.remove(AbortSignal.timeout(CLEAN_UP_MS));
  throw new TenzroError('claim.apply', `none of ${networks.length} networks leads to ${place.host}:${place.port}: ${messageOf(last)}`, { cause: last });
}

/** Addresses come a while after a network does. */
async function reach({ host, port }: Place, signal: AbortSignal): Promise<void> {
  const isOver = AbortSignal.any([signal, AbortSignal.timeout(REACH_MS)]);
  for (;;) {
    const socket = connect({ host, port });
    try {
      await once(socket, 'connect', { signal: isOver });
      return;
    } catch (cause) {
      if (isOver.aborted) throw new TenzroError('claim.apply', `nobody answers at ${host}:${port}`, { cause });
    } finally {
      socket.on('error', () => undefined).destroy(); // what it has to say was heard
    }
    await sleep(PAUSE_MS, undefined, { signal: isOver }).catch(() => undefined); // over: the next attempt says so
  }
}
