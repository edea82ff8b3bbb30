import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { BANS, EMPTY_NAMES } from './bans.ts';
import { adapterFaults, purityFaults, roomFaults } from './imports.ts';
import { blankComments, readSource, readText, ROOT, trackedFiles } from './sources.ts';

const LINES_MAX = 400;

describe('tidy', () => {
  const files = trackedFiles();
  const texts = files.filter((path) => /\.(?:[jt]s|json|md|ya?ml|sh|c|toml|rules|service)$/.test(path) || path === '.ci/run');
  const sources = new Map(files.filter((path) => /\.[jt]s$/.test(path)).map((path) => [path, readSource(path)]));

  const none = (faults: readonly string[]): void => {
    if (faults.length > 0) assert.fail(`\n  ${faults.join('\n  ')}`);
  };

  it('rooms import only what the architecture allows', () => none(roomFaults(sources)));
  it('core and the verifier reach no disk and no network', () => none(purityFaults(sources)));
  it('each npm package has one adapter, and native ones load lazily', () => none(adapterFaults(sources)));

  it('finds an import wherever it hides', () => {
    const probe = readSource('test/tidy/tidy.test.ts').imports.map(({ specifier }) => specifier);
    assert.ok(probe.includes('./bans.ts') && probe.includes('node:fs'));
    assert.equal(blankComments("a('//b'); // c\n/* d */ e(/[/*]/)"), "a('//b');     \n        e(/[/*]/)");
  });

  for (const { pattern, why, files: where, except, inComments } of BANS) {
    it(`has no ${pattern.source}: ${why}`, () => {
      const faults: string[] = [];
      for (const path of texts) {
        if (!where.test(path) || except?.test(path)) continue;
        const text = inComments ? readText(path) : (sources.get(path)?.code ?? '');
        for (const [at, line] of text.split('\n').entries()) if (pattern.test(line)) faults.push(`${path}:${at + 1}: ${line.trim()}`);
      }
      none(faults);
    });
  }

  it(`keeps every source within ${LINES_MAX} lines`, () => {
    none([...sources.values()].map(({ path, text }) => ({ path, lines: text.split('\n').length })).filter(({ lines }) => lines > LINES_MAX).map(({ path, lines }) => `${path}: ${lines}`));
  });

  it('has no folder or file whose name says nothing', () => none(files.filter((path) => EMPTY_NAMES.test(path))));

  it('has no file that explains itself by nothing', () => {
    const shipped = [...sources.values()].filter(({ path }) => /^(?:runtime|drivers|models)\/.*\.ts$/.test(path));
    none(shipped.filter(({ text }) => !text.includes('/**') && !text.startsWith('//')).map(({ path }) => `${path}: not one docstring`));
  });

  it('has documents whose links lead somewhere', () => {
    const faults: string[] = [];
    for (const path of files.filter((name) => name.endsWith('.md'))) {
      for (const [, target = ''] of readText(path).replace(/```[\s\S]*?```/g, '').matchAll(/\]\(([^)\s]+)\)/g)) {
        if (/^[a-z]+:/.test(target)) continue;
        const [file = '', anchor] = target.split('#');
        const linked = file === '' ? path : normalize(join(dirname(path), file));
        if (!existsSync(join(ROOT, linked))) faults.push(`${path}: ${target} is not there`);
        else if (anchor !== undefined && linked.endsWith('.md') && !anchorsOf(linked).has(anchor)) faults.push(`${path}: ${target} has no such heading`);
      }
    }
    none(faults);
  });
});

/** Headings as GitHub makes anchors of them. */
function anchorsOf(path: string): Set<string> {
  const headings = readText(path).matchAll(/^#{1,6}\s+(.+)$/gm);
  return new Set([...headings].map(([, title = '']) => title.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, '').trim().replace(/\s/g, '-')));
}
