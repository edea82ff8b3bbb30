/**
 * `npm run bench`: every figure of the gateway beside a peer's, from one run on one machine.
 *   --quick       two and a half minutes, for a look; the documented figures come from the full run
 *   --only NAME   one group: traffic, startup, ledger, inference, verification, confidential, tpm, uplink, drain, fleet, degraded
 *   --json FILE   writes {machine, <figure>: {value, unit, peer, peerValue, ratio}}
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { Bench, Figure } from './figure.ts';
import { confidential } from './figures/confidential.ts';
import { degraded } from './figures/degraded.ts';
import { drain } from './figures/drain.ts';
import { fleet } from './figures/fleet.ts';
import { inference } from './figures/inference.ts';
import { ledger } from './figures/ledger.ts';
import { startup } from './figures/startup.ts';
import { tpm } from './figures/tpm.ts';
import { traffic } from './figures/traffic.ts';
import { uplink } from './figures/uplink.ts';
import { verification } from './figures/verification.ts';
import { describeMachine, type Machine } from './machine.ts';

const BENCHES: readonly Bench[] = [traffic, startup, ledger, inference, verification, confidential, tpm, uplink, drain, fleet, degraded];

const { values } = parseArgs({ options: { quick: { type: 'boolean', default: false }, only: { type: 'string' }, json: { type: 'string' } } });
const chosen = BENCHES.filter(({ name }) => values.only === undefined || name === values.only);
if (chosen.length === 0) throw new Error(`--only takes one of ${BENCHES.map(({ name }) => name).join(', ')}`);

const machine = describeMachine();
console.log(`${machine.cpu}, ${machine.cores} cores, ${machine.memoryMiB} MiB, Linux ${machine.kernel}, Node ${machine.node}, data on ${machine.fileSystem}, commit ${machine.commit}\n`);
const figures: Figure[] = [];
for (const bench of chosen) figures.push(...(await bench.run({ isQuick: values.quick, say: (text) => { console.log(`… ${text}`); } })));
print(figures);
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(asJson(machine, figures), null, 2)}\n`);

function print(all: readonly Figure[]): void {
  const rows = all.map(({ name, value, unit, peer, peerValue, ratio }) => [name, short(value), unit, peer, peerValue === null ? '' : short(peerValue), ratio === null ? '' : `${ratio.toFixed(2)} ×`]);
  const table = [['figure', 'value', 'unit', 'peer', 'peer value', 'ratio'], ...rows];
  const widths = table[0]?.map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0))) ?? [];
  console.log();
  for (const row of table) console.log(row.map((cell, column) => ([1, 4, 5].includes(column) ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0))).join('  '));
  console.log();
  for (const { name, note } of all) if (note !== '') console.log(`${name}: ${note}`);
}

function short(value: number): string {
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en');
  return value.toFixed(Math.abs(value) < 10 ? 2 : 1);
}

function asJson(on: Machine, all: readonly Figure[]): Record<string, unknown> {
  return { machine: on, ...Object.fromEntries(all.map(({ name, ...figure }) => [name, figure])) };
}
