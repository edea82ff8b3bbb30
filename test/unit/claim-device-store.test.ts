import assert from 'node:assert/strict';
import { chmodSync, readFileSync, statSync, symlinkSync, writeFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { DeviceRecord } from '#provisioning/claim/device.ts';
import { decodeDeviceRecord, DeviceStore, encodeDeviceRecord } from '#provisioning/claim/deviceStore.ts';
import { TenzroError, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { randomOf } from '#test/support/random.ts';
import { tempDir } from '#test/support/temp.ts';

const is = (code: ErrorCode) => (error: unknown): boolean => error instanceof TenzroError && error.code === code;
const bytes = (length: number, seed: number): Buffer => Buffer.from(Array.from({ length }, (_, at) => (at * 31 + seed) & 0xff));
const FRESH: DeviceRecord = { generation: 0, burnt: [], failures: { boot: '2cf7e1f0-1111-4222-8333-444455556666', count: 0 } };
const OWNED: DeviceRecord = {
  generation: 7, burnt: Array.from({ length: 16 }, (_, at) => bytes(32, at)), failures: { boot: 'x', count: 5 },
  owner: { claimId: bytes(16, 1), ownerKeys: [bytes(1_952, 2), bytes(1_952, 3)], handOver: bytes(LIMITS.claimHandOverBytesMax, 4), words: 'mantle tassel yogurt chicken navy hound' },
  lastOrder: { digest: bytes(32, 5), claimId: bytes(16, 6), standing: 'rotated' },
};
/** The same file with other contents and a checksum that fits. */
const bent = (file: Buffer, change: (parts: Cbor[]) => Cbor): Buffer => {
  const body = encodeCbor(change([...decodeCbor(file.subarray(0, -32)) as readonly Cbor[]]));
  return Buffer.concat([body, sha256(body)]);
};

describe('the record of the owner', () => {
  it('comes back as it was, the largest too, and has one encoding', () => {
    for (const record of [FRESH, OWNED]) {
      const file = encodeDeviceRecord(record);
      const held = decodeDeviceRecord(file);
      assert.deepEqual(encodeDeviceRecord(held), file);
      assert.deepEqual(Object.keys(held).toSorted(), Object.keys(record).toSorted());
      assert.equal(held.owner?.words, record.owner?.words);
    }
  });

  it('with any byte changed, cut off or added is damaged, never somebody else\'s', () => {
    const file = encodeDeviceRecord(FRESH);
    for (let at = 0; at < file.length; at++) {
      const changed = Buffer.from(file);
      changed[at] = (changed[at] ?? 0) ^ 1;
      assert.throws(() => decodeDeviceRecord(changed), is('claim.state'));
      assert.throws(() => decodeDeviceRecord(file.subarray(0, at)), is('claim.state'));
    }
    assert.throws(() => decodeDeviceRecord(Buffer.concat([file, Buffer.alloc(1)])), is('claim.state'));
  });

  it('with a checksum that fits, and contents that do not, is damaged too', () => {
    const random = randomOf(3);
    const file = encodeDeviceRecord(OWNED);
    assert.throws(() => decodeDeviceRecord(bent(file, (parts) => [...parts, 1])), is('claim.state'));
    assert.throws(() => decodeDeviceRecord(bent(file, ([, version, record]) => ['another', version ?? 0, record ?? 0])), is('claim.state'));
    assert.throws(() => decodeDeviceRecord(bent(file, () => 1)), is('claim.state'));
    for (let count = 0; count < 300; count++) {
      const bend = (parts: Cbor[]): Cbor => {
        const record = Buffer.from(parts[2] as Uint8Array);
        record[random(200)] = random(256);
        return [parts[0] ?? 0, parts[1] ?? 0, record];
      };
      try {
        decodeDeviceRecord(bent(file, bend));
      } catch (error) {
        assert.ok(is('claim.state')(error), String(error));
      }
    }
  });

  it('of a newer version is refused as that', () => {
    assert.throws(() => decodeDeviceRecord(bent(encodeDeviceRecord(FRESH), ([magic, , record]) => [magic ?? 0, 2, record ?? 0])), is('claim.newer_version'));
  });

  it('is written for its owner only, read in turn, and refused where others could have read or put it', async () => {
    using dir = tempDir('owner');
    const store = new DeviceStore(dir.path);
    const path = join(dir.path, 'claim', 'owner.cbor');
    assert.equal(await store.read(), undefined);
    const [, read] = await Promise.all([store.write(OWNED), store.read()]);
    assert.equal(read?.generation, 7, 'a read sees the write before it');
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.deepEqual(readFileSync(path), encodeDeviceRecord(OWNED));
    chmodSync(path, 0o644);
    await assert.rejects(store.read(), is('claim.state'));
    using other = tempDir('owner');
    mkdirSync(join(other.path, 'claim'));
    symlinkSync(path, join(other.path, 'claim', 'owner.cbor'));
    await assert.rejects(new DeviceStore(other.path).read(), is('claim.store'));
    writeFileSync(join(dir.path, 'file'), '');
    await assert.rejects(new DeviceStore(join(dir.path, 'file')).write(FRESH), is('claim.store'));
  });
});
