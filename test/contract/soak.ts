/** `npm run test:tpm -- [operations] [seed]`: the long form of tpm2-soak.test.ts, against a fresh swtpm. Exits 1 on a wrong answer or a leak. */
import { findPeer } from '#test/support/peers.ts';
import { startTpm } from '#test/support/swtpm.ts';
import { soak } from '#test/support/tpmSoak.ts';

const operations = Number(process.argv[2] ?? 100_000);
const seed = Number(process.argv[3] ?? 1);
if (!Number.isInteger(operations) || operations < 1 || !Number.isInteger(seed)) throw new Error('usage: npm run test:tpm -- [operations] [seed]');
const program = findPeer('swtpm');
if (program === undefined) throw new Error('swtpm is missing: apt-get install swtpm');

await using emulator = await startTpm(program);
const before = process.memoryUsage.rss();
const { done, broken, breaks, strays, left, latencies } = await soak({
  tpmAddress: emulator.address, operations, seed, breakOneIn: 150,
  onProgress: (count) => { if (process.stdout.isTTY && count % 100 === 0) process.stdout.write(`\r${count}/${operations}`); },
});
for (const [name, milliseconds] of [...latencies].toSorted(([a], [b]) => a.localeCompare(b))) {
  const sorted = milliseconds.toSorted((a, b) => a - b);
  const at = (part: number): string => (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN).toFixed(2);
  console.log(`${name.padEnd(10)} ${String(sorted.length).padStart(7)} times, p50 ${at(0.5)} ms, p99 ${at(0.99)} ms (two callers share the TPM)`);
}
console.log(`${done} operations, seed ${seed}: ${breaks} connections broken, ${broken} operations ended with one, no wrong answer; orphaned by breaks: ${strays.length}, leaked: ${left.join(' ') || 'nothing'}`);
console.log(`resident memory ${mebibytes(before)} → ${mebibytes(process.memoryUsage.rss())} MiB`);
process.exitCode = left.length > 0 ? 1 : 0;

function mebibytes(bytes: number): string { return (bytes / 1024 ** 2).toFixed(0); }
