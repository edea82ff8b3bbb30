/** The options of `tenzro fleet run|cancel|commands|twin|groups|rollout`. */
import type { Command } from 'commander';
import type { Io } from '../io.ts';
import type { GroupsFlags } from './groups.ts';
import type { LogsFlags } from './logs.ts';
import type { RevokeKeyFlags } from './revokeKey.ts';
import type { RolloutFlags, StartFlags } from './rollout.ts';
import type { RunFlags } from './run.ts';
import type { TwinFlags } from './twin.ts';

type Declare = (usage: string, summary: string, examples: readonly string[]) => Command;

const DIR = ['--dir <dir>', 'folder of the controller'] as const;
const JSON_FLAG = ['--json', 'machine-readable output'] as const;

const declarerOf = (parent: Command): Declare => (usage, summary, examples) =>
  parent.command(usage).description(summary).requiredOption(...DIR).option(...JSON_FLAG).addHelpText('after', `\nExamples:\n${examples.map((example) => `  $ ${example}`).join('\n')}`);

const withKey = (command: Command): Command => command
  .option('--key <file>', 'owner key to sign with; default: owner-1.key of the folder. The other one does as well')
  .option('--passphrase-file <file>', 'take the passphrase of the key from the first line of a file; else it is asked for');

export function declareDispatch(fleet: Command, io: Io): void {
  const declare = declarerOf(fleet);
  withKey(declare('revoke-key [kid]', "Takes an operator's or owner's key, an authority, a broker or a receipt key back on every gateway, also on those that are away now. For good. The controller must serve.", [
    "tenzro fleet revoke-key --public owner-1.key.pub --key /media/stick/owner-2.key --why 'laptop stolen' --dir fleet", "tenzro fleet revoke-key --certificate old-intermediate.pem --why 'server stolen' --dir fleet",
  ]))
    .option('--public <file>', 'the public key, in place of its thumbprint')
    .option('--certificate <file>', 'PEM of an intermediate or broker whose key counts no more')
    .option('--receipt-key <digest>', 'SHA-256 of a receipt key that counts no more, hexadecimal').option('--next <digest>', 'the one that counts in its place')
    .requiredOption('--why <text>', 'for people: it stands in the chain of every gateway')
    .action(async (kid: string | undefined, flags: RevokeKeyFlags) => { await (await import('./revokeKey.ts')).fleetRevokeKey(io, kid, flags); });
  withKey(declare('run <target> <type> [parameters...]', 'Commands a gateway, or with @ a group of them, and tells what came of it. The controller must serve. Exit 1 where one did not succeed.', [
    'tenzro fleet run edge-1 diagnostics --dir fleet', 'tenzro fleet run edge-1 config_update config=@new.yaml --dir fleet', "tenzro fleet run @north restart --window 02:00-04:00 --zone Europe/Berlin --no-wait --dir fleet",
  ]))
    .option('--params <json>', 'parameters, a JSON object; beside it or instead: key=value, key=@file')
    .option('--ttl <time>', 'how long it is valid: 60s, 10m, 2h, 3d; default: 60s, and 1h for what may outlive a restart')
    .option('--dry-run', 'the gateways only look whether they could')
    .option('--urgent', 'wait for no maintenance window of the gateway')
    .option('--not-before <time>', 'wait at the gateway until then: 2026-11-23T22:00Z')
    .option('--window <from-to>', 'begin within the next 02:00-04:00, or not at all')
    .option('--zone <name>', 'time zone of --window, as Europe/Berlin', 'UTC')
    .option('--no-wait', 'only hand it in')
    .action(async (target: string, type: string, words: readonly string[], flags: RunFlags) => { await (await import('./run.ts')).fleetRun(io, target, type, words, flags); });
  withKey(declare('cancel <target> <type> <id>', 'Takes a command back: off the broker, and from a gateway that has it and has not ended it. Exit 1 where it had ended.', ['tenzro fleet cancel edge-1 diagnostics 5f0c1a2b3c4d5e6f --dir fleet']))
    .option('--ttl <time>', 'how long the cancel is valid; default: 60s')
    .option('--no-wait', 'only hand it in')
    .action(async (target: string, type: string, id: string, flags: Omit<RunFlags, 'zone'>) => { await (await import('./run.ts')).fleetCancel(io, target, type, id, flags); });
  declare('commands [gateway]', 'Lists commands and what became of them, the newest first.', ['tenzro fleet commands --dir fleet', 'tenzro fleet commands edge-1 --open --dir fleet'])
    .option('--open', 'only those that have not ended')
    .action(async (gateway: string | undefined, flags: { readonly dir: string; readonly open?: boolean }) => { await (await import('./run.ts')).fleetCommands(io, gateway, flags); });
  withKey(declare('logs <gateway>', 'Prints the newest lines of the log of a gateway that runs, through a signed command. The controller must serve. Exit 1 where it does not answer.', ['tenzro fleet logs edge-1 --dir fleet', "tenzro fleet logs edge-1 --since 1h --level warn --search broker --dir fleet"]))
    .option('--lines <count>', 'at most so many; what is too much for one answer is left out, the oldest first', '200')
    .option('--since <time>', 'not before: 2026-11-23T08:00Z, or an age as 90s, 10m, 2h, 3d')
    .option('--level <level>', 'debug, info, warn or error: that one and more severe ones')
    .option('--search <text>', 'only lines that contain it')
    .action(async (gateway: string, flags: LogsFlags) => { await (await import('./logs.ts')).fleetLogs(io, gateway, flags); });
  declare('attested <gateway> <type> <id>', "Says how a command ended by the gateway's own chain, which its signed blocks cover. Exit 1 where no block covers it yet, or the broker told otherwise.", ['tenzro fleet attested edge-1 restart 5f0c1a2b3c4d5e6f --dir fleet'])
    .action(async (gateway: string, type: string, id: string, flags: { readonly dir: string; readonly json?: boolean }) => { await (await import('./attested.ts')).fleetAttested(io, gateway, type, id, flags); });
  withKey(declare('twin [gateway]', "Shows what a gateway reports of its configuration, or all of them; --set desires another one, which goes back by itself unless the fleet hears the gateway under it. Exit 1 where it did not stay.", [
    'tenzro fleet twin --dir fleet', 'tenzro fleet twin edge-1 --dir fleet --json | jq .reported.value', 'tenzro fleet twin edge-1 --set edge-1.yaml --dir fleet',
  ]))
    .option('--name <name>', 'which twin', 'config')
    .option('--set <file>', 'the whole value, YAML or JSON')
    .option('--confirm <time>', 'how long after it came into force the fleet must have heard the gateway: 30s, 5m', '120s')
    .option('--despite-conflict', 'also where two gateways seem to report under the name: look for the other one first')
    .option('--no-wait', 'only hand it in')
    .action(async (gateway: string | undefined, flags: TwinFlags) => { await (await import('./twin.ts')).fleetTwin(io, gateway, flags); });
  declareGroups(fleet, io);
  declareRollout(fleet, io);
}

function declareGroups(fleet: Command, io: Io): void {
  const groups = fleet.command('groups').description('The groups of gateways in groups.yaml of the folder: lists, or queries over what the gateways report.');
  const declare = declarerOf(groups);
  declare('ls', 'Lists the groups and how many gateways each means now.', ['tenzro fleet groups ls --dir fleet'])
    .action(async (flags: GroupsFlags) => { await (await import('./groups.ts')).fleetGroupsLs(io, flags); });
  declare('show <name>', 'Lists the gateways that a group means now. Exit 1 where it lists some that nobody has heard of.', ['tenzro fleet groups show north --dir fleet'])
    .action(async (name: string, flags: GroupsFlags) => { await (await import('./groups.ts')).fleetGroupsShow(io, name, flags); });
  declare('check', 'Checks groups.yaml, without a controller.', ['tenzro fleet groups check --dir fleet'])
    .action(async (flags: GroupsFlags) => { (await import('./groups.ts')).fleetGroupsCheck(io, flags); });
}

function declareRollout(fleet: Command, io: Io): void {
  const rollout = fleet.command('rollout').description('Commands to many, in stages; docs/reference/rollouts.md has the plan. tenzro fleet plan makes a dry run.');
  const declare = declarerOf(rollout);
  withKey(declare('start <file>', 'Signs every message that a roll-out may need, begins it, and shows how it goes. Ctrl-C leaves it going. Exit 1 where it did not complete, or somebody failed.', [
    'tenzro fleet rollout start firmware-1.4.yaml --dir fleet', 'tenzro fleet rollout start firmware-1.4.yaml --no-watch --dir fleet',
  ]))
    .option('--no-watch', 'only begin it')
    .action(async (file: string, flags: StartFlags) => { await (await import('./rollout.ts')).rolloutStart(io, file, flags); });
  declare('ls', 'Lists the roll-outs.', ['tenzro fleet rollout ls --dir fleet'])
    .action(async (flags: RolloutFlags) => { await (await import('./rollout.ts')).rolloutLs(io, flags); });
  declare('show <id>', 'Shows how a roll-out stands, with failures by reason.', ['tenzro fleet rollout show firmware-1-4 --dir fleet'])
    .action(async (id: string, flags: RolloutFlags) => { await (await import('./rollout.ts')).rolloutShow(io, id, flags); });
  declare('watch <id>', 'Shows a roll-out until its end. Exit 1 where it did not complete, or somebody failed.', ['tenzro fleet rollout watch firmware-1-4 --dir fleet'])
    .action(async (id: string, flags: RolloutFlags) => { await (await import('./rollout.ts')).rolloutWatch(io, id, flags); });
  for (const [order, summary] of [['pause', 'Sends nothing more until it is resumed; answers are taken.'], ['resume', 'Goes on; a soak begins anew.']] as const) {
    declare(`${order} <id>`, summary, [`tenzro fleet rollout ${order} firmware-1-4 --dir fleet`])
      .action(async (id: string, flags: RolloutFlags) => { await (await import('./rollout.ts')).rolloutOrder(io, order, id, flags); });
  }
  for (const [order, summary] of [['abort', 'Ends it: what is under way is cancelled, what changed stays.'], ['rollback', 'Ends it, and undoes what changed; also after its end.']] as const) {
    declare(`${order} <id>`, summary, [`tenzro fleet rollout ${order} firmware-1-4 --why 'boots twice' --dir fleet`])
      .option('--why <text>', 'for the log of acts and the report')
      .action(async (id: string, flags: RolloutFlags & { readonly why?: string }) => { await (await import('./rollout.ts')).rolloutOrder(io, order, id, flags); });
  }
}
