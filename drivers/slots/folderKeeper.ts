/**
 * Root's side of the application's folders. The gateway is a suspect here: what it hands over is copied first, into a folder that it cannot write, and only the copy is
 * looked at. INVARIANTS: one keeper at a time (one systemd service); a folder that anything proven starts from is never written; before the first byte is written
 * somewhere the state says that nobody starts from there.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, rename, rm, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { createBrotliDecompress } from 'node:zlib';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { BUNDLE_HEAD_BYTES, BUNDLE_LIMITS, openStatement, splitFiles, statementLength, unpackedBytes, type BundleManifest } from '#runtime/crypto/appBundle.ts';
import { checkSpace, fitting, folderAt, inSlots, readRunning, readSmall, readState, replaceSmall, slotsFault, syncFolder, versionAt, type FolderPaths } from './folderPaths.ts';
import { abandon, begin, commit, formatState, installed, revert, targetOf, type FolderState, type Place } from './folderState.ts';
import { formatResult, parseRequest, type Request } from './handover.ts';
import { releaseKeys } from './releaseKeys.ts';

export interface KeeperOptions {
  readonly paths: FolderPaths;
  readonly compatible: string;
  /** Negative, zero, positive: order of versions. */
  readonly compare: (a: string, b: string) => number;
  /** User id that has to own the release keys: root's. */
  readonly owner: number;
}

const BUNDLE_BYTES_MAX = BUNDLE_HEAD_BYTES + BUNDLE_LIMITS.statementBytes + BUNDLE_LIMITS.payloadBytes;
const CHUNK_BYTES = 2 ** 20;
const FOR_ALL = { folder: 0o755, program: 0o755, file: 0o644 } as const;

const run = promisify(execFile);

export class FolderKeeper {
  readonly #options: KeeperOptions;

  constructor(options: KeeperOptions) { this.#options = options; }

  /** Does what was asked for, and writes how it went. Resolves with that; with undefined where nobody asked. Rejects with what keeps it from answering. */
  async serve(): Promise<string | undefined> {
    const { paths } = this.#options;
    return inSlots(async () => {
      await mkdir(paths.home, { recursive: true, mode: FOR_ALL.folder });
      await using handover = await open(paths.handover, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
      const inside = `/proc/self/fd/${handover.fd}`; // whatever its owner renames meanwhile
      const text = await readSmall(join(inside, 'request'));
      await rm(join(inside, 'request'), { force: true }); // asked for once, also when the power fails now; never recursive where its owner could swap folders
      if (text === undefined) return undefined;
      const request = parseRequest(text);
      const error = await this.#do(request, join(inside, 'bundle')).then(() => undefined, slotsFault);
      const result = formatResult(request?.id ?? '', error);
      await replaceSmall(join(paths.home, 'result'), result, FOR_ALL.file);
      return result;
    });
  }

  async #do(request: Request | undefined, bundle: string): Promise<void> {
    const { paths, compare } = this.#options;
    if (request === undefined) throw new TenzroError('update.slots', 'the request cannot be read');
    const [state, running] = await Promise.all([readState(paths), readRunning(paths)]);
    if (running === undefined) throw new TenzroError('update.unsupported', 'no launcher chose a folder at this start');
    switch (request.do) {
      case 'install': return this.#install(state, running, bundle);
      case 'commit': return this.#write(commit(state, running));
      case 'abandon': return this.#write(abandon(state, running));
      case 'revert': return this.#write(revert(state, running, await fitting(paths, compare)));
    }
  }

  async #write(state: FolderState): Promise<void> { await replaceSmall(join(this.#options.paths.home, 'state'), formatState(state), FOR_ALL.file); }

  async #install(before: FolderState, running: Place, bundle: string): Promise<void> {
    const { paths } = this.#options;
    const begun = begin(before, running);
    const target = folderAt(paths, targetOf(begun));
    const copy = join(paths.home, 'incoming');
    const next = `${target}.next`;
    try {
      await takeOver(bundle, copy);
      await using file = await open(copy);
      const { manifest, payloadStart } = await this.#judge(file, { running, committed: begun.committed });
      if (before.trial !== 'none') await discard(folderAt(paths, before.trial)); // given up: nobody will remember that once the state names another
      await this.#write(begun);
      await discard(target);
      await rm(next, { recursive: true, force: true });
      await checkSpace(paths.home, unpackedBytes(manifest.files));
      await unpack(file, payloadStart, manifest, next);
      if (await versionAt(next) !== manifest.version) throw new TenzroError('update.bundle', 'the bundle holds another version than it says');
      await run('sync', ['-f', next]);
      await rename(next, target);
      await syncFolder(paths.home);
      await this.#write(installed(begun));
    } finally {
      await rm(bundle, { force: true });
      await Promise.all([copy, next].map(async (path) => rm(path, { recursive: true, force: true })));
    }
  }

  /** Signature, machine, version and payload, in this order. */
  async #judge(file: FileHandle, { running, committed }: { readonly running: Place; readonly committed: Place }): Promise<{ readonly manifest: BundleManifest; readonly payloadStart: number }> {
    const { paths, compatible, compare, owner } = this.#options;
    const { size } = await file.stat();
    const head = await readExactly(file, 0, BUNDLE_HEAD_BYTES);
    const payloadStart = BUNDLE_HEAD_BYTES + statementLength(head);
    const manifest = openStatement(await readExactly(file, BUNDLE_HEAD_BYTES, statementLength(head)), await releaseKeys(paths.keys, owner));
    if (manifest.compatible !== compatible) throw new TenzroError('update.compatible', `the bundle is for ${manifest.compatible}, this is ${compatible}`);
    for (const place of new Set<Place>(['package', running, committed])) {
      const version = await versionAt(folderAt(paths, place));
      if (version !== undefined && compare(manifest.version, version) <= 0) throw new TenzroError('update.older', `the bundle brings ${manifest.version}, ${place} holds ${version}`);
    }
    if (size - payloadStart !== manifest.payload.bytes) throw new TenzroError('update.bundle', `the bundle has ${size - payloadStart} bytes of payload, signed were ${manifest.payload.bytes}`);
    const hash = createHash('sha256');
    for await (const chunk of payloadOf(file, payloadStart)) hash.update(chunk as Buffer);
    if (hash.digest('hex') !== manifest.payload.sha256) throw new TenzroError('update.bundle', 'the payload is not the one that was signed');
    return { manifest, payloadStart };
  }
}

/** Whole or not there at all, also when the power fails. */
async function discard(folder: string): Promise<void> {
  const gone = `${folder}.gone`;
  await rm(gone, { recursive: true, force: true });
  await rename(folder, gone).catch((error: unknown) => { if (!isMissing(error)) throw error; });
  await syncFolder(dirname(folder));
  await rm(gone, { recursive: true, force: true });
}

const isMissing = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'ENOENT';

/** From now on nobody else can change it. */
async function takeOver(from: string, to: string): Promise<void> {
  await rm(to, { recursive: true, force: true });
  await using source = await open(from, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  const about = await source.stat();
  if (!about.isFile() || about.size > BUNDLE_BYTES_MAX) throw new TenzroError('update.bundle', `what was handed over is no file of at most ${BUNDLE_BYTES_MAX} bytes`);
  await checkSpace(dirname(to), about.size);
  await using target = await open(to, 'wx', 0o600);
  let taken = 0;
  for await (const chunk of source.createReadStream({ autoClose: false, highWaterMark: CHUNK_BYTES, start: 0, end: Math.max(0, about.size - 1) })) {
    taken += (chunk as Buffer).length;
    await target.writeFile(chunk as Buffer);
  }
  if (taken !== about.size) throw new TenzroError('update.changed', `the bundle had ${about.size} bytes, then ${taken}`);
}

async function readExactly(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
  if (bytesRead !== length) throw new TenzroError('update.bundle', 'the bundle is cut');
  return buffer;
}

const payloadOf = (file: FileHandle, start: number): Readable => file.createReadStream({ start, autoClose: false, highWaterMark: CHUNK_BYTES });

/** Into a folder that is not there. Files only, and only those that were signed. */
async function unpack(file: FileHandle, start: number, { files }: BundleManifest, into: string): Promise<void> {
  const stream = payloadOf(file, start).pipe(createBrotliDecompress());
  let out: FileHandle | undefined;
  try {
    await mkdir(into, { mode: FOR_ALL.folder });
    for await (const { file: { path, isRun }, bytes, isWhole } of splitFiles(files, stream as AsyncIterable<Uint8Array>)) {
      if (out === undefined) {
        await mkdir(dirname(join(into, path)), { recursive: true, mode: FOR_ALL.folder });
        out = await open(join(into, path), 'wx', isRun ? FOR_ALL.program : FOR_ALL.file);
      }
      await out.writeFile(bytes);
      if (!isWhole) continue;
      await out.close();
      out = undefined;
    }
  } catch (cause) {
    throw cause instanceof TenzroError ? cause : new TenzroError('update.bundle', `the bundle does not unpack: ${messageOf(cause)}`, { cause });
  } finally {
    await out?.close();
    stream.destroy();
  }
}
