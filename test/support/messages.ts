/** Inbound messages for tests of what stands behind the front door. */
import type { InboundRecord } from '#runtime/core/ports.ts';

let arrivals = 0;

/** A message as the writer sees it: QoS 0, not retained; every call arrives a millisecond later. */
export function inbound(topic: string, payload: string | Uint8Array, more: Partial<InboundRecord> = {}): InboundRecord {
  arrivals++;
  return {
    clientId: 'client-1', topic, payload: typeof payload === 'string' ? Buffer.from(payload) : payload, qos: 0, retain: false, duplicate: false, packetId: 0,
    wallMicros: 1_800_000_000_000_000 + arrivals * 1000, monoMicros: arrivals * 1000, ...more,
  };
}
