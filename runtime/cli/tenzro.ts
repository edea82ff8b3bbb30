/** The `tenzro` command: declares the subcommands, each of which lives in its own file and is loaded only when called. The only file that imports `commander`. */
import { Command, CommanderError, Option } from 'commander';
import manifest from '../../package.json' with { type: 'json' };
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { declareBoard } from './boardDeclare.ts';
import { declareFlash } from './declareFlash.ts';
import { declareUpdate } from './declareUpdate.ts';
import { declareDispatch } from './fleet/declare.ts';
import { EXIT, Io, type CommonFlags } from './io.ts';

/** Runs one command line, without `node` and script name. Resolves with the exit code; never rejects. */
export async function main(args: readonly string[]): Promise<number> {
  const io = new Io();
  const asJson = args.includes('--json');
  try {
    await program(io, asJson).parseAsync(args, { from: 'user' });
    return io.exitCode;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return EXIT.ok;
    if (error instanceof CommanderError) {
      if (asJson) tell(io, new TenzroError('cli.usage', error.message.replace(/^error: /, '')), asJson); // else it has told
      return EXIT.unable;
    }
    if (io.signal.aborted) return EXIT.unable; // interrupted, or nobody reads any more
    tell(io, error, asJson);
    return EXIT.unable;
  }
}

function tell(io: Io, error: unknown, asJson: boolean): void {
  const known = error instanceof TenzroError ? error : new TenzroError(isFromSystem(error) ? 'core.system' : 'core.invariant', messageOf(error), { cause: error });
  if (asJson) {
    io.json({ error: { code: known.code, class: known.class, message: known.message, hint: known.hint } });
    return;
  }
  const lines = known.message.split('\n').map(printable);
  io.error(lines.length === 1 ? `tenzro: ${lines[0]} (${known.code})` : `tenzro: ${known.code}\n${lines.join('\n')}`);
  io.error(known.hint);
  if (known.class === 'bug' && error instanceof Error) io.error(error.stack ?? '');
}

/** A refused system call that nobody expected there: the machine's fault, not ours. */
const isFromSystem = (error: unknown): boolean => error instanceof Error && 'syscall' in error;

/** `asJson`: errors of usage are told as JSON, by the caller. */
function program(io: Io, asJson: boolean): Command {
  const root = new Command('tenzro')
    .description('A gateway whose data can be trusted: readings, inferences and commands in a TPM-attested, post-quantum signed datachain.')
    .version(manifest.version)
    .exitOverride()
    .configureOutput(asJson ? { writeErr: () => undefined } : {})
    .showSuggestionAfterError()
    .showHelpAfterError('(tenzro --help, or --help after a command, says more; code cli.usage)')
    .addHelpText('after', '\nExit codes: 0 fine or verified, 1 refuted or a problem found, 2 could not be judged, wrong usage or environment.');
  declareRun(root, io);
  declareReaders(root, io);
  declareProofs(root, io);
  declareEkRoots(root, io);
  declareReference(root, io);
  declareConfidential(root, io);
  declareMaintenance(root, io);
  declareIdentity(root, io);
  declareVerifier(root, io);
  declareClaim(root, io);
  declareFleet(root, io);
  declareConfig(root, io);
  declareFlash(root, io);
  declareUpdate(root, io);
  declareBoard(root, io);
  return root;
}

/** A subcommand with the flags that all of them share. */
function add(parent: Command, usage: string, summary: string, examples: readonly string[]): Command {
  return parent.command(usage).description(summary)
    .option('--data <dir>', 'data directory (TENZRO_DATA)')
    .option('--config <file>', 'configuration file (TENZRO_CONFIG)')
    .addHelpText('after', `\nExamples:\n${examples.map((example) => `  $ ${example}`).join('\n')}`);
}

const JSON_FLAG = ['--json', 'print JSON for scripts'] as const;

function declareRun(root: Command, io: Io): void {
  add(root, 'run', 'Runs the gateway until SIGINT or SIGTERM.', ['tenzro run', 'tenzro run --data /srv/tenzro --mqtt-port 11883', 'tenzro run --scenario workshop'])
    .option('--mqtt-port <port>', 'port of the loopback MQTT listener (TENZRO_MQTT_PORT)')
    .addOption(new Option('--scenario <name>', 'also play simulated microcontrollers').choices(['workshop']))
    .option('--no-scenario', 'without simulated microcontrollers, whatever came before')
    .action(async (flags: import('./run.ts').RunFlags) => { await (await import('./run.ts')).run(io, flags); });
}

function declareReaders(root: Command, io: Io): void {
  add(root, 'status', 'Says whether the gateway is ready, what is attested, and how far it can be trusted.', ['tenzro status', 'tenzro status --watch', 'tenzro status --json | jq .chain'])
    .option(...JSON_FLAG)
    .option('--watch', 'again every second')
    .action(async (flags: CommonFlags & { watch?: boolean }) => { await (await import('./status.ts')).status(io, flags); });
  add(root, 'log', 'Lists entries of the datachain, newest last.', ['tenzro log', 'tenzro log --follow --kind inference,alarm', 'tenzro log --source device/motor// --since 10m --json'])
    .option(...JSON_FLAG)
    .option('--follow', 'go on as entries come')
    .option('--kind <names>', 'only these kinds, comma-separated: reading, inference, boot …')
    .option('--source <entity>', 'only this source, as device/motor//')
    .option('--since <when>', 'from a time (2026-11-23T08:00Z) or an age (90s, 10m, 2h, 3d) on')
    .option('--limit <n>', 'at most so many, the newest (default 20; all with --since)')
    .action(async (flags: import('./log.ts').LogFlags) => { await (await import('./log.ts')).log(io, flags); });
}

function declareProofs(root: Command, io: Io): void {
  add(root, 'proof <index>', 'Exports a proof of one entry, or of a range A..B, to a file.', ['tenzro proof 42 -o reading.tzp', 'tenzro proof 40..45 -o readings.tzp --wait'])
    .requiredOption('-o, --output <file>', 'file to write')
    .option('--wait', 'wait until a block covers the entries')
    .option('--receipted', 'up to the next block that a fleet has receipted, with its receipt')
    .option(...JSON_FLAG)
    .action(async (index: string, flags: CommonFlags & { output: string; wait?: boolean; receipted?: boolean }) => { await (await import('./proof.ts')).proof(io, index, flags); });
  root.command('verify <file>').description('Verifies a proof: no network, no TPM, no data directory, unless --live. Exit 0 verified, 1 refuted, 2 could not be judged.')
    .option('--policy <file>', 'YAML file that says what you accept; default: hardware TPMs only')
    .option('--ek-roots <file>', "certificates of TPM makers, as tenzro ek-roots fetch writes them; only roots that are known count")
    .option(...JSON_FLAG)
    .option('--successor <file>', 'also: does this chain, ended by tenzro identity rotate, name the keys of the chain that this other proof is about?')
    .option('--live', 'also challenge the running gateway: is its chain the one in the file, and is nothing cut from it?')
    .option('--data <dir>', 'data directory of that gateway (TENZRO_DATA)')
    .option('--config <file>', 'configuration file (TENZRO_CONFIG)')
    .addHelpText('after', '\nExamples:\n  $ tenzro verify reading.tzp\n  $ tenzro verify reading.tzp --policy docs/policies/allow-emulated.yaml --json\n  $ tenzro verify reading.tzp --live --data /srv/tenzro')
    .action(async (file: string, flags: import('./verify.ts').VerifyFlags) => { await (await import('./verify.ts')).verify(io, file, flags); });
}

function declareEkRoots(root: Command, io: Io): void {
  root.command('ek-roots').description("TPM makers' root certificates, for judging EK certificates.")
    .command('fetch').description('Fetches the roots that this program knows by fingerprint into one PEM file. Exit 1 when some could not be had.')
    .requiredOption('-o, --output <file>', 'file to write')
    .option('--vendor <ids>', 'only these makers: IFX,STM,NTC,INTC,AMD …')
    .option('--from <dir>', 'take them from the files below a folder instead of the network')
    .option('--for <file>', 'also fetch the issuers of this EK certificate')
    .option(...JSON_FLAG)
    .addHelpText('after', '\nExamples:\n  $ tenzro ek-roots fetch -o ek-roots.pem\n  $ tenzro ek-roots fetch -o ek-roots.pem --vendor IFX --for ek.crt\n  $ tenzro ek-roots fetch -o ek-roots.pem --from /usr/share/rubygems-integration')
    .action(async (flags: import('./ekRoots.ts').FetchFlags) => { await (await import('./ekRoots.ts')).ekRootsFetch(io, flags); });
}

function declareConfidential(root: Command, io: Io): void {
  const confidential = root.command('confidential').description('Makes keys for confidential entries, and opens what was sealed to them.');
  confidential.command('keygen').description('Makes a key pair: the private key to FILE (mode 600), the public one to FILE.pub. Keep FILE away from the gateway.')
    .requiredOption('-o, --output <file>', 'file to write; an existing one is left alone')
    .option(...JSON_FLAG)
    .addHelpText('after', '\nExamples:\n  $ tenzro confidential keygen -o owner.key')
    .action(async (flags: { output: string; json?: boolean }) => { (await import('./confidential.ts')).confidentialKeygen(io, flags); });
  confidential.command('open <file>').description('Verifies a proof, then shows its confidential entries in clear. Exit 0 verified and opened, 1 refuted, 2 could not be judged or opened.')
    .requiredOption('--key <file>', 'private key of a recipient, made by tenzro confidential keygen')
    .option('--policy <file>', 'YAML file that says what you accept; default: hardware TPMs only')
    .option(...JSON_FLAG)
    .addHelpText('after', '\nExamples:\n  $ tenzro confidential open reading.tzp --key owner.key\n  $ tenzro confidential open reading.tzp --key owner.key --policy docs/policies/allow-emulated.yaml --json')
    .action(async (file: string, flags: { key: string; policy?: string; json?: boolean }) => { (await import('./confidential.ts')).confidentialOpen(io, file, flags); });
}

function declareReference(root: Command, io: Io): void {
  add(root, 'reference', 'Prints a policy with the reference values of this gateway, or of the one that a proof is about.', ['tenzro reference > golden.yaml', 'tenzro reference --from reading.tzp --ima > golden.yaml'])
    .option('--from <file>', 'proof bundle to take the values from; default: the newest proof of this gateway')
    .option('--ima', 'also list the files that ran, as IMA measured them')
    .option(...JSON_FLAG)
    .action(async (flags: import('./reference.ts').ReferenceFlags) => { await (await import('./reference.ts')).reference(io, flags); });
}

function declareMaintenance(root: Command, io: Io): void {
  add(root, 'fsck [chain]', "Verifies a stopped data directory, or one chain's folder: every hash, block, signature and cursor. Exit 0 only when all of it holds.", ['tenzro fsck', 'tenzro fsck --data /srv/tenzro --json', 'tenzro fsck .tenzro/ledger/quarantine/1-20261123T080000Z'])
    .option(...JSON_FLAG)
    .action(async (chain: string | undefined, flags: CommonFlags) => { await (await import('./fsck.ts')).fsck(io, chain, flags); });
  add(root, 'doctor', 'Looks for TPM, buses, accelerator, clock and disk, and says what each absence means.', ['tenzro doctor', 'tenzro doctor --json'])
    .option(...JSON_FLAG)
    .action(async (flags: CommonFlags) => { await (await import('./doctor.ts')).doctor(io, flags); });
}

function declareIdentity(root: Command, io: Io): void {
  const identity = root.command('identity').description("The gateway's keys: what protects them, who approves the boot states in which they open, and how to change them.");
  const declare = (usage: string, summary: string, examples: readonly string[]): Command => add(identity, usage, summary, examples).option(...JSON_FLAG);
  declare('status', 'Says whether the keys are open, and if they are locked, why and what to do. Exit 1 while they are locked.', ['tenzro identity status', 'tenzro identity status --json | jq -r .code'])
    .action(async (flags: CommonFlags) => { await (await import('./identity.ts')).identityStatus(io, flags); });
  declare('request', 'Prints what the authority shall approve: the boot state that this machine is in.', ['tenzro identity request > request.json'])
    .action(async (flags: CommonFlags) => { await (await import('./identity.ts')).identityRequest(io, flags); });
  declare('approve [request]', 'Approves a boot state: signs a request with the key of an external authority, on any machine, or lets the open keys approve a state to come.',
    ['tenzro identity approve request.json --key owner.pem > approval.json', 'tenzro identity approve --pcrs current', "tenzro identity approve --pcrs next-image.json --note 'image 2026.12'"])
    .option('--key <file>', "PEM file of the authority's private key")
    .option('--pcrs <file>', 'JSON file {"7": "<64 hex digits>", …}, or current')
    .option('--note <text>', 'for people: which image, why')
    .action(async (request: string | undefined, flags: import('./identity.ts').ApproveFlags) => { await (await import('./identity.ts')).identityApprove(io, request, flags); });
  declare('own', "Sets the TPM's owner, endorsement and lockout authorisations to secrets of the sealed keys. Do it only where nobody else uses the TPM.", ['tenzro identity own'])
    .action(async (flags: CommonFlags) => { await (await import('./identity.ts')).identityOwn(io, flags); });
  declare('recover', 'Opens locked keys with an approval, or gives them up and begins a new chain.', ['tenzro identity recover --approval approval.json', 'tenzro identity recover --new-chain'])
    .option('--approval <file>', 'what tenzro identity approve printed')
    .option('--new-chain', 'new keys and a new chain, on a stopped gateway; the old chain is set aside and still verifies')
    .action(async (flags: import('./identityChange.ts').RecoverFlags) => { await (await import('./identityChange.ts')).identityRecover(io, flags); });
  declare('rotate', 'Changes the keys of a stopped gateway: the old chain names its successor and ends, a new one follows, the old keys never open again. Its fleets hear of it first.', ['tenzro identity rotate'])
    .option('--alone', 'also where a fleet cannot be told: there it has to be claimed anew')
    .action(async (flags: import('./identityChange.ts').RotateFlags) => { await (await import('./identityChange.ts')).identityRotate(io, flags); });
  declare('revoke', 'Makes all copies of the data directory of a stopped gateway worthless: the same keys are sealed anew.', ['tenzro identity revoke'])
    .action(async (flags: CommonFlags) => { await (await import('./identity.ts')).identityRevoke(io, flags); });
}

function declareClaim(root: Command, io: Io): void {
  const claim = root.command('claim').description('The code by which a gateway is claimed: shown where it stands, read where its owner is.');
  add(claim, 'show', 'Shows a code that works once and for ten minutes, as QR and to type; beside a running gateway and on a stopped one. Refused while the gateway has an owner.', ['tenzro claim show', 'tenzro claim show --png code.png', 'tenzro claim show --printed --json'])
    .option(...JSON_FLAG)
    .option('--printed', 'the code for a label instead: works once, until the gateway is claimed')
    .option('--png <file>', 'write the QR code as a picture; an existing one is left alone')
    .addOption(new Option('--ground <colour>', 'ground of a terminal without colours').choices(['dark', 'light']))
    .option('--wait', 'stay until the gateway is claimed, and show the words; as on a terminal')
    .option('--no-wait', 'only show the code')
    .action(async (flags: import('./claim.ts').ShowFlags) => { await (await import('./claim.ts')).claimShow(io, flags); });
  add(claim, 'scan', 'The other direction: reads the code that an operator shows with tenzro fleet claim --show, and lets them claim this running gateway; or joins the network of a plain WIFI: code, by which nobody owns it.', ['tenzro claim scan --camera', 'tenzro claim scan --image photo.jpg'])
    .option(...JSON_FLAG)
    .option('--image <file>', 'PNG or JPEG with the QR code on it')
    .option('--camera', 'look through a camera of this machine until it sees a code')
    .option('--code <code>', 'the code as text; - reads it from stdin, so that it stands in no list of processes')
    .action(async (flags: import('./claim.ts').ScanFlags) => { await (await import('./claim.ts')).claimScan(io, flags); });
  claim.command('labels <file>').description('Makes a PDF sheet of labels from lines of a code, a blank and a name; - reads stdin.')
    .requiredOption('-o, --output <file>', 'file to write; an existing one is left alone')
    .option(...JSON_FLAG)
    .addHelpText('after', '\nExamples:\n  $ tenzro claim labels codes.txt -o labels.pdf\n  $ echo "$(tenzro claim show --printed --json | jq -r .code) hall 3" | tenzro claim labels - -o label.pdf')
    .action(async (file: string, flags: { output: string; json?: boolean }) => { (await import('./claim.ts')).claimLabels(io, file, flags); });
  claim.command('read').description('Says what a code holds, without its secret. Claims nothing.')
    .option('--image <file>', 'PNG or JPEG with the QR code on it')
    .option('--code <code>', 'the code as text; - reads it from stdin, so that it stands in no list of processes')
    .option('--secret', 'show the one-time secret too')
    .option(...JSON_FLAG)
    .addHelpText('after', '\nExamples:\n  $ tenzro claim read --image photo.jpg\n  $ tenzro claim read --code - --json')
    .action(async (flags: import('./claim.ts').ReadFlags) => { await (await import('./claim.ts')).claimRead(io, flags); });
}

function declareFleet(root: Command, io: Io): void {
  const fleet = root.command('fleet').description('Keys of operators, the commands that they sign, and the controller that keeps the chains.');
  fleet.command('keygen').description('Makes a key pair: the private key to FILE (mode 600, under a passphrase), the public one to FILE.pub.')
    .requiredOption('-o, --output <file>', 'file to write; an existing one is left alone')
    .option('--passphrase-file <file>', 'take the passphrase from the first line of a file; else it is asked for')
    .option(...JSON_FLAG)
    .addHelpText('after', '\nExamples:\n  $ tenzro fleet keygen -o owner.key')
    .action(async (flags: import('./fleet/keygen.ts').KeygenFlags) => { await (await import('./fleet/keygen.ts')).fleetKeygen(io, flags); });
  fleet.command('sign').description('Prints a signed command as JSON, to be published retained on te/device/main///cmd/TYPE/ID.')
    .requiredOption('--key <file>', 'private key, made by tenzro fleet keygen')
    .requiredOption('--gateway <id>', 'node.name of the gateway that shall obey')
    .requiredOption('--type <type>', 'attest, cancel, config_update, diagnostics, restart, sync_time …')
    .option('--id <id>', 'serves once; default: random')
    .option('--ttl <time>', 'how long it is valid: 60s, 10m, 2h, 3d', '60s')
    .option('--params <json>', 'parameters, a JSON object')
    .option('--message <file>', 'sign this command, written by hand: its members stay, the flags fill in what is missing')
    .option('--not-before <time>', 'wait until then, within the validity: 2026-11-23T22:00Z')
    .option('--dry-run', 'the gateway only looks whether it could')
    .option('--urgent', 'wait for no maintenance window of the gateway')
    .option('--passphrase-file <file>', 'take the passphrase from the first line of a file; else it is asked for')
    .addHelpText('after', "\nExamples:\n  $ tenzro fleet sign --key owner.key --gateway edge-1 --type attest --id 1 --params '{\"nonce\":\"'$(openssl rand -hex 32)'\"}' > cmd.json\n  $ mosquitto_pub -r -q 1 -t te/device/main///cmd/attest/1 -f cmd.json")
    .action(async (flags: import('./fleet/sign.ts').SignFlags) => { await (await import('./fleet/sign.ts')).fleetSign(io, flags); });
  fleet.command('plan').description('A dry run over files: prints the stages of a roll-out and whom each would touch. Sends nothing. Exit 1 where the group lists unknown gateways.')
    .requiredOption('--groups <file>', 'groups: lists of gateways, or queries over what they report (YAML or JSON)')
    .requiredOption('--twins <file>', 'what the gateways report (YAML or JSON)')
    .requiredOption('--rollout <file>', 'the roll-out: command, stages, health, failures that are borne (YAML or JSON)')
    .option(...JSON_FLAG)
    .addHelpText('after', '\nExamples:\n  $ tenzro fleet plan --groups groups.yaml --twins twins.json --rollout firmware-1.4.yaml\n  $ tenzro fleet plan --groups groups.yaml --twins twins.json --rollout firmware-1.4.yaml --json | jq .stages')
    .action(async (flags: import('./fleet/plan.ts').PlanFlags) => { (await import('./fleet/plan.ts')).fleetPlan(io, flags); });
  declareController(fleet, io);
  declareOwnership(fleet, io);
  declareDispatch(fleet, io);
}

function declareController(fleet: Command, io: Io): void {
  const declare = (usage: string, summary: string, examples: readonly string[]): Command => fleet.command(usage).description(summary)
    .requiredOption('--dir <dir>', 'folder of the controller').option(...JSON_FLAG).addHelpText('after', `\nExamples:\n${examples.map((example) => `  $ ${example}`).join('\n')}`);
  declare('init', "Makes a folder with a fleet's keys (two for its owner), its certificate authority and a sample policy, all under one passphrase.", ['tenzro fleet init --dir /var/lib/tenzro-fleet', 'tenzro fleet init --dir fleet --name workshop --host fleet.example.org 192.0.2.7'])
    .option('--name <name>', 'how the controller calls itself; default: the host name')
    .option('--host <names...>', 'names and addresses under which gateways reach its broker; default: those of this machine')
    .option('--passphrase-file <file>', 'take the passphrase from the first line of a file; else it is asked for')
    .option('--open', 'a fleet without claiming: whoever the broker lets in belongs to it')
    .action(async (flags: import('./fleet/controller.ts').InitFlags) => { await (await import('./fleet/controller.ts')).fleetInit(io, flags); });
  declare('serve', 'Verifies, keeps and receipts the chains that gateways send, until SIGINT or SIGTERM; with its own MQTT broker, or with another.', ['tenzro fleet serve --dir fleet', 'tenzro fleet serve --dir fleet --listen 192.0.2.7:8883', 'tenzro fleet serve --dir fleet --broker mqtts://localhost:8883 --ca ca.pem --user controller --password-file broker.password'])
    .option('--listen <host:port>', 'where its own broker listens, with TLS; default 0.0.0.0:8883')
    .option('--broker <url>', 'use this broker instead, mqtts://host:port')
    .option('--ca <file>', "PEM certificates that its certificate must chain to; default: the system's authorities")
    .option('--user <name>', 'user name for it')
    .option('--password-file <file>', 'file, readable by its owner only, whose first line is the password')
    .option('--passphrase-file <file>', 'take the passphrase of the folder from the first line of a file; else it is asked for')
    .action(async (flags: import('./fleet/controller.ts').ServeFlags) => { await (await import('./fleet/controller.ts')).fleetServe(io, flags); });
  declare('status', 'Says how the controller is that serves there: its broker, who is connected, what it counted.', ['tenzro fleet status --dir fleet --json | jq .broker'])
    .action(async (flags: import('./fleet/controller.ts').DirFlags) => { await (await import('./fleet/controller.ts')).fleetStatus(io, flags); });
  declare('broker-user <name>', 'Lets a person look on at the own broker: read all, say nothing. Again: another password.', ['tenzro fleet broker-user anna --dir fleet', 'tenzro fleet broker-user anna --remove --dir fleet'])
    .option('--password-file <file>', 'take the password from the first line of a file; else it is asked for')
    .option('--remove', 'that name may not come in any more')
    .action(async (name: string, flags: import('./fleet/controller.ts').UserFlags) => { await (await import('./fleet/controller.ts')).fleetBrokerUser(io, name, flags); });
  declare('ls', 'Lists the gateways, how far their chains are kept, and what the policy says of them. Exit 1 where one is frozen or falls short.', ['tenzro fleet ls --dir /var/lib/tenzro-fleet'])
    .action(async (flags: import('./fleet/register.ts').DirFlags) => { await (await import('./fleet/register.ts')).fleetLs(io, flags); });
  declare('show <gateway>', 'Shows a gateway, or a chain by its id. Exit 1 where it is frozen or falls short of the policy.', ['tenzro fleet show edge-1 --dir /var/lib/tenzro-fleet --json'])
    .action(async (gateway: string, flags: import('./fleet/register.ts').DirFlags) => { await (await import('./fleet/register.ts')).fleetShow(io, gateway, flags); });
  declare('revoke <gateway>', 'Takes nothing of a gateway any more and cuts it off: lost, stolen, or not ours any longer.', ["tenzro fleet revoke edge-1 --why 'stolen' --dir /var/lib/tenzro-fleet"])
    .requiredOption('--why <text>', 'for the log of acts')
    .action(async (gateway: string, flags: Parameters<typeof import('./fleet/register.ts').fleetRevoke>[2]) => { await (await import('./fleet/register.ts')).fleetRevoke(io, gateway, flags); });
  declare('forget <gateway|chain>', 'Takes a frozen gateway or chain again, or lets a revoked or released gateway leave the register.', ['tenzro fleet forget edge-1 --dir /var/lib/tenzro-fleet'])
    .action(async (target: string, flags: import('./fleet/register.ts').DirFlags) => { await (await import('./fleet/register.ts')).fleetForget(io, target, flags); });
  declare('renew', 'Makes another intermediate certificate authority, with the root; no controller may serve meanwhile.', ['tenzro fleet renew --dir fleet', 'tenzro fleet renew --dir fleet --root /media/safe/root.key'])
    .option('--root <file>', 'where root.key was carried; default: in the folder')
    .option('--passphrase-file <file>', 'take the passphrase from the first line of a file; else it is asked for')
    .action(async (flags: Parameters<typeof import('./fleet/register.ts').fleetRenew>[1]) => { await (await import('./fleet/register.ts')).fleetRenew(io, flags); });
  declare('passphrase', 'Changes the passphrase of the keys; no controller may serve meanwhile. After a kill: the same again finishes it.', ['tenzro fleet passphrase --dir fleet', 'tenzro fleet passphrase --dir fleet --key /media/safe/owner-2.key'])
    .option('--key <files...>', 'keys of the fleet that were carried elsewhere: change them too')
    .option('--passphrase-file <file>', 'take the old passphrase from the first line of a file; else it is asked for')
    .option('--new-passphrase-file <file>', 'the new one likewise')
    .action(async (flags: import('./fleet/changePassphrase.ts').PassphraseFlags) => { await (await import('./fleet/changePassphrase.ts')).fleetPassphrase(io, flags); });
  fleet.command('acts').description('Prints what the controller did, for whom and when. With --verify: exit 1 with the first act that does not hold.')
    .option('--dir <dir>', 'folder of the controller').option('--file <file>', 'an export, instead')
    .option('--export', 'print them signed, for --file').option('--verify', 'check signatures and order')
    .option('--since <count:digest>', 'what an earlier --verify printed: nothing before it was changed or cut off').option('--key <digest>', "SHA-256 of the controller's receipt key, hexadecimal")
    .option(...JSON_FLAG)
    .addHelpText('after', '\nExamples:\n  $ tenzro fleet acts --dir /var/lib/tenzro-fleet\n  $ tenzro fleet acts --dir /var/lib/tenzro-fleet --export > acts.txt\n  $ tenzro fleet acts --file acts.txt --verify')
    .action(async (flags: import('./fleet/register.ts').ActsFlags) => { await (await import('./fleet/register.ts')).fleetActs(io, flags); });
}

function declareOwnership(fleet: Command, io: Io): void {
  const declare = (usage: string, summary: string, examples: readonly string[]): Command => fleet.command(usage).description(summary)
    .requiredOption('--dir <dir>', 'folder of the controller')
    .option('--key <file>', 'owner key to sign with; default: owner-1.key of the folder. The other one does as well')
    .option('--passphrase-file <file>', 'take the passphrase of the key from the first line of a file; else it is asked for')
    .option(...JSON_FLAG).addHelpText('after', `\nExamples:\n${examples.map((example) => `  $ ${example}`).join('\n')}`);
  declare('claim', 'Makes the gateway yours whose code you scan or type, and waits until its first block is receipted. The controller must serve. Ctrl-C anywhere leaves what --resume ends.',
    ['tenzro fleet claim --dir fleet --image photo.jpg', 'tenzro fleet claim --dir fleet --camera --wifi workshop', 'tenzro fleet claim --dir fleet --code - --address 192.168.1.20:8777', 'tenzro fleet claim --dir fleet --resume'])
    .option('--code <code>', 'the code as text; - reads it from stdin, so that it stands in no list of processes')
    .option('--image <file>', 'PNG or JPEG with the QR code on it')
    .option('--camera', 'look through a camera of this machine until it sees a code')
    .option('--show', 'the other direction: show a code that the gateway scans (tenzro claim scan), and wait for it')
    .option('--listen <host:port>', 'with --show: where to wait; default: a free port on every interface')
    .option('--png <file>', 'with --show: write the QR code as a picture; an existing one is left alone')
    .option('--resume', 'only ask what became of claims whose end is not known')
    .option('--name <id>', 'node.name of a gateway without a TPM, which cannot state it itself')
    .option('--address <host:port>', 'where the gateway is; default: it is looked for on this network')
    .option('--wifi <ssid>', 'network that the gateway shall join; its passphrase is asked for')
    .option('--wifi-file <file>', 'take the passphrase of the network from the first line of a file')
    .option('--broker <url>', "broker that the gateway shall report to, mqtts://host:port; default: the controller's")
    .option('--broker-ca <file>', "certificate that the broker's must chain to, of a broker that others run; default: the fleet's authority")
    .option('--broker-password-file <file>', 'file whose first line is the password of the user there that is called as the gateway is; it is handed over in place of a certificate')
    .option('--policy <file>', 'policy file; default: policy.yaml in the folder')
    .option('--yes', 'take a gateway whose keys no maker vouches for, without asking')
    .action(async (flags: import('./fleet/claim.ts').ClaimFlags) => { await (await import('./fleet/claim.ts')).fleetClaim(io, flags); });
  declare('release <gateway>', 'Gives a gateway up, over the local network: it forgets its owner and can be claimed anew.', ['tenzro fleet release edge-1 --dir fleet', 'tenzro fleet release edge-1 --dir fleet --key /media/stick/owner-2.key'])
    .option('--address <host:port>', 'where the gateway is, if it is not found')
    .action(async (gateway: string, flags: import('./fleet/order.ts').OrderFlags & { readonly address?: string }) => { await (await import('./fleet/order.ts')).fleetRelease(io, gateway, flags); });
  declare('rotate [gateway]', 'Puts two other owner keys in the place of those of now, over the local network. Exit 1 where a gateway could not be reached: call it again.',
    ['tenzro fleet rotate --all --dir fleet --key owner-2.key --to new-1.key new-2.key'])
    .option('--all', 'every gateway that was claimed from this folder')
    .requiredOption('--to <files...>', 'the two new keys, made by tenzro fleet keygen; only their .pub are read')
    .action(async (gateway: string | undefined, flags: Parameters<typeof import('./fleet/order.ts').fleetRotate>[2]) => { await (await import('./fleet/order.ts')).fleetRotate(io, gateway, flags); });
}

function declareVerifier(root: Command, io: Io): void {
  const verifier = root.command('verifier').description('Appraises gateways against a policy and grants their leases.');
  const declare = (usage: string, summary: string, examples: readonly string[]): Command =>
    verifier.command(usage).description(summary).option(...JSON_FLAG).addHelpText('after', `\nExamples:\n${examples.map((example) => `  $ ${example}`).join('\n')}`);
  declare('init', 'Makes a folder with the keys, the TLS certificate and a sample policy, and says what to put into the configuration of the gateways.', ['tenzro verifier init --dir /var/lib/tenzro-verifier --host verifier.example.org'])
    .requiredOption('--dir <dir>', 'folder of the verifier')
    .option('--host <names...>', 'names and addresses under which gateways reach it; default: this host, and loopback')
    .option('--name <name>', 'how leases name it; default: the host name')
    .action(async (flags: Parameters<typeof import('./verifier.ts').verifierInit>[1]) => { await (await import('./verifier.ts')).verifierInit(io, flags); });
  declare('serve', 'Serves challenges, appraisals and enrolments over HTTPS until SIGINT or SIGTERM.', ['tenzro verifier serve --dir /var/lib/tenzro-verifier', 'tenzro verifier serve --dir v --listen 127.0.0.1:8775 --policy strict.yaml'])
    .requiredOption('--dir <dir>', 'folder of the verifier')
    .option('--policy <file>', 'policy file; default: policy.yaml in the folder. Read again when it changes, and at SIGHUP')
    .option('--ek-roots <file>', 'certificates of TPM makers, as tenzro ek-roots fetch writes them; read again with the policy')
    .option('--listen <host:port>', 'default 0.0.0.0:8775')
    .action(async (flags: Parameters<typeof import('./verifier.ts').verifierServe>[1]) => { await (await import('./verifier.ts')).verifierServe(io, flags); });
  declare('appraise <file>', 'Explains what a policy makes of a proof, check by check, and what a lease would say. Issues nothing. Exit 1 where no lease would be granted.', ['tenzro verifier appraise reading.tzp --policy policy.yaml'])
    .requiredOption('--policy <file>', 'policy file')
    .option('--ek-roots <file>', 'certificates of TPM makers, as tenzro ek-roots fetch writes them')
    .option('--nonce <hex>', 'the challenge that the proof must answer; without it the age of the proof is not judged')
    .action(async (file: string, flags: Parameters<typeof import('./verifier.ts').verifierAppraise>[2]) => { (await import('./verifier.ts')).verifierAppraise(io, file, flags); });
  declare('forget <chain>', 'Lets a chain and its device begin anew: for a gateway that was set up again on purpose.', ['tenzro verifier forget 5e1f…c3 --dir /var/lib/tenzro-verifier'])
    .requiredOption('--dir <dir>', 'folder of the verifier')
    .action(async (chain: string, flags: import('./verifier.ts').DirFlags) => { await (await import('./verifier.ts')).verifierForget(io, chain, flags); });
}

function declareConfig(root: Command, io: Io): void {
  const config = root.command('config').description('Checks and shows the configuration.');
  add(config, 'check', 'Checks the configuration file. Exit 1 when something is wrong in it.', ['tenzro config check', 'tenzro config check --config new.yaml --json'])
    .option(...JSON_FLAG)
    .action(async (flags: CommonFlags) => { (await import('./config.ts')).configCheck(io, flags); });
  add(config, 'show', 'Shows every effective value and where it comes from; never a secret.', ['tenzro config show', 'TENZRO_MQTT_PORT=0 tenzro config show --json'])
    .option(...JSON_FLAG)
    .action(async (flags: CommonFlags) => { (await import('./config.ts')).configShow(io, flags); });
  config.command('hash-password').description('Reads a password (typed unseen, or the first line of stdin) and prints its hash for mqtt.users.')
    .addHelpText('after', '\nExamples:\n  $ tenzro config hash-password\n  $ printf %s "$PASSWORD" | tenzro config hash-password')
    .action(async () => { await (await import('./config.ts')).configHashPassword(io); });
}
