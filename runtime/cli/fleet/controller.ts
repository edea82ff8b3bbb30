/** `tenzro fleet init|serve|ls|show`: the controller that verifies, keeps and receipts the chains of a fleet. */
import { hostname } from 'node:os';
import { toHex } from '#runtime/core/bytes.ts';
import { isoOfMicros } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { runController, withChains } from '#runtime/controllerMain.ts';
import { buildHouse } from '#runtime/controller/house.ts';
import type { ChainRecord } from '#runtime/controller/record.ts';
import { EXIT, allowsColor, type Io } from '../io.ts';

export interface DirFlags {
  readonly dir: string;
  readonly json?: boolean;
}

export async function fleetInit(io: Io, flags: DirFlags & { readonly name?: string }): Promise<void> {
  const { receiptKey } = await buildHouse(flags.dir, flags.name ?? hostname());
  if (flags.json) return io.json({ dir: flags.dir, receiptKey });
  for (const line of [
    `${printable(flags.dir)}: the controller's receipt key, and room for the chains.`, '',
    `1. Serve, on a broker that asks for users and TLS:  tenzro fleet serve --dir ${printable(flags.dir)} --broker mqtts://broker.example.org:8883 --ca broker-ca.pem`,
    '2. On each gateway, put this into its configuration:', '',
    'uplink:', '  url: mqtts://broker.example.org:8883', '  caFile: /etc/tenzro/broker-ca.pem', '  user: edge-1', '  passwordFile: /etc/tenzro/broker.password', `  receiptKey: "${receiptKey}"`,
  ]) io.line(line);
}

export interface ServeFlags extends DirFlags {
  readonly broker: string;
  readonly ca?: string;
  readonly user?: string;
  readonly passwordFile?: string;
}

export async function fleetServe(io: Io, { dir, broker, ca, user, passwordFile, json }: ServeFlags): Promise<void> {
  if (!/^mqtts?:\/\//.test(broker) || !URL.canParse(broker)) throw new TenzroError('cli.usage', `'${broker}' is not mqtts://host:port`);
  io.catchSignals();
  await runController({
    dir, broker, ...(ca === undefined ? {} : { caFile: ca }), ...(user === undefined ? {} : { user }), ...(passwordFile === undefined ? {} : { passwordFile }),
    logForm: io.isTTY ? 'people' : 'json', color: allowsColor(process.stderr.isTTY),
    onReady: (ready) => {
      if (json) io.json(ready);
      else io.line(`controller ready on ${printable(ready.broker)} (${ready.keyExchange}), ${ready.chains} chains, receipt key ${ready.receiptKey}`);
    },
  }, io.signal);
}

/** Exit 1 where a chain is frozen: scripts notice. */
export async function fleetLs(io: Io, flags: DirFlags): Promise<void> {
  const records = await withChains(flags.dir, (chains) => chains.all());
  const sorted = records.toSorted(([, a], [, b]) => a.gateway.localeCompare(b.gateway));
  if (flags.json) io.json(sorted.map(([chain, record]) => viewOf(chain, record)));
  else if (sorted.length === 0) io.line('no gateway has sent anything yet');
  else for (const [chain, record] of sorted) io.line(lineOf(io, chain, record));
  if (sorted.some(([, { fork }]) => fork)) io.exitCode = EXIT.problem;
}

export async function fleetShow(io: Io, wanted: string, flags: DirFlags): Promise<void> {
  const found = await withChains(flags.dir, (chains) => chains.all().filter(([chain, { gateway }]) => gateway === wanted || chain === wanted)
    .map(([chain, record]) => ({ ...viewOf(chain, record), withheld: chains.leaves(chain).filter((leaf) => 'hash' in leaf).reduce((count) => count + 1, 0) })));
  if (found.length === 0) throw new TenzroError('controller.unknown', `no gateway and no chain is called '${wanted}' here`);
  if (flags.json) io.json(found);
  else {
    for (const view of found) {
      for (const [name, value] of Object.entries(view)) io.line(`${name.padEnd(10)} ${printable(typeof value === 'string' ? value : JSON.stringify(value))}`);
      io.line('');
    }
  }
  if (found.some(({ fork }) => fork)) io.exitCode = EXIT.problem;
}

/** Names are those of `--json`. */
const viewOf = (chain: string, { gateway, head, size, seenMicros, fork }: ChainRecord) => ({
  gateway, chain, seenAt: isoOfMicros(seenMicros), entries: head?.treeSize ?? 0, waiting: size - (head?.treeSize ?? 0), evidence: head?.evidence ?? 'none',
  block: head ? { sequence: head.sequence, hash: toHex(head.blockHash), at: isoOfMicros(head.wallMicros) } : null,
  fork: fork ? { sequence: fork.sequence, ours: toHex(fork.ours), theirs: toHex(fork.theirs), foundAt: isoOfMicros(fork.foundMicros) } : null,
});

function lineOf(io: Io, chain: string, { gateway, head, size, seenMicros, fork }: ChainRecord): string {
  const covered = head ? `${head.treeSize} entries under block ${head.sequence} (${head.evidence === 'tpm2' ? 'TPM' : 'no TPM'})` : `${size} entries, no block yet`;
  const frozen = fork ? `  ${io.paint(`FROZEN: two blocks ${fork.sequence}, cloned or restored from an old copy`, 'red')}` : '';
  return `${printable(gateway).padEnd(16)} ${chain.slice(0, 16)}…  ${covered}, seen ${isoOfMicros(seenMicros)}${frozen}`;
}
