import assert from 'node:assert/strict';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { readLog, startGateway } from '#test/support/inferHarness.ts';
import { tempDir } from '#test/support/ledger.ts';
import { Program } from '#test/support/process.ts';
import { randomOf } from '#test/support/random.ts';
import { until } from '#test/support/until.ts';

const KILLS = Number(process.env['TENZRO_TEST_KILLS'] ?? 4);

describe('infer: kill −9', function () {
  this.timeout(20_000 + KILLS * 5_000);

  it(`loses no inference and doubles none over ${KILLS} kills at random moments`, async () => {
    const random = randomOf(7);
    await using dir = await tempDir();
    for (let kill = 0; kill < KILLS; kill++) {
      await using victim = new Program(process.execPath, [join(import.meta.dirname, '..', 'support', 'inferVictim.ts'), dir.path]);
      await until('the victim to judge', () => victim.stdout.includes('judging'), { hopeless: () => (victim.running ? undefined : victim.output) });
      await delay(random(150)); // the random moment
      await victim.end('SIGKILL');
    }
    {
      await using gateway = await startGateway(dir.path);
      await until('the follower to catch up', () => gateway.inference.processed() > 0 && gateway.inference.processed() === gateway.ledger.size);
    }
    const { inferences, expected } = await readLog(dir.path);
    assert.ok(inferences.length > KILLS);
    for (const [source, windows] of expected) assert.deepEqual(inferences.filter((item) => item.source === source).map(({ inputs }) => inputs), windows, source);
  });
});
