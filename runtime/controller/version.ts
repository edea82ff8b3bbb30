/** Versions in order of precedence: Semantic Versioning 2.0.0 §11, for any count of numbers (`1.4`, `2026.11.3-rc.1+build7`, `v2`). */
export interface Version {
  readonly numbers: readonly number[];
  /** Identifiers of a pre-release; none: a release. */
  readonly before: readonly string[];
}

const FORM = /^v?(?<numbers>\d{1,9}(?:\.\d{1,9}){0,7})(?:-(?<before>[0-9A-Za-z-]{1,32}(?:\.[0-9A-Za-z-]{1,32}){0,7}))?(?:\+[0-9A-Za-z.-]{1,64})?$/;
const NUMERIC = /^\d{1,15}$/;

/** Undefined for what is no version. */
export function parseVersion(text: string): Version | undefined {
  const groups = FORM.exec(text)?.groups;
  return groups && { numbers: (groups['numbers'] ?? '').split('.').map(Number), before: groups['before']?.split('.') ?? [] };
}

/** Negative, zero or positive. Numbers that are not written count as 0: 1.4 and 1.4.0 are the same. */
export function compareVersions(a: Version, b: Version): number {
  for (let at = 0; at < Math.max(a.numbers.length, b.numbers.length); at++) {
    const sign = Math.sign((a.numbers[at] ?? 0) - (b.numbers[at] ?? 0));
    if (sign !== 0) return sign;
  }
  if (a.before.length === 0 || b.before.length === 0) return Math.sign(b.before.length - a.before.length);
  for (const [at, left] of a.before.entries()) {
    const right = b.before[at];
    if (right === undefined) return 1;
    const sign = compareIdentifiers(left, right);
    if (sign !== 0) return sign;
  }
  return a.before.length < b.before.length ? -1 : 0;
}

/** §11.4: numbers by value and below words, words by ASCII. */
function compareIdentifiers(a: string, b: string): number {
  const [isNumberA, isNumberB] = [NUMERIC.test(a), NUMERIC.test(b)];
  if (isNumberA && isNumberB) return Math.sign(Number(a) - Number(b));
  if (isNumberA !== isNumberB) return isNumberA ? -1 : 1;
  return a < b ? -1 : Number(a > b);
}
