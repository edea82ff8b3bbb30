/** From one version to the next over HTTP, with the plug in the wall all the time: the gate commits, and identity and chain go on. */
import assert from 'node:assert/strict';
import { existsSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Board, copySparse, gatewayReady, powerOff, reachShell, shellOf } from '../board.ts';
import { BundleServer } from '../bundleServer.ts';
import { stateOf, type SlotName } from '../bootModel.ts';
import { readBootSector } from '../card.ts';
import { checkData } from '../dataPartition.ts';
import { FleetHere } from '../fleetHere.ts';
import type { Machine } from '../machine.ts';
import { confirmed, golden } from '../golden.ts';
import { nextChoice, Phases, Skipped, type Scenario, type Stage } from '../scenario.ts';

const INSTALL_TIMEOUT_MS = 1_500_000;

export function bundleOf({ bundle }: Stage): string {
  if (bundle === undefined || !existsSync(bundle)) throw new Skipped('needs --bundle');
  return bundle;
}

/** What the cuts of an update are taken from: the card before, and every write until the new system was confirmed and switched off. */
export const recordingOf = (stage: Stage): { readonly before: string; readonly log: string; readonly after: string } => {
  const at = (name: string): string => join(stage.shared, 'recordings', name);
  return { before: at('update-before.img'), log: at('update.disklog'), after: at('update-after.img') };
};

/** How the update is asked for; resolves with what was said about it. */
type Asking = (where: { readonly machine: Machine; readonly fleet: FleetHere; readonly url: string }) => Promise<string>;

/** The restart takes the shell away: what goes wrong is said on the console. */
const byHand: Asking = async ({ machine, url }) => {
  shellOf(machine).send(`runuser -u tenzro -- tenzro update install --yes ${url} > /run/install.log 2>&1 || { echo; echo "update failed: $(tail -3 /run/install.log)"; } > /dev/console`);
  return Promise.resolve('tenzro update install');
};
/** Ends when the new system has proved itself. */
const byCommand: Asking = ({ fleet, url }) => fleet.run('firmware_update', `url=${url}`, '--ttl', '2h');

const update = (ask: Asking) => async (stage: Stage): Promise<string> => {
  const bundle = bundleOf(stage);
  const phases = new Phases(stage.say);
  const { board: first, fleetFolder, fleetPort } = await golden(stage);
  const board = await Board.in(stage.tools, join(stage.folder, 'board'));
  await board.copyOf(first);
  const before = await checkData(board.card);
  const from: SlotName = stateOf(readBootSector(board.card)).order[0] ?? 'A';
  const to: SlotName = from === 'A' ? 'B' : 'A';
  const recording = recordingOf(stage);
  await copySparse(board.card, recording.before);
  const diskLog = join(stage.folder, 'update.disklog');
  rmSync(diskLog, { force: true });
  await using fleet = await FleetHere.serve(fleetFolder, fleetPort);
  await using server = await BundleServer.serve(bundle);
  await using machine = await board.start({ diskLog });
  assert.equal((await nextChoice(machine.console)).slot, from);
  await reachShell(machine);
  await gatewayReady(machine);
  await confirmed(machine);
  phases.done(`slot ${from} up and confirmed`);
  const asked = ask({ machine, fleet, url: server.url });
  asked.catch(() => undefined); // whoever waits for it below has it
  const choice = nextChoice(machine.console, INSTALL_TIMEOUT_MS, /update failed: [^\n]*\n[^\n]*/);
  const next = await Promise.race([choice, asked.then(() => choice)]);
  assert.equal(next.slot, to, next.line);
  phases.done(`installed and restarted: ${next.line}`);
  await reachShell(machine);
  await gatewayReady(machine);
  phases.done(`gateway of slot ${to} ready`);
  await confirmed(machine);
  phases.done('confirmed');
  stage.say((await asked).trimEnd());
  stage.say((await fleet.tell('ls')).output.trimEnd());
  stage.say((await shellOf(machine).run('tenzro update status; cat /usr/lib/tenzro-edge/image.json')).output.trimEnd());
  await powerOff(machine);
  const state = stateOf(readBootSector(board.card));
  assert.equal(state.order[0], to);
  assert.equal(state.left[to], 3, 'committed: all tries back');
  const after = await checkData(board.card);
  assert.equal(after?.chain?.chainId, before?.chain?.chainId, 'identity and chain go on');
  assert.ok((after?.chain?.blocks ?? 0) > (before?.chain?.blocks ?? 0), 'sealed since');
  await copySparse(board.card, recording.after);
  renameSync(diskLog, recording.log);

  return `${from} to ${to}; ${phases.text}; ${server.requests} requests; ${before?.chain?.blocks ?? 0} then ${after?.chain?.blocks ?? 0} blocks verify`;
};

export const UPDATE: readonly Scenario[] = [
  { name: 'update', tier: 'full', about: 'tenzro update install over HTTP, confirmed by the gate', run: update(byHand) },
  { name: 'update-command', tier: 'full', about: 'the same by the signed command firmware_update', run: update(byCommand) },
];
