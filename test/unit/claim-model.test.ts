/** Every interleaving of a claim up to a bound, against an attacker who is the network, on ideal keys. */
import assert from 'node:assert/strict';
import { isLocked } from '#provisioning/claim/device.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { finishWork, firstWorld, keyOf, makerOf, nextSteps, NEXT_SECRET, SECRET, showCodes, startClaim, toClaimer, toDevice, type Bounds, type World } from '#test/support/claimModel.ts';
import { partsOf, term } from '#test/support/claimTerms.ts';

const BOUNDS: Bounds = { attempts: 1, offers: 2, crashes: 0, powerCycles: 0, releases: false, commands: false, rotates: false, forges: 'nothing' };

interface Explored {
  readonly states: number;
  readonly transitions: number;
  /** Whether every path ended before the depth did. */
  readonly complete: boolean;
  readonly reached: ReadonlySet<string>;
}

/** Breadth first. A fault names the way to it. */
function explore(first: World, bounds: Bounds, depthMax: number): Explored {
  const seen = new Map<string, string>([[keyOf(first), 'start']]);
  const reached = new Set<string>();
  let frontier = [first];
  let transitions = 0;
  for (let depth = 0; depth < depthMax && frontier.length > 0; depth += 1) {
    const next: World[] = [];
    for (const world of frontier) {
      const way = seen.get(keyOf(world)) ?? '';
      for (const { label, world: after } of nextSteps(world, bounds)) {
        transitions += 1;
        const key = keyOf(after);
        if (seen.has(key)) continue;
        seen.set(key, `${way} → ${label}`);
        try {
          judgeStep(world, after);
          judgeWorld(after);
        } catch (cause) {
          throw new Error(`${way} → ${label}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
        }
        for (const { name, believed } of after.claimers) for (const outcome of Object.values(believed)) reached.add(`${name} ${outcome}`);
        if (after.disk.lastOrder) reached.add(`device ${after.disk.lastOrder.standing}`);
        reached.add(`device ${isLocked(after.device) ? 'locked' : after.device.phase.kind}`);
        next.push(after);
      }
    }
    frontier = next;
  }
  return { states: seen.size, transitions, complete: frontier.length === 0, reached };
}

const ownerOf = ({ disk }: World): string | undefined => disk.owner && toHex(disk.owner.claimId);

function judgeStep(before: World, after: World): void {
  const [was, is] = [before.disk.owner, after.disk.owner];
  const isSame = keyOf([was?.claimId, was?.ownerKeys]) === keyOf([is?.claimId, is?.ownerKeys]);
  assert.equal(after.disk.generation - before.disk.generation, isSame ? 0 : 1, 'a generation is a claim or an order');
  if (!was || isSame) return;
  assert.ok(!is || toHex(is.claimId) === toHex(was.claimId), 'an owner was replaced');
  const isOrdered = before.known.some((message) => message.kind === 'order' && partsOf(message.body)[2] === String(before.disk.generation) && was.ownerKeys.some((key) => term('signed order', key, message.body) === message.signature));
  const isCommanded = !is && before.commanded === toHex(was.claimId);
  assert.ok(isOrdered || isCommanded, 'an owner was lost, or got other keys, without an order of this generation or a command by one of the keys then');
}

function judgeWorld(world: World): void {
  const { device, disk, settings } = world;
  const owner = ownerOf(world);
  assert.equal(disk.burnt.length > 0, disk.generation > 0, 'the secret is burnt exactly when ownership is committed');
  assert.ok(disk.failures.count <= LIMITS.claimFailuresMax && world.wrong <= LIMITS.claimFailuresMax, 'more secrets were tried than five');
  if (isLocked(device)) assert.notEqual(device.phase.kind, 'offered', 'a locked device offers nothing');
  const handOver = device.phase.kind === 'applying' ? device.phase.owner : disk.owner;
  if (handOver) judgeMaker(world, handOver);
  if (device.phase.kind === 'open') {
    if (owner === undefined) assert.equal(settings.kind, 'none', 'settings of nobody are in force');
    else assert.deepEqual(settings, { kind: 'kept', claimId: owner }, 'an owned device works with its owner\'s settings');
  }
  for (const { name, believed } of world.claimers) {
    for (const [claimId, outcome] of Object.entries(believed)) {
      if (outcome === 'owned') assert.ok(owner === claimId || world.commanded !== undefined || world.known.some(({ kind }) => kind === 'order'), `${name} believes in a claim that was not committed`);
      else assert.notEqual(owner, claimId, `${name} gave up a claim that was committed`);
    }
  }
  judgeExit(world);
}

/** Only who knows the secret hands over, and only for the session that they themselves began. */
function judgeMaker(world: World, { handOver, claimId, words }: { readonly handOver: Uint8Array; readonly claimId: Uint8Array; readonly words: string }): void {
  const made = makerOf(handOver);
  assert.equal(toHex(made.claimId), toHex(claimId), 'the hand-over is for another claim');
  const claimer = world.claimers.find(({ name }) => name === made.name);
  assert.ok([SECRET, NEXT_SECRET].some((secret) => secret === claimer?.secret), 'a hand-over was taken from one who does not know the secret');
  const record = claimer?.disk;
  if (record && toHex(record.claimId) === toHex(claimId)) assert.equal(record.words, words, 'the two sides show different words');
}

const exits = new Map<string, boolean>();

/** From every state time alone leads the device to rest, and then an honest claim succeeds unless it is owned or locked; claimers end, or may ask. */
function judgeExit(world: World): void {
  for (const [at, claimer] of world.claimers.entries()) {
    const { kind } = toClaimer(world, at, { kind: 'tick', nowMicros: Number.MAX_SAFE_INTEGER }).claimers[at]?.state ?? claimer.state;
    assert.ok(['idle', 'ended', 'unknown'].includes(kind), `${claimer.name} is stuck`);
  }
  const key = keyOf([world.device, world.disk, world.work]);
  if (exits.has(key)) return;
  exits.set(key, true);
  let resting: World = { ...world, claimers: [{ name: 'Late', secret: world.disk.generation > 0 ? NEXT_SECRET : SECRET, state: { kind: 'idle' }, attempts: 0, asked: 0, believed: {} }], known: [] };
  for (let round = 0; round < 4 && resting.device.phase.kind !== 'open'; round += 1) resting = settle(toDevice(resting, { kind: 'tick', nowMicros: Number.MAX_SAFE_INTEGER }));
  assert.equal(resting.device.phase.kind, 'open', 'the device is stuck');
  const claimed = honest(startClaim(showCodes({ ...settle(resting), isReleased: resting.disk.generation > 0 }), 0));
  if (resting.disk.owner || isLocked(resting.device)) assert.equal(claimed.claimers[0]?.state.kind, 'ended');
  else assert.deepEqual(Object.values(claimed.claimers[0]?.believed ?? {}), ['owned'], 'a new claim does not work');
}

/** Work that is under way ends well. */
function settle(world: World): World {
  let now = world;
  while (now.work.length > 0) now = finishWork(now, 0, 'done');
  return now;
}

/** Nobody disturbs: each side gets what the other sent last. */
function honest(begun: World): World {
  let world = begun;
  let delivered = new Set<string>();
  for (let round = 0; round < 12; round += 1) {
    for (const message of world.known) {
      if (delivered.has(keyOf(message))) continue;
      delivered = new Set([...delivered, keyOf(message)]);
      world = settle(toDevice(world, { kind: 'received', message, nowMicros: 0 }));
      world = toClaimer(world, 0, { kind: 'received', message, nowMicros: 0 });
    }
    const own = nextSteps(world, BOUNDS).find(({ label }) => /challenges|accepts the device|writes/.test(label));
    if (own) world = own.world;
  }
  return world;
}

const ANNA = { name: 'Anna', secret: SECRET };
const BEN = { name: 'Ben', secret: SECRET };

describe('claim, explored', function () {
  this.timeout(120_000);

  const report = (name: string, { states, transitions, complete }: Explored): void => { console.log(`      ${name}: ${states} states, ${transitions} transitions${complete ? ', all there are' : ''}`); };
  const run = (title: string, first: World, { bounds, depth, reaches }: { readonly bounds: Partial<Bounds>; readonly depth: number; readonly reaches: readonly string[] }): void => {
    it(title, () => {
      const explored = explore(first, { ...BOUNDS, ...bounds }, depth);
      report(title, explored);
      for (const goal of reaches) assert.ok(explored.reached.has(goal), `never reached: ${goal}`);
    });
  };

  run('one claimer, crashes and time-outs everywhere', firstWorld([ANNA]), { bounds: { crashes: 1 }, depth: 17, reaches: ['Anna owned', 'Anna failed', 'device writing'] });
  run('one claimer who begins again', firstWorld([ANNA]), { bounds: { attempts: 2 }, depth: 18, reaches: ['Anna owned', 'Anna failed'] });
  run('two claimers with the same code', firstWorld([ANNA, BEN]), { bounds: {}, depth: 15, reaches: ['Anna owned', 'Ben owned', 'Anna failed', 'Ben failed'] });
  run('a man in the middle who does not know the secret', firstWorld([ANNA]), { bounds: { forges: 'everything' }, depth: 13, reaches: ['Anna owned', 'Anna failed'] });
  run('an attacker who asks in the operator\'s place and replays the answers', firstWorld([ANNA]), { bounds: { offers: 1, forges: 'questions' }, depth: 16, reaches: ['Anna owned', 'Anna failed'] });
  run('a release, a second owner by a new code, and who photographed the old one', afterClaim(), { bounds: { offers: 2, releases: true }, depth: 16, reaches: ['Anna owned', 'Ben owned', 'Mallory failed'] });
  run('a release by command, carried out late and again, a second owner, and who photographed the old code', afterClaim(), { bounds: { offers: 2, commands: true }, depth: 16, reaches: ['Anna owned', 'Ben owned', 'Mallory failed', 'device writing', 'device reading'] });
  run('a rotation by the second key, and orders by the keys before and after it', afterClaim(), { bounds: { offers: 1, crashes: 1, releases: true, rotates: true }, depth: 7, reaches: ['device rotated', 'device released', 'device writing'] });
  run('a claimer with a wrong secret', firstWorld([{ name: 'Mallory', secret: term('guess') }], { failures: { boot: 'boot 0', count: LIMITS.claimFailuresMax - 1 } }), { bounds: { attempts: 2, powerCycles: 1 }, depth: 12, reaches: ['Mallory failed', 'device locked'] });

  it('what a session left behind is nobody\'s: its settings that come up late commit no later claim', () => {
    const toTrial = ['Anna starts', 'device gets hello', 'Anna gets offer', 'Anna challenges', 'device gets accept', 'device\'s prove done', 'Anna gets proof', 'Anna accepts the device', 'Anna writes', 'device gets handOver'];
    const bounds: Bounds = { ...BOUNDS, attempts: 2 };
    const late = follow(firstWorld([ANNA]), ['device times out', 'Anna gets standing', 'Anna may begin anew', ...toTrial].toSpliced(0, 0, ...toTrial), bounds);
    assert.equal(late.device.phase.kind, 'applying');
    assert.deepEqual(late.work.map(({ kind }) => kind), ['apply', 'apply']);
    assert.equal(finishWork(late, 0, 'done').device.phase.kind, 'applying');
    assert.equal(finishWork(late, 1, 'done').device.phase.kind, 'writing');
  });
});

/** Anna owns the device; Ben waits for its next code, Mallory has the one before. */
function afterClaim(): World {
  const owned = honest(startClaim(firstWorld([ANNA]), 0));
  assert.ok(owned.disk.owner);
  const { claimers: waiting } = firstWorld([{ name: 'Ben', secret: NEXT_SECRET }, { name: 'Mallory', secret: SECRET }]);
  return { ...owned, claimers: [...owned.claimers, ...waiting] };
}

/** Takes the steps of these names, each time the one that changes the most lately sent. */
function follow(first: World, labels: readonly string[], bounds: Bounds): World {
  return labels.reduce((world, label) => nextSteps(world, bounds).findLast((step) => step.label === label && judged(world, step.world))?.world ?? assert.fail(`${label} is not possible`), first);
}

/** A step that moves somebody on: a replayed message only adds a refusal. */
const judged = (before: World, after: World): boolean =>
  keyOf(before.device.phase) !== keyOf(after.device.phase) || keyOf(before.claimers.map(({ state }) => state)) !== keyOf(after.claimers.map(({ state }) => state));
