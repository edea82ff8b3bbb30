/** Keys on their way to take over: `next.cbor`, sealed for one revocation more than the TPM counts, until the counter makes them the ones that open. */
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { BootState, KeyVault } from '#runtime/core/ports.ts';
import type { IdentityFiles } from './files.ts';
import { sealSecrets, type Place, type Sealed } from './sealing.ts';
import type { Secrets } from './secrets.ts';

export interface Successors {
  readonly secrets: Secrets;
  readonly place: Place;
  /** The state that the present keys were just opened in; absent where no TPM sealed them. */
  readonly openedIn: BootState | undefined;
  readonly createdMicros: number;
}

/** Rejects with `tpm.busy` where a PCR is read otherwise than the TPM compared it while it opened the present keys: extended since, or altered on its way. */
export async function sealSuccessors({ secrets, place, openedIn, createdMicros }: Successors, signal: AbortSignal): Promise<Sealed> {
  if (place.kind === 'file' || !openedIn) return sealSecrets(secrets, place, createdMicros, signal);
  const read = new Map(place.state.pcrs);
  for (const [pcr, value] of openedIn.pcrs) {
    if (!equalBytes(read.get(pcr) ?? value, value)) throw new TenzroError('tpm.busy', `PCR ${pcr} is read to be another than the one that opened the keys: it was just extended, or the TPM's answers are altered on their way`);
  }
  return sealSecrets(secrets, { ...place, state: { ...place.state, revocation: place.state.revocation + 1n } }, createdMicros, signal);
}

/** A change that was cut off: done when the counter says so, else dropped. */
export async function settleSuccessors(files: IdentityFiles, vault: () => KeyVault, signal: AbortSignal): Promise<void> {
  const next = (await files.read('next'))?.header.protection;
  if (!next) return;
  const current = (await files.read('sealed'))?.header.protection;
  if (next.kind === 'file' || current?.kind !== 'tpm') return files.dropNext();
  if (await vault().identify(next.names, signal) !== 'ours') return; // the look at the current keys says what is wrong
  const { revocation } = await vault().bootState([], signal);
  if (revocation >= next.revocation) await files.promote();
  else await files.dropNext();
}
