/** Which files ran: IMA's list among the bundle's entries against the quoted PCR 10, and its files against the policy's. */
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { printable } from '#runtime/core/printable.ts';
import { findImaPrefix, IMA_PCR, parseImaLog, subjectOf, type ImaEvent } from '#runtime/crypto/imaLog.ts';
import { ZERO_HASH } from '#runtime/ledger/block.ts';
import type { CheckBook } from './checks.ts';
import { findMeasurement } from './measured.ts';
import type { OpenedBundle } from './opened.ts';
import type { Policy } from './policy.ts';

/** A hash of PCRs 0 to 9. */
const BOOT_AGGREGATE = 'boot_aggregate';
const NAMED_MAX = 3;

export function checkImaLog(book: CheckBook, opened: OpenedBundle, quoted: ReadonlyMap<number, Uint8Array>, { ima }: Policy): void {
  const proven = provenEvents(opened, quoted.get(IMA_PCR));
  if (proven.kind === 'wrong') return book.fail('ima.log', proven.reason);
  if (proven.kind === 'none') return ima ? book.fail('ima.log', `${proven.reason}; the policy lists files`) : book.unknown('ima.log', proven.reason);
  const { events, recorded } = proven;
  const text = `${events.length} of ${recorded} recorded events replay to the quoted PCR 10`;
  if (!ima) return book.pass('ima.log', `${text}; the policy lists no files, so that none was judged`);
  const strange = events.flatMap((event, at) => strangerIn(event, at, ima.allow) ?? []);
  if (strange.length === 0) return book.pass('ima.log', `${text}; all are in the policy`);
  book.fail('ima.log', `${strange.length} of ${events.length} measured files are not in the policy: ${strange.slice(0, NAMED_MAX).join(', ')}${strange.length > NAMED_MAX ? ' …' : ''}`);
}

type Nothing = { readonly kind: 'none'; readonly reason: string } | { readonly kind: 'wrong'; readonly reason: string };
type Proven = { readonly kind: 'value'; readonly events: readonly ImaEvent[]; readonly recorded: number } | Nothing;

/** The events that stand behind the quoted value of PCR 10, in order. `wrong`: what the head names contradicts itself. */
export function provenEvents(opened: OpenedBundle, quoted: Uint8Array | undefined): Proven {
  const none = (reason: string): Nothing => ({ kind: 'none', reason });
  if (!quoted) return none('the quote leaves PCR 10 out');
  if (equalBytes(quoted, ZERO_HASH)) return none('PCR 10 is zero: this kernel does not measure files');
  const list = listOf(opened);
  if (list.kind !== 'value') return list;
  const { events, fault } = parseImaLog(list.bytes);
  const prefix = findImaPrefix(events, quoted);
  if (prefix) return { kind: 'value', events: events.slice(0, prefix.count).filter(({ pcr }) => pcr === IMA_PCR), recorded: events.length };
  if (fault) return { kind: 'wrong', reason: `IMA's list is not whole: ${fault.message}` };
  return none(`no beginning of the ${events.length} recorded events makes PCR 10 what was quoted: more files ran than were recorded by then, or the list was altered. A later proof may say more`);
}

type List = { readonly kind: 'value'; readonly bytes: Buffer } | Nothing;

/** The chunks joined. */
function listOf(opened: OpenedBundle): List {
  const indices = opened.head.block.support?.imaLog ?? [];
  if (indices.length === 0) return { kind: 'none', reason: 'the head names no IMA list' };
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for (const index of indices) {
    const found = findMeasurement(opened, index, 'ima');
    if (found.kind !== 'value') return found;
    const { body } = found;
    if ('reason' in body) return { kind: 'none', reason: `the gateway recorded no IMA list: ${printable(body.reason)}` };
    if (body.offset !== sizeBytes) return { kind: 'wrong', reason: `entry ${index}: the chunks of IMA's list that the head names do not follow one another` };
    chunks.push(body.log);
    sizeBytes += body.log.length;
    if (sizeBytes > LIMITS.imaLogBytesMax) return { kind: 'wrong', reason: `IMA's list has more than ${LIMITS.imaLogBytesMax} bytes` };
  }
  return { kind: 'value', bytes: Buffer.concat(chunks, sizeBytes) };
}

/** The kernel's own first event: no file. */
export const isBootAggregate = (event: ImaEvent, at: number): boolean => at === 0 && subjectOf(event)?.name === BOOT_AGGREGATE;

/** How a file that the policy does not list is called. */
function strangerIn(event: ImaEvent, at: number, allow: ReadonlySet<string>): string | undefined {
  const subject = subjectOf(event);
  const name = subject ? printable(subject.name) : `event ${at}`;
  if (event.violation) return `${name} (changed while it was measured)`;
  if (isBootAggregate(event, at)) return undefined;
  const isListed = subject?.algorithm === 'sha256' && allow.has(toHex(subject.digest));
  return isListed ? undefined : name;
}
