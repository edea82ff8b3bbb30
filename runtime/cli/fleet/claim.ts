/** `tenzro fleet claim`: makes a gateway ours by its code, and waits until the controller has receipted its first block. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { claimCodeByCamera } from '#provisioning/claim/camera.ts';
import { ClaimStore } from '#provisioning/claim/claimStore.ts';
import { decodeClaimCode, type ClaimCode } from '#provisioning/claim/code.ts';
import { isBrokerPassword } from '#provisioning/claim/handOver.ts';
import { claimCodeOn } from '#provisioning/claim/photo.ts';
import { Claimer, type ClaimerOptions, type ClaimStep, type ClaimWishes } from '#runtime/claimer.ts';
import type { DeviceView } from '#runtime/claimJudge.ts';
import { FleetOffice } from '#runtime/controller/claimClient.ts';
import { derOfFile } from '#runtime/crypto/certificatePath.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { loadPolicy } from '#runtime/policyFile.ts';
import { EXIT, type Io } from '../io.ts';
import { read } from '../verify.ts';
import { openOwnerKey, otherKeyOf } from './owner.ts';
import { firstLineOf, readSecret } from './passphrase.ts';
import { showAndWait } from './show.ts';

export interface ClaimFlags {
  readonly dir: string;
  readonly code?: string;
  readonly image?: string;
  readonly camera?: boolean;
  readonly resume?: boolean;
  readonly show?: boolean;
  readonly listen?: string;
  readonly png?: string;
  readonly name?: string;
  readonly address?: string;
  readonly wifi?: string;
  readonly wifiFile?: string;
  readonly broker?: string;
  readonly brokerCa?: string;
  readonly brokerPasswordFile?: string;
  readonly key?: string;
  readonly passphraseFile?: string;
  readonly policy?: string;
  readonly yes?: boolean;
  readonly json?: boolean;
}

const STDIN = 0;
const FIRST_BLOCK_MS = 60_000;

export async function fleetClaim(io: Io, flags: ClaimFlags): Promise<void> {
  io.catchSignals();
  const code = flags.resume || flags.show ? undefined : await codeOf(io, flags);
  const [networks, broker] = [await networksOf(io, flags), brokerOf(flags)];
  const owner = await openOwnerKey(io, flags);
  const begunMicros = systemClock.wallMicros();
  const watch = new Watch(io, flags.json === true);
  const options: ClaimerOptions = {
    office: await FleetOffice.open(flags.dir, owner.publicKey), store: new ClaimStore(flags.dir), owner, otherOwnerKey: otherKeyOf(flags.dir, owner.publicKey),
    policy: loadPolicy(flags.policy ?? join(flags.dir, 'policy.yaml')).policy, clock: systemClock, onStep: (step) => { watch.step(step); },
    confirm: (view) => confirm(io, view, flags), note: (why, detail) => { watch.note(why, detail); },
  };
  const claimer = new Claimer(options);
  await resumeAll(io, claimer, flags, watch);
  if (!code && !flags.show) return;
  const wishes: ClaimWishes = { networks, ...broker, ...(flags.name === undefined ? {} : { name: flags.name }), ...(flags.address === undefined ? {} : { address: flags.address }) };
  try {
    const gateway = code ? await claimer.claim(code, wishes, io.signal) : await showAndWait(io, options, wishes, flags);
    await claimer.receipted(flags.dir, gateway, begunMicros, AbortSignal.any([io.signal, AbortSignal.timeout(FIRST_BLOCK_MS)])).catch((cause: unknown) => {
      if (cause instanceof TenzroError) throw cause;
      throw new TenzroError('claim.no_block', `${gateway} is yours, and no block of it came within ${FIRST_BLOCK_MS / 1_000} s`, { cause });
    });
    watch.end(gateway);
  } finally {
    code?.secret.fill(0);
  }
}

/** What an earlier run left open comes first; only with `--resume` a gateway that does not answer is a fault. */
async function resumeAll(io: Io, claimer: Claimer, { dir, resume }: ClaimFlags, watch: Watch): Promise<void> {
  const pending = await new ClaimStore(dir).pending();
  if (resume && pending.length === 0) io.line('nothing is pending');
  for (const claim of pending) {
    try {
      const outcome = await claimer.resume(claim, io.signal);
      watch.resumed(claim.gateway, outcome);
    } catch (error) {
      if (!(error instanceof TenzroError) || error.code !== 'claim.not_found') throw error;
      io.error(`${printable(claim.gateway)} was handed everything, and does not answer now: it may be yours. tenzro fleet claim --resume --dir ${printable(dir)} asks again.`);
      if (resume) io.exitCode = EXIT.problem;
    }
  }
}

async function codeOf(io: Io, { code, image, camera }: ClaimFlags): Promise<ClaimCode> {
  if ([code, image, camera].filter((given) => given !== undefined).length !== 1) throw new TenzroError('cli.usage', 'name one of --code CODE (--code - reads it from stdin), --image FILE, --camera, --show and --resume');
  if (image !== undefined) return decodeClaimCode(await claimCodeOn(read(image)));
  if (code !== undefined) return decodeClaimCode(code === '-' ? readFileSync(STDIN, 'utf8') : code);
  io.error('hold the code before the camera (Ctrl-C ends it)');
  return decodeClaimCode(await claimCodeByCamera((why) => { io.error(why); }, io.signal));
}

async function networksOf(io: Io, { wifi, wifiFile }: ClaimFlags): Promise<{ readonly ssid: Uint8Array; readonly passphrase: string }[]> {
  if (wifi === undefined) return [];
  const passphrase = await readSecret(io, `Passphrase of ${printable(wifi)} (not shown): `, wifiFile);
  const networks = [{ ssid: Buffer.from(wifi), passphrase: passphrase.toString('latin1') }];
  passphrase.fill(0);
  return networks;
}

/** A broker that others run: its authority, and a password for the gateway's own name. */
function brokerOf({ broker, brokerCa, brokerPasswordFile }: ClaimFlags): Pick<ClaimWishes, 'broker' | 'brokerCa' | 'brokerPassword'> {
  const [ca] = brokerCa === undefined ? [] : derOfFile(read(brokerCa), 1) ?? [];
  if (brokerCa !== undefined && !ca) throw new TenzroError('cli.usage', `--broker-ca ${brokerCa} is not one certificate`);
  const password = brokerPasswordFile === undefined ? undefined : firstLineOf(brokerPasswordFile).toString('latin1');
  if (password !== undefined && !isBrokerPassword(password)) throw new TenzroError('cli.usage', '--broker-password-file: a password that is handed over has 8 to 128 printable ASCII characters without spaces');
  return { ...(broker === undefined ? {} : { broker }), ...(ca ? { brokerCa: ca } : {}), ...(password === undefined ? {} : { brokerPassword: password }) };
}

/** Trust on first use is said and asked for; and so is a gateway that came by itself, whose keys no code named. */
async function confirm(io: Io, { isFirstUse }: DeviceView, { yes, show }: ClaimFlags): Promise<boolean> {
  if (!show && (yes || !isFirstUse)) return true;
  using lines = createInterface({ input: process.stdin, output: process.stderr });
  const { promise, resolve } = Promise.withResolvers<string>();
  lines.once('close', () => { resolve(''); });
  const asked = `${isFirstUse ? 'No maker vouches for its keys: they are believed on first use. ' : ''}Does the gateway show the same six words, and shall it be yours? [y/N] `;
  const answer = await Promise.race([lines.question(asked, { signal: io.signal }), promise]);
  return /^y(es)?$/i.test(answer.trim());
}

/** Tells the steps, with the seconds since the beginning. */
class Watch {
  readonly #io: Io;
  readonly #asJson: boolean;
  readonly #begunMs = performance.now();

  constructor(io: Io, asJson: boolean) { [this.#io, this.#asJson] = [io, asJson]; }

  step(step: ClaimStep): void {
    if (this.#asJson) this.#io.json({ seconds: this.#seconds(), ...step, step: step.kind });
    else for (const line of linesOf(step)) this.#say(line);
  }

  note(code: string, detail: string): void { if (!this.#asJson) this.#io.error(`${code}: ${printable(detail)}`); }

  resumed(gateway: string, outcome: 'owned' | 'failed'): void {
    if (this.#asJson) this.#io.json({ gateway, resumed: outcome });
    else this.#say(outcome === 'owned' ? `${printable(gateway)}: the claim of before made it yours` : `${printable(gateway)}: the claim of before came to nothing`);
  }

  end(gateway: string): void {
    if (this.#asJson) this.#io.json({ gateway, seconds: this.#seconds() });
    else this.#io.line(this.#io.paint(`${printable(gateway)} is yours: claimed and its first block receipted in ${this.#seconds()} s`, 'green'));
  }

  #say(line: string): void { this.#io.line(`${this.#seconds().toFixed(1).padStart(5)} s  ${line}`); }
  #seconds(): number { return Math.round((performance.now() - this.#begunMs) / 100) / 10; }
}

function linesOf(step: ClaimStep): readonly string[] {
  switch (step.kind) {
    case 'looking': return [`looking for number ${step.discriminator} on this network`];
    case 'connected': return [`connected to ${printable(step.address)}`];
    case 'passed': return [`passed over ${printable(step.address)}: ${printable(step.why)}`];
    case 'words': return [
      `${printable(step.gateway)} has the keys of the code`, `  trust  ${step.device.level}${step.device.isFirstUse ? ', on first use' : ''}`, `  TPM    ${printable(step.device.tpm)}`, `  boot   ${step.device.boot}`,
      `  words  ${step.words}   (the gateway shows the same)`,
    ];
    case 'handing': return ['handing over: owner keys, broker, certificates, time'];
    case 'asking': return ['asking what became of the claim'];
    case 'owned': return ['the gateway says, signed, that it is yours'];
    case 'receipted': return [`${step.blocks} ${step.blocks === 1 ? 'block' : 'blocks'} receipted`];
  }
}
