/** `tenzro fleet plan`, as an operator calls it. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run, type Ran } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const COMMAND = join(ROOT, 'runtime', 'cli', 'tenzro.js');
const GROUPS = `
version: 1
groups:
  north: { where: "twin.site.region = 'north' and twin.software.version < '1.4.0'" }
  bench: { gateways: [gw-0, gw-99] }
  nobody: { where: "twin.site.region = 'south'" }
`;
const ROLLOUT = `
version: 1
rollout:
  id: firmware-1-4
  group: north
  command: { type: firmware_update, parameters: { version: 1.4.0 }, ttlSeconds: 600 }
  rollback: { type: firmware_update, parameters: { version: 1.3.0 }, ttlSeconds: 600 }
  stages:
    - { name: canary, count: 2, soakSeconds: 3600 }
    - { percent: 25, soakSeconds: 86400 }
    - { percent: 100 }
  healthy: "health.status = 'up'"
  failures: { percent: 5, max: 3 }
  onFailure: rollBack
`;

describe('cli: fleet plan', () => {
  let dir: TempDir;
  const plan = async (rollout = 'rollout.yaml', ...flags: readonly string[]): Promise<Ran> =>
    run(process.execPath, [COMMAND, 'fleet', 'plan', '--groups', 'groups.yaml', '--twins', 'twins.json', '--rollout', rollout, ...flags], { cwd: dir.path, env: { ...process.env, NO_COLOR: '1' } });
  const write = (name: string, text: string): void => { writeFileSync(join(dir.path, name), text); };

  before(() => {
    dir = tempDir('fleet-plan');
    const gateways = Object.fromEntries(Array.from({ length: 60 }, (_, at) => [`gw-${at}`, {
      twin: { site: { region: 'north' }, software: { version: at < 40 ? '1.3.2' : '1.4.0' } }, health: { status: at === 7 ? 'down' : 'up' },
    }]));
    write('twins.json', JSON.stringify({ version: 1, gateways }));
    write('groups.yaml', GROUPS);
    write('rollout.yaml', ROLLOUT);
  });
  after(() => { dir[Symbol.dispose](); });

  it('prints the stages and whom they touch, and that it is a dry run', async () => {
    const { code, stdout, output } = await plan();
    assert.equal(code, 0, output);
    assert.match(stdout, /^DRY RUN over files: nothing is sent/);
    assert.match(stdout, /group {4}north: 40 of 60 gateways\n/);
    assert.match(stdout, /up to 5 % of the gateways reached and 3 in all are borne; beyond, it stops and what changed is rolled back\n/);
    assert.match(stdout, /as they report now, 1 would not: gw-7\n/);
    assert.match(stdout, /1\. canary: 2 gateways \(2 of 40 reached\), soak 1 h, stops beyond 0 failed\n {3}gw-\d+ gw-\d+\n/);
    assert.match(stdout, /2\. stage 2: 8 gateways \(10 of 40 reached\), soak 1 d, stops beyond 0 failed\n/);
    assert.match(stdout, /3\. stage 3: 30 gateways \(40 of 40 reached\), soak 0 s, stops beyond 2 failed\n.* and 22 more\n$/);
  });

  it('says the same to scripts, each gateway once and the same each time', async () => {
    const [first, second] = await Promise.all([plan('rollout.yaml', '--json'), plan('rollout.yaml', '--json')]);
    assert.equal(first.stdout, second.stdout);
    const { dryRun, total, stages } = JSON.parse(first.stdout) as { dryRun: boolean; total: number; stages: readonly { gateways: readonly string[] }[] };
    const touched = stages.flatMap(({ gateways }) => gateways);
    assert.deepEqual([dryRun, total, touched.length, new Set(touched).size, stages.map(({ gateways }) => gateways.length)], [true, 40, 40, 40, [2, 8, 30]]);
  });

  it('points at what is wrong, and exits 2', async () => {
    write('nobody.yaml', ROLLOUT.replace('group: north', 'group: nobody'));
    write('nogroup.yaml', ROLLOUT.replace('group: north', 'group: nroth'));
    write('query.yaml', ROLLOUT.replace("health.status = 'up'", "health.status == 'up'"));
    write('yaml.yaml', 'version: 1\n  rollout: {');
    write('broken.json', '{');
    const wanted: readonly (readonly [string, RegExp])[] = [
      ['nobody.yaml', /group nobody has 0 gateways/], ['nogroup.yaml', /groups\.yaml has no group nroth; it has north, bench, nobody/], ['query.yaml', /rollout\.healthy: query, column 16: .*found '='/],
      ['yaml.yaml', /yaml\.yaml:1:10: /], ['broken.json', /broken\.json: not JSON/], ['absent.yaml', /cannot read absent\.yaml/],
    ];
    for (const [[file, why], { code, output }] of await Promise.all(wanted.map(async (row) => [row, await plan(row[0])] as const))) {
      assert.equal(code, 2, file);
      assert.match(output, why);
    }
  });

  it('exits 1 where a list names gateways that nobody has heard of', async () => {
    write('bench.yaml', ROLLOUT.replace('group: north', 'group: bench'));
    const { code, stdout } = await plan('bench.yaml');
    assert.equal(code, 1);
    assert.match(stdout, /unknown {2}gw-99: listed in the group, and not in twins\.json/);
  });
});
