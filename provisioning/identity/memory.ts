/** Keeps secrets in memory out of files that the system or Node would write of it. What JavaScript cannot do: docs/decisions/0008-sealed-keys.md. */
import { writeFileSync } from 'node:fs';
import { messageOf } from '#runtime/core/errors.ts';
import type { Maybe } from '#runtime/core/types.ts';

/** core(5): bit 4, ELF headers. Anonymous memory (bits 0, 1, 5 and 6), where secrets are, stays out. */
const CORE_DUMP_FILTER = '0x10';

/** For this process and its children: once, at start. None: why core dumps may hold secrets. */
export function keepOutOfDumps(): Maybe<undefined> {
  if (process.report) Object.assign(process.report, { reportOnSignal: false, reportOnFatalError: false, reportOnUncaughtException: false });
  try {
    writeFileSync('/proc/self/coredump_filter', CORE_DUMP_FILTER);
    return { kind: 'value', value: undefined };
  } catch (cause) {
    return { kind: 'none', reason: messageOf(cause) };
  }
}
