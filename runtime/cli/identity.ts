/** `tenzro identity status|request|approve|own|revoke`: the gateway's keys, beside a running gateway where its TPM allows that, and on a stopped one. */
import { readFileSync } from 'node:fs';
import { bootPolicy } from '#drivers/tpm2/bootPolicy.ts';
import { connectTpm } from '#drivers/tpm2/connection.ts';
import { chooseTpm } from '#drivers/tpm2/source.ts';
import { approve, formatApproval, formatRequest, parseApproval, parsePcrs, parseRequest, type ApprovalRequest } from '#provisioning/identity/approval.ts';
import { authorityOfPem } from '#provisioning/identity/authority.ts';
import { openIdentity, type GatewayIdentity } from '#runtime/identity.ts';
import { systemClock as clock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import type { Settings } from '#runtime/core/settings.ts';
import { openReader } from '#runtime/ledger/reader.ts';
import { readStatus } from '#runtime/observe/control.ts';
import type { IdentityStatus } from '#runtime/observe/status.ts';
import { EXIT, configOf, type CommonFlags, type Io } from './io.ts';

export interface ApproveFlags extends CommonFlags {
  readonly key?: string;
  readonly pcrs?: string;
  readonly note?: string;
}

/** Asks the running gateway, else looks itself. Exit 1 while the keys are locked. */
export async function identityStatus(io: Io, flags: CommonFlags): Promise<void> {
  const { settings } = configOf(flags);
  const running = await readStatus(settings.dataDir);
  const shown = running.kind === 'value' ? running.value.identity
    : await useIdentity(settings, async (identity) => identity.status(await identity.keeper.inspect(io.signal)));
  io.exitCode = shown.state === 'locked' ? EXIT.problem : EXIT.ok;
  if (flags.json) io.json({ running: running.kind === 'value', ...shown });
  else for (const line of statusLines(io, shown)) io.line(line);
}

/** What the authority shall approve: the state that this machine is in. */
export async function identityRequest(io: Io, flags: CommonFlags): Promise<void> {
  const { settings } = configOf(flags);
  const running = await readStatus(settings.dataDir);
  const asked = running.kind === 'value' ? running.value.identity.request : null;
  process.stdout.write(asked ?? formatRequest(await useIdentity(settings, (identity) => identity.keeper.request(io.signal), running.kind === 'value')));
}

/** With `--key`: signs a request anywhere, without a TPM. Without: the open keys of this gateway approve a state to come. */
export async function identityApprove(io: Io, requestFile: string | undefined, flags: ApproveFlags): Promise<void> {
  const note = flags.note ?? '';
  if (flags.key !== undefined) {
    if (requestFile === undefined) throw new TenzroError('cli.usage', 'name the file that tenzro identity request printed');
    const request = parseRequest(readText(requestFile));
    const state = flags.pcrs === undefined || flags.pcrs === 'current' ? request.state : { ...request.state, pcrs: parsePcrs(readText(flags.pcrs)) };
    if (state === request.state) io.error(`the request's own PCR values are approved: compare them with the references of your image first (${state.pcrs.map(([pcr]) => pcr).join(', ')}), or give yours with --pcrs FILE`);
    const wanted: ApprovalRequest = { ...request, state };
    process.stdout.write(formatApproval(approve(wanted, note, authorityOfPem(readText(flags.key), 'private'), bootPolicy)));
    return;
  }
  const { settings } = configOf(flags);
  if (flags.pcrs === undefined) throw new TenzroError('cli.usage', 'say what to approve: --pcrs current, or --pcrs FILE with {"7": "<hex>", …}; with --key FILE a request is signed');
  const pcrs = flags.pcrs === 'current' ? undefined : parsePcrs(readText(flags.pcrs));
  const approval = await useOpen(io, settings, (identity) => identity.keeper.approveNext(pcrs, note, io.signal));
  if (flags.json) process.stdout.write(formatApproval(approval));
  else io.line(`approved: the keys open when PCR ${approval.state.pcrs.map(([pcr]) => pcr).join(', ')} hold these values, until they are revoked`);
}

/** Sets the authorisations of owner, endorsement and lockout hierarchy to secrets of the sealed keys. */
export async function identityOwn(io: Io, flags: CommonFlags): Promise<void> {
  const { settings } = configOf(flags);
  await useOpen(io, settings, (identity) => identity.keeper.own(io.signal));
  done(io, flags, 'owned', 'the TPM is owned: its owner, endorsement and lockout authorisations are secrets of the sealed keys');
}

/** The same keys, sealed anew for one revocation more: copies of the data directory do not open any more. */
export async function identityRevoke(io: Io, flags: CommonFlags): Promise<void> {
  const { settings } = configOf(flags);
  if ((await readStatus(settings.dataDir)).kind === 'value') throw new TenzroError('identity.running', 'a gateway runs on this data directory');
  await useOpen(io, settings, async (identity) => {
    await identity.keeper.prepareNext({ keep: true }, io.signal);
    await identity.keeper.commitNext(io.signal);
  });
  done(io, flags, 'revoked', 'revoked: earlier copies of identity/ do not open any more; with an external authority, have the new state approved (tenzro identity request)');
}

/** An approval that the authority gave. */
export async function identityAdopt(io: Io, file: string, flags: CommonFlags): Promise<void> {
  const { settings } = configOf(flags);
  const approval = parseApproval(readText(file));
  await openIdentity({ settings, source: { kind: 'none', reason: '' }, tpm: undefined, chainHasBegun: () => true, clock }).keeper.adopt(approval);
  done(io, flags, 'adopted', 'adopted: the gateway opens its keys at its next block when the machine is in that state');
}

export function done(io: Io, flags: CommonFlags, what: string, words: string): void {
  if (flags.json) io.json({ [what]: true });
  else io.line(words);
}

/** The keys must be there and open: nothing is made from here. */
async function useOpen<T>(io: Io, settings: Settings, work: (identity: GatewayIdentity) => Promise<T>): Promise<T> {
  const isRunning = (await readStatus(settings.dataDir)).kind === 'value';
  return useIdentity(settings, async (identity) => {
    await expectOpenable(identity, io.signal);
    return work(identity);
  }, isRunning);
}

/** Throws the lock's code, and `identity.not_open` where keys would have to be made. */
export async function expectOpenable({ keeper }: GatewayIdentity, signal: AbortSignal): Promise<void> {
  const state = await keeper.inspect(signal);
  if (state.at === 'locked') throw new TenzroError(state.code, state.detail);
  if (state.at === 'creating') throw new TenzroError('identity.not_open', 'the gateway has not made its keys yet, or not moved them from an earlier release: start it once');
}

/** `beside`: a gateway runs, so that only a TPM with a resource manager can be used as well. */
export async function useIdentity<T>(settings: Settings, work: (identity: GatewayIdentity) => Promise<T>, beside = false): Promise<T> {
  const source = chooseTpm(settings.attest.tpm, settings.dataDir);
  if (beside && source.kind !== 'none' && source.kind !== 'device') throw new TenzroError('identity.running', 'the running gateway has the TPM to itself');
  await using stack = new AsyncDisposableStack();
  const connection = stack.use(connectTpm(source));
  connection.begin();
  const hasBegun = await chainHasBegun(settings.dataDir);
  return await work(stack.use(openIdentity({ settings, source, tpm: connection.tpm, chainHasBegun: () => hasBegun, clock })));
}

async function chainHasBegun(dataDir: string): Promise<boolean> {
  try {
    await using reader = await openReader(dataDir);
    return reader.blockCount() > 0;
  } catch (error) {
    if (error instanceof TenzroError && error.code.startsWith('ledger.')) return false; // no chain, or one that will be set aside
    throw error;
  }
}

export function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new TenzroError('cli.usage', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}

const WORDS: Readonly<Record<IdentityStatus['state'], string>> = {
  none: 'none yet: the gateway makes its keys at its first block', unasked: 'not asked for yet', ready: 'would open', open: 'open', locked: 'locked: entries are recorded, blocks wait',
};

function statusLines(io: Io, { state, code, detail, hint, protection, unprotected, authority, signingKeyDigest, createdAt, tpmOwned }: IdentityStatus): string[] {
  const lines = [io.paint(WORDS[state], state === 'locked' ? 'red' : state === 'open' ? 'green' : 'yellow')];
  if (code !== null) lines.push(`why        ${printable(detail ?? '')} (${code})`, `do         ${hint ?? ''}`);
  if (protection === 'tpm') lines.push('protection sealed by the TPM to the boot state and the revocation counter', `authority  ${authority ?? ''}`);
  if (tpmOwned === false) lines.push('TPM        not owned: who may use it may also take it over (tenzro identity own, where nobody else uses it)');
  if (protection === 'file') lines.push(`protection none but the mode of the file: ${printable(unprotected ?? '')}`);
  if (signingKeyDigest !== null) lines.push(`key        sha256 ${signingKeyDigest}, made ${createdAt ?? ''}`);
  return lines;
}
