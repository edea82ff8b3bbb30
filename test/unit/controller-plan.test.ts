import assert from 'node:assert/strict';
import { membersOf, parseGroups, parseViews } from '#runtime/controller/groups.ts';
import { failuresBorne, orderOf, parseRollout, planFile, stageEnds } from '#runtime/controller/rolloutPlan.ts';

const rollout = (changes: Readonly<Record<string, unknown>> = {}): unknown =>
  ({ version: 1, rollout: { id: 'r1', group: 'north', command: { type: 'restart' }, stages: [{ count: 2 }, { percent: 100 }], failures: { percent: 10 }, ...changes } });
const fleet = parseViews({ version: 1, gateways: { 'gw-2': { twin: { site: { region: 'north' } } }, 'gw-1': { twin: { site: { region: 'north' } }, health: { status: 'up' } }, 'gw-3': {} } });

describe('controller: groups and plans', () => {
  it('takes a group by list and by query, each gateway once and in order', () => {
    const groups = parseGroups({ version: 1, groups: { some: { gateways: ['gw-3', 'gw-1', 'gw-3', 'gw-9'] }, north: { where: "twin.site.region = 'north'" } } });
    const members = [...groups.values()].map((group) => membersOf(group, fleet));
    assert.deepEqual(members, [{ gateways: ['gw-1', 'gw-3'], unknown: ['gw-9'] }, { gateways: ['gw-1', 'gw-2'], unknown: [] }]);
  });

  it('cannot be lied to about the id', () => {
    assert.throws(() => parseViews({ version: 1, gateways: { 'gw-1': { id: 'gw-2' } } }), /unknown key 'id'/);
  });

  const badFiles: readonly (readonly [string, () => unknown, RegExp])[] = [
    ['another version', () => parseGroups({ version: 2, groups: {} }), /version must be 1/],
    ['list and query', () => parseGroups({ version: 1, groups: { a: { gateways: ['x'], where: 'exists id' } } }), /either gateways or where/],
    ['a query with a mistake', () => parseGroups({ version: 1, groups: { a: { where: "id ~ 'x'" } } }), /groups\.a\.where: query, column 4/],
    ['a gateway without a name', () => parseGroups({ version: 1, groups: { a: { gateways: ['gw 1'] } } }), /groups\.a\.gateways\[0\]: "gw 1" is no name/],
    ['a name that a broker would corrupt', () => parseViews({ version: 1, gateways: { 'gw.1': {} } }), /no name/],
    ['a deep twin', () => parseViews({ version: 1, gateways: { gw: { twin: JSON.parse(`${'['.repeat(40)}${']'.repeat(40)}`) as unknown } } }), /gateways\.gw: nests deeper/],
    ['an unknown key', () => parseRollout(rollout({ stage: [] })), /unknown key 'stage'/],
    ['no end', () => parseRollout(rollout({ stages: [{ percent: 50 }] })), /the last one must be percent: 100/],
    ['no stages', () => parseRollout(rollout({ stages: [] })), /list of 1 to/],
    ['count and percent', () => parseRollout(rollout({ stages: [{ count: 1, percent: 100 }] })), /either count or percent/],
    ['no threshold', () => parseRollout(rollout({ failures: {} })), /needs percent, max, or both/],
    ['an unknown command', () => parseRollout(rollout({ command: { type: 'format_disk' } })), /rollout\.command\.type: 'format_disk' is none of/],
    ['an answer before the command ends', () => parseRollout(rollout({ command: { type: 'restart', ttlSeconds: 60 }, answerSeconds: 59 })), /answerSeconds \(at least ttlSeconds\) must be a whole number from 60/],
    ['a way back that is not there', () => parseRollout(rollout({ onFailure: 'rollBack' })), /there is no rollout\.rollback/],
    ['health with a mistake', () => parseRollout(rollout({ healthy: 'health.status' })), /rollout\.healthy: query, column 14/],
  ];
  for (const [what, parse, why] of badFiles) {
    it(`refuses ${what}`, () => assert.throws(parse, (error) => (error as { code?: string }).code === 'fleet.file' && why.test((error as Error).message)));
  }

  it('writes a plan that reads back as the same plan', () => {
    const plan = parseRollout(rollout({
      rollback: { type: 'config_update', parameters: { a: [1, null] }, ttlSeconds: 5 }, healthy: "health.status = 'up'", failures: { percent: 5, max: 3 }, onFailure: 'rollBack', concurrency: 7, attempts: 2,
      stages: [{ name: 'canary', count: 1, soakSeconds: 9 }, { percent: 100 }],
    }));
    assert.deepEqual(parseRollout(JSON.parse(JSON.stringify(planFile(plan)))), plan);
  });

  it('ends stages where they say, never before the one before, and bears by what is reached', () => {
    const { stages } = parseRollout(rollout({ stages: [{ count: 5 }, { percent: 10 }, { percent: 34 }, { percent: 100 }] }));
    assert.deepEqual([stageEnds(stages, 30), stageEnds(stages, 3), stageEnds(stages, 1_000)], [[5, 5, 11, 30], [3, 3, 3, 3], [5, 100, 340, 1_000]]);
    const plan = parseRollout(rollout({ failures: { percent: 10, max: 20 } }));
    assert.deepEqual([2, 10, 99, 1_000].map((reached) => failuresBorne(plan, reached)), [0, 1, 9, 20]);
  });

  it('orders gateways the same way each time, and differently for each roll-out', () => {
    const names = Array.from({ length: 50 }, (_, at) => `gw-${at}`);
    assert.deepEqual(orderOf('r1', names), orderOf('r1', names.toReversed()));
    assert.deepEqual([...orderOf('r1', names)].toSorted(), names.toSorted());
    assert.notDeepEqual(orderOf('r1', names), orderOf('r2', names));
  });
});
