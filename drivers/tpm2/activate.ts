/** Fulfils enrolment's `Activator` with a TPM 2.0: TPM2_ActivateCredential, Part 3 §12.5. */
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Activator } from '#runtime/core/ports.ts';
import { permanent, type Entity } from './command.ts';
import { HANDLE, PERSISTENT } from './constants.ts';
import type { LoadedKey, TpmObject } from './keys.ts';
import { atHandle, isMadeFrom } from './persistent.ts';
import { password } from './session.ts';
import { akP256, ekEccP256, ekRsa2048 } from './templates.ts';
import type { Tpm } from './tpm.ts';

export interface ActivatorOptions {
  /** TPMT_PUBLIC of EK and AK as the genesis names them: only for these a credential is opened, and to this EK sessions are salted. */
  readonly ekPublic: Uint8Array;
  readonly akPublic: Uint8Array;
  /** Authorisation of the endorsement hierarchy where it has one: the EK's policy asks for it. */
  readonly endorsementAuth?: Uint8Array;
}

/** The keys are loaded for each activation and flushed after it: enrolment is rare, places in a TPM are three. */
export function activatorOf(tpm: Tpm, { ekPublic, akPublic, endorsementAuth }: ActivatorOptions): Activator {
  const endorsement = permanent(HANDLE.endorsement, endorsementAuth);
  return {
    ekPublic, akPublic,
    async activate(blob, secret, signal) {
      await using ek = await pinned(tpm, { public: ekPublic, handle: PERSISTENT.endorsementKey, template: ekTemplateOf(ekPublic), name: 'endorsement key' }, endorsement, signal);
      await using ak = await pinned(tpm, { public: akPublic, handle: PERSISTENT.attestationKey, template: akP256(), name: 'attestation key' }, endorsement, signal);
      await using policy = await tpm.sessions.startPolicy({ salt: ek.key }, signal);
      await using sender = await tpm.sessions.startHmac({ salt: ek.key }, signal);
      await tpm.policy.secret(policy, endorsement, signal, sender.use()); // PolicyA of the EK Credential Profile
      return await tpm.keys.activateCredential(ak.key, ek.key, { blob, secret }, signal, password, policy.use({ encryptResponse: true }));
    },
  };
}

interface Pinned extends AsyncDisposable {
  readonly key: TpmObject;
}

/** The persistent key where there is one, else made anew; throws `attest.foreign_tpm` when it is not the pinned one. */
async function pinned(tpm: Tpm, { public: area, handle, template, name }: { readonly public: Uint8Array; readonly handle: number; readonly template: Buffer; readonly name: string }, endorsement: Entity, signal: AbortSignal): Promise<Pinned> {
  const persistent = await atHandle(tpm, handle, signal);
  if (persistent && equalBytes(persistent.public.area, area)) return { key: persistent, [Symbol.asyncDispose]: async () => undefined };
  const made: LoadedKey = await tpm.keys.createPrimary(endorsement, template, signal);
  if (equalBytes(made.public.area, area)) return { key: made, [Symbol.asyncDispose]: () => made[Symbol.asyncDispose]() };
  await made[Symbol.asyncDispose]();
  throw new TenzroError('attest.foreign_tpm', `the ${name} of this TPM is not the one of the genesis`);
}

const ekTemplateOf = (area: Uint8Array): Buffer => [ekRsa2048(), ekEccP256()].find((template) => isMadeFrom(area, template)) ?? ekEccP256();
