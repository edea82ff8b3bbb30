import assert from 'node:assert/strict';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { readActs, openActs } from '#runtime/controller/acts.ts';
import { checkActs, decodeAct } from '#runtime/controller/actsCodec.ts';
import { registeredIn } from '#runtime/controller/register.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import { controllerKey } from '#test/support/fleetRegister.ts';
import { Program } from '#test/support/process.ts';
import { randomOf } from '#test/support/random.ts';
import { tempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const RUNS = Number(process.env['TENZRO_KILL_RUNS'] ?? 5);
const LIFE_MS_MAX = 150;
const VICTIM = join(import.meta.dirname, '..', 'support', 'registerVictim.ts');
const STATE: Readonly<Record<string, string>> = { 'gateway.begun': 'begun', 'gateway.claimed': 'claimed', 'gateway.revoked': 'revoked' };

/** Whatever a controller had reached: the last act about each gateway and what the register says of it are the same, and what it had answered is there. */
describe('register: kill -9', function () {
  this.timeout(60_000);

  it(`finds act and effect together, or neither, over ${RUNS} kills`, async () => {
    using dir = tempDir('register-kill');
    const random = randomOf(20_261_123);
    const answered = new Set<string>();
    for (let run = 0; run < RUNS; run++) {
      await using victim = new Program(process.execPath, [VICTIM, dir.path]);
      await until('a first gateway', () => victim.stdout.includes('edge-'), { hopeless: () => (victim.running ? undefined : victim.output) });
      await delay(random(LIFE_MS_MAX));
      await victim.end('SIGKILL');
      for (const name of victim.stdout.split('\n').slice(0, -1)) answered.add(name);
      await using store = await openKeyValueStore(dir.path, undefined, 'keep');
      const acts = readActs(store).toArray();
      const { broken, count } = checkActs(acts, controllerKey.publicKey);
      assert.deepEqual([broken, count], [undefined, openActs(store).count], `run ${run}`);
      const told = new Map(acts.map((cose) => decodeAct(cose)).map(({ about, what }) => [about, STATE[what]]));
      assert.deepEqual(new Map(Array.from(registeredIn(store), ({ name, state }) => [name, state])), told, `run ${run}`);
      assert.deepEqual([...answered].filter((name) => !told.has(name)), [], `run ${run}`);
    }
  });
});
