import assert from 'node:assert/strict';
import { factsIn, statusIn } from '#drivers/slots/raucSays.ts';
import type { Slot, SlotsStatus } from '#runtime/core/ports.ts';
import { afterStart, type AfterStart } from '#runtime/update/afterStart.ts';
import { beginGate, step, type GateInput, type Look } from '#runtime/update/gate.ts';
import { judgeBundle } from '#runtime/update/policy.ts';
import { compareVersions } from '#runtime/update/version.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run } from '#test/support/process.ts';

const LIMITS = { steadyMs: 20_000, withinMs: 600_000, isOfflineFine: false };
const HEALTHY: Look = { pid: 7, isReady: true, stalled: [], blocks: 1, fleet: 'none' };
const slot = (name: string, state: Slot['state'], version: string): Slot => ({ name, state, version: { kind: 'value', value: version } });
const status = (facts: Partial<SlotsStatus> = {}): SlotsStatus => ({ compatible: 'pi', booted: slot('A', 'good', '0.1.0+2'), other: slot('B', 'good', '0.1.0+1'), next: 'A', ...facts });

/** What the gate says of looks at these seconds. */
function gate(looks: readonly (readonly [second: number, look: GateInput['look']])[], limits = LIMITS): { readonly did: string; readonly missing: readonly string[] } {
  let state = beginGate(0);
  for (const [second, look] of looks) {
    const next = step(state, { nowMs: second * 1_000, look }, limits);
    state = next.state;
    if (next.effect.do !== 'wait') return { did: `${next.effect.do} at ${second}`, missing: next.effect.do === 'fail' ? next.effect.missing : [] };
  }
  return { did: 'wait', missing: state.missing };
}

describe('update: rules', () => {
  it('orders versions as dpkg does', async function () {
    requirePeer(this, 'dpkg-deb');
    const versions = ['0.1.0', '0.1.0+20261123.101500.1a2b3c4', '0.1.0+20261123.101500.1a2b3c5', '0.1.0+20261124.000000.0000000', '0.1.0~rc1', '0.1.10', '0.1.9', '1:0.0.1', '0.1.0-2', '0.1.0-10', '0.1.0a', '0.1.0+a', '007', '7'];
    const asked = versions.flatMap((a) => versions.map((b) => [a, b] as const));
    const { stdout } = await run('sh', ['-c', asked.map(([a, b]) => `if dpkg --compare-versions '${a}' lt '${b}'; then echo -1; elif dpkg --compare-versions '${a}' eq '${b}'; then echo 0; else echo 1; fi`).join('; ')]);
    assert.deepEqual(asked.map(([a, b]) => [a, b, Math.sign(compareVersions(a, b))]), stdout.trim().split('\n').map((said, index) => [...(asked[index] ?? []), Number(said)]));
  });

  it('installs what is newer and for this machine, over no way back, and what is older with consent only', () => {
    const judge = (version: string, policy: Partial<Parameters<typeof judgeBundle>[2]> = {}, facts: Partial<SlotsStatus> = {}): string => judgeBundle({ compatible: 'pi', version }, status(facts), { isDowngradeAllowed: false, ...policy });
    assert.equal(judge('0.1.0+3'), 'install');
    assert.equal(judge('0.1.0+2'), 'already');
    assert.throws(() => judge('0.1.0+1'), { code: 'update.older' });
    assert.equal(judge('0.1.0+1', { isDowngradeAllowed: true }), 'install');
    assert.throws(() => judge('0.1.0+3', {}, { compatible: 'toaster' }), { code: 'update.compatible' });
    assert.throws(() => judge('0.1.0+3', { isDowngradeAllowed: true }, { booted: slot('A', 'trial', '0.1.0+2') }), { code: 'update.on_trial' });
    assert.throws(() => judge('0.1.0+3', { returnedVersion: '0.1.0+3' }), { code: 'update.returned' });
    assert.equal(judge('0.1.0+4', { returnedVersion: '0.1.0+3' }), 'install');
  });

  it('keeps a system that stays healthy, in one process', () => {
    assert.equal(gate([[0, { unanswered: 'not yet' }], [5, { ...HEALTHY, blocks: 0 }], [10, HEALTHY], [29, HEALTHY], [30, HEALTHY]]).did, 'commit at 30');
    assert.equal(gate([[10, HEALTHY], [29, { ...HEALTHY, isReady: false }], [30, HEALTHY], [49, HEALTHY], [50, HEALTHY]]).did, 'commit at 50');
    assert.deepEqual(gate([[10, HEALTHY], [29, { ...HEALTHY, pid: 8 }], [31, { ...HEALTHY, pid: 8 }]]).did, 'wait');
  });

  it('gives up a system that lacks anything for too long, and says what', () => {
    const failing = (look: GateInput['look'], limits = LIMITS): readonly string[] => gate([[1, look], [599, look], [600, look]], limits).missing;
    assert.deepEqual(failing({ unanswered: 'no gateway runs' }), ['the gateway does not answer: no gateway runs']);
    assert.deepEqual(failing({ ...HEALTHY, isReady: false, stalled: ['infer'], blocks: 0, fleet: 'offline' }), ['the disk does not take entries', 'no progress in infer', 'no block was sealed since the start', "no fleet's broker was reached"]);
    assert.equal(gate([[10, { ...HEALTHY, fleet: 'offline' }], [30, { ...HEALTHY, fleet: 'offline' }]], { ...LIMITS, isOfflineFine: true }).did, 'commit at 30');
    assert.equal(gate([[10, { ...HEALTHY, fleet: 'reached' }], [30, { ...HEALTHY, fleet: 'reached' }]]).did, 'commit at 30');
    const crashing = Array.from({ length: 70 }, (_, index) => [index * 10, { ...HEALTHY, pid: index }] as const);
    assert.deepEqual(gate(crashing), { did: 'fail at 620', missing: ['it has not stayed healthy for 20 s in one process'] });
  });

  it('makes of every start what the slots say', () => {
    const runsB = { booted: slot('B', 'trial', '3'), next: 'B' };
    const cases: readonly (readonly [Parameters<typeof afterStart>[0], Partial<SlotsStatus>, AfterStart])[] = [
      [{ phase: 'installing', slot: 'B', restarts: 0 }, {}, 'interrupted'], [{ phase: 'installing', slot: 'B', restarts: 0 }, { next: 'B' }, 'interrupted'], [{ phase: 'installing', slot: 'B', restarts: 0 }, runsB, 'trial'],
      [{ phase: 'trial', slot: 'B', restarts: 1 }, { next: 'B' }, 'restart'], [{ phase: 'trial', slot: 'B', restarts: 3 }, { next: 'B' }, 'returned'], [{ phase: 'trial', slot: 'B', restarts: 1 }, runsB, 'trial'],
      [{ phase: 'trial', slot: 'B', restarts: 1 }, { booted: slot('B', 'good', '3') }, 'committed'], [{ phase: 'trial', slot: 'B', restarts: 1 }, {}, 'returned'],
      [{ phase: 'committed', slot: 'B', restarts: 1 }, {}, 'committed'], [{ phase: 'returned', slot: 'B', restarts: 1 }, runsB, 'returned'],
    ];
    for (const [record, facts, expected] of cases) assert.equal(afterStart(record, status(facts)), expected, JSON.stringify([record, facts]));
  });

  it('reads what RAUC 1.13 says, and nothing else', () => {
    const text = (value: string): object => ({ type: 's', data: value });
    const inspected = { type: 'a{sv}', data: [{ update: { type: 'v', data: { type: 'a{sv}', data: { version: text('0.1.0+2'), compatible: text('pi') } } }, 'manifest-hash': text('e9') }] };
    assert.deepEqual(factsIn(JSON.stringify(inspected)), { compatible: 'pi', version: '0.1.0+2' });
    for (const strange of ['', '[]', '{"data":[]}', '{"data":[{"update":1}]}', '{"data":["pi",""]}']) assert.throws(() => factsIn(strange), { name: 'TenzroError' });
    for (const strange of ['null', '{"slots":[{"rootfs.0":{"bootname":"A"}}],"booted":"A"}', '{"slots":7}']) assert.throws(() => statusIn(strange, { version: '1', committed: {} }), { code: 'update.slots' });
  });
});
