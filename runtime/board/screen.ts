/** What a screen of 80 × 24 and a serial console show: who this is, how it is, and until it has an owner the code that makes it somebody's. Pure. */
import { printable } from '#runtime/core/printable.ts';
import type { BoardFault } from './dataState.ts';

export interface ShownCode {
  /** Lines of the QR code, of equal width. */
  readonly qr: readonly string[];
  /** As it is typed, in groups. */
  readonly text: string;
}

export interface ScreenView {
  /** Product and version. */
  readonly title: string;
  readonly host: string;
  readonly addresses: readonly string[];
  /** In one line. */
  readonly state: string;
  /** Further lines: owner, fleets, words to compare. */
  readonly lines: readonly string[];
  readonly faults: readonly BoardFault[];
  /** Only where it can be used. */
  readonly code: ShownCode | undefined;
}

const COLUMNS = 80;
const ROWS = 24;
/** Beside the code, with a blank before it. */
const GAP = 2;
const ADDRESSES_MAX = 4;
const SCAN = 'This gateway has no owner. Scan the code with tenzro fleet claim, or type it:';

/** A page for a screen: code on the left, words beside and below it. `qrColumns`: width of the code without colours. */
export function pageOf(view: ScreenView, qrColumns: number): readonly string[] {
  const { code } = view;
  if (!code) return fit([...headOf(view).flatMap((line) => wrapped(line, COLUMNS)), '', ...faultLines(view, COLUMNS)], ROWS);
  const beside = COLUMNS - qrColumns - GAP;
  const words = [...headOf(view), '', SCAN, '', code.text].flatMap((line) => wrapped(line, beside));
  const faults = faultLines(view, beside);
  const right = fit([...words, '', ...faults], code.qr.length);
  return code.qr.map((line, at) => `${line}${' '.repeat(GAP)}${right[at] ?? ''}`);
}

/** Lines one below the other, for a console that only goes on. The code stands on a line of its own, without its blanks. */
export function linesOf(view: ScreenView): readonly string[] {
  const { code } = view;
  return ['', ...headOf(view), ...faultLines(view, COLUMNS), ...code ? [SCAN, ...code.qr, code.text.replaceAll(' ', '')] : []];
}

function headOf({ title, host, addresses, state, lines }: ScreenView): readonly string[] {
  const more = addresses.length > ADDRESSES_MAX ? [`${addresses.length - ADDRESSES_MAX} more`] : [];
  return [title, printable(host), addresses.length === 0 ? 'no network' : [...addresses.slice(0, ADDRESSES_MAX), ...more].join(', '), printable(state), ...lines.map(printable)];
}

const faultLines = ({ faults }: ScreenView, columns: number): readonly string[] => faults.flatMap(({ code, detail, hint }) => [...wrapped(printable(`! ${detail} (${code})`), columns), ...wrapped(hint, columns)]);

/** The end is named where it does not fit. */
function fit(lines: readonly string[], rows: number): readonly string[] {
  return lines.length <= rows ? lines : [...lines.slice(0, rows - 1), '… more: tenzro status'];
}

/** At blanks where there are some, else anywhere. */
function wrapped(line: string, columns: number): readonly string[] {
  const rows: string[] = [];
  let row = '';
  for (const word of line.split(' ').flatMap((text) => text.match(new RegExp(`.{1,${columns}}`, 'gu')) ?? [''])) {
    if (row === '') row = word;
    else if (row.length + 1 + word.length <= columns) row += ` ${word}`;
    else {
      rows.push(row);
      row = word;
    }
  }
  return [...rows, row];
}
