/**
 * `tenzro ek-roots fetch`: brings TPM makers' root certificates from where the makers publish them, or from a folder, into one PEM file for
 * `tenzro verify --ek-roots`. Which bytes come, and over what, does not matter: only certificates whose fingerprints the program knows are written.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { printable } from '#runtime/core/printable.ts';
import { pemOf } from '#runtime/crypto/certificate.ts';
import { derOfFile } from '#runtime/crypto/certificatePath.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { parseCertificate, type Certificate } from '#runtime/crypto/x509.ts';
import { VENDOR_ROOTS, type VendorRoot } from '#runtime/verify/vendorRoots.ts';
import { EXIT, type Io } from './io.ts';
import { read } from './verify.ts';

export interface FetchFlags {
  readonly output: string;
  readonly vendor?: string;
  readonly from?: string;
  readonly for?: string;
  readonly json?: boolean;
}

const DOWNLOAD_BYTES_MAX = 256 * 1024;
const DOWNLOAD_TIMEOUT_MS = 20_000;
/** How far the issuers of an EK certificate are followed. */
const ISSUERS_MAX = 4;
const FILES_MAX = 10_000;

interface Outcome {
  readonly name: string;
  readonly url: string;
  /** Absent: it is in the file. */
  readonly fault?: string;
}

/** Exit 1 when something is missing; what was found is written all the same. `roots`: the table, which tests replace. */
export async function ekRootsFetch(io: Io, flags: FetchFlags, roots: readonly VendorRoot[] = VENDOR_ROOTS): Promise<void> {
  io.catchSignals();
  const wanted = roots.filter(({ vendor }) => flags.vendor === undefined || flags.vendor.toUpperCase().split(',').includes(vendor));
  if (wanted.length === 0) throw new TenzroError('cli.usage', `no roots of '${flags.vendor ?? ''}' are known: ${[...new Set(roots.map(({ vendor }) => vendor))].join(', ')}`);
  const local = flags.from === undefined ? undefined : certificatesIn(flags.from);
  const found: Certificate[] = [];
  const outcomes: Outcome[] = [];
  for (const root of wanted) {
    const { certificate, fault } = await attempt(() => (local ? findIn(local, root) : fetchRoot(root, io.signal)));
    if (certificate) found.push(certificate);
    outcomes.push({ name: `${root.vendor} ${root.subject}`, url: root.url, ...(fault === undefined ? {} : { fault }) });
  }
  if (flags.for !== undefined) await followIssuers(parseCertificate(derOfFile(read(flags.for), 1)?.[0] ?? new Uint8Array(0)), found, outcomes, io.signal);
  writeFileSync(flags.output, found.map(({ der, subjectText }) => `# ${printable(subjectText)}\n${pemOf(der)}`).join(''));
  report(io, flags, outcomes, found.length);
}

function report(io: Io, { output, json }: FetchFlags, outcomes: readonly Outcome[], count: number): void {
  const missing = outcomes.filter(({ fault }) => fault !== undefined);
  if (missing.length > 0) io.exitCode = EXIT.problem;
  if (json) return io.json({ file: output, certificates: count, outcomes });
  for (const { name, fault } of outcomes) io.line(`${fault === undefined ? io.paint('✓', 'green') : io.paint('✗', 'red')} ${printable(name)}${fault === undefined ? '' : `: ${printable(fault)}`}`);
  io.line(`${printable(output)}: ${count} certificates${missing.length > 0 ? `, ${missing.length} could not be had` : ''}. Give it to tenzro verify --ek-roots.`);
}

async function fetchRoot(root: VendorRoot, signal: AbortSignal): Promise<Certificate> {
  const certificate = await download(root.url, signal);
  const digest = toHex(certificate.fingerprint);
  if (digest !== root.certificate || toHex(sha256(certificate.spki)) !== root.key) throw unusable(`another certificate came, ${digest}: it is left out`);
  return certificate;
}

function findIn(certificates: readonly Certificate[], root: VendorRoot): Promise<Certificate> {
  const found = certificates.find(({ fingerprint }) => toHex(fingerprint) === root.certificate);
  return found ? Promise.resolve(found) : Promise.reject(unusable('not among the files'));
}

/** Intermediates are believed for their signatures, which the verifier judges: here they are only collected. */
async function followIssuers(leaf: Certificate, found: Certificate[], outcomes: Outcome[], signal: AbortSignal): Promise<void> {
  let current = leaf;
  for (let hops = 0; hops < ISSUERS_MAX; hops += 1) {
    const [url] = current.issuerUrls.filter((one) => /^https?:\/\//.test(one));
    if (url === undefined || found.some(({ subject }) => equalBytes(subject, current.issuer))) return;
    const { certificate, fault } = await attempt(() => download(url, signal));
    outcomes.push({ name: `issuer of ${current.subjectText || 'the EK certificate'}`, url, ...(fault === undefined ? {} : { fault }) });
    if (!certificate) return;
    found.push(certificate);
    current = certificate;
  }
}

async function download(url: string, signal: AbortSignal): Promise<Certificate> {
  const response = await fetch(url, { signal: AbortSignal.any([signal, AbortSignal.timeout(DOWNLOAD_TIMEOUT_MS)]) });
  if (!response.ok || !response.body) throw unusable(`${url} answers ${response.status}`);
  const body: AsyncIterable<Uint8Array> = response.body;
  const parts: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const part of body) {
    sizeBytes += part.length;
    if (sizeBytes > DOWNLOAD_BYTES_MAX) throw unusable(`${url} sends more than ${DOWNLOAD_BYTES_MAX} bytes`);
    parts.push(part);
  }
  const [der] = derOfFile(Buffer.concat(parts), 1) ?? [];
  if (!der) throw unusable(`${url} sends no certificate`);
  return parseCertificate(der);
}

/** Every certificate below a folder: an unpacked Debian package, a checkout. What is none is passed over. */
function certificatesIn(folder: string): readonly Certificate[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile() && /\.(?:crt|cer|der|pem)$/i.test(entry.name)).slice(0, FILES_MAX)
    .flatMap(({ parentPath, name }) => (derOfFile(readFileSync(join(parentPath, name)), LIMITS.issuersMax) ?? []).flatMap((der) => {
      try {
        return [parseCertificate(der)];
      } catch (error) {
        if (error instanceof TenzroError && error.code === 'x509.malformed') return [];
        throw error;
      }
    }));
}

async function attempt(work: () => Promise<Certificate>): Promise<{ readonly certificate?: Certificate; readonly fault?: string }> {
  try {
    return { certificate: await work() };
  } catch (error) {
    return { fault: error instanceof Error && error.cause !== undefined ? `${messageOf(error)}: ${messageOf(error.cause)}` : messageOf(error) };
  }
}

const unusable = (why: string): TenzroError => new TenzroError('cli.download', why);
