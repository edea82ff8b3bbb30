/** `tenzro reference`: a policy with the reference values of a gateway that its operator trusts, taken from a proof and never from the machine itself. */
import { readFileSync } from 'node:fs';
import { isoOfMicros } from '#runtime/core/clock.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { BOOT_PCRS } from '#runtime/crypto/eventLog.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { IMA_PCR, subjectOf } from '#runtime/crypto/imaLog.ts';
import { parseAttest } from '#runtime/crypto/tpmEvidence.ts';
import { decodeBlock, ZERO_HASH } from '#runtime/ledger/block.ts';
import { decodeBundleBody, openBundle } from '#runtime/ledger/bundle.ts';
import { buildProof } from '#runtime/ledger/proofBuilder.ts';
import { openReader } from '#runtime/ledger/reader.ts';
import { isBootAggregate, provenEvents } from '#runtime/verify/ima.ts';
import { openBlocks, type OpenedBundle } from '#runtime/verify/opened.ts';
import { DEFAULT_POLICY, TRUST_LEVELS } from '#runtime/verify/policy.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { configOf, type CommonFlags, type Io } from './io.ts';

export interface ReferenceFlags extends CommonFlags {
  readonly from?: string;
  readonly ima?: boolean;
}

/** Keys and values as `parsePolicy` takes them. */
interface Reference {
  readonly version: 1;
  readonly accept: readonly string[];
  readonly enrolled?: readonly { readonly ek: string; readonly ak: string }[];
  readonly pcrs?: Readonly<Record<string, readonly string[]>>;
  readonly firmware?: readonly string[];
  readonly software: readonly string[];
  readonly models?: readonly string[];
  readonly ima?: { readonly allow: readonly string[] };
}

export async function reference(io: Io, flags: ReferenceFlags): Promise<void> {
  const file = flags.from === undefined ? await newestProof(configOf(flags).settings.dataDir) : read(flags.from);
  const { outcome, checks, subject } = verifyBundle(file, { ...DEFAULT_POLICY, accept: TRUST_LEVELS });
  if (outcome !== 'verified') {
    const why = checks.filter(({ result }) => result === 'fail' || (outcome === 'undecided' && result === 'unknown')).map(({ code, detail }) => `${code}: ${detail}`);
    throw new TenzroError('reference.unproven', `the proof is ${outcome} (${why.join('; ')})`);
  }
  const opened = openBlocks(decodeBundleBody(openBundle(file).body));
  const policy = referenceOf(opened, flags.ima ?? false);
  if (flags.json) return io.json(policy);
  const { block } = opened.head;
  const head = `Values of ${printable(subject.device)}, chain ${subject.chainId}, as block ${block.sequence} of ${isoOfMicros(block.wallMicros)} proves them.`;
  for (const line of render(policy, head, opened)) io.line(line);
}

/** Of the newest entry that a block covers. */
async function newestProof(dataDir: string): Promise<Uint8Array> {
  await using reader = await openReader(dataDir);
  const last = reader.blockCount() - 1;
  if (last < 0) throw new TenzroError('ledger.no_chain', 'the chain has no block yet');
  return buildProof(reader, decodeBlock(reader.block(last).payload).treeSize - 1);
}

function read(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new TenzroError('cli.usage', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}

function referenceOf(opened: OpenedBundle, withFiles: boolean): Reference {
  const { head: { block, evidence }, genesis } = opened;
  const stated = { software: [toHex(block.softwareDigest)], ...(block.modelDigests.length === 0 ? {} : { models: block.modelDigests.map(toHex) }) };
  if (evidence.kind === 'none') return { version: 1, accept: ['software'], ...stated };
  const quoted = new Map(evidence.pcrs);
  const values = BOOT_PCRS.map((pcr) => [pcr, toHex(quoted.get(pcr) ?? ZERO_HASH)] as const);
  const isMeasured = values.some(([, value]) => value !== toHex(ZERO_HASH));
  const { ekPublic, akPublic } = genesis.block.identity ?? {};
  return {
    version: 1,
    accept: ekPublic && akPublic ? ['dtpm', 'enrolled'] : ['emulated'],
    ...(ekPublic && akPublic ? { enrolled: [{ ek: toHex(sha256(ekPublic)), ak: toHex(sha256(akPublic)) }] } : {}),
    ...(isMeasured ? { pcrs: Object.fromEntries(values.map(([pcr, value]) => [pcr, [value]])) } : {}),
    firmware: [parseAttest(evidence.quote.attest).firmwareVersion.toString(16).padStart(16, '0')],
    ...stated,
    ...(withFiles ? { ima: { allow: [...namesByDigest(opened).keys()] } } : {}),
  };
}

/** The files that ran, in order. Throws `reference.unproven` where no list is proven, or one of its files has no SHA-256. */
function namesByDigest(opened: OpenedBundle): ReadonlyMap<string, string> {
  const { evidence } = opened.head;
  const proven = provenEvents(opened, evidence.kind === 'none' ? undefined : new Map(evidence.pcrs).get(IMA_PCR));
  if (proven.kind !== 'value') throw new TenzroError('reference.unproven', `no files to list: ${proven.reason}`);
  const names = new Map<string, string>();
  for (const [at, event] of proven.events.entries()) {
    if (isBootAggregate(event, at)) continue;
    const subject = subjectOf(event);
    if (event.violation || subject?.algorithm !== 'sha256') throw new TenzroError('reference.unproven', `'${printable(subject?.name ?? '')}' was measured without a SHA-256 that could be listed`);
    names.set(toHex(subject.digest), subject.name);
  }
  return names;
}

/** YAML. What is text of the machine stands in comments only. */
function render(policy: Reference, head: string, opened: OpenedBundle): readonly string[] {
  const list = (key: string, values: readonly string[] | undefined, comment: string): readonly string[] => (values ? [`# ${comment}`, `${key}:`, ...values.map((value) => `  - "${value}"`)] : []);
  const names = policy.ima ? namesByDigest(opened) : new Map<string, string>();
  return [
    `# ${head}`, '# It proves what that gateway was, not that it was good: take it from one that you have just set up. docs/reference/measured-boot.md',
    'version: 1', `accept: [${policy.accept.join(', ')}]`,
    ...(policy.enrolled ? ['# SHA-256 of EK and AK of this one gateway. To list them says that you know this TPM: an emulator in the list counts as enrolled, too.', 'enrolled:', ...policy.enrolled.map(({ ek, ak }) => `  - {ek: "${ek}", ak: "${ak}"}`)] : []),
    ...(policy.pcrs ? ['# What firmware and boot loader measured: gateways of the same make, firmware settings and image share them.', 'pcrs:', ...Object.entries(policy.pcrs).map(([pcr, values]) => `  ${pcr}: [${values.map((value) => `"${value}"`).join(', ')}]`)]
      : ['# No pcrs: this gateway does not measure its boot.']),
    ...list('firmware', policy.firmware, 'TPM firmware version'),
    ...list('software', policy.software, 'Tenzro Edge itself: changes with every release.'),
    ...list('models', policy.models, 'Models that ran'),
    ...(policy.ima ? ['# Files that ran', 'ima:', '  allow:', ...policy.ima.allow.map((digest) => `    - "${digest}" # ${printable(names.get(digest) ?? '')}`)] : []),
  ];
}
