/**
 * The composition root of installed models: fetches and unpacks a package, lets a process of its own load it, and only then points its name at it; inference
 * loads it anew from its cursor, so that no reading goes unjudged. Where that fails after all, the name points back.
 */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { ARCHIVE_BYTES_MAX, readArchive } from '#models/archive.ts';
import { checkUrl, fetchFile } from '#models/fetch.ts';
import { InstalledModels } from '#models/installed.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { ERRORS, TenzroError, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { InferSettings } from '#runtime/core/settings.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { startAlone } from '#runtime/fleet/types/alone.ts';
import type { ModelKeeper, ModelOrder } from '#runtime/fleet/types/modelInstall.ts';
import type { Inference } from '#runtime/infer/follower.ts';

/** Below the data directory. */
export const INSTALLED_MODELS = 'models';
const PROBE = new URL('./modelProbe.ts', import.meta.url).pathname;
const SHA256_DIGITS = 64;

export class Modelling implements ModelKeeper {
  readonly bytesMax = ARCHIVE_BYTES_MAX;
  readonly #store: InstalledModels;
  readonly #settings: InferSettings;
  readonly #inference: Pick<Inference, 'reload'>;

  constructor(dataDir: string, settings: InferSettings, inference: Pick<Inference, 'reload'>) {
    this.#store = new InstalledModels(join(dataDir, INSTALLED_MODELS));
    this.#settings = settings;
    this.#inference = inference;
  }

  installed(name: string): string | undefined { return this.#store.current(name)?.slice(-SHA256_DIGITS); }

  check({ name, bytes, from }: ModelOrder): void {
    const { models } = this.#settings;
    if (models.length > 0 && !models.includes(name)) throw new TenzroError('command.parameters', `infer.models of this gateway does not name ${name}: it would never run`);
    if ('url' in from) checkUrl(from.url);
    else if (from.inline.length !== bytes) throw new TenzroError('command.parameters', `inline has ${from.inline.length} bytes, bytes says ${bytes}`);
    this.#store.checkSpace(bytes);
  }

  async install(order: ModelOrder, signal: AbortSignal): Promise<Readonly<Record<string, unknown>>> {
    const { name, sha256: digest } = order;
    const [before, id] = [this.#store.current(name), `${name}-${digest}`];
    if (before === id) return { name, sha256: digest, effective: 'already' };
    this.#store.sweep(`${digest}.part`);
    const archive = await this.#arrived(order, signal);
    signal.throwIfAborted();
    this.#store.unpack(id, readArchive(archive));
    try {
      using trial = this.#store.trial(name, id);
      await probe(trial.dir, name, this.#settings.runtimeDir, signal);
      signal.throwIfAborted();
      this.#store.point(name, id);
      await this.#takeUp(name, before, signal);
    } finally {
      this.#store.sweep();
    }
    return { name, sha256: digest, ...(before === undefined ? {} : { replaced: before.slice(-SHA256_DIGITS) }), effective: this.#settings.enabled ? 'now' : 'when infer.enabled is true' };
  }

  checkRemoval(name: string): void {
    if (this.#store.current(name) === undefined) throw new TenzroError('command.parameters', `no model ${name} was installed by command`);
  }

  async remove(name: string, signal: AbortSignal): Promise<Readonly<Record<string, unknown>>> {
    signal.throwIfAborted();
    this.#store.point(name, undefined);
    const status = await this.#inference.reload();
    this.#store.sweep();
    return { name, removed: true, ...(status.some((model) => model.name === name) ? { now: 'the one that came with the application' } : {}) };
  }

  /** The bytes that were signed. A file that turns out another is begun anew by the next command. */
  async #arrived({ sha256: digest, bytes, from }: ModelOrder, signal: AbortSignal): Promise<Buffer> {
    const file = this.#store.partFile(digest);
    if ('url' in from) await fetchFile({ url: from.url, bytes, file }, signal);
    const archive = 'url' in from ? await readFile(file) : from.inline;
    const found = toHex(sha256(archive));
    if (found === digest) return archive;
    await rm(file, { force: true });
    throw new TenzroError('model.digest', `the package has SHA-256 ${found.slice(0, 16)}…, signed was ${digest.slice(0, 16)}…`);
  }

  /** The name points at it already. Where it does not run after all, or nobody wants it any more, the one before is back when this rejects. */
  async #takeUp(name: string, before: string | undefined, signal: AbortSignal): Promise<void> {
    const state = (await this.#inference.reload()).find((model) => model.name === name)?.state;
    if (!signal.aborted && (!this.#settings.enabled || state?.kind === 'value')) return;
    this.#store.point(name, before);
    await this.#inference.reload();
    signal.throwIfAborted();
    throw new TenzroError('model.run', `${name} loaded alone and not in inference (${state?.kind === 'none' ? state.reason : 'it does not come up'}): the one before is back`);
  }
}

/** Rejects with the error that the package's loading ends in, whatever that does to the process it is loaded in. */
async function probe(dir: string, name: string, runtimeDir: string, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const child = startAlone(['ignore', 'pipe', 'ignore'], (stdio) => spawn(process.execPath, [PROBE, dir, name, runtimeDir], { stdio, env: { ORT_DISABLE_TELEMETRY: '1' }, signal: AbortSignal.any([signal, AbortSignal.timeout(LIMITS.modelProbeMs)]), killSignal: 'SIGKILL' }) as ChildProcessByStdio<null, Readable, null>);
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => { said = (said + text).slice(0, LIMITS.textBytesMax); });
  child.once('error', reject);
  child.once('close', () => resolve(said));
  const outcome = await promise.catch((cause: unknown) => { throw new TenzroError('model.invalid', `${name}: loading it did not end in ${LIMITS.modelProbeMs / 1_000} s`, { cause }); });
  if (outcome === 'loaded') return;
  const [code = '', ...message] = outcome.split('\n');
  throw Object.hasOwn(ERRORS, code) ? new TenzroError(code as ErrorCode, message.join('\n')) : new TenzroError('model.invalid', `${name}: loading it ended the process that tried`);
}
