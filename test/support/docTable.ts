/** Reference pages whose tables come from the code: checked by tests, rewritten by `TENZRO_UPDATE_DOCS=1 npx mocha <the test>`. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const BEGIN = '<!-- table: begin (checked by a test) -->\n';
const END = '<!-- table: end -->\n';

export function assertDocTable(page: string, rows: readonly (readonly string[])[]): void {
  const file = fileURLToPath(new URL(`../../docs/reference/${page}`, import.meta.url));
  const text = readFileSync(file, 'utf8');
  const [begin, end] = [text.indexOf(BEGIN) + BEGIN.length, text.indexOf(END)];
  assert.ok(begin >= BEGIN.length && end >= begin, `${page} has no table marks`);
  const [head = [], ...body] = rows;
  const line = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`;
  const table = line(head) + line(head.map(() => '---')) + body.map(line).join('');
  if (process.env['TENZRO_UPDATE_DOCS'] === '1') writeFileSync(file, text.slice(0, begin) + table + text.slice(end));
  else assert.equal(text.slice(begin, end), table, `${page} is behind the code: TENZRO_UPDATE_DOCS=1 npx mocha this test`);
}
