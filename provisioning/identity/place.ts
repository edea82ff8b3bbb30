/** Where new keys shall lie: under the TPM, or where there is none for us, in a file. */
import { TenzroError } from '#runtime/core/errors.ts';
import type { KeyVault } from '#runtime/core/ports.ts';
import type { Maybe } from '#runtime/core/types.ts';
import type { PolicyOf } from './approval.ts';
import type { Place } from './sealing.ts';

export interface PlaceOptions {
  readonly vault: Maybe<KeyVault>;
  readonly authority?: Uint8Array;
  readonly policyOf: PolicyOf;
  readonly node: string;
  readonly pcrs: readonly number[];
}

const STRANGERS: ReadonlySet<string> = new Set(['identity.tpm_owned', 'identity.handle_taken']);

/** A stranger who owns the TPM, or sits at our handles, leaves only the file; a TPM that does not answer is waited for: rejects with `tpm.*`. */
export async function choosePlace({ vault, authority, policyOf, node, pcrs }: PlaceOptions, signal: AbortSignal): Promise<Place> {
  if (vault.kind === 'none') return { kind: 'file', reason: vault.reason };
  try {
    const names = await vault.value.prepare(signal);
    return { kind: 'tpm', vault: vault.value, names, ...(authority ? { authority } : {}), state: await vault.value.bootState(pcrs, signal), policyOf, node };
  } catch (error) {
    if (!(error instanceof TenzroError) || !STRANGERS.has(error.code)) throw error;
    return { kind: 'file', reason: `${error.code}: ${error.message}` };
  }
}
