/**
 * Whose chains are taken. A chain is a gateway's when its genesis holds the key that was claimed; another chain of the same key begins where the older one
 * ended; another key is taken only where the gateway's own chain named it. An older chain that grows on beside a newer one is a clone. Pure.
 */
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { EPOCH_BODY, KIND, type Cbor } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { spkiOfMlDsa65 } from '#runtime/crypto/mldsa.ts';
import type { BlockPayload, Identity } from '#runtime/ledger/block.ts';
import { decodeEntry, peek } from '#runtime/ledger/entry.ts';
import type { SupportEntry } from './chains.ts';
import type { RegisteredGateway } from './registerCodec.ts';

const DIGEST_BYTES = 32;

export interface Arriving {
  readonly chain: string;
  /** Of the chain. */
  readonly genesis: BlockPayload;
  /** The newest block that arrives, with its hash. */
  readonly last: { readonly payload: BlockPayload; readonly hash: Uint8Array };
  /** Of the gateway's newest chain: its genesis, and the entries under its head that blocks name. Absent where it has none. */
  readonly newest?: { readonly genesis: BlockPayload; readonly support: readonly SupportEntry[] };
}

export type Admitted =
  | { readonly kind: 'known' }
  /** The first chain of this gateway, or one that follows another of the same key. */
  | { readonly kind: 'chain' }
  | { readonly kind: 'successor'; readonly keys: Pick<RegisteredGateway, 'identityKey' | 'spki'> }
  | { readonly kind: 'clone'; readonly why: string };

/** Of blocks that were verified. Throws `controller.unclaimed`, `controller.full`. */
export function admitChain(gateway: RegisteredGateway, { chain, genesis, last, newest }: Arriving): Admitted {
  const { identity } = genesis;
  if (!identity) throw new TenzroError('controller.unclaimed', 'the genesis holds no keys');
  const isCurrent = toHex(sha256(identity.signingKey)) === gateway.identityKey;
  if (gateway.chains.includes(chain)) {
    if (gateway.chains.at(-1) === chain) return { kind: 'known' };
    if (newest && last.payload.wallMicros > newest.genesis.wallMicros) return { kind: 'clone', why: `block ${last.payload.sequence} (${toHex(last.hash)}) of chain ${chain} is younger than the beginning of chain ${gateway.chains.at(-1) ?? ''}: two gateways have one key` };
    return { kind: 'known' };
  }
  if (gateway.chains.length >= LIMITS.gatewayChainsMax) throw new TenzroError('controller.full', `${gateway.name} has begun ${gateway.chains.length} chains`);
  if (isCurrent) return checkTpm(gateway, identity);
  if (!newest || !isNamed(identity, newest.support)) throw new TenzroError('controller.unclaimed', `the chain is of another key (${toHex(sha256(identity.signingKey))}) than the one that was claimed as ${gateway.name}, and the chain before it does not name that key`);
  return { kind: 'successor', keys: { identityKey: toHex(sha256(identity.signingKey)), spki: toHex(sha256(spkiOfMlDsa65(identity.signingKey))) } };
}

/** The claim proved which TPM it is. Without any the policy judges what the chain is worth. */
function checkTpm({ name, tpm }: RegisteredGateway, { akPublic }: Identity): Admitted {
  if (tpm && akPublic && toHex(sha256(akPublic)) !== tpm.ak) throw new TenzroError('controller.unclaimed', `the chain is of another TPM than the one that ${name} was claimed with`);
  return { kind: 'chain' };
}

/** SHA-256 of the SubjectPublicKeyInfo that the newest of these entries announces, hexadecimal. */
export function nextKeyIn(support: readonly SupportEntry[]): string | undefined {
  const named = support.toSorted((a, b) => b.index - a.index).map(({ bytes }) => wordIn(bytes, EPOCH_BODY.successorTls)).find((digest) => digest?.length === DIGEST_BYTES);
  return named && toHex(named);
}

/** The last word of a chain that ended by `tenzro identity rotate`: SHA-256 of signing key ‖ exchange key that follow. */
function isNamed({ signingKey, exchangeKey }: Identity, support: readonly SupportEntry[]): boolean {
  if (!exchangeKey) return false;
  const digest = sha256(signingKey, exchangeKey);
  return support.some(({ bytes }) => {
    const named = wordIn(bytes, EPOCH_BODY.successor);
    return named !== undefined && equalBytes(named, digest);
  });
}

function wordIn(bytes: Uint8Array, key: number): Uint8Array | undefined {
  try {
    if (peek(bytes).kind !== KIND.epoch) return undefined;
    const { body } = decodeEntry(bytes);
    const named = body instanceof Map ? (body as ReadonlyMap<number, Cbor>).get(key) : undefined;
    return named instanceof Uint8Array ? named : undefined;
  } catch {
    return undefined; // an entry that does not decode names nobody
  }
}
