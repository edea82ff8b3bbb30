/** What a fleet's policy makes of a device that wants to come in. Pure: the verdicts are made elsewhere. */
import { toHex } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { describeTpm, type EkVerdict } from '#runtime/crypto/ekCertificate.ts';
import type { Policy, TrustLevel } from '#runtime/verify/policy.ts';

/** What the operator sees of a device, and decides by. */
export interface DeviceView {
  /** What the verifier will make of it, as far as a claim can tell. */
  readonly level: Extract<TrustLevel, 'dtpm' | 'enrolled' | 'software'>;
  /** Maker and model, or why there is none. */
  readonly tpm: string;
  /** Which PCRs were quoted, and which of them the policy knows. */
  readonly boot: string;
  /** No maker vouches for the TPM, or there is none: whoever shows such keys first is believed. */
  readonly isFirstUse: boolean;
}

/** `verdict`: undefined without a TPM. `accept` with `enrolled` in it takes TPMs on first use. Throws `claim.policy` for what the fleet does not take at all. */
export function viewOfDevice(verdict: EkVerdict | undefined, pcrs: readonly (readonly [index: number, value: Uint8Array])[], policy: Pick<Policy, 'accept' | 'enrol' | 'pcrs'>): DeviceView {
  const level = !verdict ? 'software' : verdict.kind === 'chained' ? 'dtpm' : 'enrolled';
  if (policy.enrol === 'nobody') throw new TenzroError('claim.policy', 'the policy of this fleet enrols nobody (enrol: nobody)');
  if (!policy.accept.includes(level)) throw new TenzroError('claim.policy', `its trust level is ${level} (TPM: ${tpmOf(verdict)}); the policy accepts ${policy.accept.join(', ')}`);
  return { level, tpm: tpmOf(verdict), boot: bootOf(pcrs, policy.pcrs), isFirstUse: level !== 'dtpm' };
}

function tpmOf(verdict: EkVerdict | undefined): string {
  if (!verdict) return 'none: its keys are files';
  if (verdict.kind !== 'chained') return 'tpm' in verdict && verdict.tpm ? `${describeTpm(verdict.tpm)}: ${verdict.why}` : verdict.why;
  return `${verdict.vendor ? `${verdict.vendor.name}, ` : ''}${describeTpm(verdict.tpm)}`;
}

/** Throws `claim.policy` where a PCR holds none of the values that the policy lists. */
function bootOf(pcrs: readonly (readonly [index: number, value: Uint8Array])[], references: Policy['pcrs']): string {
  const values = new Map(pcrs.map(([index, value]) => [index, toHex(value)]));
  for (const [index, allowed] of references) {
    const value = values.get(index);
    if (value === undefined) throw new TenzroError('claim.policy', `PCR ${index} was not quoted, and the policy says what it must hold`);
    if (!allowed.includes(value)) throw new TenzroError('claim.policy', `PCR ${index} holds ${value}, which the policy does not list`);
  }
  if (values.size === 0) return 'not measured';
  return `${values.size} PCRs quoted (${[...values.keys()].join(', ')}), ${references.size === 0 ? 'none of which the policy judges' : `${references.size} as the policy wants them`}`;
}
