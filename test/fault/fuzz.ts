/** `npm run test:fuzz -- [inputs per target] [first seed] [target …]`: the long form of decoders-fuzz.test.ts. Exits 1 on any crash, hang or growth. */
import { messageOf } from '#runtime/core/errors.ts';
import { fuzz } from '#test/support/fuzzRun.ts';
import { FUZZ_TARGETS } from '#test/support/fuzzTargets.ts';

const count = Number(process.argv[2] ?? 500_000);
const firstSeed = Number(process.argv[3] ?? 1);
const chosen = process.argv.slice(4);
const targets = chosen.length > 0 ? chosen : [...FUZZ_TARGETS.keys()];
if (!Number.isInteger(count) || count < 1 || !Number.isInteger(firstSeed)) throw new Error('usage: npm run test:fuzz -- [inputs per target] [first seed] [target …]');

let inputs = 0;
for (const target of targets) {
  const name = target.padEnd(20);
  try {
    const { accepted, refused, earlyBytes, lateBytes, seconds } = await fuzz({ target, firstSeed, count }, (done) => {
      if (process.stdout.isTTY) process.stdout.write(`\r${name} ${Math.floor((100 * done) / count)} %`);
    });
    inputs += count;
    console.log(`\r${name} ${count} inputs in ${seconds.toFixed(1)} s: ${refused} refused, ${accepted} taken; memory ${mebibytes(earlyBytes)} → ${mebibytes(lateBytes)} MiB`);
  } catch (error) {
    process.exitCode = 1;
    console.log(`\r${name} FAILED: ${messageOf(error)}`);
  }
}
console.log(`${inputs} inputs over ${targets.length} targets from seed ${firstSeed}`);

function mebibytes(bytes: number): string { return (bytes / 1024 ** 2).toFixed(0); }
