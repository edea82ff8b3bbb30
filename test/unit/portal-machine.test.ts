import assert from 'node:assert/strict';
import { CLOSED, step, type Ownership, type PortalEffect, type PortalInput, type PortalState } from '#provisioning/portal/portal.ts';

const TIMES = { waitMs: 60_000, openMs: 600_000 };
const look = (nowMs: number, more: Partial<Extract<PortalInput, { kind: 'look' }>> = {}): PortalInput => ({ kind: 'look', nowMs, ownership: 'free', hasNetwork: false, isUsed: false, ...more });

/** Phase after each input, and what was to be done. */
function played(inputs: readonly PortalInput[]): { readonly phases: readonly string[]; readonly effects: readonly PortalEffect[]; readonly state: PortalState } {
  const phases: string[] = [];
  const effects: PortalEffect[] = [];
  let state = CLOSED;
  for (const input of inputs) {
    const next = step(state, input, TIMES);
    ({ state } = next);
    phases.push(state.phase.kind);
    effects.push(...next.effects);
  }
  return { phases, effects, state };
}

const OPEN = [look(0), look(60_000), { kind: 'opened', nowMs: 60_500, isKnown: false }] as const satisfies readonly PortalInput[];

describe('portal: when the access point opens', () => {
  it('waits for a network to come by itself, and opens where none does', () => {
    assert.deepEqual(played([look(0), look(59_999), look(60_000)]), { phases: ['waiting', 'waiting', 'open'], effects: ['open'], state: { phase: { kind: 'open', untilMs: undefined }, last: undefined } });
    assert.deepEqual(played([look(0), look(30_000, { hasNetwork: true }), look(31_000), look(90_999), look(91_000)]).phases, ['waiting', 'off', 'waiting', 'waiting', 'open']);
  });

  it('never opens for a gateway that has an owner or a network, and closes when it gets one', () => {
    assert.deepEqual(played([look(0, { ownership: 'owned' }), look(100_000, { ownership: 'owned' }), look(200_000, { hasNetwork: true })]).effects, []);
    for (const more of [{ ownership: 'owned' as const }, { hasNetwork: true }]) assert.deepEqual(played([...OPEN, look(70_000, more)]).effects, ['open', 'close']);
  });

  it('stands still while somebody claims the gateway', () => {
    const { phases, effects } = played([look(0), look(60_000, { ownership: 'busy' }), look(61_000), look(62_000, { ownership: 'busy', hasNetwork: true })]);
    assert.deepEqual([phases, effects], [['waiting', 'waiting', 'open', 'open'], ['open']]);
  });

  it('gives known networks another chance, but not while somebody looks at the page', () => {
    const known = [look(0), look(60_000), { kind: 'opened', nowMs: 60_000, isKnown: true } as const];
    const { phases, effects } = played([...known, look(660_000, { isUsed: true }), look(700_000), look(759_999), look(760_000)]);
    assert.deepEqual([phases.slice(3), effects], [['open', 'waiting', 'waiting', 'open'], ['open', 'close', 'open']]);
    assert.equal(played([...OPEN, look(86_400_000)]).phases.at(-1), 'open', 'nothing else could come');
  });

  it('waits again where the radio does not open it', () => {
    assert.deepEqual(played([look(0), look(60_000), { kind: 'notOpened', nowMs: 61_000 }, look(120_999), look(121_000)]).phases, ['waiting', 'open', 'waiting', 'waiting', 'open']);
  });

  it('notices that something else took the radio, clears up and opens again', () => {
    const lost = { kind: 'lost', nowMs: 70_000 } as const;
    const { phases, effects } = played([...OPEN, lost, look(129_999), look(130_000)]);
    assert.deepEqual([phases.slice(3), effects], [['waiting', 'waiting', 'open'], ['open', 'close', 'open']]);
    assert.deepEqual(played([look(0), lost]).effects, [], 'what is not open cannot be lost');
  });

  it('tries what was handed over, ends when it works, and comes back with the reason when it does not', () => {
    const handed = [...OPEN, { kind: 'handed', network: 'hall' } as const];
    const worked = played([...handed, look(80_000), { kind: 'tried', nowMs: 90_000, reason: undefined }]);
    assert.deepEqual([worked.phases.slice(3), worked.effects, worked.state.last], [['trying', 'trying', 'off'], ['open', 'try'], { network: 'hall', reason: undefined }]);
    const failed = played([...handed, { kind: 'tried', nowMs: 90_000, reason: 'wrong' }, look(90_001)]);
    assert.deepEqual([failed.phases.slice(3), failed.effects, failed.state.last], [['trying', 'waiting', 'open'], ['open', 'try', 'open'], { network: 'hall', reason: 'wrong' }]);
    assert.deepEqual(played([...handed, { kind: 'tried', nowMs: 90_000, reason: 'wrong' }, look(90_001, { ownership: 'owned' })]).phases.at(-1), 'off', 'who was claimed meanwhile opens nothing');
  });

  it('has the access point open in no other phase, whatever comes in whatever order', () => {
    let isOpen = false;
    let state = CLOSED;
    let seed = 7;
    const random = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below; // MINSTD: the same each time
    const owners: readonly Ownership[] = ['free', 'free', 'free', 'busy', 'owned'];
    let opened = 0;
    for (let nowMs = 0; nowMs < 20_000 * 20_000; nowMs += 20_000) {
      const inputs: readonly PortalInput[] = [
        look(nowMs, { ownership: owners[random(5)] ?? 'free', hasNetwork: random(6) === 0, isUsed: random(2) === 0 }), look(nowMs), { kind: 'opened', nowMs, isKnown: random(2) === 0 },
        { kind: 'lost', nowMs }, { kind: 'handed', network: 'n' }, { kind: 'tried', nowMs, reason: random(2) === 0 ? 'no' : undefined },
      ];
      const next = step(state, inputs[random(inputs.length)] ?? look(nowMs), TIMES);
      ({ state } = next);
      for (const effect of next.effects) {
        assert.equal(isOpen, effect !== 'open', `${effect} while it is ${isOpen ? 'open' : 'closed'}`);
        isOpen = effect === 'open';
        if (isOpen) opened += 1;
      }
      assert.equal(state.phase.kind === 'open', isOpen);
    }
    assert.ok(opened > 100, `${opened}`);
  });
});
