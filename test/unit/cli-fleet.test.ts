import assert from 'node:assert/strict';
import { windowAt } from '#runtime/cli/fleet/window.ts';
import { servingLines } from '#runtime/cli/fleet/serving.ts';
import { barOf, Pace, standingOf } from '#runtime/cli/fleet/rolloutBar.ts';

const at = (text: string): number => Date.parse(text);
const spoken = ({ from, to }: { readonly from?: number; readonly to: number }): readonly string[] => [from === undefined ? 'open' : new Date(from * 1_000).toISOString(), new Date(to * 1_000).toISOString()];

describe('cli: maintenance windows of a command', () => {
  const cases: readonly (readonly [what: string, window: string, zone: string, now: string, expected: readonly string[]])[] = [
    ['the next one of today', '02:00-04:00', 'UTC', '2026-11-23T01:00:00Z', ['2026-11-23T02:00:00.000Z', '2026-11-23T04:00:00.000Z']],
    ['one that is open', '02:00-04:00', 'UTC', '2026-11-23T02:30:00Z', ['open', '2026-11-23T04:00:00.000Z']],
    ['tomorrow, when today\'s is over', '02:00-04:00', 'UTC', '2026-11-23T04:00:00Z', ['2026-11-24T02:00:00.000Z', '2026-11-24T04:00:00.000Z']],
    ['over midnight, before it', '23:00-01:00', 'UTC', '2026-11-23T22:00:00Z', ['2026-11-23T23:00:00.000Z', '2026-11-24T01:00:00.000Z']],
    ['over midnight, after it', '23:00-01:00', 'UTC', '2026-11-24T00:30:00Z', ['open', '2026-11-24T01:00:00.000Z']],
    ['in a zone ahead of UTC', '02:00-04:00', 'Asia/Tokyo', '2026-11-23T10:00:00Z', ['2026-11-23T17:00:00.000Z', '2026-11-23T19:00:00.000Z']],
    ['in a zone behind UTC', '20:00-22:00', 'America/Los_Angeles', '2026-11-24T05:00:00Z', ['open', '2026-11-24T06:00:00.000Z']],
    ['in summer time', '02:00-04:00', 'Europe/Berlin', '2026-07-01T12:00:00Z', ['2026-07-02T00:00:00.000Z', '2026-07-02T02:00:00.000Z']],
    ['in the night that has an hour twice', '01:00-04:00', 'Europe/Berlin', '2026-10-24T20:00:00Z', ['2026-10-24T23:00:00.000Z', '2026-10-25T03:00:00.000Z']],
    ['in the night that lacks an hour', '01:00-04:00', 'Europe/Berlin', '2026-03-28T20:00:00Z', ['2026-03-29T00:00:00.000Z', '2026-03-29T02:00:00.000Z']],
  ];
  for (const [what, window, zone, now, expected] of cases) it(`finds ${what}`, () => { assert.deepEqual(spoken(windowAt(window, zone, at(now))), expected); });

  it('refuses what is no window and no zone', () => {
    for (const window of ['2-4', '02:00', '24:00-25:00', '02:60-03:00', '']) assert.throws(() => windowAt(window, 'UTC', 0), { code: 'cli.usage' });
    assert.throws(() => windowAt('02:00-04:00', 'Mars/Olympus', 0), { code: 'cli.usage' });
  });
});

describe('cli: the bar of a roll-out', () => {
  const base = { id: 'fw', phase: 'running', isPaused: false, stage: 2, stages: 3, stageName: 'half', total: 24, waiting: 8, inFlight: 3, succeeded: 12, failed: 1, undone: 0, fraction: 0.5 };

  it('shows stage, progress, who is in flight, and an estimate', () => {
    assert.equal(barOf(standingOf(base), 0, 65_000), '2/3 half [████████████············] 12 ok, 1 failed, 3 in flight of 24, about 1:05 left');
    assert.equal(barOf(standingOf({ ...base, isPaused: true }), 0, 65_000), '2/3 half [████████████············] 12 ok, 1 failed, 3 in flight of 24, PAUSED');
    assert.equal(barOf(standingOf({ ...base, phase: 'soaking', inFlight: 0, failed: 0, soakUntil: new Date(3_723_000).toISOString() }), 0, undefined), '2/3 half [████████████············] 12 ok of 24, soaks 1:02:03');
  });

  it('keeps within the line of a terminal', () => {
    for (const columns of [120, 80, 60, 30, 2]) assert.ok(barOf(standingOf(base), 0, 65_000, columns).length < columns, `${columns}`);
    assert.equal(barOf(standingOf(base), 0, 65_000, 80), '2/3 half [████████········] 12 ok, 1 failed, 3 in flight of 24, about 1:05 left');
    assert.equal(barOf(standingOf(base), 0, 65_000, 60), '2/3 half 12 ok, 1 failed, 3 in flight of 24, about 1:05 left'.slice(0, 58) + '…');
  });

  it('survives whatever a controller of another version says', () => {
    for (const told of [{}, { fraction: 'NaN', stage: null, soakUntil: 'never' }, { fraction: 1e9 }, { fraction: -5 }]) assert.match(barOf(standingOf(told), 0, undefined), /^0\/0 {2}\[/);
  });

  it('estimates by what it saw, and by the soaks that are left', () => {
    const pace = new Pace();
    const standing = standingOf({ ...base, succeeded: 0, failed: 0 });
    pace.see(standing, 0);
    assert.equal(pace.left(standing, [0, 10_000, 5_000], 0), undefined, 'nothing was seen yet');
    const later = standingOf({ ...base, waiting: 6, inFlight: 4, succeeded: 10, failed: 0 });
    pace.see(later, 20_000);
    assert.equal(pace.left(later, [0, 10_000, 5_000], 20_000), 10 * 2_000 + 10_000 + 5_000);
  });
});

describe('cli: what a controller says of itself', () => {
  const plain = { paint: (text: string): string => text };

  it('names what is wrong, and bounds what is long', () => {
    const users = Array.from({ length: 25 }, (_, index) => `gw-${index}`);
    const lines = servingLines(plain, {
      name: 'hall', isReady: false, uptimeMs: 4_400, fault: 'no space', url: 'mqtts://hall:8883', receiptKey: 'ab', chains: 2, counters: { 'controller.blocks': 7 },
      broker: { host: '::', port: 8883, tlsVersion: 'TLSv1.3', groups: { X25519MLKEM768: 2 }, clients: 25, users }, register: { gateways: 3, policy: 'f'.repeat(64), isOpen: false, frozen: ['edge-1'], short: 1, acts: 9 },
    });
    assert.deepEqual(lines.slice(0, 3), ['hall: not connected, serves since 4 s', 'fault    no space', 'broker   mqtts://hall:8883 (its own, at :::8883), TLSv1.3, handshakes: 2 × X25519MLKEM768']);
    assert.match(lines[3] ?? '', /^clients {2}25: gw-0, [^]*gw-19 and 5 more/);
    assert.deepEqual(lines.slice(5), ['frozen   1: edge-1', 'short    1 chains fall short of the policy: tenzro fleet ls says which', 'acts     9', 'key      ab signs receipts and acts', '  controller.blocks  7']);
  });

  it('says who runs another broker, and survives what another version says', () => {
    assert.match(servingLines(plain, { url: 'mqtts://b:8883', broker: { keyExchange: 'X25519' } })[1] ?? '', /^broker {3}mqtts:\/\/b:8883 \(run by others, X25519\)$/);
    assert.ok(servingLines(plain, {}).every((line) => !line.includes('undefined')));
  });
});
