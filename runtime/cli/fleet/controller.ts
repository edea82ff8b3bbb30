/** `tenzro fleet init|serve`: the controller that verifies, keeps and receipts the chains of a fleet. */
import { hostname } from 'node:os';
import { systemClock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { runController } from '#runtime/controllerMain.ts';
import { buildHouse, filesOf } from '#runtime/controller/house.ts';
import { thumbprintOf } from '#runtime/crypto/jws.ts';
import { allowsColor, type Io } from '../io.ts';
import { readNewPassphrase, readPassphrase } from './passphrase.ts';

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
  readonly broker?: string;
  readonly ca?: string;
  readonly user?: string;
  readonly passwordFile?: string;
  readonly passphraseFile?: string;
}

export async function fleetServe(io: Io, { dir, broker = '', ca, user, passwordFile, passphraseFile, json }: ServeFlags): Promise<void> {
  if (!/^mqtts?:\/\//.test(broker) || !URL.canParse(broker)) throw new TenzroError('cli.usage', `'${broker}' is not mqtts://host:port`);
  const passphrase = await readPassphrase(io, passphraseFile);
  io.catchSignals();
  await runController({
    dir, passphrase, broker, ...(ca === undefined ? {} : { caFile: ca }), ...(user === undefined ? {} : { user }), ...(passwordFile === undefined ? {} : { passwordFile }),
    logForm: io.isTTY ? 'people' : 'json', color: allowsColor(process.stderr.isTTY),
    onReady: (ready) => {
      if (json) io.json(ready);
      else io.line(`controller ready on ${printable(ready.broker)} (${ready.keyExchange}), ${ready.chains} chains, receipt key ${ready.receiptKey}`);
    },
  }, io.signal);
}

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
