/** The boot script under the real U-Boot, with cards whose slots hold a kernel of twenty instructions: every state that matters, in seconds. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { BOOT_STATE_BYTES, BOOT_TRIES } from '#image/layout.ts';
import { randomOf } from '#test/support/random.ts';
import { until } from '#test/support/until.ts';
import { choose, FRESH, sectorOf, stateOf, tries, type BootState, type SlotName } from '../bootModel.ts';
import { miniatureCard, readBootSector, writeBootSector, type SlotFiles } from '../card.ts';
import { Machine } from '../machine.ts';
import { nextChoice, type Scenario, type SeenChoice, type Stage } from '../scenario.ts';
import { tinyKernel, type Ending } from '../tinyKernel.ts';

const CHOICE_TIMEOUT_MS = 60_000;
const MEMORY_MIB = 256;
const RAMDISK = Buffer.alloc(1024, 'r');
/** The kernel's own words: the command line, from the device tree. */
const bootedFrom = (slot: SlotName): RegExp => new RegExp(`root=PARTLABEL=system-${slot.toLowerCase()} [^\\r\\n]*rauc\\.slot=${slot}`);

type Content = Ending | 'nothing' | 'garbage';

function filesOf(content: Content): SlotFiles {
  if (content === 'nothing') return {};
  return { vmlinuz: content === 'garbage' ? Buffer.alloc(4096, 0xa5) : tinyKernel(content), 'initrd.img': RAMDISK };
}

async function cardWith(stage: Stage, contents: Readonly<Record<SlotName, Content>>, sector: Uint8Array): Promise<string> {
  const card = join(stage.folder, 'card.img');
  await miniatureCard(stage.tools, card, { bootScript: stage.bootScript, slots: { A: filesOf(contents.A), B: filesOf(contents.B) } });
  writeBootSector(card, sector);
  return card;
}

/** The two seconds in which a key stops U-Boot are most of a start: stops it, and says what it would have done. */
async function choiceOf({ console: line }: Machine): Promise<SeenChoice> {
  await line.waitFor(/Hit any key to stop autoboot/, { timeoutMs: CHOICE_TIMEOUT_MS });
  line.write(' ');
  await line.waitFor(/\n=> /, { timeoutMs: CHOICE_TIMEOUT_MS });
  line.write('boot\n');
  return nextChoice(line, CHOICE_TIMEOUT_MS);
}

const machineOn = (stage: Stage, card: string): Promise<Machine> => Machine.start({ tools: stage.tools, folder: stage.folder, card, memoryMiB: MEMORY_MIB });

/** Follows `count` choices over resets, each held against the model; then the sector. */
async function follows(stage: Stage, { card, from, count }: { readonly card: string; readonly from: BootState; readonly count: number }): Promise<string> {
  const expected = tries(from).take(count).toArray();
  await using machine = await machineOn(stage, card);
  for (const { slot, next } of expected) {
    const seen = await choiceOf(machine);
    assert.equal(seen.slot, slot, seen.line);
    if (slot) assert.deepEqual(stateOf(readBootSector(card)), next, 'the card holds the choice before the slot is loaded');
    else await emptied(card, next);
  }
  return `${expected.map(({ slot }) => slot ?? 'reset').join(' ')} in ${machine.seconds.toFixed(1)} s`;
}

/** That nothing is left is said before it is written. */
const emptied = (card: string, next: BootState): Promise<boolean> =>
  until('the counters to be full again', () => JSON.stringify(stateOf(readBootSector(card))) === JSON.stringify(next));

/** Two slots that die each time: all tries of one, all of the other, counters full again, and so on. */
async function everyTry(stage: Stage): Promise<string> {
  const card = await cardWith(stage, { A: 'resets', B: 'resets' }, sectorOf(FRESH));
  return follows(stage, { card, from: FRESH, count: 2 * BOOT_TRIES + 2 });
}

const counters = [0, BOOT_TRIES] as const;
const orders = [['A', 'B'], ['B', 'A'], ['A'], ['B'], []] as const satisfies readonly (readonly SlotName[])[];
const STATES: readonly BootState[] = orders.flatMap((order) => counters.flatMap((a) => counters.map((b) => ({ order, left: { A: a, B: b } }))));

/** Every order, with slots that have tries and such that have none. */
async function everyState(stage: Stage): Promise<string> {
  const card = await cardWith(stage, { A: 'hangs', B: 'hangs' }, sectorOf(FRESH));
  for (const state of STATES) {
    writeBootSector(card, sectorOf(state));
    await using machine = await machineOn(stage, card);
    const seen = await choiceOf(machine);
    const { slot, next } = choose(stateOf(sectorOf(state)));
    assert.equal(seen.slot, slot, `${JSON.stringify(state)}: ${seen.line}`);
    await emptied(card, next);
    if (slot) await machine.console.waitFor(bootedFrom(slot), { timeoutMs: CHOICE_TIMEOUT_MS });
  }
  return `${STATES.length} states`;
}

/** Sectors that nobody may believe: the card boots as a fresh one does, and holds a good sector afterwards. */
async function unreadable(stage: Stage): Promise<string> {
  const torn = sectorOf({ order: ['B', 'A'], left: { A: 0, B: 3 } });
  torn.writeUInt8(torn.readUInt8(20) ^ 1, 20);
  const sectors: readonly (readonly [string, Buffer])[] = [['empty', Buffer.alloc(BOOT_STATE_BYTES)], ['erased', Buffer.alloc(BOOT_STATE_BYTES, 0xff)], ['one bit wrong', torn]];
  const card = await cardWith(stage, { A: 'hangs', B: 'hangs' }, sectors[0]?.[1] ?? torn);
  for (const [name, sector] of sectors) {
    writeBootSector(card, sector);
    await using machine = await machineOn(stage, card);
    assert.equal((await choiceOf(machine)).slot, 'A', name);
    await machine.console.waitFor(bootedFrom('A'), { timeoutMs: CHOICE_TIMEOUT_MS });
    assert.deepEqual(stateOf(readBootSector(card)), choose(FRESH).next, name);
  }
  return sectors.map(([name]) => name).join(', ');
}

/** A slot that cannot be loaded costs its tries, and nobody is needed. */
const unloadable = (content: Content) => async (stage: Stage): Promise<string> => {
  const from: BootState = { order: ['B', 'A'], left: { A: BOOT_TRIES, B: BOOT_TRIES } };
  const card = await cardWith(stage, { A: 'hangs', B: content }, sectorOf(from));
  const said = await follows(stage, { card, from, count: BOOT_TRIES + 1 });
  assert.deepEqual(stateOf(readBootSector(card)).left, { A: BOOT_TRIES - 1, B: 0 });
  return said;
};

/** Neither slot can be loaded: it goes on trying for ever, so that a card that is mended in place starts. */
async function bothBad(stage: Stage): Promise<string> {
  const from: BootState = { order: ['A', 'B'], left: { A: 1, B: 1 } };
  const card = await cardWith(stage, { A: 'nothing', B: 'garbage' }, sectorOf(from));
  return follows(stage, { card, from, count: 5 });
}

const CUTS = 8;
/** From finding the card to behind the choice. */
const CUT_WITHIN_MS = 150;

/** The plug is pulled at random moments around the write: the sector is the old one or the next one, and the next start goes on from there. */
async function cuts(stage: Stage): Promise<string> {
  const random = randomOf(stage.seed);
  const card = await cardWith(stage, { A: 'resets', B: 'resets' }, sectorOf(FRESH));
  const left = { before: 0, after: 0 };
  for (let cut = 0; cut < CUTS; cut += 1) {
    const before = stateOf(readBootSector(card));
    const { next } = choose(before);
    {
      await using machine = await machineOn(stage, card);
      if (cut % 2 === 0) await choiceOf(machine); // right behind the write
      else {
        await machine.console.waitFor(/Scanning bootdev 'virtio/, { timeoutMs: CHOICE_TIMEOUT_MS });
        await new Promise((resolve) => { setTimeout(resolve, random(CUT_WITHIN_MS)); });
      }
    }
    const after = stateOf(readBootSector(card));
    const isOld = JSON.stringify(after) === JSON.stringify(before);
    const reachable = tries(before).take(4).map((choice) => JSON.stringify(choice.next)).toArray();
    assert.ok(isOld || reachable.includes(JSON.stringify(after)), `cut ${cut}: ${JSON.stringify(before)} became ${JSON.stringify(after)}, not ${JSON.stringify(next)}`);
    left[isOld ? 'before' : 'after'] += 1;
  }
  return `${CUTS} cuts, seed ${stage.seed}: ${left.before} left the old state, ${left.after} a later one`;
}

export const BOOT_LOADER: readonly Scenario[] = [
  { name: 'tries', tier: 'quick', about: 'slots that die: three tries each, then counters full again', run: everyTry },
  { name: 'states', tier: 'quick', about: 'every order of slots, with and without tries left', run: everyState },
  { name: 'unreadable', tier: 'quick', about: 'empty, erased and damaged boot state', run: unreadable },
  { name: 'no-kernel', tier: 'quick', about: 'a slot without a kernel', run: unloadable('nothing') },
  { name: 'bad-kernel', tier: 'quick', about: 'a slot whose kernel is none', run: unloadable('garbage') },
  { name: 'both-bad', tier: 'quick', about: 'no slot can be loaded', run: bothBad },
  { name: 'loader-cuts', tier: 'quick', about: 'power cuts around the write of the boot state', run: cuts },
];
