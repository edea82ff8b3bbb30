/** The options of `tenzro board`. */
import type { Command } from 'commander';
import type { ScreenFlags } from './boardScreen.ts';
import type { CommonFlags, Io } from './io.ts';

const examples = (...lines: readonly string[]): string => `\nExamples:\n${lines.map((line) => `  $ ${line}`).join('\n')}`;

export function declareBoard(root: Command, io: Io): void {
  const board = root.command('board').description('What a card made from the Tenzro Edge image does by itself: boot files, screen, data partition.');
  board.command('first-boot').description('Takes over what lies on the boot partition and wipes it. The image does it before every start; root only. Exit 1 where a file has errors.')
    .addHelpText('after', examples('tenzro board first-boot'))
    .action(async () => { await (await import('./board.ts')).boardFirstBoot(io); });
  board.command('screen').description('Shows who this gateway is, how it is, and until it has an owner its claim code; again whenever something changes.')
    .option('--consoles', "on tty1 and the kernel's serial consoles instead of here")
    .option('--once', 'show it once and end')
    .option('--data <dir>', 'data directory (TENZRO_DATA)')
    .option('--config <file>', 'configuration file (TENZRO_CONFIG)')
    .addHelpText('after', examples('tenzro board screen', 'tenzro board screen --once'))
    .action(async (flags: ScreenFlags) => { await (await import('./boardScreen.ts')).boardScreen(io, flags); });
  board.command('data').description('The data partition of the card.').command('reset').description('Gives up a data partition that cannot be mounted: it is formatted, and the machine starts again. Root alone, in a maintenance shell; refused while it is in use.')
    .option('--yes', 'everything on it may be lost for good')
    .option('--json', 'print JSON for scripts')
    .addHelpText('after', examples('tenzro board data reset --yes'))
    .action(async (flags: CommonFlags & { readonly yes?: boolean }) => { (await import('./board.ts')).boardDataReset(io, flags); });
}
