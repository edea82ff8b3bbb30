/** `tenzro verify FILE`: needs nothing but the file and, where given, a policy; with `--live` also the gateway that runs on the data directory. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parseDocumentText } from '#runtime/config/document.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { requestFresh } from '#runtime/observe/control.ts';
import { headSequence, verifyLive, type LiveReport } from '#runtime/verify/live.ts';
import { DEFAULT_POLICY, parseIssuers, parsePolicy, type Policy } from '#runtime/verify/policy.ts';
import { EXIT_CODE, renderReport } from '#runtime/verify/report.ts';
import { verifySuccession, type Succession } from '#runtime/verify/succession.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { configOf, type CommonFlags, type Io } from './io.ts';

export interface VerifyFlags extends CommonFlags {
  readonly policy?: string;
  readonly ekRoots?: string;
  readonly live?: boolean;
  readonly successor?: string;
}

export async function verify(io: Io, file: string, flags: VerifyFlags): Promise<void> {
  const policy = withIssuers(policyOf(flags.policy), flags.ekRoots);
  const bytes = read(file);
  const live = flags.live ? await verifyNow(io, bytes, policy, flags) : undefined;
  const report = live ?? verifyBundle(bytes, policy);
  const succession = flags.successor === undefined ? undefined : verifySuccession(bytes, report, read(flags.successor), policy);
  if (flags.json) io.json({ file, ...report, ...(succession ? { succession } : {}) });
  else for (const line of [...renderReport(report, { colour: io.color }), ...(live ? ['', ...liveLines(live)] : []), ...(succession ? ['', ...successionLines(succession)] : [])]) io.line(line);
  io.exitCode = EXIT_CODE[(succession ?? report).outcome];
}

const NONCE_BYTES = 32;

/** Challenges the gateway that runs on the data directory. Throws `control.not_running`. */
async function verifyNow(io: Io, file: Uint8Array, policy: Policy, flags: CommonFlags): Promise<LiveReport> {
  const { settings: { dataDir } } = configOf(flags);
  io.catchSignals();
  const nonce = randomBytes(NONCE_BYTES);
  const fresh = await requestFresh(dataDir, nonce, headSequence(file), io.signal);
  if (fresh.kind === 'none') throw new TenzroError('control.not_running', `${fresh.reason}: nobody to challenge`);
  return verifyLive(file, fresh.value, nonce, policy);
}

const successionLines = ({ outcome, detail, successor }: Succession): readonly string[] =>
  [`next    ${outcome}: ${printable(detail)}`, `        the proof of chain ${successor.subject.chainId || 'nobody'}: ${successor.outcome}, trust ${successor.trust.level}`];

function liveLines({ live, since }: LiveReport): readonly string[] {
  const challenged = `live    ${live.outcome}, trust ${live.trust.level}: ${printable(live.trust.reason)}`;
  if (!since) return [challenged];
  const { from, to, blocks, entries, starts, resets, counter, shownBy } = since;
  const shown = shownBy === 'links' ? 'every block in between names the one before' : 'the log only grew (consistency proof; too many blocks to show)';
  const counted = counter.from === null || counter.to === null ? 'no counter to compare' : `counter ${counter.from} then, ${counter.to} now`;
  return [challenged, `since   block ${from}: ${blocks} blocks to block ${to}, ${entries} entries, ${starts} starts of the gateway, ${resets === null ? 'no quotes to count resets of the TPM by' : `${resets} resets of the TPM`}; ${counted}; ${shown}`];
}

/** The default where no file is named. */
export const policyOf = (path: string | undefined): Policy => (path === undefined ? DEFAULT_POLICY : readPolicy(path));

/** What `tenzro ek-roots fetch` wrote. */
const withIssuers = (policy: Policy, path: string | undefined): Policy => (path === undefined ? policy : { ...policy, ekIssuers: [...policy.ekIssuers, ...parseIssuers(read(path), path)] });

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
