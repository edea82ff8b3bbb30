/**
 * The folder `identity/` of a data directory: `sealed.cbor` (the keys), `next.cbor` (keys that a rotation prepares) and `approvals.json`. Every write
 * is whole or not at all, also over a power cut; files are for their owner only, and what others could have read or put there is refused.
 */
import { existsSync } from 'node:fs';
import { readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { OwnFolder, type FolderOptions } from '../ownFolder.ts';
import { APPROVAL_BYTES_MAX, formatApprovals, parseApprovals, type Approval } from './approval.ts';
import { decodeIdentityFile, type IdentityFile } from './sealedFile.ts';

const NAME = { sealed: 'sealed.cbor', next: 'next.cbor', approvals: 'approvals.json' } as const;
/** Of the first release: the bare seed of the signing key. */
const LEGACY_NAME = 'identity.seed';
const LEGACY_BYTES = 32;
const OPTIONS: FolderOptions = { codes: { permissions: 'identity.permissions', damaged: 'identity.damaged', io: 'identity.io' }, fileBytesMax: APPROVAL_BYTES_MAX };

export type Slot = 'sealed' | 'next';

export class IdentityFiles {
  readonly #folder: OwnFolder;
  /** The data directory. */
  readonly #parent: OwnFolder;

  constructor(dataDir: string) {
    this.#folder = new OwnFolder(join(dataDir, 'identity'), OPTIONS);
    this.#parent = new OwnFolder(dataDir, OPTIONS);
  }

  /** Undefined where there is none. Throws `identity.damaged`, `identity.newer_version`, `identity.permissions`, `identity.io`. */
  async read(slot: Slot): Promise<IdentityFile | undefined> {
    const bytes = await this.#folder.read(NAME[slot]);
    return bytes && decodeIdentityFile(bytes);
  }

  async write(slot: Slot, bytes: Uint8Array): Promise<void> { await this.#folder.replace(NAME[slot], bytes); }

  /** `next` takes the place of `sealed`. */
  async promote(): Promise<void> { await this.#folder.rename(NAME.next, NAME.sealed); }

  async dropNext(): Promise<void> { await this.#folder.remove(NAME.next); }

  /** The keys make room for others, and stay in the folder under another name: `sealed.1.cbor`, `identity.1.seed`, … Gives those names. */
  async setAside(): Promise<readonly string[]> {
    const { path } = this.#folder;
    return this.#folder.inSystem('', async () => {
      await this.#folder.make();
      const taken = new Set(await readdir(path));
      let number = 1;
      while (taken.has(`sealed.${number}.cbor`) || taken.has(`identity.${number}.seed`)) number += 1;
      const moves = [[join(path, NAME.sealed), `sealed.${number}.cbor`], [join(this.#parent.path, LEGACY_NAME), `identity.${number}.seed`]] as const;
      const moved = moves.filter(([from]) => existsSync(from));
      for (const [from, to] of moved) await rename(from, join(path, to));
      await this.#folder.sync();
      return moved.map(([, to]) => to);
    });
  }

  /** Empty where there are none. Throws as `read`. */
  async readApprovals(): Promise<readonly Approval[]> {
    const bytes = await this.#folder.read(NAME.approvals);
    if (!bytes) return [];
    try {
      return parseApprovals(bytes.toString('utf8'));
    } catch (cause) {
      throw new TenzroError('identity.damaged', `${NAME.approvals}: ${messageOf(cause)}`, { cause });
    }
  }

  async writeApprovals(approvals: readonly Approval[]): Promise<void> { await this.#folder.replace(NAME.approvals, Buffer.from(formatApprovals(approvals))); }

  /** The seed file of the first release. The caller zeroes what it gets. */
  async readLegacy(): Promise<Buffer | undefined> {
    const seed = await this.#parent.read(LEGACY_NAME);
    if (seed && seed.length !== LEGACY_BYTES) throw new TenzroError('identity.damaged', `${LEGACY_NAME} has ${seed.length} bytes, not ${LEGACY_BYTES}`);
    return seed;
  }

  /** Overwritten, then removed. A card or SSD may keep the old cells all the same: docs/decisions/0008-sealed-keys.md. */
  async destroyLegacy(): Promise<void> {
    await this.#parent.blank(LEGACY_NAME, LEGACY_BYTES);
    await this.#parent.remove(LEGACY_NAME);
  }
}
