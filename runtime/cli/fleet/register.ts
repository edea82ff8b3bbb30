/** `tenzro fleet ls|show|revoke|forget|renew|acts`: who is in the fleet, how far their chains are kept, and what the controller did. */
import { readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { toHex } from '#runtime/core/bytes.ts';
import { isoOfMicros } from '#runtime/core/clock.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { isJsonObject, type JsonObject } from '#runtime/core/json.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { printable } from '#runtime/core/printable.ts';
import { openActs, readActs } from '#runtime/controller/acts.ts';
import { checkActs, decodeAct, exportLines, parseExport, type ActsReport, type RecordedAct } from '#runtime/controller/actsCodec.ts';
import { callController } from '#runtime/controller/apiClient.ts';
import { Chains } from '#runtime/controller/chains.ts';
import { storeOf } from '#runtime/controller/house.ts';
import type { ChainRecord } from '#runtime/controller/record.ts';
import { registeredIn, type RegisteredGateway } from '#runtime/controller/register.ts';
import { viewOfAct, viewOfGateway } from '#runtime/controller/registerApi.ts';
import { standingsIn, type Standing } from '#runtime/controller/standings.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import { renewAuthority } from '#runtime/controllerMain.ts';
import { EXIT, type Io } from '../io.ts';
import { readPassphrase } from './passphrase.ts';

export interface DirFlags {
  readonly dir: string;
  readonly json?: boolean;
}

/** Exit 1 where a gateway is frozen, or falls short of the policy: scripts notice. */
export async function fleetLs(io: Io, flags: DirFlags): Promise<void> {
  const [members, links] = [await withStore(flags.dir, membersIn), await linksIn(flags.dir)];
  if (flags.json) io.json(members.map(({ name, view }) => ({ ...view, link: links.get(name) ?? null })));
  else if (members.length === 0) io.line('no gateway is claimed here, and none has sent anything yet');
  else for (const member of members) io.line(lineOf(io, member, links.get(member.name)));
  if (members.some(isTrouble)) io.exitCode = EXIT.problem;
}

export async function fleetShow(io: Io, wanted: string, flags: DirFlags): Promise<void> {
  const found = await withStore(flags.dir, (store) => {
    const chains = new Chains(store);
    const withheldIn = (chain: string): number => chains.leaves(chain).filter((leaf) => 'hash' in leaf).reduce((count) => count + 1, 0);
    return membersIn(store).filter(({ name, chain }) => name === wanted || (chain !== undefined && chain === wanted))
      .map((member) => ({ ...member, view: { ...member.view, withheld: member.chain === undefined ? 0 : withheldIn(member.chain) } }));
  });
  if (found.length === 0) throw new TenzroError('controller.unknown', `no gateway and no chain is called '${wanted}' here`);
  if (flags.json) io.json(found.map(({ view }) => view));
  else {
    for (const { view } of found) {
      for (const [name, value] of Object.entries(view)) io.line(`${name.padEnd(10)} ${printable(typeof value === 'string' ? value : JSON.stringify(value))}`);
      io.line('');
    }
  }
  if (found.some(isTrouble)) io.exitCode = EXIT.problem;
}

export async function fleetRevoke(io: Io, name: string, { dir, why, json }: DirFlags & { readonly why: string }): Promise<void> {
  const gateway = await callController(dir, 'gateways.revoke', { name, why, who: caller() }, { signal: io.signal });
  if (json) io.json(gateway);
  else io.line(`${printable(name)} is revoked: it is cut off, and nothing of it is taken any more`);
}

export async function fleetForget(io: Io, target: string, { dir, json }: DirFlags): Promise<void> {
  const { outcome } = await callController(dir, 'gateways.forget', { target, who: caller() }, { signal: io.signal });
  if (json) io.json({ target, outcome: outcome ?? null });
  else io.line(outcome === 'unfrozen' ? `${printable(target)} is taken again, from where its chain was kept` : `${printable(target)} left the register: its name and its key can be claimed again`);
}

/** While no controller serves: it uses the new intermediate from its next start on. */
export async function fleetRenew(io: Io, { dir, root, passphraseFile, json }: DirFlags & { readonly root?: string; readonly passphraseFile?: string }): Promise<void> {
  const passphrase = await readPassphrase(io, passphraseFile);
  try {
    const ends = isoOfMicros((await renewAuthority(dir, passphrase, root, caller())) * 1_000);
    if (json) io.json({ dir, ends });
    else io.line(`a new intermediate authority, until ${ends}: the next tenzro fleet serve uses it. Gateways need nothing, they pin the root`);
  } finally {
    passphrase.fill(0);
  }
}

export interface ActsFlags {
  readonly dir?: string;
  readonly file?: string;
  readonly verify?: boolean;
  readonly export?: boolean;
  readonly since?: string;
  readonly key?: string;
  readonly json?: boolean;
}

/** With `verify`: exit 1 with the first act that does not hold. */
export async function fleetActs(io: Io, flags: ActsFlags): Promise<void> {
  if ((flags.dir === undefined) === (flags.file === undefined)) throw new TenzroError('cli.usage', 'either --dir, the folder of a controller, or --file, an export');
  const { publicKey, acts } = flags.file === undefined ? await withStore(flags.dir ?? '', actsIn) : exported(flags.file);
  if (flags.verify) return verify(io, { publicKey, acts }, flags);
  if (flags.export) for (const line of exportLines(acts, publicKey)) io.line(line);
  else for (const cose of acts) printAct(io, decodeAct(cose), flags.json ?? false);
}

interface ActsLog {
  readonly publicKey: Uint8Array;
  readonly acts: readonly Uint8Array[];
}

function actsIn(store: KeyValueStore): ActsLog {
  const { publicKey, count } = openActs(store);
  if (!publicKey) throw new TenzroError('controller.unknown', 'this controller has not done anything yet: it never served');
  return { publicKey, acts: readActs(store).take(count).toArray() };
}

function exported(path: string): ActsLog {
  try {
    return parseExport(readFileSync(path, 'utf8'));
  } catch (cause) {
    if (cause instanceof TenzroError) throw cause;
    throw new TenzroError('cli.usage', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}

function verify(io: Io, { publicKey, acts }: ActsLog, { key, since, json }: ActsFlags): void {
  const named = toHex(sha256(publicKey));
  const isForeign = key !== undefined && key !== named;
  const report: ActsReport = isForeign ? { count: 0, head: new Uint8Array(0), broken: { index: 0, why: `signed with key ${named}, not ${key}` } } : checkActs(acts, publicKey, sinceOf(since));
  const { count, head, broken } = report;
  if (json) io.json({ key: named, count, head: toHex(head), broken: broken ? { index: broken.index, why: broken.why } : null });
  else if (broken) io.line(`${io.paint('BROKEN', 'red')} at act ${broken.index}: ${printable(broken.why)}`);
  else io.line(`${io.paint('WHOLE', 'green')}: ${count} acts, signed with key ${named}\nnext time: --since ${count}:${toHex(head)}`);
  if (broken) io.exitCode = EXIT.problem;
}

function sinceOf(text: string | undefined): { readonly count: number; readonly head: Uint8Array } | undefined {
  if (text === undefined) return undefined;
  const [, count, head = ''] = /^(\d{1,15}):([0-9a-f]{64})$/.exec(text) ?? [];
  if (count === undefined) throw new TenzroError('cli.usage', `'${text}' is not COUNT:DIGEST, as --verify printed it`);
  return { count: Number(count), head: Buffer.from(head, 'hex') };
}

function printAct(io: Io, act: RecordedAct, isJson: boolean): void {
  if (isJson) return io.json(viewOfAct(act));
  const { index, micros, who, what, about, detail } = act;
  io.line(printable(`${String(index).padStart(6)}  ${isoOfMicros(micros)}  ${what.padEnd(20)} ${about}  by ${who}${detail === '' ? '' : `: ${detail}`}`));
}

export const caller = (): string => `local:${userInfo().username}`;

/** One line of the list: a gateway with one of its chains; either may be missing. */
interface Member {
  readonly name: string;
  readonly chain: string | undefined;
  readonly gateway: RegisteredGateway | undefined;
  readonly record: ChainRecord | undefined;
  readonly standing: Standing | undefined;
  readonly view: JsonObject;
}

const isTrouble = ({ gateway, record, standing }: Member): boolean => gateway?.frozen !== undefined || record?.fork !== undefined || standing?.meets === false;

/** Sorted by name. Chains of gateways that nobody claimed too. */
function membersIn(store: KeyValueStore): readonly Member[] {
  const [gateways, standings] = [new Map(Array.from(registeredIn(store), (gateway) => [gateway.name, gateway])), standingsIn(store)];
  const members = new Chains(store).all().map(([chain, record]) => memberOf(record.gateway, gateways.get(record.gateway), chain, record, standings.get(chain)));
  const seen = new Set(members.map(({ name }) => name));
  const silent = [...gateways.values()].filter(({ name }) => !seen.has(name)).map((gateway) => memberOf(gateway.name, gateway));
  return [...members, ...silent].toSorted((a, b) => a.name.localeCompare(b.name));
}

/** Names in the view are those of `--json`. */
function memberOf(name: string, gateway: RegisteredGateway | undefined, chain?: string, record?: ChainRecord, standing?: Standing): Member {
  const { head, size = 0, seenMicros, fork } = record ?? {};
  const view = {
    gateway: name, state: gateway?.state ?? 'unclaimed', chain: chain ?? null, seenAt: seenMicros === undefined ? null : isoOfMicros(seenMicros),
    entries: head?.treeSize ?? 0, waiting: size - (head?.treeSize ?? 0), evidence: head?.evidence ?? 'none',
    block: head ? { sequence: head.sequence, hash: toHex(head.blockHash), at: isoOfMicros(head.wallMicros) } : null,
    level: standing?.level ?? null, meetsPolicy: standing?.meets ?? null, findings: standing?.findings.map(({ check, result, detail }) => ({ check, result, detail })) ?? [],
    fork: fork ? { sequence: fork.sequence, ours: toHex(fork.ours), theirs: toHex(fork.theirs), foundAt: isoOfMicros(fork.foundMicros) } : null,
    register: gateway ? viewOfGateway(gateway) : null,
  };
  return { name, chain, gateway, record, standing, view };
}

function lineOf(io: Io, { name, chain, gateway, record, standing }: Member, link: Link | undefined): string {
  const { head, size = 0, seenMicros = 0, fork } = record ?? {};
  const covered = head ? `${head.treeSize} entries under block ${head.sequence}` : `${size} entries, no block yet`;
  const kept = chain === undefined ? 'nothing sent yet' : `${chain.slice(0, 16)}…  ${covered}, seen ${isoOfMicros(seenMicros)}`;
  const frozen = gateway?.frozen?.why ?? (fork ? `two blocks ${fork.sequence}, cloned or restored from an old copy` : undefined);
  const short = standing?.meets === false ? standing.findings.filter(({ result }) => result === 'fail').map(({ check }) => check).join(', ') : '';
  return [
    printable(name).padEnd(16), (gateway?.state ?? 'unclaimed').padEnd(9), (standing?.level ?? '-').padEnd(8), kept, ...(link === undefined || gateway?.state === 'released' || gateway?.state === 'revoked' ? [] : [linkWords(link)]),
    ...(short === '' ? [] : [io.paint(`SHORT OF POLICY: ${printable(short)}`, 'yellow')]), ...(frozen === undefined ? [] : [io.paint(`FROZEN: ${printable(frozen)}`, 'red')]),
  ].join('  ');
}

/** A gateway's word about its connection. */
type Link = { readonly status: string; readonly keyExchange: string | null };

/** By name. None without a running controller. */
async function linksIn(dir: string): Promise<ReadonlyMap<string, Link>> {
  const links = new Map<string, Link>();
  const onEvent = ({ id, health }: JsonObject): void => {
    const { status, keyExchange } = isJsonObject(health) ? health : {};
    if (typeof id === 'string' && typeof status === 'string') links.set(id, { status, keyExchange: typeof keyExchange === 'string' ? keyExchange : null });
  };
  try {
    await callController(dir, 'fleet.views', { health: true }, { onEvent });
  } catch (error) {
    if (!(error instanceof TenzroError) || error.code !== 'controller.offline') throw error;
  }
  return links;
}

const linkWords = ({ status, keyExchange }: Link): string => printable(keyExchange === null ? status : `${status} over ${keyExchange}`).slice(0, LINK_CHARS_MAX);
const LINK_CHARS_MAX = 60;

/** Beside a running controller too. Throws `controller.directory`. */
async function withStore<T>(dir: string, look: (store: KeyValueStore) => T): Promise<T> {
  await using store = await openKeyValueStore(await storeOf(dir), undefined, 'keep');
  return look(store);
}
