/** The options of `tenzro update`. */
import type { Command } from 'commander';
import type { CommonFlags, Io } from './io.ts';
import type { InstallFlags } from './update.ts';

export function declareUpdate(root: Command, io: Io): void {
  const update = root.command('update').description('The second slot: what another system or application is installed into, tried in, and goes back from by itself.');
  const declare = (usage: string, summary: string, examples: readonly string[]): Command => update.command(usage).description(summary)
    .option('--data <dir>', 'data directory (TENZRO_DATA)').option('--config <file>', 'configuration file (TENZRO_CONFIG)').option('--json', 'print JSON for scripts')
    .addHelpText('after', `\nExamples:\n${examples.map((example) => `  $ ${example}`).join('\n')}`);
  declare('status', 'Shows both slots, which one starts next, and what became of the last update.', ['tenzro update status', 'tenzro update status --json | jq .booted'])
    .action(async (flags: CommonFlags) => { await (await import('./update.ts')).updateStatus(io, flags); });
  declare('check <bundle>', 'Checks a bundle, a file or an http(s) URL, as an installation would: signature, machine, version. Changes nothing.', ['tenzro update check https://updates.example/tenzro-edge.raucb'])
    .option('--sha256 <digest>', 'it must have; of a URL that costs a whole transfer').option('--allow-downgrade', 'it may be older than what runs')
    .action(async (bundle: string, flags: InstallFlags) => { await (await import('./update.ts')).updateCheck(io, bundle, flags); });
  declare('install <bundle>', 'Installs a bundle, a file or an http(s) URL, into the other slot and restarts into it, on trial: it stays when tenzro update confirm finds it healthy, else what runs now comes back.', ['tenzro update install tenzro-edge-pi64.raucb', 'tenzro update install https://updates.example/tenzro-edge.raucb --yes'])
    .option('--yes', 'without asking').option('--allow-downgrade', 'it may be older than what runs').option('--sha256 <digest>', 'it must have; of a URL that costs a transfer of its own')
    .action(async (bundle: string, flags: InstallFlags) => { await (await import('./update.ts')).updateInstall(io, bundle, flags); });
  declare('confirm', "For the system's service manager: waits until what runs on trial has proved itself, and keeps it. Exit 0: confirmed, now or before; 1: it did not prove itself in time; 2: it could not be judged. With 1 and 2 the machine (the gateway, where only its folder changed) is to be started again: each start is a try.", ['tenzro update confirm'])
    .action(async (flags: CommonFlags) => { await (await import('./updateConfirm.ts')).updateConfirm(io, flags); });
  declare('revert', 'Goes back to the good system in the other slot, and restarts into it.', ['tenzro update revert'])
    .option('--yes', 'without asking')
    .action(async (flags: InstallFlags) => { await (await import('./update.ts')).updateRevert(io, flags); });
  declare('scan [folders...]', 'Installs the newest of the tenzro-*.raucb in these folders, if it is newer than what runs and did not return from here before. For sticks and the boot partition. Without folders: exit 1 where update.fromMedia forbids it.', ['tenzro update scan /media/stick'])
    .action(async (folders: readonly string[], flags: CommonFlags) => { await (await import('./update.ts')).updateScan(io, folders, flags); });
}
