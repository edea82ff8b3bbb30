/** The policy file of a verifier or of a fleet's controller: read again whenever it is another. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { parseDocumentText } from '#runtime/config/document.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { isoOfMicros, systemClock as clock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { Counters, Log } from '#runtime/core/ports.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { parseIssuers, parsePolicy, type Policy } from '#runtime/verify/policy.ts';

export interface LoadedPolicy {
  readonly policy: Policy;
  /** SHA-256 of the policy file. */
  readonly digest: Uint8Array;
  readonly loadedMicros: number;
}

export interface PolicyFiles {
  readonly path: string;
  readonly ekRootsPath: string | undefined;
  /** In force while there is no file. */
  readonly otherwise?: Policy;
}

/** Who is told of a file that does not hold. */
interface PolicyWatch {
  readonly log: Log;
  readonly counters: Counters;
  /** What is counted. */
  readonly invalid: string;
}

/** The policy in force: read again when the file is another, and at SIGHUP. A file that does not hold leaves the one before in force, loudly. */
export class PolicyFile {
  readonly #files: PolicyFiles;
  readonly #watch: PolicyWatch;
  #loaded: LoadedPolicy;
  #stamp: string;
  #fault: string | undefined;

  /** Throws `policy.invalid`. */
  constructor(files: PolicyFiles, watch: PolicyWatch) {
    this.#files = files;
    this.#watch = watch;
    this.#stamp = this.#stampNow();
    this.#loaded = this.#load();
  }

  current(): LoadedPolicy {
    if (this.#stampNow() !== this.#stamp) this.reload();
    return this.#loaded;
  }

  reload(): void {
    this.#stamp = this.#stampNow();
    try {
      this.#loaded = this.#load();
      this.#fault = undefined;
      this.#watch.log.info({ policy: toHex(this.#loaded.digest) }, 'policy read');
    } catch (error) {
      this.#fault = messageOf(error);
      this.#watch.counters.add(this.#watch.invalid);
      this.#watch.log.error({ error: this.#fault }, 'the policy file does not hold: the one before stays in force');
    }
  }

  status(): object {
    const { digest, loadedMicros } = this.current();
    return { digest: toHex(digest), loadedAt: isoOfMicros(loadedMicros), fault: this.#fault ?? null };
  }

  #load(): LoadedPolicy {
    const { path, ekRootsPath, otherwise } = this.#files;
    if (otherwise && !existsSync(path)) return { policy: otherwise, digest: NO_FILE, loadedMicros: clock.wallMicros() };
    return loadPolicy(path, ekRootsPath);
  }

  /** Changes with every replacement and every write. */
  #stampNow(): string {
    return [this.#files.path, this.#files.ekRootsPath].map((path) => {
      const found = path === undefined ? undefined : statSync(path, { bigint: true, throwIfNoEntry: false });
      return found ? `${found.ino} ${found.size} ${found.mtimeNs}` : 'none';
    }).join();
  }
}

/** SHA-256 of nothing. */
const NO_FILE = sha256(new Uint8Array(0));

/** Throws `policy.invalid`. */
export function loadPolicy(path: string, ekRootsPath?: string): LoadedPolicy {
  const bytes = readPolicyFile(path);
  const document = parseDocumentText(bytes.toString('utf8'));
  const [fault] = document.faults;
  if (fault) throw new TenzroError('policy.invalid', `${path}:${fault.place.line}:${fault.place.column}: ${fault.message}`);
  const policy = parsePolicy(document.value);
  const ekIssuers = ekRootsPath === undefined ? policy.ekIssuers : [...policy.ekIssuers, ...parseIssuers(readPolicyFile(ekRootsPath), ekRootsPath)];
  return { policy: { ...policy, ekIssuers }, digest: sha256(bytes), loadedMicros: clock.wallMicros() };
}

function readPolicyFile(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new TenzroError('policy.invalid', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}
