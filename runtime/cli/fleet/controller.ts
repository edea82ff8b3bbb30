/** `tenzro fleet init|serve|status|broker-user`: the controller that verifies, keeps and receipts the chains of a fleet. */
import { hostname } from 'node:os';
import { systemClock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { hashPassword } from '#runtime/broker/auth.ts';
import { runController, type ControllerOptions } from '#runtime/controllerMain.ts';
import { callController } from '#runtime/controller/apiClient.ts';
import { buildHouse, filesOf, settingsIn } from '#runtime/controller/house.ts';
import { PERSON_NAME, writePerson } from '#runtime/controller/people.ts';
import { thumbprintOf } from '#runtime/crypto/jws.ts';
import { allowsColor, type Io } from '../io.ts';
import { readNewPassphrase, readPassphrase, readSecret } from './passphrase.ts';
import { servingLines } from './serving.ts';

export interface DirFlags {
  readonly dir: string;
  readonly json?: boolean;
}

export interface InitFlags extends DirFlags {
  readonly name?: string;
  readonly host?: readonly string[];
  readonly open?: boolean;
  readonly passphraseFile?: string;
}

/** RFC 1123 §2.1 names and literal addresses; what a certificate can hold and a gateway can dial. */
const HOST = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45})$/;

export async function fleetInit(io: Io, { dir, name = hostname(), host = [], open = false, passphraseFile, json }: InitFlags): Promise<void> {
  const wrong = host.find((one) => !HOST.test(one));
  if (wrong !== undefined) throw new TenzroError('cli.usage', `'${wrong}' is neither a host name nor an address`);
  const passphrase = await readNewPassphrase(io, passphraseFile);
  try {
    const { receiptKey, ownerKeys } = await buildHouse({ dir, name, hosts: host, isOpen: open, policy: SAMPLE_POLICY, passphrase, nowMs: Math.floor(systemClock.wallMicros() / 1_000) });
    const { owners: [first, second], ca, policy } = filesOf(dir);
    if (json) return io.json({ dir, receiptKey, ca, policy, owners: [first, second].map((file, at) => ({ file, kid: thumbprintOf(ownerKeys[at] ?? new Uint8Array()) })) });
    for (const line of [
      `${printable(dir)}: keys, certificates and policy of the fleet ${printable(name)}. Whoever has owner-1.key or owner-2.key and the passphrase commands every gateway; serve opens neither.`,
      `1. Carry ${printable(second)} elsewhere, and keep the passphrase: a gateway whose owner keys are lost has to be reset where it stands.`,
      `2. Read ${printable(policy)}: it says how well gateways must show what they are, and how to allow emulated TPMs for a try-out.`,
      `3. Serve, and claim gateways beside it:  tenzro fleet serve --dir ${printable(dir)}`,
    ]) io.line(line);
  } finally {
    passphrase.fill(0);
  }
}

export interface ServeFlags extends DirFlags {
  readonly listen?: string;
  readonly broker?: string;
  readonly ca?: string;
  readonly user?: string;
  readonly passwordFile?: string;
  readonly passphraseFile?: string;
}

export async function fleetServe(io: Io, { dir, passphraseFile, json, ...where }: ServeFlags): Promise<void> {
  const broker = brokerOf(where);
  const passphrase = await readPassphrase(io, passphraseFile);
  io.catchSignals();
  await runController({
    dir, passphrase, broker, logForm: io.isTTY ? 'people' : 'json', color: allowsColor(process.stderr.isTTY),
    onReady: (ready) => {
      if (json) io.json(ready);
      else io.line(`controller ready on ${printable(ready.broker)} (${'url' in broker ? ready.keyExchange : 'its own broker'}), ${ready.chains} chains, receipt key ${ready.receiptKey}`);
    },
  }, io.signal);
}

function brokerOf({ listen, broker, ca, user, passwordFile }: Omit<ServeFlags, 'dir'>): ControllerOptions['broker'] {
  if (broker === undefined) {
    if (ca !== undefined || user !== undefined || passwordFile !== undefined) throw new TenzroError('cli.usage', '--ca, --user and --password-file are for a broker that others run: name it with --broker');
    return parseListen(listen ?? DEFAULT_LISTEN);
  }
  if (listen !== undefined) throw new TenzroError('cli.usage', '--listen is for the own broker, --broker for another: choose one');
  if (!/^mqtts?:\/\//.test(broker) || !URL.canParse(broker)) throw new TenzroError('cli.usage', `'${broker}' is not mqtts://host:port`);
  return { url: broker, ...(ca === undefined ? {} : { caFile: ca }), ...(user === undefined ? {} : { user }), ...(passwordFile === undefined ? {} : { passwordFile }) };
}

const DEFAULT_LISTEN = '0.0.0.0:8883';
const PORT_MAX = 65_535;

function parseListen(text: string): { readonly host: string; readonly port: number } {
  const [, bracketed, plain, digits = ''] = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || Number(digits) > PORT_MAX) throw new TenzroError('cli.usage', `--listen ${text}: write host:port, as ${DEFAULT_LISTEN} or [::]:8883`);
  return { host, port: Number(digits) };
}

export async function fleetStatus(io: Io, { dir, json }: DirFlags): Promise<void> {
  const status = await callController(dir, 'controller.status', {}, { signal: io.signal });
  if (json) return io.json(status);
  for (const line of servingLines(io, status)) io.line(line);
}

export interface UserFlags extends DirFlags {
  readonly passwordFile?: string;
  readonly remove?: boolean;
}

/** Takes effect on a running controller within seconds. */
export async function fleetBrokerUser(io: Io, name: string, { dir, passwordFile, remove = false, json }: UserFlags): Promise<void> {
  if (!PERSON_NAME.test(name)) throw new TenzroError('cli.usage', 'a user name is 1 to 64 letters, digits, _ . @ and -');
  await settingsIn(dir);
  const hash = remove ? undefined : await hashOf(io, passwordFile);
  if (!(await writePerson(filesOf(dir).users, name, hash))) throw new TenzroError('controller.unknown', `no user is called ${name} here`);
  if (json) io.json({ name, removed: remove });
  else io.line(remove ? `${name} may not come in any more` : `${name} may look on:  mosquitto_sub -h HOST -p 8883 --cafile ${printable(filesOf(dir).ca)} -u ${name} -P … -t 'te/#' -v`);
}

async function hashOf(io: Io, passwordFile: string | undefined): Promise<string> {
  const password = await readSecret(io, 'Password (not shown): ', passwordFile);
  try {
    if (password.length < PASSWORD_BYTES_MIN) throw new TenzroError('cli.usage', `a password has ${PASSWORD_BYTES_MIN} characters or more`);
    return await hashPassword(password.toString('utf8'));
  } finally {
    password.fill(0);
  }
}

const PASSWORD_BYTES_MIN = 8;

const SAMPLE_POLICY = `# What this fleet asks of its gateways' chains (docs/reference/verifier-checks.md, "Policy file"). Read again whenever the file changes.
version: 1

# How well a gateway must show that its keys live in hardware. dtpm: a TPM whose maker vouches for it. enrolled: a TPM that an enroller saw prove itself, as each
# claim does. A gateway that falls short is refused: it goes on recording, and its chain is taken once it (or this policy) is mended.
accept: [dtpm, enrolled]
shortfall: refuse

# For a try-out without hardware, allow TPMs that are programs (a copy of the disk is a copy of the gateway), or no TPM at all:
# accept: [dtpm, enrolled, emulated]
# accept: [dtpm, enrolled, emulated, software]
`;
