import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CHECKS } from '#runtime/verify/checks.ts';
import { ERRORS } from '#runtime/core/errors.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const COLUMNS = 4;
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

/** Rows below the head, each a list of its cells. */
function attackRows(): readonly (readonly string[])[] {
  const [, table] = /<!-- attacks: begin[^\n]*\n([^]*?)<!-- attacks: end -->/.exec(read('docs/security.md')) ?? assert.fail('docs/security.md has no table of attacks');
  return (table ?? '').trim().split('\n').slice(2).map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()));
}

const testsOf = (cell: string): readonly string[] => [...cell.matchAll(/“([^”]+)”/g)].map(([, name = '']) => name);

/** Names of all attack tests, as their files spell them. */
function attackTests(): readonly string[] {
  return globSync('test/fault/attack-*.test.ts', { cwd: ROOT }).flatMap((path) => {
    const text = read(path);
    const names = [...text.matchAll(/\bit\('((?:\\'|[^'\n])+)'/g)].map(([, name = '']) => name.replaceAll('\\\'', '\''));
    assert.equal(names.length, [...text.matchAll(/\bit(?:\.\w+)?\(/g)].length, `${path}: names of attack tests are plain literals, so that the table can hold them`);
    return names;
  });
}

describe('docs/security.md, the table of attacks', () => {
  const rows = attackRows();

  it('has an attack, what stops it, and at least one test in every row', () => {
    assert.ok(rows.length > 0);
    for (const cells of rows) {
      const [attack, stops, , tests = ''] = cells;
      assert.ok(cells.length === COLUMNS && attack && stops && testsOf(tests).length > 0, cells.join(' | '));
    }
  });

  it('names every attack test once, and no test that is not there', () => {
    const [told, real] = [rows.flatMap((cells) => testsOf(cells[3] ?? '')), attackTests()];
    assert.deepEqual(real.filter((name) => !told.includes(name)), [], 'tests without a row');
    assert.deepEqual(told.filter((name) => !real.includes(name)), [], 'rows without a test');
    assert.deepEqual(told.filter((name, at) => told.indexOf(name) !== at), [], 'told twice');
    assert.deepEqual(real.filter((name, at) => real.indexOf(name) !== at), [], 'two tests of one name');
  });

  it('names only codes that exist', () => {
    const known = new Set<string>([...Object.keys(ERRORS), ...CHECKS]);
    const dotted = rows.flatMap(([, stops = '']) => [...stops.matchAll(/`([a-z0-9]+\.[a-z0-9_]+)`/g)].map(([, code = '']) => code));
    assert.deepEqual(dotted.filter((code) => !known.has(code) && !code.startsWith('appraise.')), []);
  });
});
