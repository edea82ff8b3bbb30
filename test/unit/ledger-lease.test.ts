import assert from 'node:assert/strict';
import { toHex } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { CONCEPTUAL_MESSAGE, encodeCmw } from '#runtime/crypto/cmw.ts';
import { parseSign1, sign1, signingKeyHeader } from '#runtime/crypto/cose.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { isSignedBy, LEASE_PROFILE, parseLease, signLease, unwrapLease, wrapLease } from '#runtime/ledger/lease.ts';
import { decodeAppraisalRequest, decodeChallenge, decodeRefusal, encodeAppraisalRequest, encodeChallenge, encodeRefusal } from '#runtime/ledger/leaseMessages.ts';
import { leaseFor, testVerifier } from '#test/support/leases.ts';
import { softChain } from '#test/support/memoryChain.ts';

const throws = (work: () => unknown, code: string, pattern = /./): void =>
  assert.throws(work, (error: unknown) => error instanceof TenzroError && error.code === code && pattern.test(error.message));

const LEASE_TYPE = `application/eat+cwt; eat_profile="${LEASE_PROFILE}"`;

/** Bytes as hex, so that a Buffer equals a Uint8Array. */
const plain = (value: object): object => Object.fromEntries(Object.entries(value).map(([key, field]: [string, unknown]) => [key, field instanceof Uint8Array ? toHex(field) : field]));

describe('lease', () => {
  const { chain } = softChain(2, 2);
  const lease = leaseFor(chain, { tpm: { resetCount: 3, clock: 123_456 } });
  const statement = signLease(testVerifier, lease);
  const claims = (): Map<number, Cbor> => new Map(decodeCbor(parseSign1(statement).payload) as ReadonlyMap<number, Cbor>);
  const resigned = (changed: ReadonlyMap<number, Cbor>): Buffer => sign1(testVerifier, signingKeyHeader(testVerifier.publicKey), encodeCbor(changed));

  it('reads back what was signed, and says whose key signed it', () => {
    const parsed = parseLease(statement);
    assert.deepEqual(plain(parsed.lease), plain(lease));
    assert.equal(isSignedBy(parsed, sha256(testVerifier.publicKey)), true);
    assert.equal(isSignedBy(parsed, sha256(Buffer.from('another key'))), false);
  });

  it('carries the registered claims under their numbers', () => {
    const map = claims();
    assert.equal(map.get(1), 'test verifier');
    assert.equal(map.get(2), Buffer.from(lease.chainId).toString('hex'));
    assert.deepEqual([map.get(4), map.get(5), map.get(6)], [lease.expiresAt, lease.issuedAt, lease.issuedAt]);
    assert.deepEqual(map.get(10), Uint8Array.from(lease.nonce));
    assert.deepEqual(map.get(256), Uint8Array.of(1, ...lease.identity));
    assert.equal(map.get(265), LEASE_PROFILE);
    assert.deepEqual(map.get(274), [['tenzro', [['software.reference', 4]]]]);
  });

  it('refuses every flipped byte as malformed or unsigned', () => {
    for (let at = 0; at < statement.length; at += 37) {
      const bent = Buffer.from(statement);
      bent.writeUInt8((bent[at] ?? 0) ^ 0x10, at);
      try {
        assert.equal(isSignedBy(parseLease(bent), sha256(testVerifier.publicKey)), false, `byte ${at}`);
      } catch (error) {
        assert.ok(error instanceof TenzroError && error.code === 'lease.malformed', `byte ${at}: ${String(error)}`);
      }
    }
  });

  it('refuses claims that it does not know, lacks, or cannot mean', () => {
    const bend = (key: number, value: Cbor | undefined): Buffer => {
      const map = claims();
      if (value === undefined) map.delete(key);
      else map.set(key, value);
      return resigned(map);
    };
    throws(() => parseLease(bend(-70_000, 1)), 'lease.malformed', /unknown claim -70000/);
    throws(() => parseLease(bend(265, 'urn:another')), 'lease.malformed', /profile/);
    throws(() => parseLease(bend(4, lease.issuedAt)), 'lease.malformed', /exp does not come after/);
    throws(() => parseLease(bend(5, 0)), 'lease.malformed', /nbf/);
    throws(() => parseLease(bend(256, Buffer.alloc(33))), 'lease.malformed', /ueid/);
    throws(() => parseLease(bend(10, Buffer.alloc(7))), 'lease.malformed', /eat_nonce/);
    throws(() => parseLease(bend(-65_703, undefined)), 'lease.malformed', /stands alone/);
    throws(() => parseLease(bend(274, [])), 'lease.malformed', /measres/);
    throws(() => parseLease(bend(-65_709, Array.from({ length: 65 }, () => ['x', 1]))), 'lease.malformed', /more than 64/);
    throws(() => parseLease(Buffer.alloc(40_000)), 'lease.malformed', /40000 bytes/);
    for (const key of claims().keys()) throws(() => parseLease(bend(key, undefined)), 'lease.malformed');
  });

  it('travels alone in a wrapper that says what it is', () => {
    assert.deepEqual(unwrapLease(wrapLease(statement)), Uint8Array.from(statement));
    const [type, , indicator] = decodeCbor(wrapLease(statement)) as readonly Cbor[];
    assert.deepEqual([type, indicator], [LEASE_TYPE, 8]);
    throws(() => unwrapLease(encodeCmw({ type: 'application/eat+cwt', value: statement, indicator: CONCEPTUAL_MESSAGE.attestationResults })), 'lease.malformed');
    throws(() => unwrapLease(encodeCmw({ type: LEASE_TYPE, value: statement, indicator: CONCEPTUAL_MESSAGE.evidence })), 'lease.malformed');
    throws(() => unwrapLease(statement), 'lease.malformed');
  });
});

describe('lease messages', () => {
  it('read back what was written', () => {
    const nonce = new Uint8Array(32);
    for (const challenge of [{ nonce }, { nonce, seen: 7 }]) assert.deepEqual(decodeChallenge(encodeChallenge(challenge)), challenge);
    const request = { nonce, bundle: new Uint8Array(100_000) };
    assert.deepEqual(decodeAppraisalRequest(encodeAppraisalRequest(request)), request);
    const refusal = { code: 'lease.refused', message: 'no', checks: [{ code: 'tail', result: 'unknown', detail: 'cut?' }] } as const;
    assert.deepEqual(decodeRefusal(encodeRefusal(refusal)), refusal);
  });

  it('refuse what is not theirs before they build it', () => {
    const tiny = Buffer.concat([Buffer.from('9a00100000', 'hex'), Buffer.alloc(1 << 20)]);
    throws(() => decodeAppraisalRequest(tiny), 'verifier.request', /CBOR items/);
    throws(() => decodeChallenge(encodeCbor(new Map<number, Cbor>([[2, Buffer.alloc(32)], [3, -1]]))), 'verifier.request');
    throws(() => decodeChallenge(encodeCbor(new Map<number, Cbor>([[2, Buffer.alloc(32)], [3, 0], [99, 0]]))), 'verifier.request');
    throws(() => decodeChallenge(Buffer.from('ff', 'hex')), 'verifier.request');
    throws(() => decodeAppraisalRequest(encodeChallenge({ nonce: new Uint8Array(32) })), 'verifier.request', /not a map of the keys/);
  });
});
