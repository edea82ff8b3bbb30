/** `tenzro board first-boot | data reset`: what only a card made from our image needs. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { firstBoot } from '#runtime/boarding.ts';
import { BOARD, BoardCard } from '#runtime/boardCard.ts';
import { reportLines } from '#runtime/boardStatus.ts';
import { parseDataState, type DataState } from '#runtime/board/dataState.ts';
import { ERRORS, TenzroError, messageOf } from '#runtime/core/errors.ts';
import { isoOfMicros, systemClock } from '#runtime/core/clock.ts';
import { printable } from '#runtime/core/printable.ts';
import { APP_ROOT, EXIT, type CommonFlags, type Io } from './io.ts';

/** Of the image: formats, and starts the machine again. */
const RESET_DATA = '/usr/lib/tenzro-edge/reset-data';

/** Throws `board.no_image`. */
function dataState(): DataState {
  let text = '';
  try {
    text = readFileSync(join(BOARD.state, 'data'), 'utf8');
  } catch (cause) {
    throw new TenzroError('board.no_image', `${BOARD.state}/data is not there: ${messageOf(cause)}`, { cause });
  }
  const state = parseDataState(text);
  if (!state) throw new TenzroError('board.no_image', `${BOARD.state}/data is none of tenzro-data.service`);
  return state;
}

/** By root, before the gateway. Exit 1 where a file has errors: it is left, and everything else goes on. */
export async function boardFirstBoot(io: Io): Promise<void> {
  const { mounted } = dataState();
  if (mounted !== 'rw') return io.line('the data partition cannot be written: files on the boot partition stay there');
  const { taken, onlyWiped, reports } = await firstBoot(new BoardCard(BOARD), { appRoot: APP_ROOT, now: isoOfMicros(systemClock.wallMicros()) });
  for (const { name, took, ignored } of taken) {
    io.line(`${name}: taken over and wiped: ${printable(took.join(', ')) || 'nothing'}`);
    for (const what of ignored) io.line(`${name}: not done: ${printable(what)}`);
  }
  for (const { name } of onlyWiped) io.line(`${name}: was taken over before; wiped`);
  for (const line of reports.flatMap(reportLines)) io.error(printable(line));
  if (reports.length === 0) return;
  io.error(ERRORS['board.boot_file'].hint);
  io.exitCode = EXIT.problem;
}

/** Root alone, so nobody who has taken the gateway over can destroy what the operator may still copy; and only what is not in use. */
export function boardDataReset(io: Io, { yes, json }: CommonFlags & { readonly yes?: boolean }): void {
  const { mounted, partition } = dataState();
  if (mounted !== 'memory' || partition === '') throw new TenzroError('cli.usage', 'the data partition is in use, or there is none: only one that cannot be mounted is given up');
  if (!yes) throw new TenzroError('cli.usage', `${partition} and everything on it would be lost for good; say --yes if that shall be`);
  if (process.getuid?.() !== 0) throw new TenzroError('cli.usage', 'only root gives up a data partition: lay an empty file called maintenance onto the boot partition, restart, and say it there');
  if (json) io.json({ partition });
  else io.line(`${partition} is being formatted; then the machine starts again`);
  execFileSync(RESET_DATA, { stdio: ['ignore', 'inherit', 'inherit'] });
}
