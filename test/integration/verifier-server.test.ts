import assert from 'node:assert/strict';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:tls';
import type { Clock } from '#runtime/core/clock.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { pemOf, selfSignedCertificate } from '#runtime/crypto/certificate.ts';
import { encodeAppraisalRequest, encodeChallengeRequest, LEASE_PATH } from '#runtime/ledger/leaseMessages.ts';
import { parseLease, unwrapLease } from '#runtime/ledger/lease.ts';
import { acceptLease } from '#runtime/lease/receipt.ts';
import { parsePolicy } from '#runtime/verify/policy.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { openTestVerifier, rawRequest, testGateway, type TestVerifier } from '#test/support/verifierHarness.ts';

const refused = async (work: Promise<unknown>, code: string, pattern = /./): Promise<void> =>
  assert.rejects(work, (error: unknown) => error instanceof TenzroError && error.code === code && pattern.test(error.message) ? true : assert.fail(String(error)));

/** A certificate around a key, as a client shows it. */
function credentials(type: 'ml-dsa-65' | 'ec'): { readonly key: string; readonly cert: string } {
  const { privateKey } = type === 'ec' ? generateKeyPairSync('ec', { namedCurve: 'P-256' }) : generateKeyPairSync('ml-dsa-65');
  return { key: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(), cert: pemOf(selfSignedCertificate({ privateKey, commonName: 'stranger', hosts: [], notBeforeMs: 0, notAfterMs: 4e12 })) };
}

describe('verifier over HTTPS', () => {
  let dir: TempDir;
  let verifier: TestVerifier;
  beforeEach(async () => {
    dir = tempDir('verifier');
    verifier = await openTestVerifier(dir.path);
  });
  afterEach(async () => {
    await verifier[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  it('grants a lease for an answered challenge, again for the next, over the hybrid group', async () => {
    const gateway = testGateway(verifier);
    const [first, second] = [unwrapLease(await gateway.appraise()), unwrapLease(await gateway.appraise())].map((statement) => parseLease(statement).lease);
    assert.deepEqual([first?.trust, first?.sequence, second?.sequence], ['software', 2, 3]);
    assert.equal(verifier.memory.chain(gateway.chainId)?.sequence, 3);
    assert.equal(verifier.counters.snapshot()['verifier.tls.X25519MLKEM768'], 4);
  });

  it('refuses a nonce that was answered, that another client got, or that nobody got', async () => {
    const gateway = testGateway(verifier);
    const { nonce } = await gateway.challenge();
    const request = encodeAppraisalRequest({ nonce, bundle: gateway.answer(nonce) });
    await refused(testGateway(verifier, 'another device').post(LEASE_PATH.appraise, request), 'verifier.nonce');
    await gateway.post(LEASE_PATH.appraise, request);
    await refused(gateway.post(LEASE_PATH.appraise, request), 'verifier.nonce');
    await refused(gateway.post(LEASE_PATH.appraise, encodeAppraisalRequest({ nonce: randomBytes(32), bundle: gateway.answer(nonce) })), 'verifier.nonce');
  });

  it('refuses a nonce after its time, by the monotonic clock', async () => {
    let micros = 0;
    const clock: Clock = { wallMicros: () => systemClock.wallMicros(), monoMicros: () => micros };
    using other = tempDir('verifier');
    await using slow = await openTestVerifier(other.path, { clock });
    const gateway = testGateway(slow);
    const { nonce } = await gateway.challenge();
    micros = LIMITS.nonceLifetimeMs * 1_000;
    await refused(gateway.post(LEASE_PATH.appraise, encodeAppraisalRequest({ nonce, bundle: gateway.answer(nonce) })), 'verifier.nonce');
  });

  it('refuses another gateway\'s answer, and an answer to an earlier challenge, each with its reason', async () => {
    const [gateway, other] = [testGateway(verifier), testGateway(verifier, 'another device')];
    const { nonce } = await gateway.challenge();
    await refused(gateway.post(LEASE_PATH.appraise, encodeAppraisalRequest({ nonce, bundle: other.answer(nonce) })), 'lease.refused', /appraise\.identity: who asks does not hold the signing key/);
    const old = gateway.answer(nonce);
    const { nonce: fresh } = await gateway.challenge();
    await refused(gateway.post(LEASE_PATH.appraise, encodeAppraisalRequest({ nonce: fresh, bundle: old })), 'lease.refused', /quote\.fresh/);
  });

  it('refuses what the policy refuses from the moment that it changes, and says why', async () => {
    const gateway = testGateway(verifier);
    await gateway.appraise();
    verifier.policy = parsePolicy({ version: 1 });
    await refused(gateway.appraise(), 'lease.refused', /trust\.policy: the trust level is 'software'/);
  });

  it('knows after a restart what it saw: a copy of the chain that went back is refused', async () => {
    const gateway = testGateway(verifier);
    await gateway.appraise();
    await verifier[Symbol.asyncDispose]();
    verifier = await openTestVerifier(dir.path);
    assert.equal(verifier.memory.chains, 1);
    const restored = testGateway(verifier);
    restored.chain.append(Buffer.from(gateway.chain.entry(0)));
    restored.sealer.seal({ softwareDigest: new Uint8Array(32) });
    await refused(restored.appraise(), 'lease.refused', /appraise\.history: block 2 is another one than was appraised before: the chain was forked/);
  });

  it('gives leases that fit nobody else', async () => {
    const [gateway, other] = [testGateway(verifier), testGateway(verifier, 'another device')];
    const { nonce } = await gateway.challenge();
    const bundle = gateway.answer(nonce);
    const statement = unwrapLease(await gateway.post(LEASE_PATH.appraise, encodeAppraisalRequest({ nonce, bundle })));
    const accept = (change: object): (() => unknown) => () => acceptLease(statement, { verifierKey: verifier.key, nonce, bundle, ...change });
    const code = (expected: string) => (error: unknown): boolean => error instanceof TenzroError && error.code === expected;
    assert.doesNotThrow(accept({}));
    assert.throws(accept({ bundle: other.answer(nonce) }), code('lease.foreign_chain'));
    assert.throws(accept({ nonce: randomBytes(32) }), code('lease.stale'));
    assert.throws(accept({ bundle: gateway.answer(nonce) }), code('lease.stale'));
    assert.throws(accept({ verifierKey: randomBytes(32) }), code('lease.foreign_verifier'));
  });

  it('turns away who shows no identity key, whatever the request', async () => {
    const body = encodeChallengeRequest(new Uint8Array(32));
    const url = verifier.url + LEASE_PATH.challenge;
    assert.equal(await rawRequest(url, { method: 'POST' }, body), 401);
    assert.equal(await rawRequest(url, { method: 'POST', ...credentials('ec') }, body), 401);
    assert.equal(await rawRequest(url, { method: 'POST', ...credentials('ml-dsa-65') }, body), 200);
    assert.equal(await rawRequest(url, { method: 'POST', maxVersion: 'TLSv1.2' }, body).then((status) => typeof status), 'string');
    assert.equal(await rawRequest(verifier.url + LEASE_PATH.status, {}), 200, 'the status is for everybody');
  });

  it('answers malformed and huge requests with an error, and goes on', async () => {
    const client = credentials('ml-dsa-65');
    const post = async (path: string, body: Uint8Array, headers: Record<string, string> = {}): Promise<number | string> => rawRequest(verifier.url + path, { method: 'POST', ...client, headers }, body);
    assert.equal(await post(LEASE_PATH.challenge, Buffer.from('not CBOR')), 400);
    assert.equal(await post(LEASE_PATH.appraise, randomBytes(1_000)), 400);
    assert.equal(await post(LEASE_PATH.appraise, Buffer.concat([Buffer.from('9a00f00000', 'hex'), Buffer.alloc(1 << 20)])), 400);
    assert.equal(await post(LEASE_PATH.enrolBegin, randomBytes(100)), 400);
    assert.equal(await post(LEASE_PATH.challenge, Buffer.alloc(0), { 'content-length': String(LIMITS.verifierBodyBytesMax + 1) }), 413);
    assert.equal(await post(LEASE_PATH.challenge, Buffer.alloc(128 * 1024), { 'transfer-encoding': 'chunked' }), 413);
    assert.equal(await post('/v1/else', Buffer.alloc(0)), 404);
    assert.equal(await rawRequest(verifier.url + LEASE_PATH.challenge, { ...client }), 405);
    await testGateway(verifier).appraise();
  });

  it('lets a flood wait, and serves the others', async () => {
    const gateway = testGateway(verifier);
    for (let i = 0; i < LIMITS.noncesPerClientMax; i++) await gateway.challenge();
    await assert.rejects(gateway.challenge(), (error: unknown) => error instanceof TenzroError && error.code === 'verifier.busy' && (error.retryAfterMs ?? 0) > 0);
    const flood = await Promise.allSettled(Array.from({ length: LIMITS.verifierBurst }, () => gateway.challenge()));
    assert.ok(flood.every((one) => one.status === 'rejected'));
    await testGateway(verifier, 'another device').appraise();
  });

  it('does not wait for clients that begin and do not end, and gives one address no more than its share of connections', async () => {
    const idle = Array.from({ length: LIMITS.verifierConnectionsPerAddressMax - 4 }, () => connect({ port: verifier.port, host: '127.0.0.1', rejectUnauthorized: false, ...credentials('ml-dsa-65') }));
    try {
      await Promise.all(idle.map((socket) => once(socket, 'secureConnect')));
      for (const socket of idle) socket.on('error', () => undefined).write(`POST ${LEASE_PATH.appraise} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nsome`);
      await testGateway(verifier).appraise();
      const more = Array.from({ length: 8 }, () => connect({ port: verifier.port, host: '127.0.0.1', rejectUnauthorized: false }).on('error', () => undefined));
      idle.push(...more);
      await Promise.race(more.map((socket) => new Promise((resolve) => { socket.once('close', resolve); })));
      assert.ok((verifier.counters.snapshot()['verifier.connections_dropped'] ?? 0) > 0);
    } finally {
      for (const socket of idle) socket.destroy();
    }
  });
});
