/** A card behind its first boot, claimed and switched off in order: where later scenarios begin. Made once for an image, and kept. */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Board, CLAIM_PORT, copySparse, gatewayReady, imageOf, powerOff, reachShell, shellOf, versionOf } from './board.ts';
import { FleetHere } from './fleetHere.ts';
import type { Machine } from './machine.ts';
import { nextChoice, Phases, type Stage } from './scenario.ts';

const CODE_TIMEOUT_MS = 600_000;
/** The gate's own limit, and starting its programs. */
const CONFIRM_TIMEOUT_MS = 900_000;
const ABOUT = 'about.json';
const CODE = /^(TZ1:[0-9A-Z.:+\-*/$%]+)\s*\n/m;

export interface Golden {
  readonly board: Board;
  /** Of the fleet that owns it. */
  readonly fleetFolder: string;
  readonly fleetPort: number;
}

/** What lies on the boot partition for the first start. */
function bootFiles(folder: string): readonly string[] {
  const file = join(folder, 'tenzro.yaml');
  writeFileSync(file, `version: 1\nclaim: { port: ${CLAIM_PORT} }\n`);
  return [file];
}

interface FirstBoot extends Golden {
  readonly machine: Machine;
}

/** The card as flashed, and every write of its first start until it was switched off: what cuts are replayed from. */
export const firstRecording = (stage: Stage): { readonly before: string; readonly log: string } => {
  const at = (name: string): string => join(stage.shared, 'recordings', name);
  return { before: at('first-before.img'), log: at('first.disklog') };
};

/** Flash, first boot, code from the console, claim, first receipted block; the machine still runs. */
async function firstBoot(stage: Stage, phases: Phases, folder: string): Promise<FirstBoot & AsyncDisposable> {
  const board = await Board.in(stage.tools, join(folder, 'board'));
  await board.flash(imageOf(stage), bootFiles(folder));
  phases.done('tenzro flash: written and read back');
  const { before, log } = firstRecording(stage);
  await copySparse(board.card, before);
  rmSync(log, { force: true });
  await using stack = new AsyncDisposableStack();
  const machine = stack.use(await board.start({ diskLog: log }));
  phases.done(`U-Boot: ${(await nextChoice(machine.console)).line}`);
  const code = machine.console.waitFor(CODE, { timeoutMs: CODE_TIMEOUT_MS });
  code.catch(() => undefined); // whoever waits for it below has it
  await reachShell(machine);
  phases.done('Linux, to user space');
  await gatewayReady(machine);
  phases.done('gateway ready');
  const [, text = ''] = await code;
  phases.done('claim code on the serial console');
  const fleetFolder = join(folder, 'controller');
  mkdirSync(fleetFolder, { recursive: true });
  const fleet = stack.use(await FleetHere.serve(fleetFolder));
  const claimed = await fleet.claim(text, board.claimPort);
  writeFileSync(join(folder, 'claim.log'), claimed);
  phases.done('claimed by the controller, first block receipted');
  await confirmed(machine);
  phases.done('the slot is confirmed');
  const kept = stack.move();
  return { board, fleetFolder, fleetPort: fleet.port, machine, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** Makes it anew. `more` looks at the machine before that is switched off. */
export async function makeGolden(stage: Stage, phases: Phases, more: (machine: Machine) => Promise<void>): Promise<Golden> {
  const [folder, work] = [join(stage.shared, 'golden'), join(stage.shared, 'golden-next')];
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  {
    await using first = await firstBoot(stage, phases, work);
    await more(first.machine);
    await powerOff(first.machine);
    phases.done('switched off in order');
    writeFileSync(join(work, ABOUT), JSON.stringify({ version: versionOf(imageOf(stage)), fleetPort: first.fleetPort }));
  }
  rmSync(folder, { recursive: true, force: true });
  renameSync(work, folder);
  return golden(stage);
}

/** From an earlier run with the same image, or made now. */
export async function golden(stage: Stage): Promise<Golden> {
  const folder = join(stage.shared, 'golden');
  const stored = existsSync(join(folder, ABOUT)) ? JSON.parse(readFileSync(join(folder, ABOUT), 'utf8')) as { readonly version: string; readonly fleetPort: number } : undefined;
  if (stored?.version !== versionOf(imageOf(stage))) return makeGolden(stage, new Phases(stage.say), () => Promise.resolve());
  return { board: await Board.in(stage.tools, join(folder, 'board')), fleetFolder: join(folder, 'controller'), fleetPort: stored.fleetPort };
}

/** Waits until the running slot is no longer on trial. */
export async function confirmed(machine: Machine): Promise<void> {
  await shellOf(machine).must('until test -e /run/tenzro/confirmed; do sleep 1; done', CONFIRM_TIMEOUT_MS);
}
