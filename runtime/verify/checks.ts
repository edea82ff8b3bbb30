/** The verifier's checks: codes are stable, their order is the order of docs/design and of every report. Reference: docs/reference/verifier-checks.md. */
import { messageOf } from '#runtime/core/errors.ts';

export const CHECKS = [
  'bundle.format', 'bundle.digest', 'block.format', 'identity.genesis',
  'ek.chain', 'ek.enrolment', 'ak.attributes',
  'quote.signature', 'quote.extradata', 'quote.pcrs', 'quote.fresh',
  'entry.format', 'entry.inclusion', 'chain.previous', 'pcr14.fold', 'boot.log', 'boot.pcrs', 'ima.log', 'software.reference',
  'counter.name', 'counter.increasing', 'counter.continuous', 'clock.monotone',
  'signature.mldsa', 'signature.header', 'lease', 'receipt', 'tail', 'trust.policy',
] as const;
export type CheckCode = (typeof CHECKS)[number];

/** `unknown`: what it needs is not there, so nothing was learnt. `skipped`: it does not apply, or an earlier failure made it pointless. */
export type CheckResult = 'pass' | 'fail' | 'unknown' | 'skipped';

export interface Check {
  readonly code: CheckCode;
  readonly result: CheckResult;
  readonly detail: string;
}

export type Outcome = 'verified' | 'refuted' | 'undecided';

const NOT_MADE = 'not made';
/** Never reached, since the outcome was settled before. */
export const wasMade = ({ result, detail }: Check): boolean => result !== 'skipped' || !detail.startsWith(NOT_MADE);

/** Takes findings in the order of the work and gives them back in the order of the report. A failure is never overwritten. */
export class CheckBook {
  readonly #findings = new Map<CheckCode, Check>();
  #undecided = false;

  pass(code: CheckCode, detail: string): void { this.#note(code, 'pass', detail); }
  fail(code: CheckCode, detail: string): void { this.#note(code, 'fail', detail); }
  unknown(code: CheckCode, detail: string): void { this.#note(code, 'unknown', detail); }
  skip(code: CheckCode, detail: string): void { this.#note(code, 'skipped', detail); }
  /** The whole file cannot be judged: neither good nor bad. */
  undecided(code: CheckCode, detail: string): void { this.#undecided = true; this.unknown(code, detail); }

  get refuted(): boolean { return this.#findings.values().some((check) => check.result === 'fail'); }
  /** Nothing more can be learnt that would change the outcome. */
  get settled(): boolean { return this.refuted || this.#undecided; }
  /** `verified` only when every check was reached: a forgotten one can never look like a good one. */
  get outcome(): Outcome {
    if (this.refuted) return 'refuted';
    return this.#undecided || this.#findings.size < CHECKS.length ? 'undecided' : 'verified';
  }

  /** Runs one step; whatever it throws on hostile bytes fails `code`. */
  attempt<T>(code: CheckCode, step: () => T): T | undefined {
    try {
      return step();
    } catch (error) {
      this.fail(code, messageOf(error));
      return undefined;
    }
  }

  /** Every check, in report order; those never reached are skipped and say so. */
  report(): readonly Check[] {
    const why = `${NOT_MADE}: ${this.refuted ? 'an earlier check refuted the file' : 'the file could not be judged'}`;
    return CHECKS.map((code) => this.#findings.get(code) ?? { code, result: 'skipped', detail: why });
  }

  #note(code: CheckCode, result: CheckResult, detail: string): void {
    if (this.#findings.get(code)?.result !== 'fail') this.#findings.set(code, { code, result, detail });
  }
}
