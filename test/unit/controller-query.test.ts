import assert from 'node:assert/strict';
import { matches, type GatewayView } from '#runtime/controller/query.ts';
import { parseQuery, QueryError } from '#runtime/controller/queryParser.ts';
import { compareVersions, parseVersion } from '#runtime/controller/version.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { randomOf } from '#test/support/random.ts';

const VIEW: GatewayView = {
  id: 'gw-7', health: { status: 'up', temperature: 61.5 },
  twin: { site: { region: 'north', 'line-2': true }, software: { version: '1.4.0-rc.2' }, tags: ['a'], odd: { version: 'unknown' } },
};
const holds = (text: string): boolean => matches(parseQuery(text), VIEW);

describe('controller: queries over the twin', () => {
  const truths: readonly (readonly [string, boolean])[] = [
    ["id = 'gw-7'", true], ["id != 'gw-7'", false], ["id in ['gw-1', 'gw-7']", true], ["id ^= 'gw-'", true], ["id ^= 'edge'", false],
    ["twin.site.region = 'north' and health.status = 'up'", true], ["twin.site.region = 'south' or health.status = 'up'", true], ["not twin.site.region = 'south'", true],
    ['twin.site.line-2 = true', true], ['twin.site.line-2 = false', false], ['health.temperature < 70', true], ['health.temperature >= 61.5', true], ['health.temperature > -1', true],
    ["twin.software.version < '1.4.0'", true], ["twin.software.version >= '1.4.0-rc.1'", true], ["twin.software.version > '1.10'", false], ["twin.odd.version < '9'", false], ["twin.odd.version >= '0'", false],
    ['exists twin.software', true], ['exists twin.nothing', false], ["twin.nothing = 'x'", false], ["twin.nothing != 'x'", true], ["twin.tags.0 = 'a'", false], ["health.temperature = '61.5'", false],
    ["id = 'a' or id = 'gw-7' and id = 'b'", false], ["(id = 'a' or id = 'gw-7') and not (id = 'b')", true], ["not not id = 'gw-7'", true], [" id='gw-7'and(exists id) ", true],
  ];
  for (const [text, is] of truths) it(`${text} is ${is}`, () => assert.equal(holds(text), is));

  it('reads what is reported, and nothing that JavaScript adds', () => {
    for (const path of ['constructor', '__proto__', 'twin.constructor.name', 'twin.__proto__.toString', 'id.length', 'twin.tags.length', 'toString']) assert.equal(holds(`exists ${path}`), false, path);
  });

  const mistakes: readonly (readonly [string, number, RegExp])[] = [
    ['', 1, /expected a name.*found the end/], ['id', 3, /expected =, .*found the end/], ["id = 'a", 6, /quote is not closed/], ['id = ', 5, /found the end/], ["id == 'a'", 5, /found '='/], ["id = 'a' id", 10, /'and', 'or' or the end/],
    ["(id = 'a'", 10, /expected '\)'/], ["id in 'a'", 7, /expected '\['/], ["id in ['a' 'b']", 12, /expected '\]'/], ['id in []', 8, /found '\]'/], ["twin.v < 'new'", 10, /is no version/], ['twin.v < true', 10, /expected a text/],
    ['id ^= 3', 7, /expected a text/], ["id = 'a' & id = 'b'", 10, /'&' begins nothing/], ['id = "a"', 6, /'"' begins nothing/], ["and = 'a'", 1, /expected a name/], ["twin..x = 'a'", 5, /'.' begins nothing/], ['id = 3x', 6, /begins nothing/], ["id = 'a'; drop", 9, /';' begins nothing/],
  ];
  for (const [text, column, why] of mistakes) {
    it(`${text === '' ? 'an empty query' : text} is refused at column ${column}`, () => {
      assert.throws(() => parseQuery(text), (error) => error instanceof QueryError && error.code === 'fleet.query' && error.column === column && why.test(error.message));
    });
  }

  it('is bounded in length, depth and terms', () => {
    const many = (part: string, by: string, times: number): string => Array.from({ length: times }, () => part).join(by);
    assert.throws(() => parseQuery(many("a='b'", ' or ', 200)), { code: 'fleet.query' });
    assert.throws(() => parseQuery(many('a=1', ' or ', LIMITS.queryTermsMax + 1)), /more than/);
    assert.throws(() => parseQuery(`a in [${many('1', ',', LIMITS.queryTermsMax + 1)}]`), /more than/);
    assert.throws(() => parseQuery(`${'('.repeat(300)}a=1`), /nests deeper/);
    assert.throws(() => parseQuery(`${'not '.repeat(200)}a=1`), /nests deeper/);
    assert.ok(parseQuery(many('a=1', ' or ', LIMITS.queryTermsMax)));
  });

  it('takes any text at all: a query, or an error within it', () => {
    const random = randomOf(3);
    const parts = ['id', 'twin.a', ' ', '=', "'x'", "'", '(', ')', 'and', 'or', 'not', 'in', '[', ']', ',', '1', '-2.5', '<', '>=', '^=', '!', 'exists', 'true', '\n', '☃', '\0'];
    let parsed = 0;
    for (let round = 0; round < 20_000; round++) {
      const text = Array.from({ length: 2 + random(random(2) === 0 ? 3 : 10) }, () => parts[random(parts.length)]).join(random(2) === 0 ? ' ' : '');
      try {
        assert.equal(typeof matches(parseQuery(text), VIEW), 'boolean');
        parsed++;
      } catch (error) {
        assert.ok(error instanceof QueryError && error.column >= 1 && error.column <= text.length + 1, text);
      }
    }
    assert.ok(parsed > 20, `${parsed} parsed`);
  });

  it('orders versions as SemVer 2.0.0 §11 does', () => {
    const ordered = ['0.9', '1.0.0-alpha', '1.0.0-alpha.1', '1.0.0-alpha.beta', '1.0.0-beta', '1.0.0-beta.2', '1.0.0-beta.11', '1.0.0-rc.1', '1.0.0', '1.2', '1.10', '2026.11.3'];
    for (const [at, left] of ordered.entries()) {
      for (const [place, right] of ordered.entries()) {
        const [a, b] = [parseVersion(left), parseVersion(right)];
        assert.ok(a && b);
        assert.equal(compareVersions(a, b), Math.sign(at - place), `${left} ${right}`);
      }
    }
    const [a, b] = [parseVersion('v1.4+build.7'), parseVersion('1.4.0')];
    assert.ok(a && b && compareVersions(a, b) === 0);
    for (const text of ['', '1.', '.1', '1..2', '1.2-', '1.2-é', '9999999999', 'x1', `1${'.1'.repeat(9)}`]) assert.equal(parseVersion(text), undefined, text);
  });
});
