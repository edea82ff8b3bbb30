/** A card whose data partition or boot partition is not as it should be: it starts, says so, and touches nothing that could be saved. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ran } from '#test/support/diskImage.ts';
import { regionOf } from '#image/layout.ts';
import { Board, gatewayReady, reachShell, shellOf } from '../board.ts';
import { readAt, writeAt } from '../card.ts';
import { checkData, dataRegion, type Region } from '../dataPartition.ts';
import { golden } from '../golden.ts';
import { nextChoice, type Scenario, type Stage } from '../scenario.ts';

const SAID_TIMEOUT_MS = 600_000;
/** Every superblock lies within a block group's first; wiping the beginning of each 128 MiB leaves none, and no journal. */
const GROUP_BYTES = 128 * 2 ** 20;
const WIPED_BYTES = 2 ** 20;

/** A copy of the card behind its first boot. */
async function copyFor(stage: Stage): Promise<{ readonly board: Board; readonly region: Region }> {
  const { board: first } = await golden(stage);
  const board = await Board.in(stage.tools, join(stage.folder, 'board'));
  await board.copyOf(first);
  const region = dataRegion(board.card);
  assert.ok(region, 'the card has a data partition');
  return { board, region };
}

/** Starts, and resolves with what `tenzro status` says once the console has said `said`. */
async function statusOf(board: Board, said: RegExp): Promise<string> {
  await using machine = await board.start();
  await nextChoice(machine.console);
  const heard = machine.console.waitFor(said, { timeoutMs: SAID_TIMEOUT_MS });
  heard.catch(() => undefined); // whoever waits for it below has it
  await reachShell(machine);
  await gatewayReady(machine);
  await heard;
  return (await shellOf(machine).run('tenzro status; cat /run/tenzro/data')).output;
}

/** No byte left for anybody: the gateway waits for room or says what it lacks, and loses nothing. */
async function full(stage: Stage): Promise<string> {
  const { board } = await copyFor(stage);
  const before = (await checkData(board.card))?.chain;
  {
    await using machine = await board.start();
    await nextChoice(machine.console);
    await reachShell(machine);
    await gatewayReady(machine);
    const shell = shellOf(machine);
    await shell.run('dd if=/dev/zero of=/data/fill bs=1M status=none; dd if=/dev/zero of=/data/fill2 bs=512 status=none; sync', SAID_TIMEOUT_MS);
    stage.say((await shell.run('df /data; sleep 30; systemctl is-active tenzro-edge; tenzro status')).output.trimEnd());
  }
  await using running = await board.start();
  await nextChoice(running.console);
  await reachShell(running);
  const state = await shellOf(running).must('cat /run/tenzro/data');
  await shellOf(running).must('rm -f /data/fill /data/fill2; sync');
  await gatewayReady(running);
  await running.cut();
  const after = (await checkData(board.card))?.chain;
  assert.equal(after?.chainId, before?.chainId);
  assert.ok((after?.blocks ?? 0) >= (before?.blocks ?? 0));
  return `started full (${state.trim().replaceAll('\n', ' ')}), went on with room; ${after?.blocks ?? 0} blocks verify`;
}

/** Nothing that e2fsck could mend: the gateway runs in memory, the console says so, and the partition stays as it is. */
async function corrupt(stage: Stage): Promise<string> {
  const { board, region } = await copyFor(stage);
  const { offsetBytes, sizeBytes } = region;
  for (let at = 0; at < sizeBytes; at += GROUP_BYTES) writeAt(board.card, offsetBytes + at, Buffer.alloc(Math.min(WIPED_BYTES, sizeBytes - at), 0xa5));
  const status = await statusOf(board, /the data partition is not as it should be/);
  assert.match(status, /board\.data_emergency/);
  assert.ok(readAt(board.card, offsetBytes, WIPED_BYTES).every((byte) => byte === 0xa5), 'nobody has formatted it');
  return 'runs in memory, and says so; the partition was left as it was';
}

/** Errors in a file of the boot partition: the card starts with what it had, and names line and key. */
async function bootFile(stage: Stage): Promise<string> {
  const { board } = await copyFor(stage);
  const file = join(stage.folder, 'tenzro.yaml');
  writeFileSync(file, 'version: 1\nmqtt: { prot: 1883 }\n');
  ran('mcopy', ['-o', '-i', `${board.card}@@${regionOf('boot').offsetBytes}`, file, '::tenzro.yaml']);
  const status = await statusOf(board, /mqtt\.prot/);
  assert.match(status, /board\.boot_file/);
  return 'starts, and names the key on the console and in status';
}

/** One that can be repaired: is. */
async function damaged(stage: Stage): Promise<string> {
  const { board, region } = await copyFor(stage);
  const before = (await checkData(board.card))?.chain;
  // The first superblock is gone; its copies are there.
  writeAt(board.card, region.offsetBytes, Buffer.alloc(4_096, 0));
  const status = await statusOf(board, /board\.data_repaired|was damaged and repaired/);
  assert.match(status, /mounted=rw/);
  const after = (await checkData(board.card))?.chain;
  assert.equal(after?.chainId, before?.chainId, 'the chain goes on');
  return `repaired from a copy of the superblock, and says so; ${after?.blocks ?? 0} blocks verify`;
}

export const HARDSHIP: readonly Scenario[] = [
  { name: 'boot-file', tier: 'full', about: 'a file on the boot partition with errors', run: bootFile },
  { name: 'data-damaged', tier: 'full', about: 'a data partition whose superblock is gone', run: damaged },
  { name: 'data-corrupt', tier: 'full', about: 'a data partition that cannot be repaired', run: corrupt },
  { name: 'data-full', tier: 'full', about: 'a data partition without room', run: full },
];
