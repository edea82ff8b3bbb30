import assert from 'node:assert/strict';
import { fuzz } from '#test/support/fuzzRun.ts';
import { FUZZ_TARGETS } from '#test/support/fuzzTargets.ts';

/** `npm run test:fuzz` is the long form. */
const INPUTS = 3_000;
const FIRST_SEED = Math.floor(Math.random() * 1_000_000_000);

/** These answer what they think of the input, and never throw. */
const ANSWERS: ReadonlySet<string> = new Set(['bundle', 'bundle.mended', 'image.size', 'tls.session', 'tpm.signature']);

describe(`decoders under bent input, seeds from ${FIRST_SEED}`, function () {
  this.timeout(60_000);

  for (const target of FUZZ_TARGETS.keys()) {
    it(`${target}: a typed error or a value, never a crash, a hang or growing memory`, async () => {
      const { refused } = await fuzz({ target, firstSeed: FIRST_SEED, count: INPUTS });
      assert.ok(refused > 0 || ANSWERS.has(target), 'every input was taken: the bending does not reach the decoder');
    });
  }
});
