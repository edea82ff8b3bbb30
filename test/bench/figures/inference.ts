/** The whole follower (read, decode, window, run, append, flush) beside a loop that does nothing but call the same session. */
import { loadPackage } from '#models/package.ts';
import { openSession } from '#models/session.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { MODELS_DIR, motorReadings, startGateway } from '#test/support/inferHarness.ts';
import { startLedger, tempDir } from '#test/support/ledger.ts';
import { until } from '#test/support/until.ts';
import { paired, ratePerSecond, type Bench, type Figure } from '../figure.ts';

const NAME = 'motor-vibration';
const READINGS_PER_WINDOW = 4;

/** `windows` windows of four readings, recorded before the clock starts. */
async function followerRate(windows: number): Promise<number> {
  await using dir = await tempDir();
  const motor = motorReadings('device/motor//', 1);
  const readings = Array.from({ length: 64 }, () => motor(0));
  {
    await using ledger = await startLedger(dir.path);
    for (let i = 0; i < READINGS_PER_WINDOW * windows; i += readings.length) await Promise.all(readings.map(async (reading) => ledger.append(reading)));
  }
  await using gateway = await startGateway(dir.path);
  await until('the model', () => gateway.inference.status()[0]?.state.kind === 'value', { intervalMs: 1 });
  const [startMs, before] = [performance.now(), gateway.inference.status()[0]?.inferences ?? 0];
  await until('all windows', () => (gateway.inference.status()[0]?.inferences ?? 0) >= windows, { timeoutMs: 120_000, intervalMs: 2 });
  return (windows - before) / ((performance.now() - startMs) / 1000);
}

export const inference: Bench = {
  name: 'inference',
  async run({ isQuick, say }): Promise<Figure[]> {
    say('inference follower and bare session in turn');
    const loaded = await loadPackage(MODELS_DIR, NAME);
    await using session = await openSession(loaded);
    const rows = new Float32Array(LIMITS.inferBatchMax * loaded.manifest.input.shape[1]).fill(0.5);
    const bare = (count: number): Promise<number> => ratePerSecond(isQuick ? 200 : 1_000, async () => {
      await session.run(rows, count);
      return count;
    });
    await bare(1);
    const [ours, theirs, batched]: [number[], number[], number[]] = [[], [], []];
    for (let round = 0; round < (isQuick ? 3 : 7); round++) {
      ours.push(await followerRate(isQuick ? 2_048 : 16_384));
      theirs.push(await bare(1));
      batched.push(await bare(LIMITS.inferBatchMax));
    }
    return [
      paired('inferences_per_s', 'inferences/s', ours, 'bare session loop, one row a call', theirs, `${NAME} on ${session.provider}; each inference decodes ${READINGS_PER_WINDOW} entries of 16 channels and is an entry itself, which is what limits it`),
      paired('inferences_per_s_batched_peer', 'inferences/s', ours, `bare session loop, ${LIMITS.inferBatchMax} rows a call`, batched, 'the same against batches as large as ours'),
    ];
  },
};
