/** A PDF sheet of labels to print and stick on: each with its QR code, a name, and the code as text. PDF 1.4 (ISO 32000-1), drawn as vectors, without fonts of its own. */
import { spacedClaimCode } from './code.ts';
import { QUIET_MODULES, modulesOf } from './qr.ts';

export interface Label {
  readonly code: string;
  /** What people call the gateway; what Latin-1 cannot show is a question mark, and what does not fit is cut. */
  readonly name: string;
}

/** Points in a millimetre. */
const MM = 72 / 25.4;
/** A4, three by seven labels of 63.5 mm × 38.1 mm, as Avery L7160 and its like are cut. */
const SHEET = { width: 210, height: 297, columns: 3, rows: 7, left: 7.25, top: 15.15, pitchX: 66.05, pitchY: 38.1, labelHeight: 38.1 } as const;
const PER_PAGE = SHEET.columns * SHEET.rows;
/** Millimetres: the symbol with its margin, and the text right of it. */
const QR_SIDE = 33;
const INSET = 1.5;
/** Points. Courier is 0.6 of its size wide. */
const TEXT = { name: 8, code: 6, lineGap: 7.4 } as const;
const NAME_CHARACTERS_MAX = 15;
const GROUPS_PER_LINE = 3;

/** At least one label. */
export function labelSheet(labels: readonly Label[]): Buffer {
  const pages = Array.from({ length: Math.ceil(labels.length / PER_PAGE) }, (_, page) => labels.slice(page * PER_PAGE, (page + 1) * PER_PAGE));
  return documentOf(pages.map((page) => page.map(drawLabel).join('\n')));
}

function drawLabel({ code, name }: Label, place: number): string {
  const left = SHEET.left + (place % SHEET.columns) * SHEET.pitchX + INSET;
  const middle = SHEET.height - SHEET.top - Math.floor(place / SHEET.columns) * SHEET.pitchY - SHEET.labelHeight / 2;
  return `${drawModules(code, left, middle - QR_SIDE / 2)}\n${drawText(code, name, (left + QR_SIDE) * MM, (middle + QR_SIDE / 2 - INSET) * MM)}`;
}

/** `left` and `bottom` in millimetres, of the margin. Runs of dark modules are one rectangle (ISO 32000-1 §8.5.2). */
function drawModules(code: string, left: number, bottom: number): string {
  const modules = modulesOf(code);
  const side = (QR_SIDE / (modules.length + 2 * QUIET_MODULES)) * MM;
  const rectangles = modules.flatMap((row, y) => runsOf(row).map(([from, length]) => {
    const corner = [left * MM + (from + QUIET_MODULES) * side, bottom * MM + (modules.length + QUIET_MODULES - 1 - y) * side];
    return `${[...corner, length * side, side].map((value) => value.toFixed(3)).join(' ')} re`;
  }));
  return `0 g\n${rectangles.join('\n')}\nf`;
}

/** Start and length of each run of dark modules. */
function runsOf(row: readonly boolean[]): readonly (readonly [from: number, length: number])[] {
  const runs: (readonly [number, number])[] = [];
  for (let from = row.indexOf(true); from >= 0; from = row.indexOf(true, from)) {
    const end = row.indexOf(false, from);
    runs.push([from, (end < 0 ? row.length : end) - from]);
    from += runs.at(-1)?.[1] ?? 0;
  }
  return runs;
}

/** From the point downwards. ISO 32000-1 §9.4. */
function drawText(code: string, name: string, x: number, y: number): string {
  const groups = spacedClaimCode(code).split(' ');
  const lines = [groups.slice(0, 1), ...Array.from({ length: Math.ceil((groups.length - 1) / GROUPS_PER_LINE) }, (_, line) => groups.slice(1 + line * GROUPS_PER_LINE, 1 + (line + 1) * GROUPS_PER_LINE))];
  const shown = [name.slice(0, NAME_CHARACTERS_MAX), '', ...lines.map((line) => line.join(' '))];
  const commands = shown.map((line, at) => `/${at === 0 ? 'B' : 'C'} ${at === 0 ? TEXT.name : TEXT.code} Tf (${escaped(line)}) Tj T*`);
  return `BT ${TEXT.lineGap} TL ${x.toFixed(3)} ${(y - TEXT.name).toFixed(3)} Td ${commands.join(' ')} ET`;
}

/** A literal string, ISO 32000-1 §7.3.4.2. */
const escaped = (text: string): string => text.replaceAll(/[^\x20-\x7e\u00a0-\u00ff]/gu, '?').replaceAll(/[\\()]/g, String.raw`\$&`);

/** Objects 1 catalogue, 2 page tree, 3 and 4 fonts, then a page and its contents in turn (ISO 32000-1 §7.5). */
function documentOf(pages: readonly string[]): Buffer {
  const font = (name: string): string => `<< /Type /Font /Subtype /Type1 /BaseFont /${name} /Encoding /WinAnsiEncoding >>`;
  const pageNumber = (page: number): number => 5 + page * 2;
  const objects = [
    '<< /Type /Catalog /Pages 2 0 R >>',
    `<< /Type /Pages /Count ${pages.length} /Kids [${pages.map((_, page) => `${pageNumber(page)} 0 R`).join(' ')}] >>`,
    font('Helvetica-Bold'), font('Courier'),
    ...pages.flatMap((content, page) => [
      `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 ${(SHEET.width * MM).toFixed(2)} ${(SHEET.height * MM).toFixed(2)}] /Resources << /Font << /B 3 0 R /C 4 0 R >> >> /Contents ${pageNumber(page) + 1} 0 R >>`,
      `<< /Length ${content.length} >>\nstream\n${content}\nendstream`,
    ]),
  ];
  const offsets: number[] = [];
  let body = '%PDF-1.4\n';
  for (const [at, object] of objects.entries()) {
    offsets.push(body.length);
    body += `${at + 1} 0 obj\n${object}\nendobj\n`;
  }
  const entries = offsets.map((offset) => `${String(offset).padStart(10, '0')} 00000 n \n`).join('');
  const table = `xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${entries}trailer\n<< /Size ${objects.length + 1} /Root 1 0 R >>\nstartxref\n${body.length}\n%%EOF\n`;
  return Buffer.from(body + table, 'latin1');
}
