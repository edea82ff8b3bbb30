/**
 * Power cuts. Replayed ones: a first boot and an update were recorded write by write; each cut makes the card that it would have left, with what was not flushed partly gone, and looks at it. Live ones: the plug of a running
 * machine and its TPM is pulled, what was not flushed is partly taken away, and it is started again.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ran } from '#test/support/diskImage.ts';
import { randomOf } from '#test/support/random.ts';
import { Board, copySparse, gatewayReady, reachShell, shellOf } from '../board.ts';
import { choose, stateOf, variablesIn, type SlotName } from '../bootModel.ts';
import { BundleServer } from '../bundleServer.ts';
import { readBootSector, regionOfSlot } from '../card.ts';
import { checkData } from '../dataPartition.ts';
import { readDiskLog, replay, type LogEntry } from '../diskLog.ts';
import { firstRecording, golden } from '../golden.ts';
import { nextChoice, Skipped, type Scenario, type Stage } from '../scenario.ts';
import { Machine } from '../machine.ts';
import { bundleOf, recordingOf } from './update.ts';

/** A slot that is whole loads: U-Boot says so in some of the cuts. */
const LOADED_EACH = 5;

interface Recording {
  readonly before: string;
  readonly log: string;
  /** SHA-256 of slots that are whole. */
  readonly whole: ReadonlyMap<string, string>;
}

async function slotDigest(card: string, slot: SlotName): Promise<string> {
  const { offsetBytes, sizeBytes } = regionOfSlot(slot);
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(card, { start: offsetBytes, end: offsetBytes + sizeBytes - 1, highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** What every card must be, whenever its power went: its tables hold, the slot that starts next is whole, and the datachain verifies. */
async function look(card: string, whole: ReadonlyMap<string, string>): Promise<{ readonly slot: SlotName; readonly blocks: number }> {
  ran('sfdisk', ['--verify', '--quiet', card]);
  const sector = readBootSector(card);
  assert.ok(variablesIn(sector), 'the boot state is one that was written');
  const { slot } = choose(stateOf(sector));
  assert.ok(slot, 'a slot has tries left');
  assert.ok(whole.has(await slotDigest(card, slot)), `slot ${slot}, which starts next, is whole`);
  return { slot, blocks: (await checkData(card))?.chain?.blocks ?? 0 };
}

/** Boots the loader on what is left, until the kernel has it. */
async function loads(stage: Stage, card: string, slot: SlotName): Promise<void> {
  await using machine = await Machine.start({ tools: stage.tools, folder: stage.folder, card });
  assert.equal((await nextChoice(machine.console)).slot, slot);
  await machine.console.waitFor(/Starting kernel/, { timeoutMs: 120_000, unless: /does not load/ });
}

async function replayed(stage: Stage, { before, log, whole }: Recording): Promise<string> {
  const random = randomOf(stage.seed);
  const entries = readDiskLog(log);
  const moments = Array.from({ length: stage.cuts }, () => momentIn(entries, random)).toSorted((a, b) => a - b);
  const card = join(stage.folder, 'cut.img');
  const tally = { A: 0, B: 0, doubtful: 0, lost: 0, blocks: 0 };
  for (const [index, count] of moments.entries()) {
    await copySparse(before, card);
    const { doubtful, lost } = replay(log, entries, { card, count, keeps: () => random(2) === 0 });
    const { slot, blocks } = await look(card, whole).catch((error: unknown) => { throw new Error(`cut behind write ${count} of ${entries.length}, seed ${stage.seed}: ${(error as Error).message}`, { cause: error }); });
    if (index % LOADED_EACH === 0) await loads(stage, card, slot);
    tally[slot] += 1;
    tally.doubtful += doubtful;
    tally.lost += lost;
    tally.blocks = Math.max(tally.blocks, blocks);
  }
  return `${moments.length} cuts in ${entries.length} writes and flushes, seed ${stage.seed}: next was A ${tally.A} times, B ${tally.B} times, always whole, and loaded in one of ${LOADED_EACH}; ${tally.lost} of ${tally.doubtful} unflushed sectors lost; up to ${tally.blocks} blocks verify`;
}

/** Half of the moments anywhere, half right behind a write to what says which slot starts or to the partition table: those that hurt most are few. */
function momentIn(entries: readonly LogEntry[], random: (below: number) => number): number {
  const first = regionOfSlot('A').offsetBytes;
  const delicate = entries.flatMap(({ kind, offsetBytes }, index) => (kind === 'write' && offsetBytes < first ? [index] : []));
  const chosen = random(2) === 0 ? delicate[random(Math.max(1, delicate.length))] : undefined;
  return chosen === undefined ? random(entries.length) + 1 : chosen + 1;
}

async function ofFirstBoot(stage: Stage): Promise<string> {
  const { before, log } = firstRecording(stage);
  if (!existsSync(log)) throw new Skipped('scenario claim records what this replays');
  return replayed(stage, { before, log, whole: new Map([[await slotDigest(before, 'A'), 'A']]) });
}

async function ofUpdate(stage: Stage): Promise<string> {
  const { before, log, after } = recordingOf(stage);
  if (!existsSync(log)) throw new Skipped('scenario update records what this replays');
  const from = stateOf(readBootSector(before)).order[0] ?? 'A';
  const to = from === 'A' ? 'B' : 'A';
  return replayed(stage, { before, log, whole: new Map([[await slotDigest(before, from), from], [await slotDigest(after, to), to]]) });
}

/** A live cut takes as long as many that are replayed. */
const REPLAYED_PER_LIVE = 5;
/** From user space until the new system is up, roughly: cuts fall into this. */
const LIVE_WITHIN_S = 360;

async function live(stage: Stage): Promise<string> {
  const random = randomOf(stage.seed);
  const { board: first } = await golden(stage);
  const before = await checkData(first.card);
  const board = await Board.in(stage.tools, join(stage.folder, 'board'));
  await board.copyOf(first);
  await using server = await BundleServer.serve(bundleOf(stage));
  const slots: string[] = [];
  const cuts = Math.ceil(stage.cuts / REPLAYED_PER_LIVE);
  let [blocks, lost] = [before?.chain?.blocks ?? 0, 0];
  for (let cut = 1; cut <= cuts; cut += 1) {
    const [last, diskLog] = [join(stage.folder, 'before-cut.img'), join(stage.folder, 'live.disklog')];
    await copySparse(board.card, last);
    rmSync(diskLog, { force: true });
    await using machine = await board.start({ diskLog });
    slots.push((await nextChoice(machine.console)).slot ?? 'none');
    await reachShell(machine);
    shellOf(machine).send(`(until systemctl is-active -q tenzro-edge; do sleep 1; done; runuser -u tenzro -- tenzro update install --yes ${server.url}) > /run/install.log 2>&1 &`);
    await new Promise((resolve) => { setTimeout(resolve, random(LIVE_WITHIN_S * 1_000)); });
    await machine.cut();
    const entries = readDiskLog(diskLog);
    await copySparse(last, board.card);
    lost += replay(diskLog, entries, { card: board.card, count: entries.length, keeps: () => random(2) === 0 }).lost;
    const chain = (await checkData(board.card))?.chain;
    assert.equal(chain?.chainId, before?.chain?.chainId, `cut ${cut}: the chain goes on`);
    assert.ok(chain && chain.blocks >= blocks, `cut ${cut}: ${chain?.blocks} blocks, and there were ${blocks}`);
    blocks = chain.blocks;
  }
  await using machine = await board.start();
  slots.push((await nextChoice(machine.console)).slot ?? 'none');
  await reachShell(machine);
  await gatewayReady(machine);
  return `${cuts} cuts, seed ${stage.seed}: started ${slots.join(' ')}, the gateway ready at last; ${lost} unflushed sectors lost; ${blocks} blocks verify`;
}

export const CUTS: readonly Scenario[] = [
  { name: 'cuts-first', tier: 'full', about: 'power cuts over the first boot, replayed from its writes', run: ofFirstBoot },
  { name: 'cuts-update', tier: 'full', about: 'power cuts over an update, replayed from its writes', run: ofUpdate },
  { name: 'cuts-live', tier: 'full', about: 'power cuts of a machine with its TPM, over an update', run: live },
];
