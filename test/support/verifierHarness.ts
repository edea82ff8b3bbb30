/** A verifier in this process, on a real port with a real store, and a gateway without a TPM that talks to it: chain in memory, keys and TLS real. */
import { existsSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { request, type RequestOptions } from 'node:https';
import { join } from 'node:path';
import { systemClock, type Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import { chainIdOf } from '#runtime/ledger/block.ts';
import { decodeChallenge, encodeAppraisalRequest, encodeChallengeRequest, LEASE_PATH, type Challenge } from '#runtime/ledger/leaseMessages.ts';
import { buildHeadProof } from '#runtime/ledger/proofBuilder.ts';
import { VerifierClient } from '#runtime/lease/client.ts';
import { appraise } from '#runtime/verify/appraise.ts';
import { parsePolicy, type Policy } from '#runtime/verify/policy.ts';
import { buildHouse, openHouse } from '#runtime/verifier/house.ts';
import { VerifierMemory } from '#runtime/verifier/memory.ts';
import { Nonces } from '#runtime/verifier/nonces.ts';
import { openServer } from '#runtime/verifier/server.ts';
import { VerifierService, type EnrolmentDesk } from '#runtime/verifier/service.ts';
import { softChain, testReading, type MemoryChain, type SoftSealer } from './memoryChain.ts';
import { NEVER, silentLog, TestCounters } from './sealHarness.ts';

export interface TestVerifier extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly ca: string;
  /** SHA-256 of its ML-DSA key. */
  readonly key: Buffer;
  readonly memory: VerifierMemory;
  readonly counters: TestCounters;
  /** In force from the next appraisal on. */
  policy: Policy;
}

export const SOFTWARE_POLICY = parsePolicy({ version: 1, accept: ['software'], leaseSeconds: 2 });

const refuse = (): never => { throw new TenzroError('enrol.certificate', 'this verifier enrols nobody'); };
const NOBODY: EnrolmentDesk = { begin: refuse, finish: refuse };

/** In the folder `dir`, which is furnished at the first opening. */
export async function openTestVerifier(dir: string, { clock = systemClock, port = 0 }: { readonly clock?: Clock; readonly port?: number } = {}): Promise<TestVerifier> {
  await using opening = new AsyncDisposableStack();
  const home = join(dir, 'verifier');
  if (!existsSync(home)) await buildHouse({ dir: home, name: 'test verifier', hosts: ['127.0.0.1'], policy: () => '', clock: systemClock });
  const house = await openHouse(home);
  const memory = new VerifierMemory(opening.use(await openKeyValueStore(house.memoryDir)));
  const counters = new TestCounters();
  const verifier = { policy: SOFTWARE_POLICY };
  const service = new VerifierService({
    name: house.name, signer: house.signer, memory, nonces: new Nonces(clock), enrolment: () => NOBODY, clock, counters, log: silentLog,
    appraise: (question) => ({ ...appraise({ ...question, policy: verifier.policy, policyDigest: sha256(Buffer.from('policy')) }), leaseSeconds: verifier.policy.leaseSeconds }),
  });
  const server = opening.use(await openServer({ host: '127.0.0.1', port, certificate: house.certificate, key: house.key, service, status: () => ({ chains: memory.chains }), clock, counters, log: silentLog }));
  const resources = opening.move();
  return Object.assign(verifier, {
    url: `https://127.0.0.1:${server.address.port}`, port: server.address.port, ca: house.certificate, key: sha256(house.signer.publicKey), memory, counters,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  });
}

export interface TestGateway {
  readonly chain: MemoryChain;
  readonly sealer: SoftSealer;
  readonly chainId: Uint8Array;
  readonly client: VerifierClient;
  post(path: string, body: Uint8Array): Promise<Buffer>;
  challenge(): Promise<Challenge>;
  /** Seals a block over the nonce and proves it. */
  answer(nonce: Uint8Array, from?: number): Uint8Array;
  /** Challenge, answer, appraisal: what the verifier says. */
  appraise(): Promise<Buffer>;
}

export function testGateway(verifier: Pick<TestVerifier, 'url' | 'ca'>, seedText = 'a test device'): TestGateway {
  const { chain, sealer } = softChain(2, 2, sha256(Buffer.from(seedText)));
  const client = new VerifierClient({ url: verifier.url, ca: () => verifier.ca });
  const chainId = chainIdOf(chain.block(0).payload);
  const post = async (path: string, body: Uint8Array): Promise<Buffer> => (await client.post(path, body, { signer: sealer.signer, device: 'workshop' }, NEVER)).body;
  const challenge = async (): Promise<Challenge> => decodeChallenge(await post(LEASE_PATH.challenge, encodeChallengeRequest(chainId)));
  const answer = (nonce: Uint8Array, from?: number): Uint8Array => {
    chain.append(testReading(chain.entries.length));
    sealer.seal({ challenge: nonce, wallMicros: systemClock.wallMicros() });
    return buildHeadProof(chain, chain.blocks.length - 1, from);
  };
  return {
    chain, sealer, chainId, client, post, challenge, answer,
    async appraise() {
      const { nonce, seen } = await challenge();
      return post(LEASE_PATH.appraise, encodeAppraisalRequest({ nonce, bundle: answer(nonce, seen) }));
    },
  };
}

/** A request without our client: whatever TLS options and body. Resolves with the status, or with the code of the connection's error. */
export async function rawRequest(url: string, options: RequestOptions, body?: Uint8Array): Promise<number | string> {
  const outgoing = request(url, { agent: false, rejectUnauthorized: false, ...options });
  const answered = new Promise<number | string>((resolve) => {
    outgoing.once('response', (response: IncomingMessage) => { response.resume(); resolve(response.statusCode ?? 0); });
    outgoing.on('error', (error: NodeJS.ErrnoException) => { resolve(error.code ?? error.message); });
  });
  outgoing.end(body);
  return answered;
}
