/**
 * Fulfils the identity's `KeyVault` with a TPM 2.0. What it makes is persistent, so that running needs no hierarchy's authorisation, and is known
 * again by name: what else lies at one of our handles is never used and never removed.
 */
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Approved, BootState, HierarchyAuth, KeyVault, SealedSecret, SealingPolicy, VaultNames } from '#runtime/core/ports.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { ecdsaSignature, NV_ATTRIBUTE } from '#runtime/crypto/tpmEvidence.ts';
import { authorityArea, bootPolicy, REVOCATION_ATTRIBUTES, revocationIs, revocationName, sealingDigest } from './bootPolicy.ts';
import { permanent } from './command.ts';
import { COUNTER_INDEX, HANDLE, PERSISTENT, PROPERTY, REVOCATION_INDEX } from './constants.ts';
import { RC, RC_FORMAT_1, TpmRefusal } from './errors.ts';
import { endorsementTemplate, type EndorsementOptions } from './ek.ts';
import type { TpmObject } from './keys.ts';
import type { NvIndex } from './nv.ts';
import { atHandle, isMadeFrom } from './persistent.ts';
import { approvalOf } from './policyDigest.ts';
import { akP256, sealedData, srkP256 } from './templates.ts';
import type { Tpm } from './tpm.ts';

export const openVault = (tpm: Tpm, endorsement: EndorsementOptions = {}): KeyVault => new TpmVault(tpm, endorsement);

/** TPMA_PERMANENT, Part 2 §8.6. */
const AUTH_SET = { owner: 1 << 0, endorsement: 1 << 1, lockout: 1 << 2 } as const;
const HIERARCHIES = ['lockout', 'endorsement', 'owner'] as const;

class TpmVault implements KeyVault {
  readonly #tpm: Tpm;
  readonly #endorsement: EndorsementOptions;

  constructor(tpm: Tpm, endorsement: EndorsementOptions) {
    this.#tpm = tpm;
    this.#endorsement = endorsement;
  }

  async prepare(signal: AbortSignal): Promise<VaultNames> {
    await this.#wake(signal);
    const parent = await this.#provide(PERSISTENT.storageKey, HANDLE.owner, srkP256(), signal);
    const attestationKey = await this.#provide(PERSISTENT.attestationKey, HANDLE.endorsement, akP256(), signal);
    await this.#provide(PERSISTENT.endorsementKey, HANDLE.endorsement, await endorsementTemplate(this.#tpm, signal, this.#endorsement), signal);
    if (!(await this.#nvIndex(COUNTER_INDEX, signal))) await asOwner(() => this.#tpm.nv.defineCounter(COUNTER_INDEX, permanent(HANDLE.owner), signal));
    await this.#provideRevocation(signal);
    return { parent: parent.name, attestationKey: attestationKey.name };
  }

  async identify(names: VaultNames, signal: AbortSignal): Promise<'ours' | 'cleared' | 'foreign'> {
    await this.#wake(signal);
    const parent = await atHandle(this.#tpm, PERSISTENT.storageKey, signal);
    if (parent && equalBytes(parent.name, names.parent)) return (await this.#revocation(signal)) ? 'ours' : 'cleared';
    return (await this.#isSameTpm(names, signal)) ? 'cleared' : 'foreign';
  }

  async bootState(pcrs: readonly number[], signal: AbortSignal): Promise<BootState> {
    const counter = await this.#countedOn(signal);
    return { pcrs: pcrs.length === 0 ? [] : await this.#tpm.pcr.read(pcrs, signal), revocation: await this.#tpm.nv.readCounter(counter, signal) };
  }

  async seal(secret: Uint8Array, policy: SealingPolicy, parentName: Uint8Array, signal: AbortSignal): Promise<SealedSecret> {
    const parent = await this.#parent(parentName, signal);
    await using session = await this.#tpm.sessions.startHmac({ salt: parent }, signal);
    const wrapped = await this.#tpm.keys.create(parent, sealedData({ authPolicy: sealingDigest(policy) }), { data: secret }, signal, session.use({ encryptCommand: true }));
    return { publicArea: wrapped.public, privateArea: wrapped.private };
  }

  async unseal(sealed: SealedSecret, { authority, policyRef }: SealingPolicy, { state, signature }: Approved, parentName: Uint8Array, signal: AbortSignal): Promise<Buffer> {
    const parent = await this.#parent(parentName, signal);
    const counter = await this.#countedOn(signal);
    await using session = await this.#tpm.sessions.startPolicy({ salt: parent }, signal);
    await this.#tpm.policy.nv(session, counter, revocationIs(state.revocation), signal);
    await this.#tpm.policy.pcr(session, state.pcrs.map(([pcr]) => pcr), signal);
    const approvedPolicy = bootPolicy(state);
    await using key = await this.#tpm.keys.loadExternal(authorityArea(authority), HANDLE.owner, signal);
    const ticket = await this.#tpm.keys.verifySignature(key, sha256(approvalOf(approvedPolicy, policyRef)), ecdsaSignature(signature), signal);
    await this.#tpm.policy.authorize(session, { approvedPolicy, policyRef, keyName: key.name, ticket }, signal);
    await using object = await this.#load(parent, sealed, signal);
    return await this.#tpm.keys.unseal(object, signal, session.use({ encryptResponse: true }));
  }

  async revoke(auth: HierarchyAuth, parentName: Uint8Array, signal: AbortSignal): Promise<bigint> {
    const counter = await this.#countedOn(signal);
    const { owner } = await this.ownership(signal);
    await using session = await this.#tpm.sessions.startHmac({ salt: await this.#parent(parentName, signal) }, signal);
    const authority = permanent(HANDLE.owner, owner ? auth.owner : undefined);
    await asOwner(() => this.#tpm.nv.increment({ ...counter, authority }, signal, session.use()));
    return await this.#tpm.nv.readCounter(counter, signal);
  }

  async ownership(signal: AbortSignal): Promise<Readonly<Record<keyof HierarchyAuth, boolean>>> {
    const permanentBits = (await this.#tpm.info.properties(PROPERTY.permanent, PROPERTY.permanent, signal)).get(PROPERTY.permanent) ?? 0;
    const isSet = (bit: number): boolean => (permanentBits & bit) !== 0;
    return { owner: isSet(AUTH_SET.owner), endorsement: isSet(AUTH_SET.endorsement), lockout: isSet(AUTH_SET.lockout) };
  }

  /** The owner's comes last: as long as it is not set, this is not finished. */
  async own(auth: HierarchyAuth, parentName: Uint8Array, signal: AbortSignal): Promise<void> {
    const before = await this.ownership(signal);
    const parent = await this.#parent(parentName, signal);
    for (const hierarchy of HIERARCHIES) {
      // Never tried on the lockout hierarchy: one wrong try would lock it for a day.
      if (before[hierarchy] && hierarchy === 'lockout') continue;
      await using session = await this.#tpm.sessions.startHmac({ salt: parent }, signal);
      const entity = permanent(HANDLE[hierarchy], before[hierarchy] ? auth[hierarchy] : undefined);
      await asOwner(() => this.#tpm.hierarchy.changeAuth(entity, auth[hierarchy], signal, session.use({ encryptCommand: true })));
    }
  }

  async #load(parent: TpmObject, { publicArea, privateArea }: SealedSecret, signal: AbortSignal): Promise<TpmObject & AsyncDisposable> {
    try {
      return await this.#tpm.keys.load(parent, { public: publicArea, private: privateArea }, signal);
    } catch (cause) {
      if (cause instanceof TpmRefusal || (cause instanceof TenzroError && cause.code === 'tpm.structure')) throw new TenzroError('identity.damaged', `the TPM does not take what it had sealed: ${cause.message}`, { cause });
      throw cause;
    }
  }

  async #wake(signal: AbortSignal): Promise<void> {
    await this.#tpm.startup(signal);
    await this.#tpm.flushLeftovers(signal);
  }

  /** The storage key, pinned: sessions are salted to it. */
  async #parent(name: Uint8Array, signal: AbortSignal): Promise<TpmObject> {
    const parent = await atHandle(this.#tpm, PERSISTENT.storageKey, signal);
    if (!parent || !equalBytes(parent.name, name)) throw new TenzroError('identity.tpm_foreign', 'the storage key is not the one that the keys were sealed under');
    return parent;
  }

  async #provide(handle: number, hierarchy: number, template: Uint8Array, signal: AbortSignal): Promise<TpmObject> {
    const found = await atHandle(this.#tpm, handle, signal);
    if (found && isMadeFrom(found.public.area, template)) return found;
    if (found) throw new TenzroError('identity.handle_taken', `an object that is not ours lies at handle 0x${handle.toString(16)}`);
    return asOwner(async () => {
      await using key = await this.#tpm.keys.createPrimary(hierarchy, template, signal);
      return await this.#tpm.keys.persist(key, handle, permanent(HANDLE.owner), signal);
    });
  }

  async #provideRevocation(signal: AbortSignal): Promise<void> {
    const found = await this.#nvIndex(REVOCATION_INDEX, signal);
    if (!found) await asOwner(() => this.#tpm.nv.define({ index: REVOCATION_INDEX, type: 'counter', attributes: REVOCATION_ATTRIBUTES }, permanent(HANDLE.owner), signal));
    const counter = found ?? await this.#nvIndex(REVOCATION_INDEX, signal);
    if (counter && (counter.public.attributes & NV_ATTRIBUTE.written) === 0) await asOwner(() => this.#tpm.nv.increment(counter, signal));
    if (!(await this.#revocation(signal))) throw new TenzroError('identity.handle_taken', `NV index 0x${REVOCATION_INDEX.toString(16)} is in use and not our counter`);
  }

  /** The counter, when it is ours by name. */
  async #revocation(signal: AbortSignal): Promise<NvIndex | undefined> {
    const index = await this.#nvIndex(REVOCATION_INDEX, signal);
    return index && equalBytes(index.name, revocationName()) ? index : undefined;
  }

  async #countedOn(signal: AbortSignal): Promise<NvIndex> {
    const counter = await this.#revocation(signal);
    if (!counter) throw new TenzroError('identity.tpm_cleared', 'the TPM has no revocation counter of ours');
    return counter;
  }

  async #nvIndex(index: number, signal: AbortSignal): Promise<NvIndex | undefined> {
    try {
      return await this.#tpm.nv.readPublic(index, signal);
    } catch (error) {
      if (error instanceof TpmRefusal && error.base === RC_FORMAT_1.handle) return undefined;
      throw error;
    }
  }

  /** The attestation key outlives TPM2_Clear, its persistent copy does not; a TPM that somebody else owns makes none for us. */
  async #isSameTpm({ attestationKey }: VaultNames, signal: AbortSignal): Promise<boolean> {
    try {
      await using key = await this.#tpm.keys.createPrimary(HANDLE.endorsement, akP256(), signal);
      return equalBytes(key.name, attestationKey);
    } catch (error) {
      if (isAuthRefusal(error)) return false;
      throw error;
    }
  }
}

const AUTH_REFUSALS: ReadonlySet<number> = new Set([RC_FORMAT_1.authFail, RC_FORMAT_1.badAuth, RC.authUnavailable]);
const isAuthRefusal = (error: unknown): error is TpmRefusal => error instanceof TpmRefusal && AUTH_REFUSALS.has(error.base);

/** Somebody else's password on the hierarchy. */
async function asOwner<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (isAuthRefusal(cause)) throw new TenzroError('identity.tpm_owned', `the TPM has a password that the gateway does not know: ${cause.message}`, { cause });
    throw cause;
  }
}
