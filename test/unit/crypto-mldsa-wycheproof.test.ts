import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { nobleSigner, nobleVerifyMlDsa65, signerOfSeed, verifyMlDsa65 } from '#runtime/crypto/mldsa.ts';
import { skipBecause } from '#test/support/skips.ts';

const FOLDER = join(process.env['TENZRO_SHARED'] ?? join(import.meta.dirname, '../../../shared'), 'vectors/wycheproof/testvectors_v1');

interface Case { readonly tcId: number; readonly comment: string; readonly msg?: string; readonly ctx?: string; readonly sig: string; readonly result: 'valid' | 'invalid'; readonly flags: readonly string[] }
interface Group { readonly publicKey?: string; readonly privateSeed?: string; readonly tests: readonly Case[] }

const groupsOf = (file: string): readonly Group[] => (JSON.parse(readFileSync(join(FOLDER, file), 'utf8')) as { testGroups: readonly Group[] }).testGroups;
const bytes = (hex: string | undefined): Buffer => Buffer.from(hex ?? '', 'hex');
/** Ours is pure ML-DSA with an empty context: vectors with a context or a message already hashed to mu are about another interface. */
const isOurs = ({ msg, ctx }: Case): boolean => msg !== undefined && (ctx ?? '') === '';

for (const [name, verify] of [['native', verifyMlDsa65], ['noble', nobleVerifyMlDsa65]] as const) {
  describe(`Wycheproof ML-DSA-65, ${name}`, function () {
    this.timeout(60_000);
    before(function () { if (!existsSync(FOLDER)) skipBecause(this, `no vectors under ${FOLDER}`); });

    it('judges every signature as the vectors do', () => {
      const all = groupsOf('mldsa_65_verify_test.json').flatMap(({ publicKey, tests }) => tests.map((test) => ({ publicKey: bytes(publicKey), test })));
      const ours = all.filter(({ test }) => isOurs(test));
      assert.ok(ours.length > 190, `${ours.length} vectors`);
      for (const { publicKey, test } of ours) assert.equal(verify(publicKey, bytes(test.msg), bytes(test.sig)), test.result === 'valid', `tcId ${test.tcId} ${test.comment}`);
      console.log(`      ${ours.length} vectors, ${all.length - ours.length} with a context left out`);
    });

    it('derives public keys from seeds, whose given signatures verify', () => {
      const signerOf = name === 'native' ? signerOfSeed : nobleSigner;
      let [done, left] = [0, 0];
      for (const { privateSeed, publicKey, tests } of groupsOf('mldsa_65_sign_seed_test.json')) {
        if (bytes(privateSeed).length !== 32) { assert.throws(() => signerOf(bytes(privateSeed))); continue; }
        const signer = signerOf(bytes(privateSeed));
        if (publicKey !== undefined) assert.ok(Buffer.from(signer.publicKey).equals(bytes(publicKey)), 'public key');
        for (const test of tests) {
          if (!isOurs(test) || test.result !== 'valid') { left++; continue; }
          assert.ok(verify(signer.publicKey, bytes(test.msg), bytes(test.sig)), `tcId ${test.tcId} ${test.comment}`);
          assert.ok(verify(signer.publicKey, bytes(test.msg), signer.sign(bytes(test.msg))), `tcId ${test.tcId}: own signature`);
          done++;
        }
      }
      assert.ok(done > 75, `${done} vectors`);
      console.log(`      ${done} vectors, ${left} invalid, with a context or with mu left out`);
    });
  });
}
