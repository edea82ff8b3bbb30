/** `tenzro status`: asks the running gateway; without one, says what the data directory holds. */
import { setTimeout as sleep } from 'node:timers/promises';
import { TenzroError } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { boardFaults } from '#runtime/boardStatus.ts';
import { openReader } from '#runtime/ledger/reader.ts';
import { readStatus } from '#runtime/observe/control.ts';
import type { ChainStatus, UpstreamStatus } from '#runtime/core/types.ts';
import type { ClaimStatus, FleetStatus, GatewayStatus, LeaseStatus, PortalStatus } from '#runtime/observe/status.ts';
import { NO_CHAIN, chainStatusOf } from '#runtime/ledger/chainStatus.ts';
import { EXIT, configOf, type CommonFlags, type Io } from './io.ts';

const WATCH_INTERVAL_MS = 1_000;

/** What can be said without a running gateway: the same keys, `ready` is false. */
interface Stopped extends Pick<GatewayStatus, 'node' | 'dataDir' | 'models' | 'board' | 'counters'> {
  readonly ready: false;
  readonly chain: ChainStatus;
  readonly trust: { readonly level: 'none'; readonly reason: string };
  readonly broker: { readonly listeners: readonly [] };
}

export async function status(io: Io, flags: CommonFlags & { readonly watch?: boolean }): Promise<void> {
  const { settings } = configOf(flags);
  io.catchSignals();
  do {
    const running = await readStatus(settings.dataDir);
    const shown = running.kind === 'value' ? running.value : await stoppedStatus(settings.node.name, settings.dataDir, running.reason);
    io.exitCode = shown.ready ? EXIT.ok : EXIT.unable;
    if (flags.json) io.json(shown);
    else {
      if (flags.watch && io.isTTY) io.line(CLEAR_SCREEN);
      for (const line of 'pid' in shown ? runningLines(io, shown) : stoppedLines(io, shown)) io.line(line);
    }
  } while (flags.watch && (await pause(io.signal)));
}

/** ECMA-48: cursor home, erase below. */
const CLEAR_SCREEN = '\u001b[H\u001b[J';

async function pause(signal: AbortSignal): Promise<boolean> {
  await sleep(WATCH_INTERVAL_MS, undefined, { signal }).catch((error: unknown) => { if (!signal.aborted) throw error; });
  return !signal.aborted;
}

async function stoppedStatus(node: string, dataDir: string, reason: string): Promise<Stopped> {
  const chain = await chainOf(dataDir);
  return { ready: false, node, dataDir, chain, trust: { level: 'none', reason }, broker: { listeners: [] }, models: [], board: boardFaults(), counters: {} };
}

async function chainOf(dataDir: string): Promise<ChainStatus> {
  try {
    await using reader = await openReader(dataDir);
    return chainStatusOf(reader);
  } catch (error) {
    if (error instanceof TenzroError && error.code === 'ledger.no_chain') return NO_CHAIN;
    throw error;
  }
}

function stoppedLines(io: Io, { chain, dataDir, trust, board }: Stopped): string[] {
  const holds = chain.id === null && chain.entries === 0 ? 'there is no datachain in it yet' : `it holds ${chainWords(chain)}`;
  return [`${io.paint('not running', 'yellow')}  ${trust.reason}`, `data         ${printable(dataDir)}: ${holds}`, ...boardLines(io, board)];
}

function runningLines(io: Io, shown: GatewayStatus): string[] {
  const state = shown.health.ok && shown.ready ? io.paint('ready', 'green') : io.paint(shown.ready ? 'stalled' : 'starting', 'yellow');
  const counters = Object.entries(shown.counters);
  const width = Math.max(0, ...counters.map(([name]) => name.length));
  return [
    `${io.paint(printable(shown.node), 'bold')} ${shown.version}: ${state}, process ${shown.pid}, up ${Math.round(shown.uptimeMs / 1000)} s`,
    `trust    ${shown.trust.level}: ${printable(shown.trust.reason)}`,
    ...(shown.identity.state === 'locked' ? [io.paint(`keys     locked (${shown.identity.code ?? ''}): ${printable(shown.identity.detail ?? '')}`, 'red'), `         ${shown.identity.hint ?? ''}`] : []),
    ...(shown.lease ? [`lease    ${leaseWords(shown.lease)}`] : []),
    ...claimLines(io, shown.claim),
    ...portalLines(io, shown.portal),
    ...fleetLines(io, shown.fleet),
    `chain    ${shown.chain.id ?? 'none yet'}: ${chainWords(shown.chain)}`,
    ...(shown.anchor ? [`anchor   counter ${shown.anchor.counter} at block ${shown.anchor.block}`] : []),
    ...(shown.anchor && shown.anchor.missing !== '0' ? [io.paint(`missing  ${shown.anchor.missing} increments of the TPM's counter are in no block: tenzro fsck says where, docs/reference/cli.md what it means`, 'red')] : []),
    ...shown.broker.listeners.map(({ url, anonymous, tls }) => `mqtt     ${url}${anonymous ? ' (no user needed)' : ''}${tls ? tlsWords(tls) : ''}`),
    `clients  ${shown.broker.clients}`,
    ...shown.models.map(({ name, provider, digest }) => `model    ${printable(name)} on ${provider}, sha256 ${digest.slice(0, 16)}…`),
    ...boardLines(io, shown.board),
    ...shown.health.stalled.map(({ name, behind, stalledMs }) => io.paint(`stalled  ${name}: ${behind} behind, no step for ${Math.round(stalledMs / 1000)} s`, 'red')),
    `data     ${printable(shown.dataDir)}`,
    ...counters.map(([name, value]) => io.paint(`  ${name.padEnd(width)}  ${value}`, 'dim')),
  ];
}

const boardLines = (io: Io, board: GatewayStatus['board']): string[] => board.flatMap(({ code, detail, hint }) => [io.paint(`board    ${printable(detail)} (${code})`, 'red'), `         ${hint}`]);

/** TLS 1.2 is said aloud: whoever records its traffic today can read it once there is a quantum computer. */
function tlsWords({ minVersion, groups }: { readonly minVersion: string; readonly groups: Readonly<Record<string, number>> }): string {
  const seen = Object.entries(groups).map(([group, count]) => `${count} × ${printable(group)}`).join(', ');
  return `${minVersion === 'TLSv1.3' ? '' : ', weaker: takes TLS 1.2, which has no post-quantum key exchange'}${seen === '' ? '' : `, handshakes: ${seen}`}`;
}

function leaseWords({ lease, level, until, reason, verifier, enrolled, keyExchange }: LeaseStatus): string {
  const standing = until === undefined ? `${lease}: ${printable(reason ?? '')}` : `${lease}: '${printable(level)}' until ${until}${reason === undefined ? '' : ` (last attempt: ${printable(reason)})`}`;
  return `${standing}; by ${printable(verifier)}${enrolled ? ', enrolled' : ''}${keyExchange === null ? '' : `, ${keyExchange}`}`;
}

/** Nothing where nobody is about to claim it, and nothing is wrong: that is how most gateways are. */
function claimLines(io: Io, { state, port, discriminators, words, code, detail }: ClaimStatus): string[] {
  const lines = code === null ? [] : [io.paint(`claim    ${printable(detail ?? '')} (${code})`, 'yellow')];
  if (state === 'waiting') lines.push(`claim    waits for its owner at port ${port ?? 'none yet'}, number ${discriminators.join(' and ')}`);
  if (state === 'claiming') lines.push(io.paint(`claim    somebody claims this gateway: compare the words  ${words ?? ''}`, 'bold'));
  if (state === 'locked') lines.push(io.paint('claim    locked after five wrong codes, until power is cycled', 'red'));
  return lines;
}

/** Nothing where it is not needed. */
function portalLines(io: Io, { state, url, last, code, detail }: PortalStatus): string[] {
  return [
    ...(code === null ? [] : [io.paint(`portal   ${printable(detail ?? '')} (${code})`, 'yellow')]),
    ...(state === 'open' || state === 'trying' ? [`portal   ${state === 'open' ? `the access point is open${url === null ? '' : `, with a page at ${url}`}` : 'tries a network that was handed over'}`] : []),
    ...(last === null || last.reason === null ? [] : [`portal   ${printable(last.network)} did not work: ${printable(last.reason)}`]),
  ];
}

function fleetLines(io: Io, { upstreams, commands, owner, clock }: FleetStatus): string[] {
  const keyWords = (key: string): string => `${key.slice(0, 16)}…${owner?.revoked.includes(key) ? ' (revoked)' : ''}`;
  return [
    ...(clock.state === 'unrefuted' ? [] : [io.paint(`clock    ${clock.wall} is wrong (${clock.state}): it is ${clock.provable} as far as can be proved`, 'yellow')]),
    ...(owner ? [`owner    ${printable(owner.words)}; keys ${owner.keys.map(keyWords).join(', ')}`] : []),
    ...upstreams.map((upstream) => `fleet    ${upstream.connected ? upstreamWords(upstream) : io.paint(upstreamWords(upstream), 'yellow')}`),
    ...commands.map(({ type, id, state }) => `command  ${printable(type)}/${printable(id)}: ${state}`),
  ];
}

function upstreamWords({ name, broker, connected, keyExchange, lag, receipt, fault }: UpstreamStatus): string {
  const delivered = receipt ? `${receipt.treeSize} entries receipted at ${receipt.at} (block ${receipt.sequence}), ${lag} behind` : `nothing receipted yet, ${lag} behind`;
  return `${printable(name)} at ${printable(broker)}: ${connected ? `connected${keyExchange === null ? '' : `, ${keyExchange}`}` : 'offline'}; ${delivered}${fault === null ? '' : `; ${printable(fault)}`}`;
}

const chainWords = ({ entries, attestedEntries, blocks, lastBlockAt }: ChainStatus): string =>
  `${entries} entries, ${attestedEntries} of them attested by ${blocks} blocks${lastBlockAt === null ? '' : `, the last at ${lastBlockAt}`}`;
