/** The data partition of a card that lies still: checked and read on this machine, with nothing mounted. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { chainIdOf, decodeBlock } from '#runtime/ledger/block.ts';
import { openReader } from '#runtime/ledger/reader.ts';
import { tenzro } from '#test/support/gateway.ts';
import { run } from '#test/support/process.ts';
import { ran } from '#test/support/diskImage.ts';
import { tempDir } from '#test/support/temp.ts';

/** e2fsck(8): 0 clean, 1 errors corrected. */
const E2FSCK = '/usr/sbin/e2fsck';
const DEBUGFS = '/usr/sbin/debugfs';
const POLICY = join(import.meta.dirname, '..', '..', 'docs', 'policies', 'allow-emulated.yaml');
const FSCK_FINE = new Set<number | string>([0, 1]);

export interface Region {
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** As the partition table of the card says; undefined before the first boot has made it. Throws where the table is damaged. */
export function dataRegion(card: string): Region | undefined {
  const table = JSON.parse(ran('sfdisk', ['--json', card])) as { readonly partitiontable: { readonly partitions: readonly { readonly name?: string; readonly start: number; readonly size: number }[] } };
  const data = table.partitiontable.partitions.find(({ name }) => name === 'data');
  return data && { offsetBytes: data.start * 512, sizeBytes: data.size * 512 };
}

export interface DataCheck {
  /** False where e2fsck had something to put right. */
  readonly isClean: boolean;
  /** Undefined where there is no block yet. */
  readonly chain: ChainCheck | undefined;
}

export interface ChainCheck {
  /** SHA-256 of the first block. */
  readonly chainId: string;
  readonly blocks: number;
  /** What `tenzro fsck` said. */
  readonly said: string;
}

/** Works on a copy. Throws where e2fsck had to give something up, `tenzro fsck` finds fault with the datachain, or a proof of its newest sealed entry does not verify. */
export async function checkData(card: string): Promise<DataCheck | undefined> {
  const region = dataRegion(card);
  if (!region) return undefined;
  using dir = tempDir('data');
  const copy = join(dir.path, 'data.ext4');
  const copied = await run('dd', [`if=${card}`, `of=${copy}`, 'bs=1M', 'iflag=skip_bytes,count_bytes', `skip=${region.offsetBytes}`, `count=${region.sizeBytes}`, 'conv=sparse', 'status=none']);
  if (copied.code !== 0) throw new Error(copied.output);
  const fsck = await run(E2FSCK, ['-p', copy]);
  if (!FSCK_FINE.has(fsck.code)) throw new Error(`e2fsck ended with ${fsck.code}: ${fsck.output}`);
  await run(DEBUGFS, ['-R', `rdump /tenzro ${dir.path}`, copy]);
  return { isClean: fsck.code === 0, chain: await checkChain(join(dir.path, 'tenzro')) };
}

async function checkChain(dataDir: string): Promise<ChainCheck | undefined> {
  const chain = join(dataDir, 'ledger', 'chain');
  if (!existsSync(chain)) return undefined;
  const checked = await tenzro(dataDir, ['fsck', chain]);
  if (checked.code !== 0) throw new Error(`tenzro fsck ended with ${checked.code}: ${checked.output}`);
  const { blocks, chainId, newest } = await newestSealed(dataDir);
  if (chainId === undefined) return undefined;
  const file = join(dataDir, 'proof.tzp');
  for (const args of [['proof', String(newest), '-o', file], ['verify', file, '--policy', POLICY]]) {
    const { code, output } = await tenzro(dataDir, args);
    if (code !== 0) throw new Error(`tenzro ${args[0]} ended with ${code}: ${output}`);
  }
  return { chainId, blocks, said: checked.output.trim() };
}

async function newestSealed(dataDir: string): Promise<{ readonly blocks: number; readonly chainId: string | undefined; readonly newest: number }> {
  await using reader = await openReader(dataDir);
  const blocks = reader.blockCount();
  if (blocks === 0) return { blocks, chainId: undefined, newest: -1 };
  const { treeSize } = decodeBlock(reader.block(blocks - 1).payload);
  return { blocks, chainId: chainIdOf(reader.block(0).payload).toString('hex'), newest: treeSize - 1 };
}
