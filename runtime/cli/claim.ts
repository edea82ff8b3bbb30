/** `tenzro claim show|scan|labels|read`: the code by which a gateway is claimed, drawn where it stands and read where the operator is; or the other way round. */
import { readFileSync, writeFileSync } from 'node:fs';
import { MachineWifi } from '#drivers/network/machineWifi.ts';
import { claimKeyDigest, decodeClaimCode, encodeClaimCode, newClaimCode, spacedClaimCode, type Transport } from '#provisioning/claim/code.ts';
import { claimCodeByCamera } from '#provisioning/claim/camera.ts';
import { placesHeard } from '#provisioning/claim/find.ts';
import { decodeFleetCode, FLEET_CODE } from '#provisioning/claim/fleetCode.ts';
import { relay, type RelayEnd } from '#provisioning/claim/lan/relay.ts';
import { labelSheet, type Label } from '#provisioning/claim/labels.ts';
import { claimCodeOn } from '#provisioning/claim/photo.ts';
import { modulesOf, pngOf, terminalLines, type TerminalLook } from '#provisioning/claim/qr.ts';
import { decodeWifiCode, WIFI_CODE, type ScannedNetwork } from '#provisioning/claim/wifiCode.ts';
import { momentNow, SHOWN_LIFETIME_MS, WaitingCodes, shownFrom, type Moment, type WaitingCode } from '#provisioning/claim/waiting.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { printable } from '#runtime/core/printable.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { decodeBlock } from '#runtime/ledger/block.ts';
import { openReader } from '#runtime/ledger/reader.ts';
import { checkClaimable, watchClaim } from './claimWatch.ts';
import { configOf, type CommonFlags, type Io } from './io.ts';
import { read } from './verify.ts';

export interface ShowFlags extends CommonFlags {
  readonly printed?: boolean;
  readonly png?: string;
  readonly ground?: 'dark' | 'light';
  /** Default: on a terminal. */
  readonly wait?: boolean;
}

export interface ReadFlags {
  readonly image?: string;
  readonly code?: string;
  readonly secret?: boolean;
  readonly json?: boolean;
}

export const TRANSPORTS: readonly Transport[] = ['lan'];
const OWNER_ONLY = 0o600;
const PNG_SCALE = 8;
const LABELS_MAX = 1_000;
const STDIN = 0;

/** Beside a running gateway and on a stopped one. A shown code is new each time; a printed one stays the same until the gateway is claimed. */
export async function claimShow(io: Io, flags: ShowFlags): Promise<void> {
  const { settings: { dataDir } } = configOf(flags);
  const keyDigest = await keyDigestOf(dataDir);
  const codes = new WaitingCodes(dataDir);
  const now = await momentNow();
  await checkClaimable(dataDir, now);
  const waiting = flags.printed ? await printedCode(codes, keyDigest, now) : shownFrom(newClaimCode(keyDigest, TRANSPORTS), now);
  try {
    if (waiting.until) await codes.write(waiting);
    tellCode(io, flags, waiting);
  } finally {
    waiting.code.secret.fill(0);
  }
  if (flags.wait ?? (io.isTTY && !flags.json)) await watchClaim(io, dataDir, waiting.until === undefined);
}

async function printedCode(codes: WaitingCodes, keyDigest: Uint8Array, now: Moment): Promise<WaitingCode> {
  const { shown, printed } = await codes.usable(keyDigest, now);
  shown?.code.secret.fill(0);
  if (printed) return printed;
  const made = { code: newClaimCode(keyDigest, TRANSPORTS), until: undefined };
  await codes.write(made);
  return made;
}

function tellCode(io: Io, { json, png, ground }: ShowFlags, { code, until }: WaitingCode): void {
  const text = encodeClaimCode(code);
  if (png !== undefined) writeNew(png, pngOf(modulesOf(text), PNG_SCALE));
  if (json) {
    return io.json({ code: text, kind: until ? 'shown' : 'printed', expiresInSeconds: until ? SHOWN_LIFETIME_MS / 1000 : null, discriminator: code.discriminator, transports: code.transports, keyDigest: toHex(code.keyDigest), file: png ?? null });
  }
  if (png !== undefined) io.line(`${printable(png)}: the code as a picture, for its owner only`);
  else for (const line of terminalLines(modulesOf(text), look(io, ground))) io.line(line);
  io.line(spacedClaimCode(text));
  io.line(until ? `works once, within ${SHOWN_LIFETIME_MS / 60_000} minutes, until the machine restarts or another code is shown` : 'works once, until the gateway is claimed: whoever reads this label may claim it');
  io.line(`the gateway answers to number ${code.discriminator}, its keys are ${toHex(code.keyDigest).slice(0, 16)}…`);
}

const look = (io: Io, ground: ShowFlags['ground']): TerminalLook => ground ?? (io.color ? 'colour' : 'dark');

/** Lines of FILE: a code, a blank, and what its label calls the gateway. */
export function claimLabels(io: Io, file: string, { output, json }: { readonly output: string; readonly json?: boolean }): void {
  const text = file === '-' ? readFileSync(STDIN, 'utf8') : read(file).toString('utf8');
  const labels = text.split('\n').flatMap((line, at) => labelOf(line.trim(), at + 1));
  if (labels.length === 0 || labels.length > LABELS_MAX) throw new TenzroError('cli.usage', `${file === '-' ? 'stdin' : file} holds ${labels.length} codes; a sheet takes 1 to ${LABELS_MAX}`);
  writeNew(output, labelSheet(labels));
  if (json) return io.json({ file: output, labels: labels.length });
  io.line(`${printable(output)}: ${labels.length} ${labels.length === 1 ? 'label' : 'labels'}, 21 to a page of A4 (63.5 mm × 38.1 mm): print it at its true size, for its owner only`);
}

function labelOf(line: string, number: number): readonly Label[] {
  if (line === '') return [];
  const blank = line.search(/\s/);
  const code = blank < 0 ? line : line.slice(0, blank);
  try {
    const decoded = decodeClaimCode(code);
    decoded.secret.fill(0);
    return [{ code: code.toUpperCase(), name: line.slice(code.length).trim() || `no. ${decoded.discriminator}` }];
  } catch (cause) {
    throw cause instanceof TenzroError ? new TenzroError(cause.code, `line ${number}: ${cause.message}`) : cause;
  }
}

/** Says what a code holds; its secret only when asked. */
export async function claimRead(io: Io, { image, code, secret, json }: ReadFlags): Promise<void> {
  if ((image === undefined) === (code === undefined)) throw new TenzroError('cli.usage', 'name either --image FILE or --code CODE (--code - reads it from stdin)');
  const text = image === undefined ? (code === '-' ? readFileSync(STDIN, 'utf8') : code ?? '') : await claimCodeOn(read(image));
  const held = decodeClaimCode(text);
  const shown = secret ? toHex(held.secret) : undefined;
  held.secret.fill(0);
  const keyDigest = toHex(held.keyDigest);
  if (json) return io.json({ version: 1, keyDigest, discriminator: held.discriminator, transports: held.transports, ...(shown === undefined ? {} : { secret: shown }) });
  io.line('claim code      version 1');
  io.line(`keys            ${keyDigest}`);
  io.line(`number          ${held.discriminator}`);
  io.line(`reached by      ${held.transports.map((transport) => WORDS[transport]).join(', ')}`);
  io.line(`one-time secret ${shown ?? 'in it, not shown (--secret shows it)'}`);
}

const WORDS: Readonly<Record<Transport, string>> = { accessPoint: 'its own access point', lan: 'the local network', ble: 'Bluetooth LE' };

/** From the genesis, which is public. Throws `ledger.no_chain`, `claim.not_ready`. */
export async function keyDigestOf(dataDir: string): Promise<Buffer> {
  await using reader = await openReader(dataDir);
  const identity = reader.blockCount() === 0 ? undefined : decodeBlock(reader.block(0).payload).identity;
  if (!identity) throw new TenzroError('claim.not_ready', 'the chain has no block yet, which would name the keys');
  return claimKeyDigest({ signingKey: sha256(identity.signingKey), ...(identity.akPublic ? { ak: sha256(identity.akPublic) } : {}) });
}

/** What a gateway scans: an operator's code, or a network. */
const SCANNED = new RegExp(`${FLEET_CODE.source}|${WIFI_CODE.source}`, 'i');

export interface ScanFlags extends CommonFlags {
  readonly image?: string;
  readonly code?: string;
  readonly camera?: boolean;
}

/**
 * The other direction: what an operator shows (`tenzro fleet claim --show`) becomes this gateway's own waiting code, and bytes go between the running gateway and
 * the operator. The gateway judges the claim as any other.
 */
export async function claimScan(io: Io, flags: ScanFlags): Promise<void> {
  io.catchSignals();
  const { settings: { dataDir } } = configOf(flags);
  const text = await scannedText(io, flags);
  if (WIFI_CODE.test(text.trim())) return joinScanned(io, dataDir, decodeWifiCode(text), flags.json === true);
  const keyDigest = await keyDigestOf(dataDir);
  const { secret, places } = decodeFleetCode(text);
  const code = { ...newClaimCode(keyDigest, TRANSPORTS), secret };
  try {
    await new WaitingCodes(dataDir).write(shownFrom(code, await momentNow()));
  } finally {
    secret.fill(0);
  }
  const gateway = await ownPlace(code.discriminator, io.signal);
  if (!flags.json) io.line('connected: compare the six words that tenzro status shows with those of the operator');
  await relay(gateway, places, io.signal);
  if (flags.json) io.json({ ended: true });
  else io.line('the operator has ended the conversation; tenzro status says whose this gateway is');
}

/** A network for the claim, and no owner: it is on trial, as one that an owner hands over is before it is kept. */
async function joinScanned(io: Io, dataDir: string, network: ScannedNetwork, asJson: boolean): Promise<void> {
  await checkClaimable(dataDir, await momentNow()); // the networks of a gateway that has an owner are the owner's
  const wifi = new MachineWifi();
  const why = await wifi.whyNot(io.signal);
  if (why !== undefined) throw new TenzroError('claim.apply', `there is no Wi-Fi to set up: ${why}`);
  await wifi.try(network, io.signal);
  if (asJson) return io.json({ joined: true, owned: false });
  io.line('this machine has joined the network of the code, until it or the gateway is started again; nobody owns the gateway by that');
  io.line('now claim it: tenzro claim show here; with tenzro fleet claim --wifi the network stays');
}

async function scannedText(io: Io, { image, code, camera }: ScanFlags): Promise<string> {
  if ([image, code, camera].filter((given) => given !== undefined).length !== 1) throw new TenzroError('cli.usage', 'name one of --image FILE, --camera and --code CODE (--code - reads it from stdin)');
  if (image !== undefined) return claimCodeOn(read(image), SCANNED);
  if (code !== undefined) return code === '-' ? readFileSync(STDIN, 'utf8') : code;
  return claimCodeByCamera((why) => { io.error(why); }, io.signal, SCANNED);
}

/** Where the gateway on this machine takes claims: it announces the discriminator that only this machine knows. */
async function ownPlace(discriminator: number, signal: AbortSignal): Promise<RelayEnd> {
  for await (const { address, port, discriminators } of placesHeard(AbortSignal.any([signal, AbortSignal.timeout(LIMITS.claimFindMs)]))) {
    if (discriminators.includes(discriminator)) return { host: address, port };
  }
  throw new TenzroError('claim.not_found', 'the gateway on this machine takes no claims: is it running, and free?');
}

/** Whoever reads it may claim a gateway; what is there already is left alone. */
export function writeNew(path: string, bytes: Uint8Array): void {
  try {
    writeFileSync(path, bytes, { flag: 'wx', mode: OWNER_ONLY });
  } catch (cause) {
    throw new TenzroError('cli.usage', `cannot write ${path}: ${messageOf(cause)}`, { cause });
  }
}
