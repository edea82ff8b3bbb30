/** What the main thread's status says of its rooms, from what they say themselves. */
import type { BlockInfo } from '#runtime/attest/sealer.ts';
import type { Broker } from '#runtime/broker/broker.ts';
import type { GatewayStatus } from '#runtime/observe/status.ts';

type Listener = ReturnType<Broker['listeners']>[number];

export const anchorStatus = (block: BlockInfo | undefined): GatewayStatus['anchor'] =>
  (block?.anchor ? { block: block.anchor.sequence, counter: block.anchor.counter.toString(), missing: block.anchor.missing.toString() } : null);

export function listenerStatus(facts: Listener): GatewayStatus['broker']['listeners'][number] {
  const { auth, tlsVersion, groups } = facts;
  return { url: urlOf(facts), anonymous: auth === 'anonymous', ...(tlsVersion === undefined ? {} : { tls: { minVersion: tlsVersion, groups: groups ?? {} } }) };
}

export const urlOf = ({ host, port, tls }: Listener): string => `${tls ? 'mqtts' : 'mqtt'}://${host.includes(':') ? `[${host}]` : host}:${port}`;
