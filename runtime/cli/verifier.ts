/** `tenzro verifier init|serve|appraise|forget`: whoever appraises gateways and grants their leases. */
import { hostname } from 'node:os';
import { join } from 'node:path';
import { toHex } from '#runtime/core/bytes.ts';
import { isoOfMicros, systemClock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { makeFolder } from '#runtime/ledger/folder.ts';
import type { CheckLine } from '#runtime/ledger/leaseMessages.ts';
import type { LeaseClaims } from '#runtime/ledger/lease.ts';
import { appraise, type Appraisal } from '#runtime/verify/appraise.ts';
import { loadPolicy } from '#runtime/policyFile.ts';
import { DEFAULT_PORT, forget, runVerifier } from '#runtime/verifierMain.ts';
import { buildHouse, certificateFile } from '#runtime/verifier/house.ts';
import { EXIT, allowsColor, type Io, type Style } from './io.ts';
import { read } from './verify.ts';

export interface DirFlags {
  readonly dir: string;
  readonly json?: boolean;
}

export async function verifierInit(io: Io, flags: DirFlags & { readonly host?: readonly string[]; readonly name?: string }): Promise<void> {
  const hosts = flags.host ?? [hostname(), 'localhost', '127.0.0.1'];
  makeFolder(flags.dir);
  const { keyDigest } = await buildHouse({ dir: flags.dir, name: flags.name ?? hostname(), hosts, policy: samplePolicy, clock: systemClock });
  const url = `https://${hosts[0]}:${DEFAULT_PORT}`;
  if (flags.json) return io.json({ dir: flags.dir, key: keyDigest, url, caFile: certificateFile(flags.dir), policy: join(flags.dir, 'policy.yaml') });
  for (const line of [
    `${printable(flags.dir)}: the verifier's keys, certificate and a sample policy.`, '',
    `1. Read ${printable(join(flags.dir, 'policy.yaml'))} and make it yours; tenzro reference prints the values of a gateway that you trust.`,
    `2. Serve:  tenzro verifier serve --dir ${printable(flags.dir)}`,
    `3. On each gateway, copy ${printable(certificateFile(flags.dir))} there and put this into its configuration:`, '',
    'verifier:', `  url: ${printable(url)}`, '  caFile: /etc/tenzro-edge/verifier.pem', `  key: "${keyDigest}"`, '',
    `Auditors who trust this verifier put  verifiers: ["${keyDigest}"]  and  enrollers: ["${keyDigest}"]  into their policies.`,
  ]) io.line(line);
}

export async function verifierServe(io: Io, flags: DirFlags & { readonly policy?: string; readonly ekRoots?: string; readonly listen?: string }): Promise<void> {
  const { host, port } = parseListen(flags.listen ?? `0.0.0.0:${DEFAULT_PORT}`);
  io.catchSignals();
  await runVerifier({
    dir: flags.dir, host, port, ...(flags.policy === undefined ? {} : { policyFile: flags.policy }), ...(flags.ekRoots === undefined ? {} : { ekRootsFile: flags.ekRoots }), logForm: io.isTTY ? 'people' : 'json', color: allowsColor(process.stderr.isTTY),
    onReady: ({ url, keyDigest, policyDigest }) => {
      if (flags.json) io.json({ url, key: keyDigest, policy: policyDigest });
      else io.line(`verifier ready on ${url}, key ${keyDigest}, policy ${policyDigest}`);
    },
  }, io.signal);
}

/** A dry run: what the policy makes of a bundle, and what a lease would say. Nothing is remembered or issued. */
export function verifierAppraise(io: Io, file: string, flags: { readonly policy: string; readonly ekRoots?: string; readonly nonce?: string; readonly json?: boolean }): void {
  const { policy, digest } = loadPolicy(flags.policy, flags.ekRoots);
  const appraisal = appraise({
    file: read(file), policy, policyDigest: digest, ...(flags.nonce === undefined ? {} : { nonce: parseNonce(flags.nonce) }),
    remembered: { chain: () => undefined, identity: () => undefined }, nowMicros: systemClock.wallMicros(),
  });
  if (flags.json) io.json(jsonOf(appraisal, policy.leaseSeconds));
  else for (const line of linesOf(io, appraisal, policy.leaseSeconds)) io.line(line);
  io.exitCode = appraisal.granted ? EXIT.ok : EXIT.problem;
}

export async function verifierForget(io: Io, chain: string, flags: DirFlags): Promise<void> {
  if (!/^[0-9a-f]{64}$/.test(chain)) throw new TenzroError('cli.usage', `'${chain}' is not a chain id: 64 hexadecimal digits, as tenzro status prints it`);
  const found = await forget(flags.dir, Buffer.from(chain, 'hex'));
  if (flags.json) io.json({ chain, found });
  else io.line(found ? `forgotten: chain ${chain} and its device begin anew with their next appraisal` : `chain ${chain} is not remembered here`);
  io.exitCode = found ? EXIT.ok : EXIT.problem;
}

const MARK: Readonly<Record<CheckLine['result'], readonly [mark: string, style: Style]>> = { pass: ['✓', 'green'], fail: ['✗', 'red'], unknown: ['?', 'yellow'], skipped: ['–', 'dim'] };

function linesOf(io: Io, { granted, checks, report, lease }: Appraisal, leaseSeconds: number): string[] {
  const width = Math.max(...checks.map(({ code }) => code.length));
  return [
    granted ? io.paint(`A LEASE OF ${leaseSeconds} s WOULD BE GRANTED`, 'green') : io.paint('NO LEASE WOULD BE GRANTED', 'red'),
    `device  ${printable(report.subject.device)}, chain ${report.subject.chainId}`, `trust   ${report.trust.level}: ${printable(report.trust.reason)}`, '',
    ...checks.map(({ code, result, detail }) => `${io.paint(MARK[result][0], MARK[result][1])} ${code.padEnd(width)}  ${printable(detail)}`),
    ...(lease ? ['', 'The lease would say:', ...Object.entries(claimsOf(lease)).map(([name, value]) => `  ${name.padEnd(10)} ${String(value)}`), 'Nothing was issued or remembered.'] : []),
  ];
}

const jsonOf = ({ granted, reasons, checks, report, lease }: Appraisal, leaseSeconds: number): object => ({
  granted, reasons, trust: report.trust, subject: { device: report.subject.device, chainId: report.subject.chainId }, checks, ...(lease ? { lease: { ...claimsOf(lease), leaseSeconds } } : {}),
});

const claimsOf = ({ chainId, identity, bootEpoch, sequence, blockHash, policy, trust, tpm }: LeaseClaims): Readonly<Record<string, string | number>> => ({
  chain: toHex(chainId), identity: toHex(identity), block: sequence, hash: toHex(blockHash), bootEpoch, ...(tpm ? { resetCount: tpm.resetCount, tpmClock: tpm.clock } : {}), policy: toHex(policy), trust,
});

function parseListen(text: string): { readonly host: string; readonly port: number } {
  const [, bracketed, plain, digits] = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const [host, port] = [bracketed ?? plain, Number(digits)];
  if (host === undefined || port > 65_535) throw new TenzroError('cli.usage', `'${text}' is not host:port, as 0.0.0.0:${DEFAULT_PORT} or [::]:${DEFAULT_PORT}`);
  return { host, port };
}

function parseNonce(text: string): Buffer {
  if (!/^(?:[0-9a-f]{2}){16,64}$/.test(text)) throw new TenzroError('cli.usage', '--nonce is 16 to 64 bytes in lower-case hexadecimal');
  return Buffer.from(text, 'hex');
}

const samplePolicy = (keyDigest: string): string => `# What this verifier asks of a gateway before it grants a lease (docs/reference/verifier-checks.md, "Policy file").
# Read again whenever the file changes. Try it: tenzro verifier appraise FILE.tzp --policy THIS_FILE
# Made on ${isoOfMicros(systemClock.wallMicros())}
version: 1

# Trust levels that get a lease. To try it with an emulated TPM: accept: [dtpm, enrolled, emulated] and enrol: firstUse
accept: [dtpm, enrolled]

# Whom this verifier enrols: certified (the EK certificate leads to a TPM maker's root), firstUse (every TPM that asks), nobody.
enrol: certified
# Enrolments by this verifier's own key count.
enrollers: ["${keyDigest}"]

leaseSeconds: 3600
clockSkewSeconds: 300

# Reference values; tenzro reference prints those of a gateway. Without them what it booted and runs is reported, not judged.
# software: ["…"]
# pcrs: { 0: ["…"], 7: ["…"] }
`;
