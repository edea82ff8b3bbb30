/**
 * What one connection to a fleet's broker carries for all who speak over it: who gets which message, and who hears that it stands. Pure: the connection
 * itself is the caller's (mqttLink.ts, or a broker in the same process).
 */
import type { FleetLink, LinkUser, Log } from '#runtime/core/ports.ts';
import { matchesFilter } from '#runtime/core/topic.ts';

export interface Subscription {
  readonly filter: string;
  readonly qos: 0 | 1;
}

export class Hub {
  /** Each filter once, at the greatest QoS that somebody asks for. */
  readonly subscriptions: readonly Subscription[];
  readonly #users: readonly LinkUser[];
  readonly #log: Log;

  constructor(users: readonly LinkUser[], log: Log) {
    this.#users = users;
    this.#log = log;
    const greatest = new Map<string, 0 | 1>();
    for (const { filters, qos = 1 } of users) for (const filter of filters) greatest.set(filter, greatest.get(filter) === 1 ? 1 : qos);
    this.subscriptions = Array.from(greatest, ([filter, qos]) => ({ filter, qos }));
  }

  /** Once to each user, however many of its filters match. Where filters of several users overlap, a broker may send a message once for each: so often it comes here. */
  receive(topic: string, payload: Uint8Array): void {
    for (const user of this.#users) if (user.filters.some((filter) => matchesFilter(filter, topic))) user.receive(topic, payload);
  }

  /** Subscribed, also again. */
  connected(link: FleetLink, detail: string): void {
    this.#log.info({ state: 'connected' }, `fleet broker: connected, ${detail}`);
    for (const user of this.#users) user.connected?.(link);
  }

  /** Also when it was closed. */
  lost(detail: string): void {
    this.#log.info({ state: 'lost' }, `fleet broker: lost${detail === '' ? '' : `, ${detail}`}`);
    for (const user of this.#users) user.lost?.();
  }
}
