/** `npm run soak`: the long form of chaos.test.ts. Exits 1 with the first invariant that does not hold and how to see it again. */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { chaosRun, type ChaosReport } from '#test/support/chaosRun.ts';
import type { Variant } from '#test/support/chaosFleet.ts';
import { tempDir } from '#test/support/temp.ts';

const VARIANTS: readonly Variant[] = ['mosquitto', 'own'];
const USAGE = 'usage: npm run soak -- [--commands 1000] [--entries 100000] [--seed 42] [--variant mosquitto|own] [--report FILE.json]';

const { values } = parseArgs({ options: { commands: { type: 'string', default: '1000' }, entries: { type: 'string', default: '100000' }, seed: { type: 'string', default: '42' }, variant: { type: 'string' }, report: { type: 'string' } } });
const [commands, entries, seed] = [values.commands, values.entries, values.seed].map(Number);
const variants = VARIANTS.filter((variant) => values.variant === undefined || values.variant === variant);
if (!isCount(commands) || !isCount(entries) || !isCount(seed) || variants.length === 0) throw new Error(USAGE);

const reports: Record<string, ChaosReport> = {};
for (const variant of variants) {
  using dir = tempDir('soak');
  console.log(`${variant}: ${commands} commands, ${entries} entries, seed ${seed}`);
  try {
    const report = await chaosRun(dir.path, { variant, commands, entries, seed, onProgress: tell });
    reports[variant] = report;
    console.log(`\n${variant}: every invariant holds\n${JSON.stringify(report, undefined, 2)}`);
  } catch (error) {
    console.error(`\n${variant}: VIOLATED\n`, error);
    console.error(`again: npm run soak -- --variant ${variant} --commands ${commands} --entries ${entries} --seed ${seed}`);
    process.exitCode = 1;
    break;
  }
}
if (values.report !== undefined) writeFileSync(values.report, `${JSON.stringify(reports, undefined, 2)}\n`);

function isCount(value: number | undefined): value is number { return value !== undefined && Number.isSafeInteger(value) && value >= 0; }

function tell(line: string): void { process.stdout.write(process.stdout.isTTY ? `\r${line}` : `${line}\n`); }
