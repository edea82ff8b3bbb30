/**
 * What the machine booted, which files ran, and which software sealed the head: logs among the bundle's entries are replayed to what the TPM quoted,
 * and the quoted values held against the policy's references. A log is the gateway's word; only its replay makes it more.
 */
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { printable } from '#runtime/core/printable.ts';
import { BOOT_PCRS, differingBootPcrs, parseEventLog } from '#runtime/crypto/eventLog.ts';
import { parseAttest } from '#runtime/crypto/tpmEvidence.ts';
import { ZERO_HASH } from '#runtime/ledger/block.ts';
import type { CheckBook } from './checks.ts';
import { checkImaLog } from './ima.ts';
import { findMeasurement } from './measured.ts';
import type { OpenedBlock, OpenedBundle } from './opened.ts';
import type { Policy } from './policy.ts';

type Quoted = ReadonlyMap<number, Uint8Array>;

export function checkBoot(book: CheckBook, opened: OpenedBundle, policy: Policy): void {
  const { head } = opened;
  checkSoftware(book, opened, policy);
  const { evidence } = head;
  if (evidence.kind === 'none') return checkWithoutTpm(book, policy);
  const quoted: Quoted = new Map(evidence.pcrs);
  checkLog(book, opened, quoted);
  checkReferences(book, quoted, policy);
  checkImaLog(book, opened, quoted, policy);
}

function checkWithoutTpm(book: CheckBook, policy: Policy): void {
  const why = 'the head has no TPM evidence';
  book.skip('boot.log', why);
  if (policy.pcrs.size > 0) book.fail('boot.pcrs', `${why}, and the policy lists PCRs`);
  else book.skip('boot.pcrs', why);
  if (policy.ima) book.fail('ima.log', `${why}, and the policy lists files`);
  else book.skip('ima.log', why);
}

const isUnmeasured = (quoted: Quoted): boolean => BOOT_PCRS.every((pcr) => equalBytes(quoted.get(pcr) ?? ZERO_HASH, ZERO_HASH));
const UNMEASURED = 'PCRs 0 to 7 are all zero: this machine did not measure its boot (as a Raspberry Pi does not, nor an emulated TPM), so that nobody can tell what it booted';

/** The firmware's log replays to the quoted PCRs. */
function checkLog(book: CheckBook, opened: OpenedBundle, quoted: Quoted): void {
  if (isUnmeasured(quoted)) return book.unknown('boot.log', UNMEASURED);
  const found = findMeasurement(opened, opened.head.block.support?.bootLog, 'tcg');
  if (found.kind === 'none') return book.unknown('boot.log', found.reason);
  if (found.kind === 'wrong') return book.fail('boot.log', found.reason);
  const { body } = found;
  if ('reason' in body) return book.unknown('boot.log', `the gateway recorded no boot event log: ${printable(body.reason)}`);
  const log = parseEventLog(body.log);
  if (log.fault) return book.fail('boot.log', `the boot event log is not whole: ${log.fault.message}`);
  if (log.bank !== 'sha256') return book.unknown('boot.log', 'the boot event log has no SHA-256 digests, and the quote is of SHA-256 PCRs');
  const strange = differingBootPcrs(log, quoted);
  if (strange.length > 0) return book.fail('boot.log', `the boot event log does not replay to what the TPM quoted: PCR ${strange.join(', ')} differ`);
  const unfit = log.events.filter(({ dataFits }) => dataFits === false).length;
  book.pass('boot.log', `${log.events.length} events replay to the quoted PCRs 0 to 7${unfit === 0 ? '' : `; the descriptions of ${unfit} are not what was measured`}`);
}

/** Each PCR of the policy holds one of its values. */
function checkReferences(book: CheckBook, quoted: Quoted, { pcrs }: Policy): void {
  const faults = [...pcrs].flatMap(([pcr, references]) => {
    const value = quoted.get(pcr);
    if (value === undefined) return [`PCR ${pcr} is in the policy and not in the quote`];
    return references.includes(toHex(value)) ? [] : [`PCR ${pcr} is ${toHex(value)}, none of the policy's values`];
  });
  const unmeasured = isUnmeasured(quoted);
  if (faults.length > 0) return book.fail('boot.pcrs', unmeasured ? `${UNMEASURED}; the policy asks for PCR ${[...pcrs.keys()].join(', ')}` : faults.join('; '));
  if (pcrs.size > 0) return book.pass('boot.pcrs', `PCR ${[...pcrs.keys()].join(', ')} hold values of the policy`);
  book.unknown('boot.pcrs', unmeasured ? UNMEASURED : 'the policy lists no PCRs: what the machine booted was not judged; tenzro reference prints the values of a gateway that you trust');
}

/** Runtime files, models and TPM firmware are those that the policy lists. The first two are the gateway's own statement. */
function checkSoftware(book: CheckBook, opened: OpenedBundle, policy: Policy): void {
  const { block } = opened.head;
  const digest = toHex(block.softwareDigest);
  const contradiction = softwareContradiction(opened);
  if (contradiction !== undefined) return book.fail('software.reference', contradiction);
  const judged: string[] = [];
  const faults: string[] = [];
  const judge = (name: string, values: readonly string[], references: readonly string[]): void => {
    if (references.length === 0) return;
    const strange = values.filter((value) => !references.includes(value));
    if (strange.length > 0) faults.push(`${name} ${strange.join(', ')} is not in the policy`);
    else judged.push(`${name} ${values.length === 0 ? '(none)' : values.join(', ')}`);
  };
  judge('software', [digest], policy.software);
  judge('model', block.modelDigests.map(toHex), policy.models);
  judge('TPM firmware', [firmwareOf(opened.head)], policy.firmware);
  if (faults.length > 0) book.fail('software.reference', faults.join('; '));
  else if (judged.length > 0) book.pass('software.reference', `listed in the policy: ${judged.join('; ')}`);
  else book.unknown('software.reference', `the policy lists no software, models and TPM firmware: software ${digest} was not judged`);
}

/** The software measurement that the head names must be about the software that the head names. */
function softwareContradiction(opened: OpenedBundle): string | undefined {
  const { softwareDigest, support } = opened.head.block;
  const found = findMeasurement(opened, support?.software, 'software');
  if (found.kind === 'none') return undefined;
  if (found.kind === 'wrong') return found.reason;
  return equalBytes(found.body.digest, softwareDigest) ? undefined : `entry ${found.index} measured other software than the head names`;
}

/** 16 hexadecimal digits; `unknown` without TPM evidence. */
function firmwareOf({ evidence }: OpenedBlock): string {
  return evidence.kind === 'none' ? 'unknown' : parseAttest(evidence.quote.attest).firmwareVersion.toString(16).padStart(16, '0');
}
