/** From the downloaded image to a receipted block, and what the system then takes. */
import assert from 'node:assert/strict';
import { shellOf } from '../board.ts';
import { readBootSector } from '../card.ts';
import { checkData } from '../dataPartition.ts';
import { variablesIn } from '../bootModel.ts';
import { makeGolden } from '../golden.ts';
import type { GuestShell } from '../guestShell.ts';
import { Phases, type Scenario, type Stage } from '../scenario.ts';

const IDLE_S = 180;
const HOUR_S = 3_600;
const SECTOR_BYTES = 512;

/** diskstats (Documentation/admin-guide/iostats.rst), field 7 behind the name: sectors written. */
async function writtenBytes(shell: GuestShell): Promise<number> {
  const line = await shell.must("awk '$3 == \"vda\" { print $10 }' /proc/diskstats");
  return Number(line) * SECTOR_BYTES;
}

async function measure(shell: GuestShell, say: Stage['say']): Promise<void> {
  for (const line of ['systemd-analyze', 'systemd-analyze blame | head -8', 'free -m', 'systemctl show tenzro-edge -P MemoryCurrent -P MemoryPeak', 'systemctl --failed --no-legend', 'journalctl -b -p warning --no-pager -o cat | tail -25', 'tenzro status', 'systemd-analyze security tenzro-edge --no-pager | tail -1']) say(`$ ${line}\n${(await shell.run(line)).output.trimEnd()}`);
  const before = await writtenBytes(shell);
  await shell.must(`sleep ${IDLE_S}`, (IDLE_S + 120) * 1_000);
  const bytes = await writtenBytes(shell) - before;
  say(`written while idle for ${IDLE_S} s: ${bytes} bytes, ${(bytes / IDLE_S * HOUR_S / 2 ** 20).toFixed(1)} MiB in an hour at that rate`);
}

async function claim(stage: Stage): Promise<string> {
  const phases = new Phases(stage.say);
  const { board: { card } } = await makeGolden(stage, phases, async (machine) => {
    await measure(shellOf(machine), stage.say);
    phases.done('measured');
  });
  const variables = variablesIn(readBootSector(card));
  assert.match(variables?.get('machine_id') ?? '', /^[0-9a-f]{32}$/, 'the card has a machine id of its own');
  assert.equal(variables?.get('BOOT_A_LEFT'), '3');
  const data = await checkData(card);
  assert.ok(data?.chain, 'there is a datachain');
  assert.ok(data.isClean, 'the data partition was left in order');
  return `${phases.text}; ${data.chain.blocks} blocks verify`;
}

export const FIRST_BOOT: readonly Scenario[] = [
  { name: 'claim', tier: 'full', about: 'flash, first boot, code from the console, claim, first receipted block; start, memory, writing', run: claim },
];
