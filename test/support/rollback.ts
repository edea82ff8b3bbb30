/** A data directory that tests copy, restore and go on from, as who holds the disk may, and its TPM, which they cannot. */
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { openAnchor } from '#drivers/tpm2/anchor.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import type { BlockInfo, SealerOptions, SealRequest } from '#runtime/attest/sealer.ts';
import { fsck, type FsckResult } from '#runtime/ledger/fsck.ts';
import { buildHeadProof, buildProof } from '#runtime/ledger/proofBuilder.ts';
import { verifyLive, type LiveReport } from '#runtime/verify/live.ts';
import { parsePolicy } from '#runtime/verify/policy.ts';
import { NEVER, openSealing, type Sealing } from './sealHarness.ts';
import { transportTo, type TemporaryTpm } from './swtpm.ts';
import { tempDir, type TempDir } from './temp.ts';

export const EMULATED = parsePolicy({ version: 1, accept: ['emulated', 'software'] });

export class Victim implements Disposable {
  readonly #folder: TempDir = tempDir('rollback');
  readonly #tpm: TemporaryTpm;
  readonly dataDir = join(this.#folder.path, 'data');
  #copies = 0;

  constructor(tpm: TemporaryTpm) {
    this.#tpm = tpm;
    mkdirSync(this.dataDir);
  }

  /** One run of the gateway on `dataDir`: its first block is an anchor. */
  async run<T>(work: (sealing: Sealing) => Promise<T>, wanted: Partial<SealerOptions> = {}, dataDir = this.dataDir): Promise<T> {
    await using sealing = await openSealing(dataDir, this.#tpm.address, wanted);
    return await work(sealing);
  }

  /** A disk image as of now, while the gateway runs or not. */
  image(): string {
    const path = join(this.#folder.path, `image-${this.#copies++}`);
    cpSync(this.dataDir, path, { recursive: true });
    return path;
  }

  restore(image: string): void {
    rmSync(this.dataDir, { recursive: true });
    cpSync(image, this.dataDir, { recursive: true });
  }

  /** `tenzro fsck` with the TPM at hand. */
  async fsck(): Promise<FsckResult> {
    await using tpm = new Tpm(transportTo(this.#tpm.address));
    const anchor = await openAnchor(tpm, NEVER);
    const look = await anchor.look(NEVER);
    return await fsck(this.dataDir, { live: async () => ({ kind: 'value', value: { akPublic: anchor.akPublic, look } }) });
  }

  /** What the TPM's owner may do to it. */
  async meddle(work: (tpm: Tpm) => Promise<void>): Promise<void> {
    await using tpm = new Tpm(transportTo(this.#tpm.address));
    await tpm.startup(NEVER);
    await work(tpm);
  }

  /** `tenzro verify --live` of `file` against the gateway as it would run now. */
  async verifyLive(file: Uint8Array, from: number): Promise<LiveReport> {
    const nonce = randomBytes(32);
    const fresh = await this.run(async (sealing) => {
      const { sequence } = await sealing.sealer.seal({ challenge: nonce }, NEVER);
      return buildHeadProof(sealing.reader, sequence, from);
    });
    return verifyLive(file, fresh, nonce, EMULATED);
  }

  [Symbol.dispose](): void { this.#folder[Symbol.dispose](); }
}

/** An entry and a block over it. */
export async function seal(sealing: Sealing, request: SealRequest = {}): Promise<BlockInfo> {
  await sealing.append();
  return sealing.sealer.seal(request, NEVER);
}

/** Of the newest entry under a block. */
export const proofOf = (sealing: Sealing, { treeSize }: BlockInfo): Uint8Array => buildProof(sealing.reader, treeSize - 1);
