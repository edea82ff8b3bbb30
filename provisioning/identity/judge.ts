/** Which approval fits the state that the machine is in, and if none does, why the keys stay locked. Pure. */
import { equalBytes } from '#runtime/core/bytes.ts';
import type { BootState } from '#runtime/core/ports.ts';
import type { Approval } from './approval.ts';

export type Verdict =
  | { readonly kind: 'fits'; readonly approval: Approval }
  | { readonly kind: 'locked'; readonly code: 'identity.boot_changed' | 'identity.unapproved' | 'identity.revoked' | 'identity.tpm_foreign'; readonly detail: string };

/** `approvals`: those with the authority's signature for these keys. `sealedAt`: the revocation that the keys open at. `found` holds at least the PCRs that the approvals name. */
export function judge(approvals: readonly Approval[], sealedAt: bigint, found: BootState): Verdict {
  if (found.revocation > sealedAt) return { kind: 'locked', code: 'identity.revoked', detail: `the keys open at revocation ${sealedAt}, the TPM counts ${found.revocation}` };
  if (found.revocation < sealedAt) return { kind: 'locked', code: 'identity.tpm_foreign', detail: `the keys open at revocation ${sealedAt}, the TPM counts only ${found.revocation}: it is an older copy of itself` };
  const ranked = approvals.filter(({ state }) => state.revocation === sealedAt).map((approval) => ({ approval, pcrs: differingPcrs(approval.state, found) })).toSorted((a, b) => a.pcrs.length - b.pcrs.length);
  const nearest = ranked[0];
  if (!nearest) return { kind: 'locked', code: 'identity.unapproved', detail: 'the authority has approved no boot state of these keys' };
  if (nearest.pcrs.length === 0) return { kind: 'fits', approval: nearest.approval };
  return { kind: 'locked', code: 'identity.boot_changed', detail: `the machine booted otherwise than approved${noteOf(nearest.approval)}: PCR ${nearest.pcrs.join(', ')} differ${nearest.pcrs.length === 1 ? 's' : ''}` };
}

/** Ascending. A PCR that `found` lacks differs. */
function differingPcrs(approved: BootState, found: BootState): number[] {
  const values = new Map(found.pcrs);
  return approved.pcrs.filter(([pcr, value]) => !equalBytes(values.get(pcr) ?? new Uint8Array(0), value)).map(([pcr]) => pcr);
}

const noteOf = ({ note }: Approval): string => (note === '' ? '' : ` (${note})`);
