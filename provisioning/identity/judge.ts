/** Which approval fits the state that the machine is in, and if none does, why the keys stay locked. Pure. */
import { equalBytes } from '#runtime/core/bytes.ts';
import type { BootState } from '#runtime/core/ports.ts';
import type { Approval } from './approval.ts';

export type Verdict =
  | { readonly kind: 'fits'; readonly approval: Approval }
  | { readonly kind: 'locked'; readonly code: 'identity.boot_changed' | 'identity.unapproved' | 'identity.revoked'; readonly detail: string };

/** `approvals`: those with the authority's signature for these keys. `state` holds at least the PCRs that they name. */
export function judge(approvals: readonly Approval[], state: BootState): Verdict {
  const current = approvals.filter((approval) => approval.state.revocation === state.revocation);
  const differing = current.map((approval) => ({ approval, pcrs: differingPcrs(approval.state, state) }));
  const fitting = differing.find(({ pcrs }) => pcrs.length === 0);
  if (fitting) return { kind: 'fits', approval: fitting.approval };
  const nearest = differing.toSorted((a, b) => a.pcrs.length - b.pcrs.length)[0];
  if (nearest) return { kind: 'locked', code: 'identity.boot_changed', detail: `the machine booted otherwise than approved${noteOf(nearest.approval)}: PCR ${nearest.pcrs.join(', ')} differ${nearest.pcrs.length === 1 ? 's' : ''}` };
  const newest = approvals.map((approval) => approval.state.revocation).toSorted((a, b) => Number(b - a))[0];
  if (newest !== undefined && newest < state.revocation) return { kind: 'locked', code: 'identity.revoked', detail: `the keys were approved up to revocation ${newest}, the TPM counts ${state.revocation}` };
  return { kind: 'locked', code: 'identity.unapproved', detail: `no approval is for revocation ${state.revocation} of this machine` };
}

/** Ascending. A PCR that `found` lacks differs. */
export function differingPcrs(approved: BootState, found: BootState): number[] {
  const values = new Map(found.pcrs);
  return approved.pcrs.filter(([pcr, value]) => !equalBytes(values.get(pcr) ?? new Uint8Array(0), value)).map(([pcr]) => pcr);
}

const noteOf = ({ note }: Approval): string => (note === '' ? '' : ` (${note})`);
