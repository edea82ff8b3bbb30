/**
 * The claims that this operator began, one file each in `claims/` of the fleet's folder: `<claim id>.cbor`, a strict record and SHA-256 of it, which finds
 * damage (it protects against nobody). A claim is pending from before its hand-over leaves until the fleet's register knows how it ended.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { MLDSA65 } from '#runtime/crypto/mldsa.ts';
import { OwnFolder } from '../ownFolder.ts';
import type { ClaimRecord } from './claimer.ts';
import { CLAIM_ID_BYTES } from './messages.ts';
import { decodeRecord, encodeRecord, exactly, oneOf, optional, text, wholeNumber } from './record.ts';

/** A record with what finds the gateway again. */
export interface KeptClaim extends ClaimRecord {
  /** As the gateway calls itself. */
  readonly gateway: string;
  /** host:port where it was reached. */
  readonly address: string;
  /** Of its code: it is found by it. */
  readonly discriminator: number;
  /** Of the operator's clock, seconds since 1970. */
  readonly begun: number;
  /** 0 until the gateway said it. */
  readonly generation: number;
}

/** Beyond the types of messages and of what is signed inside them. */
const TYPE = 48;
const HASH_BYTES = 32;
const FILE_BYTES_MAX = 8 * 1024;
const OUTCOMES = ['pending', 'owned', 'failed'] as const;
const SHAPE = {
  claimId: exactly(CLAIM_ID_BYTES), signingKey: exactly(MLDSA65.publicKeyBytes), outcome: oneOf(OUTCOMES), words: text(/^[a-z ]{0,80}$/),
  gateway: text(/^[A-Za-z0-9_-]{1,64}$/), address: text(/^[!-~]{1,300}$/), discriminator: wholeNumber(0xfff), begun: wholeNumber(), generation: optional(wholeNumber()),
} as const;
const NAME = /^[0-9a-f]{32}\.cbor$/;

export class ClaimStore {
  readonly #folder: OwnFolder;

  /** `dir`: of the fleet. */
  constructor(dir: string) {
    this.#folder = new OwnFolder(join(dir, 'claims'), { codes: { permissions: 'claim.state', damaged: 'claim.state', io: 'claim.store' }, fileBytesMax: FILE_BYTES_MAX });
  }

  /** Atomic: resolves when it is flushed. Throws `claim.store`. */
  async write(claim: KeptClaim): Promise<void> {
    const { claimId, signingKey, outcome, words, gateway, address, discriminator, begun, generation } = claim;
    const body = encodeRecord(TYPE, SHAPE, { claimId, signingKey, outcome, words, gateway, address, discriminator, begun, generation });
    await this.#folder.replace(nameOf(claimId), Buffer.concat([body, sha256(body)]));
  }

  /** The gateway is ours no more, and the register knows it. */
  async forget(claimId: Uint8Array): Promise<void> { await this.#folder.remove(nameOf(claimId)); }

  /** All of them, the oldest first. Throws `claim.state` for a file that is damaged or not ours alone. */
  async all(): Promise<readonly KeptClaim[]> {
    const names = await this.#folder.inSystem('', () => namesIn(this.#folder.path));
    const claims = await Promise.all(names.filter((name) => NAME.test(name)).map((name) => this.#read(name)));
    return claims.toSorted((a, b) => a.begun - b.begun);
  }

  async pending(): Promise<readonly KeptClaim[]> { return (await this.all()).filter(({ outcome }) => outcome === 'pending'); }

  /** The latest claim by which this gateway is ours. Throws `claim.unknown`. */
  async ownerOf(gateway: string): Promise<KeptClaim> {
    const found = (await this.all()).findLast((claim) => claim.gateway === gateway && claim.outcome === 'owned');
    if (!found) throw new TenzroError('claim.unknown', `no claim of ${gateway} ended here with its ownership`);
    return found;
  }

  async #read(name: string): Promise<KeptClaim> {
    const bytes = await this.#folder.read(name) ?? new Uint8Array(0);
    const body = bytes.subarray(0, -HASH_BYTES);
    if (!equalBytes(sha256(body), bytes.subarray(-HASH_BYTES))) throw damaged(this.#folder.path, name);
    const { generation = 0, ...claim } = decodeRecord(TYPE, SHAPE, body);
    if (nameOf(claim.claimId) !== name) throw damaged(this.#folder.path, name);
    return { ...claim, generation };
  }
}

const nameOf = (claimId: Uint8Array): string => `${toHex(claimId)}.cbor`;
const damaged = (folder: string, name: string): TenzroError => new TenzroError('claim.state', `${join(folder, name)} is damaged`);

async function namesIn(path: string): Promise<readonly string[]> {
  try {
    return await readdir(path);
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return [];
    throw cause;
  }
}
