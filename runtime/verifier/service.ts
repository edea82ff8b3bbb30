/**
 * What the verifier does with a request, without the network: challenge, appraise, enrol. Judging is behind a port, so that this room knows neither policy
 * files nor certificates. Invariant: one appraisal at a time, from reading the memory to its flush; two answers of one chain cannot both build on the same past.
 */
import { randomBytes } from 'node:crypto';
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Counters, Log } from '#runtime/core/ports.ts';
import { CMW_MEDIA_TYPE } from '#runtime/crypto/cmw.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import type { ChainMemory } from '#runtime/ledger/chainMemory.ts';
import { parseEnrolment } from '#runtime/ledger/enrolment.ts';
import { identityDigest, signLease, wrapLease, type LeaseClaims } from '#runtime/ledger/lease.ts';
import { CBOR_MEDIA_TYPE, decodeAppraisalRequest, decodeChallengeRequest, encodeChallenge, encodeRefusal, LEASE_PATH, type CheckLine } from '#runtime/ledger/leaseMessages.ts';
import type { VerifierMemory } from './memory.ts';
import type { Nonces } from './nonces.ts';

/** What a policy makes of a bundle: `verify/appraise.ts`. */
export interface Finding {
  readonly granted: boolean;
  readonly reasons: readonly string[];
  readonly checks: readonly CheckLine[];
  readonly lease?: LeaseClaims;
  readonly memory?: ChainMemory;
  readonly deviceKey?: Uint8Array;
  /** Lifetime of a lease under the policy in force. */
  readonly leaseSeconds: number;
}

export interface Question {
  readonly file: Uint8Array;
  readonly nonce: Uint8Array;
  /** SHA-256 of the client's key. */
  readonly clientKey: Uint8Array;
  readonly remembered: Pick<VerifierMemory, 'chain' | 'identity'>;
  readonly nowMicros: number;
}

/** `provisioning/enrolment/enroller.ts`. Both throw `enrol.*`. */
export interface EnrolmentDesk {
  begin(request: Uint8Array): Uint8Array;
  finish(answer: Uint8Array): Uint8Array;
}

export interface ServiceOptions {
  /** Issuer of the leases. */
  readonly name: string;
  readonly signer: Signer;
  readonly memory: VerifierMemory;
  readonly nonces: Nonces;
  readonly appraise: (question: Question) => Finding;
  /** Whoever the policy lets in now; throws `enrol.*` where it lets in nobody. */
  readonly enrolment: () => EnrolmentDesk;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

export interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: Uint8Array;
}

const HTTP = { ok: 200, forbidden: 403 } as const;
const LEASE_ID_BYTES = 16;

export class VerifierService {
  readonly #options: ServiceOptions;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: ServiceOptions) { this.#options = options; }

  /** `clientKey`: SHA-256 of the ML-DSA key that the client proved. Undefined for a path that is not ours. Rejects with a TenzroError. */
  async handle(path: string, clientKey: Uint8Array, body: Uint8Array): Promise<Answer | undefined> {
    switch (path) {
      case LEASE_PATH.challenge: return cbor(this.#challenge(clientKey, body));
      case LEASE_PATH.appraise: return this.#inTurn(() => this.#appraise(clientKey, body));
      case LEASE_PATH.enrolBegin: return cbor(this.#options.enrolment().begin(body));
      case LEASE_PATH.enrolFinish: return this.#inTurn(async () => cbor(await this.#enrol(clientKey, body)));
      default: return undefined;
    }
  }

  #challenge(clientKey: Uint8Array, body: Uint8Array): Buffer {
    const { nonces, memory, counters } = this.#options;
    const chainId = decodeChallengeRequest(body);
    const nonce = nonces.issue(toHex(clientKey));
    counters.add('verifier.challenges');
    const seen = memory.chain(chainId)?.sequence;
    return encodeChallenge({ nonce, ...(seen === undefined ? {} : { seen }) });
  }

  async #appraise(clientKey: Uint8Array, body: Uint8Array): Promise<Answer> {
    const { nonces, memory, counters, clock, log, appraise } = this.#options;
    const { nonce, bundle } = decodeAppraisalRequest(body);
    nonces.redeem(nonce, toHex(clientKey));
    const nowMicros = clock.wallMicros();
    const { granted, reasons, checks, lease, memory: after, deviceKey, leaseSeconds } = appraise({ file: bundle, nonce, clientKey, remembered: memory, nowMicros });
    if (!granted || !lease || !after || !deviceKey) {
      counters.add('verifier.refused');
      log.warn({ client: toHex(clientKey), reasons }, 'lease refused');
      return { status: HTTP.forbidden, type: CBOR_MEDIA_TYPE, body: encodeRefusal({ code: 'lease.refused', message: reasons.join('; '), checks }) };
    }
    await memory.rememberChain(lease.chainId, deviceKey, after);
    counters.add('verifier.leases');
    log.info({ device: after.device, chain: toHex(lease.chainId), sequence: lease.sequence, trust: lease.trust, leaseSeconds }, 'lease granted');
    return { status: HTTP.ok, type: CMW_MEDIA_TYPE, body: wrapLease(this.#sign(lease, nonce, nowMicros, leaseSeconds)) };
  }

  #sign(claims: LeaseClaims, nonce: Uint8Array, nowMicros: number, leaseSeconds: number): Buffer {
    const { name, signer } = this.#options;
    const issuedAt = Math.floor(nowMicros / 1e6);
    return signLease(signer, { ...claims, issuer: name, id: randomBytes(LEASE_ID_BYTES), nonce, issuedAt, expiresAt: issuedAt + leaseSeconds });
  }

  /** A statement about other keys than this client's, or about a device that was first seen with others, is not handed out. */
  async #enrol(clientKey: Uint8Array, body: Uint8Array): Promise<Uint8Array> {
    const { memory, counters, log, enrolment } = this.#options;
    const statement = enrolment().finish(body);
    const { tuple } = parseEnrolment(statement).enrolment;
    if (!equalBytes(tuple.signingKey, clientKey)) throw new TenzroError('verifier.client', 'the client asks for another identity key than it shows');
    const identity = identityDigest(tuple);
    const first = memory.identity(tuple.ek);
    if (first && !equalBytes(first, identity)) throw new TenzroError('verifier.device', `EK ${toHex(tuple.ek)} was first seen with another signing key or AK`);
    await memory.rememberDevice(tuple.ek, identity);
    counters.add('verifier.enrolments');
    log.info({ device: tuple.device, ek: toHex(tuple.ek), statement: toHex(sha256(statement)) }, 'gateway enrolled');
    return statement;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined); // who asked has the error
    return done;
  }
}

const cbor = (body: Uint8Array): Answer => ({ status: HTTP.ok, type: CBOR_MEDIA_TYPE, body });
