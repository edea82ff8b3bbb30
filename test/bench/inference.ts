/** Inferences per second of the whole follower (read, decode, window, run, append, flush) beside a bare session loop with the same batch. */
import { loadPackage } from '#models/package.ts';
import { openSession } from '#models/session.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { MODELS_DIR, motorReadings, startGateway } from '#test/support/inferHarness.ts';
import { startLedger, tempDir } from '#test/support/ledger.ts';
import { until } from '#test/support/until.ts';

export interface InferenceFigures {
  readonly followerPerS: number;
  readonly sessionPerS: number;
  readonly batch: number;
}

const NAME = 'motor-vibration';

/** `windows` windows of four readings, recorded before the clock starts. */
export async function benchInference(windows: number): Promise<InferenceFigures> {
  return { followerPerS: await followerRate(windows), sessionPerS: await sessionRate(windows), batch: LIMITS.inferBatchMax };
}

async function followerRate(windows: number): Promise<number> {
  await using dir = await tempDir();
  const motor = motorReadings('device/motor//', 1);
  const readings = Array.from({ length: 64 }, () => motor(0));
  {
    await using ledger = await startLedger(dir.path);
    for (let i = 0; i < 4 * windows; i += readings.length) await Promise.all(readings.map(async (reading) => ledger.append(reading)));
  }
  await using gateway = await startGateway(dir.path);
  await until('the model', () => gateway.inference.status()[0]?.state.kind === 'value', { intervalMs: 1 });
  const [startMs, before] = [performance.now(), gateway.inference.status()[0]?.inferences ?? 0];
  await until('all windows', () => (gateway.inference.status()[0]?.inferences ?? 0) >= windows, { timeoutMs: 120_000, intervalMs: 2 });
  return (windows - before) / ((performance.now() - startMs) / 1000);
}

async function sessionRate(windows: number): Promise<number> {
  const loaded = await loadPackage(MODELS_DIR, NAME);
  await using session = await openSession(loaded);
  const batch = LIMITS.inferBatchMax;
  const rows = new Float32Array(batch * loaded.manifest.input.shape[1]);
  const startMs = performance.now();
  for (let done = 0; done < windows; done += batch) await session.run(rows, batch);
  return windows / ((performance.now() - startMs) / 1000);
}
