/** A new system that does not work, in each way that a system can fail: the card goes back to the old one by itself. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BOOT_TRIES } from '#image/layout.ts';
import { SYSTEM } from '#image/system/manifest.ts';
import { run } from '#test/support/process.ts';
import { Board, CLAIM_PORT, gatewayReady, reachShell, shellOf } from '../board.ts';
import { sectorOf, stateOf, variablesIn } from '../bootModel.ts';
import { readBootSector, regionOfSlot, writeBootSector } from '../card.ts';
import { checkData, dataRegion } from '../dataPartition.ts';
import { golden } from '../golden.ts';
import type { Machine } from '../machine.ts';
import { nextChoice, type Scenario, type Stage } from '../scenario.ts';

const TRY_TIMEOUT_MS = 900_000;
const TENZRO_ID = SYSTEM.users.tenzro.uid;

interface Fault {
  /** How far B comes. Where it never ran, the gateway of A is not waited for. */
  readonly ran: 'nothing' | 'something';
  /** What is changed in slot B, by debugfs(8); `@NAME` stands for a file with these bytes. */
  readonly files: Readonly<Record<string, string>>;
  readonly commands: readonly string[];
  /** Of slot B; fewer than a fresh update has, where a try takes minutes. */
  readonly tries: number;
  /** Of the gateway's configuration on the data partition, beside what it has. */
  readonly config?: string;
  /** What is done to the system at each try. */
  readonly strike?: (machine: Machine) => Promise<void>;
}

/** Slot B becomes a copy of A with a fault, as an update would have left it: first in order, with its tries. */
async function withFault(stage: Stage, { files, commands, tries, config }: Fault): Promise<Board> {
  const { board: first } = await golden(stage);
  const board = await Board.in(stage.tools, join(stage.folder, 'board'));
  await board.copyOf(first);
  const [a, b] = [regionOfSlot('A'), regionOfSlot('B')];
  await must('dd', [`if=${board.card}`, `of=${board.card}`, 'bs=1M', 'iflag=skip_bytes,count_bytes', 'oflag=seek_bytes', `skip=${a.offsetBytes}`, `seek=${b.offsetBytes}`, `count=${a.sizeBytes}`, 'conv=notrunc,sparse', 'status=none']);
  for (const [name, content] of Object.entries(files)) writeFileSync(join(stage.folder, name), content, { mode: 0o755 });
  await edit(stage, `${board.card}?offset=${b.offsetBytes}`, commands);
  const data = dataRegion(board.card);
  if (config !== undefined && data) {
    writeFileSync(join(stage.folder, 'config'), `version: 1\nclaim: { port: ${CLAIM_PORT} }\n${config}`);
    const path = '/config/tenzro.yaml';
    await edit(stage, `${board.card}?offset=${data.offsetBytes}`, [...write(path, 'config'), `sif ${path} uid ${TENZRO_ID}`, `sif ${path} gid ${TENZRO_ID}`, `sif ${path} mode 0100640`]);
  }
  const { machine_id: machineId = '' } = Object.fromEntries(variablesIn(readBootSector(board.card)) ?? []);
  writeBootSector(board.card, sectorOf({ order: ['B', 'A'], left: { A: BOOT_TRIES, B: tries } }, { machine_id: machineId }));
  return board;
}

/** What lies still is changed without being mounted. */
async function edit(stage: Stage, fileSystem: string, commands: readonly string[]): Promise<void> {
  const script = join(stage.folder, 'edit.debugfs');
  writeFileSync(script, commands.map((line) => `${line.replaceAll('@', `${stage.folder}/`)}\n`).join(''));
  await must('/usr/sbin/debugfs', ['-w', '-f', script, fileSystem]);
}

async function must(program: string, args: readonly string[]): Promise<void> {
  const { code, output } = await run(program, args);
  if (code !== 0) throw new Error(`${program}: ${output}`);
}

const returns = (fault: Fault) => async (stage: Stage): Promise<string> => {
  const board = await withFault(stage, fault);
  const before = (await checkData(board.card))?.chain;
  await using machine = await board.start();
  const seconds: number[] = [];
  let { slot } = await nextChoice(machine.console);
  for (let attempt = 1; slot === 'B'; attempt += 1) {
    assert.ok(attempt <= fault.tries, 'no more tries than it has');
    const fromSeconds = machine.seconds;
    await fault.strike?.(machine);
    slot = (await nextChoice(machine.console, TRY_TIMEOUT_MS)).slot;
    seconds.push(machine.seconds - fromSeconds);
  }
  assert.equal(slot, 'A');
  assert.equal(seconds.length, fault.tries);
  await reachShell(machine);
  if (fault.ran !== 'nothing') {
    await gatewayReady(machine);
    await shellOf(machine).must('sync');
  }
  await machine.cut();
  const after = await checkData(board.card);
  assert.equal(after?.chain?.chainId, before?.chainId, 'identity and chain go on');
  assert.ok((after?.chain?.blocks ?? 0) >= (before?.blocks ?? 0), 'nothing sealed is lost');
  assert.equal(stateOf(readBootSector(board.card)).left.B, 0);
  return `B failed ${fault.tries} time(s) (${seconds.map((value) => `${value.toFixed(0)} s`).join(', ')}), then A; ${after?.chain?.blocks ?? 0} blocks verify`;
};

const write = (path: string, name: string): readonly string[] => [`rm ${path}`, `write @${name} ${path}`];
/** debugfs keeps no mode; the file shall be started. */
const program = (path: string, name: string): readonly string[] => [...write(path, name), `set_inode_field ${path} mode 0100755`];
const ONE_MINUTE_TIMER = '[Timer]\nOnBootSec=3min\n';

export const RETURNS: readonly Scenario[] = [
  { name: 'return-kernel', tier: 'full', about: 'a kernel that does not load', run: returns({ ran: 'nothing', files: { kernel: 'no kernel' }, commands: write('/vmlinuz', 'kernel'), tries: BOOT_TRIES }) },
  { name: 'return-panic', tier: 'full', about: 'an initramfs that is none: kernel panic', run: returns({ ran: 'nothing', files: { initrd: 'no initramfs' }, commands: write('/initrd.img', 'initrd'), tries: BOOT_TRIES }) },
  {
    name: 'return-trial', tier: 'full', about: 'user space that never comes to the gateway (limit of the trial shortened to 3 minutes)',
    run: returns({ ran: 'something', files: { gateway: '[Service]\nExecStart=/bin/true\n', timer: ONE_MINUTE_TIMER }, commands: [...write('/usr/lib/systemd/system/tenzro-edge.service', 'gateway'), ...write('/usr/lib/systemd/system/tenzro-trial.timer', 'timer')], tries: 1 }),
  },
  {
    name: 'return-hang', tier: 'full', about: 'a system that hangs: the hardware watchdog',
    run: returns({ ran: 'something', files: {}, commands: [], tries: 1, strike: async (machine) => { await reachShell(machine); shellOf(machine).send('kill -SEGV 1'); } }),
  },
  {
    name: 'return-crash', tier: 'full', about: 'a gateway that crashes again and again (update.trialSeconds: 60)',
    run: returns({ ran: 'something', config: 'update: { trialSeconds: 60 }\n', files: { main: '#!/bin/sh\n[ "$1" = run ] && exit 1\nexec /opt/tenzro-edge/bin/node /opt/tenzro-edge/runtime/cli/tenzro.js "$@"\n' }, commands: program('/usr/bin/tenzro', 'main'), tries: 1 }),
  },
];
