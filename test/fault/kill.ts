/** `npm run test:kill -- [runs] [first seed]`: the long form of gateway-kill.test.ts. Every tenth run begins a fresh chain. Exits 1 on any loss. */
import { killRun } from '#test/support/killRun.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const BAR_CELLS = 30;
const RUNS_PER_CHAIN = 10;

const runs = Number(process.argv[2] ?? 200);
const firstSeed = Number(process.argv[3] ?? 1);
if (!Number.isInteger(runs) || runs < 1 || !Number.isInteger(firstSeed)) throw new Error('usage: npm run test:kill -- [runs] [first seed]');

let acknowledged = 0;
let lost = 0;
let broken = 0;
let dir: TempDir | undefined;
for (let run = 0; run < runs; run++) {
  if (run % RUNS_PER_CHAIN === 0) {
    dir?.[Symbol.dispose]();
    dir = tempDir('kill');
  }
  if (dir === undefined) throw new Error('there is no data directory');
  const result = await killRun(dir.path, firstSeed + run);
  acknowledged += result.acknowledged;
  lost += result.lost.length;
  if (result.broken !== '') broken++;
  if (result.lost.length > 0 || result.broken !== '') console.log(`\nseed ${result.seed}: lost ${result.lost.join(' ') || 'nothing'} ${result.broken}`);
  const done = Math.round(((run + 1) / runs) * BAR_CELLS);
  const line = `[${'█'.repeat(done)}${'·'.repeat(BAR_CELLS - done)}] ${run + 1}/${runs} runs, ${acknowledged} acknowledged, ${lost} lost, ${broken} broken`;
  process.stdout.write(process.stdout.isTTY ? `\r${line}` : `${line}\n`);
}
dir?.[Symbol.dispose]();
console.log(`\n${runs} runs of kill -9, seeds ${firstSeed} to ${firstSeed + runs - 1}: ${acknowledged} messages acknowledged, ${lost} lost, ${broken} chains broken`);
process.exitCode = lost > 0 || broken > 0 ? 1 : 0;
