/** What the machine booted and which software sealed the head: the quoted PCRs and the software digest against the policy's reference values. */
import { toHex } from '#runtime/core/bytes.ts';
import type { CheckBook } from './checks.ts';
import type { OpenedBundle } from './opened.ts';
import type { Policy } from './policy.ts';

const BOOT_CHECKS = ['boot.log', 'boot.pcrs', 'ima.log'] as const;

export function checkBoot(book: CheckBook, { head }: OpenedBundle, policy: Policy): void {
  const digest = toHex(head.block.softwareDigest);
  if (policy.software.length === 0) book.unknown('software.reference', `the policy lists no software: ${digest} was not judged`);
  else if (policy.software.includes(digest)) book.pass('software.reference', `${digest} is listed in the policy`);
  else book.fail('software.reference', `the head was sealed by software ${digest}, which the policy does not list`);
  const { evidence } = head;
  if (evidence.kind === 'none') {
    for (const code of BOOT_CHECKS) book.skip(code, 'the head has no TPM evidence');
    return;
  }
  book.unknown('boot.log', 'the bundle carries no boot event log');
  book.unknown('ima.log', 'the bundle carries no IMA log');
  if (policy.pcrs.size === 0) return book.unknown('boot.pcrs', 'the boot PCRs are quoted, but the policy lists no reference values: what software the machine booted was not judged');
  const quoted = new Map(evidence.pcrs.map(([pcr, value]) => [pcr, toHex(value)]));
  for (const [pcr, references] of policy.pcrs) {
    const value = quoted.get(pcr);
    if (value === undefined) book.fail('boot.pcrs', `PCR ${pcr} is in the policy and not in the quote`);
    else if (!references.includes(value)) book.fail('boot.pcrs', `PCR ${pcr} is ${value}, none of the policy's values`);
  }
  book.pass('boot.pcrs', `${policy.pcrs.size} PCRs hold values of the policy`);
}
