/** Mocha's Spec reporter, with the reason of each skip and one closing line that scripts may rely on. */
import mocha, { type MochaOptions, type Runner } from 'mocha';
import { skipReason } from './skips.ts';

const { EVENT_RUN_END, EVENT_TEST_PENDING } = mocha.Runner.constants;

export default class Reporter extends mocha.reporters.Spec {
  constructor(runner: Runner, options: MochaOptions) {
    super(runner, options);
    runner.on(EVENT_TEST_PENDING, (test) => {
      const reason = skipReason(test);
      if (reason !== undefined) console.log(`${'  '.repeat(test.titlePath().length)}    skipped: ${reason}`);
    });
    // Registered after Spec's own listener: its list of failures comes first, this line last.
    runner.once(EVENT_RUN_END, () => {
      const { passes, failures, pending } = this.stats;
      console.log(`${passes} passed, ${failures} failed, ${pending} skipped`);
    });
  }
}
