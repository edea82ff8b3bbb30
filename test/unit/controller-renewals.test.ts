import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { toHex } from '#runtime/core/bytes.ts';
import { Authority, newIntermediate, newRoot } from '#runtime/controller/authority.ts';
import type { RegisteredGateway } from '#runtime/controller/register.ts';
import { Renewals, type RenewalsOptions } from '#runtime/controller/renewals.ts';
import { pemOf } from '#runtime/crypto/certificate.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { decodeBlock } from '#runtime/ledger/block.ts';
import { openReader, type ChainReader } from '#runtime/ledger/reader.ts';
import { makeChain } from '#test/support/ledger.ts';
import { MemoryMap } from '#test/support/lightGateway.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const DAY_MS = 86_400_000;
const START_MS = Date.UTC(2026, 10, 23);
const NEVER = new AbortController().signal;

describe('controller: certificates of gateways', () => {
  let dir: TempDir;
  let reader: ChainReader;
  let key: Uint8Array;
  let nowMs: number;
  let gateway: RegisteredGateway;
  let issued: number;
  let store: MemoryMap;
  const root = newRoot('fleet', START_MS);
  const authorityOf = (fromMs: number): Authority => new Authority(newIntermediate(root, 'fleet', fromMs), pemOf(root.certificate));

  before(async () => {
    dir = tempDir('renewals');
    await makeChain(join(dir.path, 'data'), { entries: 1, blocks: 1 });
    reader = await openReader(join(dir.path, 'data'));
    key = Uint8Array.from(decodeBlock(reader.block(0).payload).identity?.signingKey ?? assert.fail('no genesis'));
  });
  after(async () => {
    await reader[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });
  beforeEach(() => {
    [nowMs, issued, store] = [START_MS, 0, new MemoryMap()];
    gateway = { name: 'edge-1', claimId: '00', identityKey: toHex(sha256(key)), spki: '', ownerKeys: [], state: 'claimed', sinceMicros: 0, why: '', chains: ['c'] };
  });

  const renewalsBy = (authority: Authority): Renewals => new Renewals({
    authority, store, clock: { wallMicros: () => nowMs * 1_000, monoMicros: () => 0 },
    register: { get: () => gateway, all: () => [gateway], certified: async (_name, certificate) => { issued += 1; gateway = { ...gateway, certificate }; } },
    chains: { record: () => ({ head: {} }) as ReturnType<RenewalsOptions['chains']['record']>, block: () => reader.block(0) },
  });
  const endsMs = (renewals: Renewals): number => Date.parse(new X509Certificate(Buffer.from(renewals.held('edge-1') ?? [])).validTo);

  it('run a year, and are issued anew when a third is left, and not before', async () => {
    const renewals = renewalsBy(authorityOf(START_MS));
    await renewals.issue('edge-1', key);
    for (const [day, names] of [[0, []], [243, []], [244, ['edge-1']], [245, []], [488, ['edge-1']]] as const) {
      nowMs = START_MS + day * DAY_MS;
      assert.deepEqual(await renewals.renew(NEVER), names, `day ${day}`);
    }
    assert.deepEqual([endsMs(renewals), issued], [START_MS + (488 + 365) * DAY_MS, 3]);
  });

  it('are issued anew under another intermediate, and not again and again towards the end of one', async () => {
    const first = renewalsBy(authorityOf(START_MS));
    await first.issue('edge-1', key);
    nowMs = START_MS + DAY_MS;
    const second = renewalsBy(authorityOf(nowMs));
    assert.deepEqual([await second.renew(NEVER), await second.renew(NEVER)], [['edge-1'], []]);
    nowMs = START_MS + (3_650 - 100) * DAY_MS;
    assert.deepEqual([await second.renew(NEVER), await second.renew(NEVER)], [['edge-1'], []]);
    nowMs += 50 * DAY_MS;
    assert.deepEqual(await second.renew(NEVER), [], 'it would end with the intermediate all the same');
  });

  it('are for who is claimed, by the key that its chain names', async () => {
    const renewals = renewalsBy(authorityOf(START_MS));
    await renewals.issue('edge-1', key);
    nowMs += 300 * DAY_MS;
    const claimed = gateway;
    for (const other of [{ state: 'revoked' as const }, { state: 'released' as const }, { chains: [] }, { identityKey: '00'.repeat(32) }]) {
      gateway = { ...claimed, ...other };
      assert.deepEqual(await renewals.renew(NEVER), [], JSON.stringify(other));
    }
    const { certificate: _, ...successor } = claimed;
    gateway = successor;
    assert.deepEqual(await renewals.renew(NEVER), ['edge-1'], 'its key changed: it gets one for the new key');
  });
});
