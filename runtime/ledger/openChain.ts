/**
 * Opening the chain: everything is looked at read-only first. A newer format, a foreign owner or a living writer is refused and nothing is touched. A damaged
 * chain is set aside whole under quarantine/ and a fresh one is opened: nothing is skipped, nothing is repaired, and the gateway goes on recording.
 */
import { accessSync, closeSync, constants, existsSync, fsyncSync, openSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { equalBytes } from '#runtime/core/bytes.ts';
import { isoOfMicros, type Clock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { encodeCbor } from '#runtime/crypto/cbor.ts';
import { parseSign1 } from '#runtime/crypto/cose.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { blockHash, chainIdOf, decodeBlock } from './block.ts';
import { checkDataFile } from './dataFile.ts';
import { decodeEntry } from './entry.ts';
import { makeFolder } from './folder.ts';
import {
  blockKey, CHAIN_FILE, decodeBlockRecord, decodeState, findingBody, ledgerPaths, PENDING_KEY, readFinding, readU64, segmentKey, STATE_KEY, tileKey,
  type ChainState, type Finding,
} from './layout.ts';
import { acquireLock } from './lock.ts';
import { decodePending } from './pending.ts';
import { Segment } from './segment.ts';
import { Store } from './store.ts';
import { TileTree, type TileSource } from './tiles.ts';

/** What the tail of a chain says. */
interface Tail {
  readonly state: ChainState;
  readonly tree: TileTree;
  /** Wall time of the last entry in µs. */
  readonly lastWallMicros: number;
}

export interface OpenChain extends AsyncDisposable {
  readonly store: Store;
  /** Undefined in a chain that was never written. */
  readonly tail: Tail | undefined;
  /** A fresh chain after a quarantine: its first entry has to tell. */
  readonly finding: (Finding & { readonly quarantine: string }) | undefined;
}

export interface OpenOptions {
  readonly dataDir: string;
  readonly clock: Clock;
  readonly mapBytes?: number;
}

/** Chains that were set aside, oldest first. */
export function quarantined(dataDir: string): string[] {
  const { quarantine } = ledgerPaths(dataDir);
  return existsSync(quarantine) ? readdirSync(quarantine).toSorted((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10)) : [];
}

/** Throws `ledger.locked`, `ledger.permission`, `ledger.newer_version`, `ledger.disk_full` and `ledger.io`; never because of a damaged chain. */
export async function openChain(options: OpenOptions): Promise<OpenChain> {
  const paths = ledgerPaths(options.dataDir);
  makeOwnDir(paths.root);
  await using opened = new AsyncDisposableStack();
  opened.use(acquireLock(paths.lock));
  let tail = await inspectOrQuarantine(options);
  makeOwnDir(paths.chain);
  const mapBytes = options.mapBytes === undefined ? {} : { mapBytes: options.mapBytes };
  const store = opened.use(await Store.open(paths.chain, { mode: 'write', ...mapBytes }));
  if (tail) tail = { ...tail, tree: restoreTree(store) }; // its loader must read from the handle that stays open
  const finding = tail ? undefined : newestFinding(options.dataDir);
  const held = opened.move();
  return { store, tail, finding, [Symbol.asyncDispose]: async () => held.disposeAsync() };
}

async function inspectOrQuarantine(options: OpenOptions): Promise<Tail | undefined> {
  const { chain } = ledgerPaths(options.dataDir);
  const data = join(chain, CHAIN_FILE.data);
  if (!existsSync(data) || statSync(data).size === 0) return undefined;
  checkAccess(chain);
  checkAccess(data);
  try {
    const suspect = join(chain, CHAIN_FILE.suspect);
    if (existsSync(suspect)) throw markedError(readFinding(readFileSync(suspect)));
    checkDataFile(data);
    await using store = await Store.open(chain, { mode: 'read' });
    return readTail(store);
  } catch (error) {
    if (!isDamage(error)) throw error;
    await quarantineChain(options, error);
    return undefined;
  }
}

/** Why a chain may be ended that is not damaged: tenzro identity. */
const ENDED = ['identity.rotated', 'identity.recovered'] as const;
const markedError = ({ code, detail }: Finding): TenzroError => new TenzroError(ENDED.find((known) => known === code) ?? 'ledger.corrupt', detail);

const DAMAGE: ReadonlySet<string> = new Set([...ENDED, 'ledger.corrupt', 'entry.malformed', 'block.malformed', 'cbor.malformed', 'cose.malformed', 'core.invariant']);
/** What decoding says of damaged bytes; an invariant that breaks while reading a store is damage too. A disk that does not answer is not. */
export const isDamage = (error: unknown): error is TenzroError => error instanceof TenzroError && DAMAGE.has(error.code);

/** Undefined for a chain without any entry. Throws where the tail contradicts itself. */
function readTail(store: Store): Tail | undefined {
  const stateBytes = store.get('meta', STATE_KEY);
  const lastSegment = store.last('segments');
  if (!stateBytes) {
    if (lastSegment) throw new TenzroError('ledger.corrupt', 'there are entries but no state record');
    return undefined;
  }
  const state = decodeState(stateBytes);
  const tree = restoreTree(store);
  const lastWallMicros = lastSegment ? lastEntryOf(lastSegment).wallMicros : 0;
  checkLastBlock(store, state, tree);
  const pending = store.get('pending', PENDING_KEY);
  if (pending) decodePending(pending);
  return { state, tree, lastWallMicros };
}

function lastEntryOf({ key, value }: { key: Uint8Array; value: Uint8Array }): ReturnType<typeof decodeEntry> {
  const segment = new Segment(readU64(key), value);
  return decodeEntry(segment.entry(segment.end - 1));
}

function checkLastBlock(store: Store, state: ChainState, tree: TileTree): void {
  const last = store.last('blocks');
  if (readSequence(last) !== state.lastBlock?.sequence) throw new TenzroError('ledger.corrupt', 'the last block is not the one that the state record names');
  if (!last) return;
  const record = decodeBlockRecord(last.value);
  const block = decodeBlock(record.payload);
  if (!equalBytes(parseSign1(record.cose).payload, record.payload)) throw new TenzroError('ledger.corrupt', `block ${block.sequence}: the signed payload is another`);
  if (block.treeSize > tree.size) throw new TenzroError('ledger.corrupt', `block ${block.sequence} covers ${block.treeSize} entries, there are ${tree.size}`);
  if (!equalBytes(block.root, tree.root(block.treeSize))) throw new TenzroError('ledger.corrupt', `block ${block.sequence}: its root is not the tree's`);
}

const readSequence = (pair: { key: Uint8Array } | undefined): number | undefined => (pair ? readU64(pair.key) : undefined);

/** The tree at the store's size: hashes right of the last full tile are made from the entries. */
function restoreTree(store: Store): TileTree {
  const load: TileSource = (level, index) => {
    const hashes = store.get('tiles', tileKey(level, index));
    if (!hashes) throw new TenzroError('ledger.corrupt', `tile ${level}/${index} is missing`);
    return hashes;
  };
  const last = store.last('segments');
  const size = last ? new Segment(readU64(last.key), last.value).end : 0;
  let segment: Segment | undefined;
  return TileTree.restore(size, load, (index) => {
    if (!segment || index >= segment.end || index < segment.first) segment = segmentOf(store, index);
    return sha256(segment.leaf(index));
  });
}

/** Throws `ledger.corrupt` where no stored segment holds `index`. */
export function segmentOf(store: Store, index: number): Segment {
  const pair = store.floor('segments', segmentKey(index));
  const segment = pair ? new Segment(readU64(pair.key), pair.value) : undefined;
  if (!segment || index >= segment.end) throw new TenzroError('ledger.corrupt', `entry ${index} is missing`);
  return segment;
}

async function quarantineChain({ dataDir, clock }: OpenOptions, error: TenzroError): Promise<void> {
  const paths = ledgerPaths(dataDir);
  const finding: Finding = { code: error.code, detail: error.message, ...(await identityOf(paths.chain)) };
  makeOwnDir(paths.quarantine);
  const stamp = isoOfMicros(clock.wallMicros()).replaceAll(/[-:]|\.\d+/g, '');
  const place = join(paths.quarantine, `${quarantined(dataDir).length + 1}-${stamp}`);
  writeNote(join(paths.chain, CHAIN_FILE.found), finding);
  renameSync(paths.chain, place);
  for (const dir of [place, paths.quarantine, paths.root]) syncDir(dir);
}

/** Chain id and last readable block of a damaged chain, as far as they can be had without mapping a truncated file. */
async function identityOf(chain: string): Promise<Pick<Finding, 'chainId' | 'lastBlockHash'>> {
  try {
    checkDataFile(join(chain, CHAIN_FILE.data));
    await using store = await Store.open(chain, { mode: 'read' });
    const genesis = store.get('blocks', blockKey(0));
    const last = store.last('blocks');
    return {
      ...(genesis ? { chainId: chainIdOf(decodeBlockRecord(genesis).payload) } : {}),
      ...(last ? { lastBlockHash: blockHash(decodeBlockRecord(last.value).payload) } : {}),
    };
  } catch {
    return {}; // too damaged to say: the finding itself tells what was wrong
  }
}

/** On a full disk the chain is set aside without its note. */
function writeNote(path: string, finding: Finding): void {
  try {
    writeFileSync(path, encodeCbor(findingBody(finding)), { mode: 0o600 });
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause && cause.code === 'ENOSPC')) throw cause;
  }
}

/** The running writer found the chain to contradict itself, or its identity ended it: the next start sets it aside. */
export function markSuspect(dataDir: string, error: TenzroError): void {
  writeNote(join(ledgerPaths(dataDir).chain, CHAIN_FILE.suspect), { code: error.code, detail: error.message });
}

function newestFinding(dataDir: string): OpenChain['finding'] {
  const name = quarantined(dataDir).at(-1);
  if (name === undefined) return undefined;
  const note = join(ledgerPaths(dataDir).quarantine, name, CHAIN_FILE.found);
  const finding = existsSync(note) ? readFinding(readFileSync(note)) : { code: 'ledger.corrupt', detail: 'the note of what was found is missing' };
  return { ...finding, quarantine: name };
}

function makeOwnDir(dir: string): void {
  try {
    makeFolder(dir);
  } catch (cause) {
    const isFull = cause instanceof Error && 'code' in cause && cause.code === 'ENOSPC';
    throw new TenzroError(isFull ? 'ledger.disk_full' : 'ledger.permission', `cannot create ${dir}: ${messageOf(cause)}`, { cause });
  }
  checkAccess(dir);
}

/** Ours to read and write, and ours by owner: root would otherwise leave files behind that the owner cannot open. */
function checkAccess(path: string): void {
  const owner = statSync(path).uid;
  if (owner !== process.geteuid?.()) throw new TenzroError('ledger.permission', `${path} belongs to user ${owner}, this is user ${process.geteuid?.()}`);
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
  } catch (cause) {
    throw new TenzroError('ledger.permission', `cannot read and write ${path}: ${messageOf(cause)}`, { cause });
  }
}

function syncDir(dir: string): void {
  const handle = openSync(dir, 'r');
  try { fsyncSync(handle); } finally { closeSync(handle); }
}
