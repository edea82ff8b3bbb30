/** `tenzro verify FILE`: needs nothing but the file and, where given, a policy. */
import { readFileSync } from 'node:fs';
import { parseDocumentText } from '#runtime/config/document.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { DEFAULT_POLICY, parsePolicy, type Policy } from '#runtime/verify/policy.ts';
import { EXIT_CODE, renderReport } from '#runtime/verify/report.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import type { Io } from './io.ts';

export function verify(io: Io, file: string, flags: { readonly policy?: string; readonly json?: boolean }): void {
  const report = verifyBundle(read(file), policyOf(flags.policy));
  if (flags.json) io.json({ file, ...report });
  else for (const line of renderReport(report, { colour: io.color })) io.line(line);
  io.exitCode = EXIT_CODE[report.outcome];
}

/** The default where no file is named. */
export const policyOf = (path: string | undefined): Policy => (path === undefined ? DEFAULT_POLICY : readPolicy(path));

function readPolicy(path: string): Policy {
  const document = parseDocumentText(read(path).toString('utf8'));
  const [fault] = document.faults;
  if (fault) throw new TenzroError('policy.invalid', `${path}:${fault.place.line}:${fault.place.column}: ${fault.message}`);
  return parsePolicy(document.value);
}

/** Throws `cli.usage`. */
export function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new TenzroError('cli.usage', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}
