/** A verifier's report, and how people read it. Text of a hostile file must not steer the reader's terminal: it goes through `printable`. */
import type { KindName } from '#runtime/core/types.ts';
import { printable } from '#runtime/core/printable.ts';
import { wasMade, type Check, type CheckResult, type Outcome } from './checks.ts';
import { commandWords } from './commandWords.ts';
import type { EntryView } from './entryView.ts';
import type { TrustLevel } from './policy.ts';

export interface Report {
  readonly outcome: Outcome;
  /** Computed from the evidence, never claimed by the device; `none` where the file was refuted or not judged before that. */
  readonly trust: { readonly level: TrustLevel | 'none'; readonly reason: string };
  /** What the file speaks about. Only to be believed when the outcome is `verified`. */
  readonly subject: { readonly chainId: string; readonly device: string; readonly entries: readonly EntryView[] };
  readonly checks: readonly Check[];
}

export const EXIT_CODE: Readonly<Record<Outcome, number>> = { verified: 0, refuted: 1, undecided: 2 };

const MARK: Readonly<Record<CheckResult, string>> = { pass: '✓', fail: '✗', unknown: '?', skipped: '–' };
/** ECMA-48 select graphic rendition: green, red, yellow, dim. */
const COLOUR: Readonly<Record<CheckResult, number>> = { pass: 32, fail: 31, unknown: 33, skipped: 2 };
const HEADLINE: Readonly<Record<Outcome, { readonly text: string; readonly like: CheckResult }>> = {
  verified: { text: 'VERIFIED', like: 'pass' },
  refuted: { text: 'REFUTED', like: 'fail' },
  undecided: { text: 'COULD NOT BE JUDGED', like: 'unknown' },
};

/** Lines for a terminal, without line ends. */
export function renderReport(report: Report, options: { readonly colour: boolean }): readonly string[] {
  const paint = (text: string, like: CheckResult): string => (options.colour ? `\u001b[${COLOUR[like]}m${text}\u001b[0m` : text);
  const { outcome, trust, subject, checks } = report;
  const width = Math.max(...checks.map(({ code }) => code.length));
  const claim = outcome === 'verified' ? '' : ' (as the file claims; not to be believed)';
  return [
    paint(HEADLINE[outcome].text, HEADLINE[outcome].like),
    `trust   ${trust.level}: ${printable(trust.reason)}`,
    ...(subject.chainId === '' ? [] : [`device  ${printable(subject.device)}, chain ${subject.chainId}${claim}`]),
    ...subject.entries.filter(({ kind }) => !SUPPORTING.has(kind)).flatMap(renderEntry),
    ...subject.entries.filter(({ kind }) => SUPPORTING.has(kind)).map(renderSupport),
    '',
    ...checks.filter(wasMade).map(({ code, result, detail }) => `${paint(MARK[result], result)} ${code.padEnd(width)}  ${printable(detail)}`),
    ...renderUnmade(checks),
  ];
}

/** Many at once, for one reason. */
function renderUnmade(checks: readonly Check[]): readonly string[] {
  const unmade = checks.filter((check) => !wasMade(check));
  return unmade[0] ? [`${MARK.skipped} ${unmade.length} further checks ${unmade[0].detail}`] : [];
}

/** Kinds that a proof brings along for its verifier, whoever asked for what. */
const SUPPORTING: ReadonlySet<string> = new Set<KindName>(['measurement', 'enrolment', 'lease', 'keyEpoch']);
const SUPPORT_CHARACTERS_MAX = 160;

function renderSupport({ index, kind, time, body }: EntryView): string {
  const text = printable(JSON.stringify(body));
  return `beside  ${index}  ${time}  ${kind} ${text.length > SUPPORT_CHARACTERS_MAX ? `${text.slice(0, SUPPORT_CHARACTERS_MAX)}…` : text}`;
}

/** One line of frame, one of content. */
function renderEntry(view: EntryView): readonly string[] {
  const { index, kind, source, time, body } = view;
  return [`entry   ${index}  ${time}  ${kind} of ${printable(source)}`, `        ${printable(commandWords(view) ?? JSON.stringify(body))}`];
}
