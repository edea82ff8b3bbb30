/**
 * What must hold after a chaos run, whatever happened in it. Each invariant is held against what the world remembers (what was acknowledged, handed in, done)
 * and not against what the programs say of themselves; the first that does not hold is thrown with its name.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { toHex } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { withChains } from '#runtime/controllerMain.ts';
import type { Chains } from '#runtime/controller/chains.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { leafHash } from '#runtime/crypto/merkle.ts';
import { blockHash, chainIdOf, decodeBlock } from '#runtime/ledger/block.ts';
import { openReader, type ChainReader } from '#runtime/ledger/reader.ts';
import { openReceipt } from '#runtime/ledger/receipt.ts';
import { hashOfLeaf } from '#runtime/ledger/shipment.ts';
import type { Commands, Issued } from './chaosCommands.ts';
import { GATEWAY, type ChaosFleet } from './chaosFleet.ts';
import type { Pump, Readings } from './chaosLoad.ts';
import { Stories, type Story } from './chaosStories.ts';
import { tenzro } from './gateway.ts';
import { until } from './until.ts';

export interface World {
  readonly fleet: ChaosFleet;
  readonly readings: Readings;
  readonly commands: Commands;
  readonly pump: Pump;
  readonly journalFile: string;
}

export interface AuditFigures {
  readonly entries: number;
  readonly blocks: number;
  readonly receipts: number;
  /** Commands by how they ended: `successful`, a code, `refused`, `never there`. */
  readonly outcomes: Readonly<Record<string, number>>;
  /** Shell lines and doses that happened although nobody was told that they did. */
  readonly effectsUntold: number;
}

/** Ends that a command may come to here without being wrong, beside success. A gateway answers so many challenges in a row and refuses the next. */
const MAY_FAIL: readonly string[] = ['command.interrupted', 'command.cancelled', 'command.timeout', 'command.parameters', 'driver.unconfirmed', 'attest.too_many_challenges'];
/** The desk asks after 15 s, 30 s more and 60 s more how a command stands whose last word was lost. */
const SETTLE_MS = 120_000;
const AGREE_MS = 60_000;

class Violation extends Error {
  constructor(invariant: string, detail: string) { super(`${invariant}: ${detail}`); }
}

const hold = (holds: boolean, invariant: string, detail: () => string): void => { if (!holds) throw new Violation(invariant, detail()); };

/** While everything runs and nothing is mangled any more: until nothing is under way. */
export async function settled({ fleet, commands, readings }: World): Promise<void> {
  const orViolation = async (invariant: string, probe: () => Promise<boolean>, timeoutMs = SETTLE_MS): Promise<void> => {
    await until(invariant, probe, { timeoutMs, intervalMs: 200 }).catch(async (error: unknown) => { throw new Violation(invariant, `${String(error)}; ${await stateOf(fleet)}`); });
  };
  await orViolation('every command ends', async () => Number((await fleet.ask('commands.list', { open: true }))['total']) === 0);
  await orViolation('the gateway has none open', async () => (await fleet.gateway.status())?.fleet.commands.length === 0);
  const size = (await fleet.gateway.status())?.chain.entries ?? 0;
  await orViolation('every entry is receipted', async () => ((await fleet.gateway.status())?.fleet.upstreams[0]?.receipt?.treeSize ?? 0) >= size);
  hold(size >= readings.count + commands.issued.length, 'every entry is there', () => `${size} entries`);
}

/** For who has to find out. */
async function stateOf(fleet: ChaosFleet): Promise<string> {
  const status = await fleet.gateway.status();
  const { commands } = await fleet.ask('commands.list', { open: true });
  return `${JSON.stringify({ open: commands, gateway: status?.fleet, counters: status?.counters, controller: await fleet.ask('controller.status', {}) })}\n${fleet.outputs}`;
}

/** While everything still runs: chain, desk and broker say the same. */
export async function auditCommands({ fleet, commands, pump, journalFile }: World): Promise<Pick<AuditFigures, 'outcomes' | 'effectsUntold'>> {
  await using reader = await openReader(fleet.dataDir);
  const stories = new Stories();
  stories.read(reader);
  const journal = linesOf(journalFile);
  const outcomes: Record<string, number> = {};
  let effectsUntold = 0;
  for (const command of commands.issued) {
    const story = stories.get(`${command.type}/${command.id}`);
    auditStory(command, story, reader);
    effectsUntold += auditEffect(command, story, { journal, pump });
    await until(`desk and chain to agree on ${command.id}`, async () => agrees(command, story, await shown(fleet, command)), { timeoutMs: AGREE_MS, intervalMs: 200 })
      .catch(async () => { throw new Violation('desk and chain agree', `${command.type}/${command.id} (${command.manner}): desk ${JSON.stringify(await shown(fleet, command))}, chain ${JSON.stringify(story)}; ${await stateOf(fleet)}`); });
    const outcome = outcomeOf(story);
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
  }
  for (const [line, times] of journal) hold(commands.issued.some(({ id, type }) => id === line && type === 'shell'), 'nothing forged is obeyed', () => `${line}, ${times} times`);
  for (const id of stories.byKey.keys()) if (id.startsWith('shell/forged-')) hold(stories.get(id)?.accepted.length === 0, 'nothing forged is a command', () => id);
  auditConfiguration(fleet, commands, stories);
  const restarts = commands.issued.filter(({ type, id }) => type === 'restart' && (stories.get(`restart/${id}`)?.executing.length ?? 0) > 0).length;
  hold(stories.boots <= fleet.gatewayStarts + restarts, 'a restart restarts once', () => `${stories.boots} boots by ${fleet.gatewayStarts} starts and ${restarts} restarts`);
  await auditBroker(fleet, commands);
  return { outcomes, effectsUntold };
}

function auditStory({ type, id, manner }: Issued, story: Story | undefined, reader: ChainReader): void {
  const name = `${type}/${id} (${manner}): ${JSON.stringify(story)}`;
  const { accepted = [], executing = [], ends = [] } = story ?? {};
  hold(accepted.length <= 1, 'a command is taken once', () => name);
  hold(executing.length <= 1, 'a command begins once', () => name);
  hold(ends.length === accepted.length, 'a command ends exactly once', () => name);
  const [end] = ends;
  hold(manner === 'short' || manner === 'cancelled' || end !== undefined, 'no command is lost', () => name);
  if (!end) return;
  hold((accepted[0] ?? 0) < (executing[0] ?? end.index - 1) + 1 && (executing[0] ?? -1) < end.index, 'states rise', () => name);
  hold(end.state === 'successful' || MAY_FAIL.includes(end.code), 'a command fails for a reason', () => name);
  hold(end.state !== 'successful' || executing.length === 1, 'what succeeded had begun', () => name);
  if (type === 'attest' && end.state === 'successful') {
    const { sequence } = JSON.parse(end.result) as { readonly sequence: number };
    hold(sequence < reader.blockCount(), 'what was attested is in a block', () => name);
  }
}

/** At most once; exactly once where it is said to have succeeded, never where it had not begun. Returns how many happened untold. */
function auditEffect({ type, id, parameters }: Issued, story: Story | undefined, { journal, pump }: { readonly journal: ReadonlyMap<string, number>; readonly pump: Pump }): number {
  if (type !== 'shell' && type !== 'driver_call') return 0;
  const doses = pump.doses.get(id) ?? [];
  const times = type === 'shell' ? (journal.get(id) ?? 0) : doses.length;
  const name = (): string => `${type}/${id}: ${times} times, ${JSON.stringify(story)}`;
  const isDone = story?.ends[0]?.state === 'successful';
  hold(times <= 1, 'a side effect happens at most once', name);
  hold(!isDone || times === 1, 'what succeeded has happened', name);
  hold(times === 0 || story?.executing.length === 1, 'what had not begun has not happened', name);
  if (type === 'driver_call' && times === 1) hold(doses[0] === (parameters['parameters'] as { readonly value: number }).value, 'the value is the signed one', name);
  return times === 1 && !isDone ? 1 : 0;
}

function agrees({ type, id, manner }: Issued, story: Story | undefined, desk: JsonObject | undefined): boolean {
  const [end] = story?.ends ?? [];
  const [state, reason] = [desk?.['state'], typeof desk?.['reason'] === 'string' ? desk['reason'] : ''];
  if (end) return state === end.state && (state === 'successful' || reason.startsWith(end.code));
  if (!desk) return manner === 'short';
  if (state === 'failed') return (story?.refused ?? []).some((code) => reason.startsWith(code));
  return (state === 'silent' || state === 'withdrawn') && `${type}/${id}` !== '';
}

const outcomeOf = (story: Story | undefined): string => {
  const [end] = story?.ends ?? [];
  if (end) return end.state === 'successful' ? 'successful' : end.code;
  return story?.refused[0] === undefined ? 'never there' : `refused ${story.refused[0]}`;
};

/** Undefined: the desk never had it. */
async function shown(fleet: ChaosFleet, { type, id }: Issued): Promise<JsonObject | undefined> {
  try {
    return await fleet.ask('commands.show', { gateway: GATEWAY, type, id });
  } catch (error) {
    if (error instanceof TenzroError && error.code === 'controller.request') return undefined;
    throw error;
  }
}

/** The file is that of the last `config_update` that succeeded. */
function auditConfiguration(fleet: ChaosFleet, { issued }: Commands, stories: Stories): void {
  const last = stories.configured.at(-1);
  const command = issued.find(({ type, id }) => `${type}/${id}` === last);
  const text = readFileSync(fleet.configFile, 'utf8');
  hold(text === (command ? command.parameters['config'] : fleet.configuration(0)), 'the configuration is the one that was set last', () => `${last ?? 'none'}: ${text}`);
}

/** What has ended is cleared from the broker; what was taken off it says so. */
async function auditBroker(fleet: ChaosFleet, { issued }: Commands): Promise<void> {
  let left: readonly string[] = [];
  await until('the broker to be cleared', async () => {
    await using client = await fleet.listener();
    await client.mqtt.subscribeAsync([`te/${GATEWAY}/${MAIN_ENTITY}/cmd/+/+`, `te/${GATEWAY}/chaos`], { qos: 1 });
    await client.mqtt.publishAsync(`te/${GATEWAY}/chaos`, 'end', { qos: 1 });
    await until('all that is retained', () => client.received.some(({ payload }) => payload === 'end'));
    left = client.received.filter(({ topic, payload }) => issued.some(({ type, id }) => topic.endsWith(`/${type}/${id}`)) && payload !== '' && payload !== '{"status":"withdrawn"}').map(({ topic, payload }) => `${topic} ${payload.slice(0, 200)}`);
    return left.length === 0;
  }, { timeoutMs: AGREE_MS, intervalMs: 1_000 }).catch((error: unknown) => { throw new Violation('what has ended is off the broker', `${String(error)} ${left.join('\n')}`); });
}

/** After an orderly end of everything. */
export async function auditChain({ fleet, readings, commands }: World): Promise<Omit<AuditFigures, 'outcomes' | 'effectsUntold'>> {
  await using reader = await openReader(fleet.dataDir);
  const stories = new Stories();
  stories.read(reader);
  const chain = toHex(chainIdOf(reader.block(0).payload));
  const receipted = await withChains(fleet.home, (chains) => auditReceipts(reader, chains, chain, fleet.receiptKey));
  for (const [publisher, acknowledged] of readings.acknowledged.entries()) auditReadings(publisher, acknowledged, stories, receipted.treeSize);
  hold(stories.gaps === 0, 'nothing of QoS 1 is dropped', () => `${stories.gaps} gap entries`);
  for (const [key, { ends }] of stories.byKey) for (const { index } of ends) if (commands.issued.some(({ type, id }) => `${type}/${id}` === key)) hold(index < receipted.treeSize, 'every result is receipted', () => key);
  await auditPrograms(fleet, stories.readTo);
  return { entries: stories.readTo, blocks: reader.blockCount(), receipts: receipted.count };
}

/** Each once, in the order in which they were sent, under a receipt. */
function auditReadings(publisher: number, acknowledged: readonly number[], stories: Stories, treeSize: number): void {
  const found = stories.readings.get(publisher) ?? [];
  const indexOf = new Map(found.map(({ seq, index }) => [seq, index]));
  hold(indexOf.size === found.length, 'a reading is recorded once', () => `publisher ${publisher}: ${found.length} entries of ${indexOf.size} readings`);
  hold(found.every(({ seq }, at) => seq > (found[at - 1]?.seq ?? -1)), 'readings keep their order', () => `publisher ${publisher}`);
  for (const seq of acknowledged) {
    const index = indexOf.get(seq);
    hold(index !== undefined, 'nothing acknowledged is lost', () => `publisher ${publisher}, reading ${seq}`);
    hold((index ?? treeSize) < treeSize, 'every acknowledged reading is receipted', () => `publisher ${publisher}, reading ${seq} is entry ${index}, receipted to ${treeSize}`);
  }
}

/** The controller's leaves, blocks and receipts are those of the gateway's chain, without a hole. */
function auditReceipts(reader: ChainReader, chains: Chains, chain: string, receiptKey: string): { readonly treeSize: number; readonly count: number } {
  const head = chains.record(chain)?.head;
  if (!head) throw new Violation('the controller keeps the chain', chain);
  hold(chains.all().length === 1 && chains.record(chain)?.fork === undefined, 'there is one chain and no fork', () => JSON.stringify(chains.all().map(([id]) => id)));
  let index = 0;
  for (const leaf of chains.leaves(chain)) {
    hold(toHex(hashOfLeaf(leaf)) === toHex(leafHash(reader.entry(index))), 'leaves are kept once and in order', () => `leaf ${index}`);
    index++;
  }
  hold(index >= head.treeSize, 'leaves are kept without a hole', () => `${index} of ${head.treeSize}`);
  const digests = new Set<string>();
  let coveredBlocks = 0;
  for (let sequence = 0; sequence <= head.sequence; sequence++) {
    const { payload, cose } = reader.block(sequence);
    hold(toHex(chains.block(chain, sequence).cose) === toHex(cose), 'blocks are kept once and in order', () => `block ${sequence}`);
    const bytes = receiptOf(chains, chain, sequence);
    if (!bytes) continue; // came in one shipment with later ones, whose receipt covers it
    const receipt = openReceipt(bytes, Buffer.from(receiptKey, 'hex'));
    hold(receipt.sequence === sequence && toHex(receipt.blockHash) === toHex(blockHash(payload)) && receipt.treeSize === decodeBlock(payload).treeSize, 'a receipt says what the block says', () => `block ${sequence}`);
    digests.add(toHex(sha256(bytes)));
    coveredBlocks = sequence + 1;
  }
  hold(coveredBlocks === head.sequence + 1, 'every block is under a receipt', () => `${coveredBlocks} of ${head.sequence + 1}`);
  for (let sequence = 0; sequence < reader.blockCount(); sequence++) {
    const { receipt } = decodeBlock(reader.block(sequence).payload);
    hold(receipt === undefined || digests.has(toHex(receipt)), 'blocks name receipts that were given', () => `block ${sequence}`);
  }
  return { treeSize: head.treeSize, count: digests.size };
}

function receiptOf(chains: Chains, chain: string, sequence: number): Uint8Array | undefined {
  try {
    return chains.receipt(chain, sequence);
  } catch (error) {
    if (error instanceof TenzroError && error.code === 'ledger.corrupt') return undefined;
    throw error;
  }
}

/** What a stranger would ask: fsck, the controller's acts, a proof over the whole chain. */
async function auditPrograms(fleet: ChaosFleet, entries: number): Promise<void> {
  const bundle = join(fleet.options.dir, 'chaos.tzp');
  const policy = join(import.meta.dirname, '..', '..', 'docs', 'policies', 'allow-software.yaml');
  const last = Math.floor(entries / 2);
  const find = async (invariant: string, args: readonly string[]): Promise<void> => {
    const { code, output } = await tenzro(fleet.dataDir, args);
    hold(code === 0, invariant, () => output);
  };
  await Promise.all([
    find('fsck finds nothing', ['fsck', '--json']),
    find("the controller's acts verify", ['fleet', 'acts', '--verify', '--dir', fleet.home]),
    find('a proof can be exported', ['proof', `${Math.max(0, last - 1_000)}..${last}`, '-o', bundle]).then(() => find('an exported proof verifies', ['verify', bundle, '--policy', policy])),
  ]);
}

/** Times by line. */
function linesOf(file: string): ReadonlyMap<string, number> {
  const times = new Map<string, number>();
  if (existsSync(file)) for (const line of readFileSync(file, 'utf8').split('\n')) if (line !== '') times.set(line, (times.get(line) ?? 0) + 1);
  return times;
}
