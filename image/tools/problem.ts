/** What stops a build, for the person at the terminal: what is wrong and what to do. These never leave the machine that builds. */
export type ProblemKind = 'not-root' | 'missing-program' | 'lock' | 'unreachable' | 'wrong-bytes' | 'emulation' | 'failed';

export class BuildProblem extends Error {
  readonly kind: ProblemKind;

  /** `hint`: what to do next, one sentence. */
  constructor(kind: ProblemKind, message: string, hint: string, options: { cause?: unknown } = {}) {
    super(`${message}\n${hint}`, options);
    this.name = 'BuildProblem';
    this.kind = kind;
  }
}

/** Tells what is being done; build programs print it with the seconds that it took. */
export type Progress = (line: string) => void;

/** Runs one step and reports its seconds. */
export async function timed<T>(name: string, progress: Progress, step: () => Promise<T>): Promise<T> {
  const from = performance.now();
  const result = await step();
  progress(`${name}: ${((performance.now() - from) / 1_000).toFixed(1)} s`);
  return result;
}
