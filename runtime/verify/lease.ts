/** Whether a verifier trusted the gateway when the head was sealed: the lease that the head names, by a key of the policy. */
import { printable } from '#runtime/core/printable.ts';
import type { CheckBook } from './checks.ts';
import type { OpenedBundle } from './opened.ts';
import type { Policy } from './policy.ts';

export function checkLease(book: CheckBook, { head }: OpenedBundle, policy: Policy): void {
  const { lease } = head.block;
  const why = lease?.kind === 'none' ? `the head says that it has no lease: ${printable(lease.reason)}` : 'the head names no lease';
  if (lease?.kind === 'value') book.unknown('lease', 'the statement that the head names is not in the bundle');
  else if (policy.lease === 'required') book.fail('lease', `${why}, and the policy requires one`);
  else book.skip('lease', why);
}
