/**
 * Keeps the gateway's keys: carries out what `step` (states.ts) says, one thing at a time. Whatever the environment does wrong ends in a locked state
 * with a code; asked again, it looks again. Order of writes when keys are made: approvals, then the sealed file (from here on they exist), then
 * what follows from it (ownership, removal of the old seed file): each is repeated at the next opening if it was cut off.
 */
import type { Clock } from '#runtime/core/clock.ts';
import { equalBytes } from '#runtime/core/bytes.ts';
import { invariant, TenzroError } from '#runtime/core/errors.ts';
import type { BootState, KeyVault } from '#runtime/core/ports.ts';
import type { Maybe } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { approve, APPROVALS_MAX, isValid, type Approval, type ApprovalRequest, type PolicyOf } from './approval.ts';
import { authorityOfScalar } from './authority.ts';
import type { IdentityFiles } from './files.ts';
import { judge } from './judge.ts';
import { sealSuccessors, settleSuccessors } from './nextKeys.ts';
import { eraseSecrets, hierarchyAuthOf, newSecrets, type Secrets } from './secrets.ts';
import { choosePlace } from './place.ts';
import { openFile, openSealed, pairOf, sealSecrets, tryOpen, type IdentityPair, type Place, type Sealed } from './sealing.ts';
import { decodeIdentityFile, sealingPolicyOf, type IdentityFile, type IdentityHeader } from './sealedFile.ts';
import { step, type Effect, type IdentityState, type Input, type LockCode } from './states.ts';

export interface KeeperOptions {
  readonly files: IdentityFiles;
  /** None: why this gateway has no TPM. */
  readonly vault: Maybe<KeyVault>;
  /** The TPM is ours alone (an own emulator): its hierarchies get authorisations by themselves. */
  readonly ownsTpm: boolean;
  /** Gateway id, for requests. */
  readonly node: string;
  /** SHA-256 PCRs that states are approved by. */
  readonly pcrs: readonly number[];
  /** Point of the external authority; absent: keys bring their own. */
  readonly authority?: Uint8Array;
  readonly policyOf: PolicyOf;
  /** There is a chain with a genesis, which only its own keys can continue. */
  readonly chainHasBegun: () => boolean;
  readonly clock: Clock;
  /** Told before each write: tests kill there. */
  readonly onWrite?: (what: string) => void;
}

export class IdentityKeeper {
  readonly #options: KeeperOptions;
  #state: IdentityState = { at: 'idle' };
  #file: IdentityFile | undefined;
  #approval: Approval | undefined;
  #pair: IdentityPair | undefined;
  #isOwned: boolean | undefined;
  #busy: Promise<unknown> = Promise.resolve();

  constructor(options: KeeperOptions) { this.#options = options; }

  get state(): IdentityState { return this.#state; }
  /** Of the keys that were found last, open or not. */
  get header(): IdentityHeader | undefined { return this.#file?.header; }

  /** All hierarchies of the TPM have an authorisation; undefined until keys that it sealed were open. */
  get isTpmOwned(): boolean | undefined { return this.#isOwned; }

  /** The keys; made where there are none and no chain has begun. Rejects with `identity.*` while they are locked. */
  keys(signal: AbortSignal): Promise<IdentityPair> {
    return this.#alone(async () => {
      await this.#openAll(signal);
      invariant(this.#pair, 'open keys are at hand');
      return this.#pair;
    });
  }

  /** Looks without making or opening anything: `creating`, `opening` and `unsealing` mean that asking for the keys would do that. */
  inspect(signal: AbortSignal): Promise<IdentityState> { return this.#alone(() => this.#run(signal, (effect) => !OPENING.has(effect))); }

  /** Opens the secrets for `work` alone; they are erased after it. */
  withSecrets<T>(work: (secrets: Secrets) => Promise<T>, signal: AbortSignal): Promise<T> {
    return this.#alone(async () => {
      await this.#openAll(signal);
      const secrets = await this.#openAgain(signal);
      try {
        return await work(secrets);
      } finally {
        eraseSecrets(secrets);
      }
    });
  }

  /** The machine's present boot state, and what its approval would be for. */
  request(signal: AbortSignal): Promise<ApprovalRequest> {
    return this.#alone(async () => {
      const { header, vault } = await this.#sealed();
      return { node: this.#options.node, policy: sealingPolicyOf(header), state: await vault.bootState(this.#options.pcrs, signal) };
    });
  }

  /** An approval from outside. Throws `identity.approval` when it is not the authority's, or not for these keys. */
  adopt(approval: Approval): Promise<void> {
    return this.#alone(async () => {
      const policy = sealingPolicyOf(await this.#sealedHeader());
      if (!isValid(approval, policy, this.#options.policyOf)) throw new TenzroError('identity.approval', 'it is not signed by the authority of these keys, or is for other keys');
      await this.#addApproval(approval);
    });
  }

  /** The keys' own authority approves a state to come: from approved state to approved state. `pcrs` undefined: the present one. */
  approveNext(pcrs: BootState['pcrs'] | undefined, note: string, signal: AbortSignal): Promise<Approval> {
    return this.withSecrets(async ({ authority }) => {
      const { header, vault } = await this.#sealed();
      if (!authority) throw new TenzroError('identity.authority', 'an external authority approves for these keys: tenzro identity approve --key, where its key is');
      const now = await vault.bootState(this.#options.pcrs, signal);
      const approval = approve({ node: this.#options.node, policy: sealingPolicyOf(header), state: pcrs ? { ...now, pcrs } : now }, note, authorityOfScalar(authority), this.#options.policyOf);
      invariant(this.#file, 'its secrets were just opened');
      if (!pcrs) await tryOpen(this.#file, vault, approval, signal);
      await this.#addApproval(approval);
      return approval;
    }, signal);
  }

  /** Sets the authorisations of the TPM's hierarchies that are not set. Throws `identity.tpm_owned`. */
  own(signal: AbortSignal): Promise<void> {
    return this.withSecrets(async (secrets) => {
      const { header, vault } = await this.#sealed();
      await this.#own(vault, header, secrets, signal);
    }, signal);
  }

  /**
   * First half of a change of keys: their successors lie in `next.cbor`, approved for one revocation more. `keep`: the same keys, sealed anew. Nothing has
   * changed until `commitNext`, and what is begun and not committed is dropped at the next opening.
   */
  prepareNext({ keep }: { readonly keep: boolean }, signal: AbortSignal): Promise<IdentityPair> {
    return this.withSecrets(async (old) => {
      const successor = keep ? old : newSecrets({ hasOwnAuthority: this.#options.authority === undefined, tpmSecret: old.tpmSecret });
      try {
        const place = await choosePlace(this.#options, signal);
        const openedIn = this.#file?.header.protection.kind === 'tpm' ? this.#approval?.state : undefined;
        await this.#write('next', await sealSuccessors({ secrets: successor, place, openedIn, createdMicros: this.#options.clock.wallMicros() }, signal));
        return pairOf(successor);
      } finally {
        if (!keep) eraseSecrets(successor);
      }
    }, signal);
  }

  /** Second half: the counter makes the old file worthless, the new one takes its place. */
  commitNext(signal: AbortSignal): Promise<void> {
    return this.withSecrets(async ({ tpmSecret }) => {
      const { files } = this.#options;
      const next = await files.read('next');
      invariant(next, 'prepareNext comes before');
      const protection = this.#file?.header.protection;
      if (protection?.kind === 'tpm') {
        const { vault } = await this.#sealed();
        const auth = hierarchyAuthOf(tpmSecret);
        this.#options.onWrite?.('revoke');
        try {
          await vault.revoke(auth, protection.names.parent, signal);
        } finally {
          for (const value of Object.values(auth) as Buffer[]) value.fill(0);
        }
      }
      this.#options.onWrite?.('promote');
      await files.promote();
      this.#file = undefined;
      this.#pair = undefined;
      this.#state = { at: 'idle' };
    }, signal);
  }

  async #openAll(signal: AbortSignal): Promise<void> {
    const state = await this.#run(signal, () => true);
    if (state.at === 'locked') throw new TenzroError(state.code, state.detail);
  }

  /** Until the state is at rest, or an effect may not be; the state that was reached. */
  async #run(signal: AbortSignal, may: (effect: Effect) => boolean): Promise<IdentityState> {
    let next = step(this.#state, { saw: 'wanted' });
    for (;;) {
      this.#state = next.state;
      if (next.effect === 'rest') return next.state;
      if (!may(next.effect)) {
        this.#state = { at: 'idle' };
        return next.state;
      }
      next = step(this.#state, await this.#perform(next.effect, signal));
    }
  }

  /** Carries an effect out. What the environment does wrong is what it saw; a defect of ours is thrown, and the state is as before. */
  async #perform(effect: Exclude<Effect, 'rest'>, signal: AbortSignal): Promise<Input> {
    try {
      switch (effect) {
        case 'look': return await this.#look(signal);
        case 'create': return await this.#create(signal);
        case 'migrate': return await this.#migrate(signal);
        case 'identify': return await this.#identify(signal);
        case 'compare': return await this.#compare(signal);
        case 'openFile': case 'unseal': return await this.#open(signal);
      }
    } catch (error) {
      const input = refusalOf(error);
      if (input) return input;
      this.#state = { at: 'idle' };
      throw error;
    }
  }

  async #look(signal: AbortSignal): Promise<Input> {
    const { files, chainHasBegun } = this.#options;
    await settleSuccessors(files, () => this.#vault(), signal);
    this.#file = await files.read('sealed');
    const seed = await files.readLegacy();
    try {
      if (seed && this.#file && equalBytes(sha256(signerOfSeed(seed).publicKey), this.#file.header.signingKeyDigest)) await files.destroyLegacy();
      const found = this.#file?.header.protection.kind ?? (seed ? 'legacy' : 'nothing');
      return { saw: 'files', found, chainHasBegun: chainHasBegun() };
    } finally {
      seed?.fill(0);
    }
  }

  async #create(signal: AbortSignal): Promise<Input> {
    const place = await choosePlace(this.#options, signal);
    const secrets = newSecrets({ hasOwnAuthority: place.kind === 'tpm' && this.#options.authority === undefined });
    try {
      return await this.#settle(secrets, place, signal);
    } finally {
      eraseSecrets(secrets);
    }
  }

  /** The chain must go on: a TPM that is not there leaves the seed where it is, until it is. */
  async #migrate(signal: AbortSignal): Promise<Input> {
    const { files } = this.#options;
    const signingSeed = await files.readLegacy();
    invariant(signingSeed, 'the seed file was just seen');
    const secrets = newSecrets({ signingSeed, hasOwnAuthority: this.#options.vault.kind === 'value' && this.#options.authority === undefined });
    try {
      const place = await choosePlace(this.#options, signal).catch((error: unknown) => {
        if (!refusalOf(error)) throw error;
        return undefined;
      });
      if (!place) {
        this.#pair = pairOf(secrets);
        return { saw: 'keys', protection: 'file' };
      }
      const input = await this.#settle(secrets, place, signal);
      if (place.kind === 'file') eraseSecrets(await this.#reopen(signal)); // the old file goes once the new one is known to open; sealed keys were tried
      this.#options.onWrite?.('destroyLegacy');
      await files.destroyLegacy();
      return input;
    } finally {
      eraseSecrets(secrets);
    }
  }

  async #settle(secrets: Secrets, place: Place, signal: AbortSignal): Promise<Input> {
    const sealed = await sealSecrets(secrets, place, this.#options.clock.wallMicros(), signal);
    if (place.kind === 'tpm' && sealed.approval) await tryOpen(decodeIdentityFile(sealed.bytes), place.vault, sealed.approval, signal);
    await this.#write('sealed', sealed);
    this.#file = await this.#options.files.read('sealed');
    const header = this.#file?.header;
    if (header && place.kind === 'tpm') await this.#ownIfOurs(place.vault, header, secrets, signal);
    this.#pair = pairOf(secrets);
    return { saw: 'keys', protection: place.kind };
  }

  async #write(slot: 'sealed' | 'next', { bytes, approval }: Sealed): Promise<void> {
    const { files, onWrite } = this.#options;
    const kept = slot === 'next' ? await files.readApprovals() : [];
    onWrite?.('approvals');
    if (approval) await files.writeApprovals([...kept.slice(-(APPROVALS_MAX - 1)), approval]);
    onWrite?.(slot);
    await files.write(slot, bytes);
  }

  async #identify(signal: AbortSignal): Promise<Input> {
    const { vault } = this.#options;
    const protection = this.#file?.header.protection;
    invariant(protection?.kind === 'tpm', 'only sealed keys need their TPM');
    if (vault.kind === 'none') return { saw: 'tpm', is: 'missing', detail: vault.reason };
    const is = await vault.value.identify(protection.names, signal);
    return { saw: 'tpm', is, detail: is === 'foreign' ? 'the TPM is not the one that sealed the keys' : 'the TPM was cleared, or what the keys lie under was removed from it' };
  }

  async #compare(signal: AbortSignal): Promise<Input> {
    const { files, policyOf } = this.#options;
    const { header, vault } = await this.#sealed();
    const policy = sealingPolicyOf(header);
    const approvals = (await files.readApprovals()).filter((approval) => isValid(approval, policy, policyOf));
    const pcrs = [...new Set(approvals.flatMap(({ state }) => state.pcrs.map(([pcr]) => pcr)))].toSorted((a, b) => a - b);
    const { protection } = header;
    invariant(protection.kind === 'tpm', 'sealed keys');
    const verdict = judge(approvals, protection.revocation, await vault.bootState(pcrs, signal));
    if (verdict.kind === 'locked') return { saw: 'refused', code: verdict.code, detail: verdict.detail };
    this.#approval = verdict.approval;
    return { saw: 'approval' };
  }

  async #open(signal: AbortSignal): Promise<Input> {
    const secrets = await this.#reopen(signal);
    try {
      const header = this.#file?.header;
      invariant(header, 'a file was found');
      if (header.protection.kind === 'tpm') await this.#ownIfOurs(this.#vault(), header, secrets, signal);
      this.#pair = pairOf(secrets);
      return { saw: 'keys', protection: header.protection.kind };
    } finally {
      eraseSecrets(secrets);
    }
  }

  /** Once more through all of the states: the file, the TPM and the approvals may have changed since. */
  async #openAgain(signal: AbortSignal): Promise<Secrets> {
    this.#file = await this.#options.files.read('sealed');
    if (!this.#file) throw new TenzroError('identity.not_open', 'the keys are still in the file of an earlier release, and wait for the TPM');
    return this.#reopen(signal);
  }

  async #reopen(signal: AbortSignal): Promise<Secrets> {
    const file = this.#file;
    invariant(file, 'a file was found');
    if (file.key.kind === 'file') return openFile({ ...file, key: { kind: 'file', wrappingKey: Buffer.from(file.key.wrappingKey) } });
    const compared = await this.#compare(signal);
    if (compared.saw === 'refused') throw new TenzroError(compared.code, compared.detail);
    invariant(this.#approval, 'an approval fits');
    return openSealed(file, this.#vault(), this.#approval, signal);
  }

  async #ownIfOurs(vault: KeyVault, header: IdentityHeader, secrets: Secrets, signal: AbortSignal): Promise<void> {
    const { owner, endorsement, lockout } = await vault.ownership(signal);
    this.#isOwned = owner && endorsement && lockout;
    if (this.#options.ownsTpm && !this.#isOwned) await this.#own(vault, header, secrets, signal);
  }

  async #own(vault: KeyVault, { protection }: IdentityHeader, { tpmSecret }: Secrets, signal: AbortSignal): Promise<void> {
    invariant(protection.kind === 'tpm', 'a TPM is owned for what it seals');
    const auth = hierarchyAuthOf(tpmSecret);
    try {
      this.#options.onWrite?.('own');
      await vault.own(auth, protection.names.parent, signal);
      this.#isOwned = true;
    } finally {
      for (const value of Object.values(auth) as Buffer[]) value.fill(0);
    }
  }

  async #addApproval(approval: Approval): Promise<void> {
    const { files, policyOf } = this.#options;
    const policy = sealingPolicyOf(await this.#sealedHeader());
    const kept = (await files.readApprovals()).filter((other) => isValid(other, policy, policyOf) && !equalBytes(policyOf(other.state), policyOf(approval.state)));
    await files.writeApprovals([...kept.slice(-(APPROVALS_MAX - 1)), approval]);
  }

  async #sealedHeader(): Promise<IdentityHeader> {
    this.#file ??= await this.#options.files.read('sealed');
    const header = this.#file?.header;
    if (header?.protection.kind !== 'tpm') throw new TenzroError('identity.not_open', 'the keys are not sealed by a TPM: there is nothing to approve, own or revoke');
    return header;
  }

  async #sealed(): Promise<{ readonly header: IdentityHeader; readonly vault: KeyVault }> { return { header: await this.#sealedHeader(), vault: this.#vault() }; }

  #vault(): KeyVault {
    const { vault } = this.#options;
    if (vault.kind === 'none') throw new TenzroError('identity.tpm_missing', vault.reason);
    return vault.value;
  }

  /** Nothing of this runs twice at once. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#busy.then(work);
    this.#busy = done.catch(() => undefined); // who asked has the error
    return done;
  }
}

const OPENING: ReadonlySet<Effect> = new Set(['create', 'migrate', 'openFile', 'unseal']);

/** A TPM that fails is as good as missing; what else is not the identity's or the TPM's is not for the state machine. */
function refusalOf(error: unknown): Extract<Input, { saw: 'refused' }> | undefined {
  if (!(error instanceof TenzroError)) return undefined;
  if (error.code.startsWith('identity.')) return { saw: 'refused', code: error.code as LockCode, detail: error.message };
  return error.code.startsWith('tpm.') && error.class === 'environment' ? { saw: 'refused', code: 'identity.tpm_missing', detail: `${error.code}: ${error.message}` } : undefined;
}
