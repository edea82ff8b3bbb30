/** Prometheus text exposition format, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats). */
import type { GatewayStatus } from './status.ts';

export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** `ingest.rejected.json` becomes `tenzro_ingest_rejected_json`. */
export function formatMetrics(status: GatewayStatus, rssBytes: number): string {
  const gauges: readonly (readonly [string, number])[] = [
    ['ready', status.ready ? 1 : 0], ['healthy', status.health.ok ? 1 : 0], ['uptime_seconds', status.uptimeMs / 1000], ['resident_memory_bytes', rssBytes],
    ['chain_entries', status.chain.entries], ['chain_blocks', status.chain.blocks], ['chain_attested_entries', status.chain.attestedEntries], ['broker_clients', status.broker.clients],
  ];
  const lines = [
    ...gauges.map(([name, value]) => line(name, 'gauge', value)),
    ...Object.entries(status.counters).map(([name, value]) => line(name.replace(/[^A-Za-z0-9_]/g, '_'), 'untyped', value)),
  ];
  return lines.join('');
}

const line = (name: string, type: string, value: number): string => `# TYPE tenzro_${name} ${type}\ntenzro_${name} ${value}\n`;
