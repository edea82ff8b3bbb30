/** `tenzro fleet sign`: prints a signed command, to be published retained on `te/device/main///cmd/<type>/<id>`. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { systemClock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { Json } from '#runtime/core/json.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { claimsOf, parseMessage, signMessage, unsignedMessage, type CommandMessage } from '#runtime/fleet/message.ts';
import type { Io } from '../io.ts';
import { openKeyFile } from './owner.ts';

export interface SignFlags {
  readonly key: string;
  readonly gateway: string;
  readonly type: string;
  readonly id?: string;
  readonly ttl: string;
  readonly params?: string;
  /** File of a command that somebody wrote by hand. */
  readonly message?: string;
  readonly notBefore?: string;
  readonly dryRun?: boolean;
  readonly urgent?: boolean;
  readonly passphraseFile?: string;
}

const UNIT_SECONDS = { s: 1, m: 60, h: 3_600, d: 86_400 } as const;

/** The topic goes to stderr: stdout is the message. What is written in `message` stays as it is; the flags fill in what is missing there. */
export async function fleetSign(io: Io, flags: SignFlags): Promise<void> {
  const written = flags.message === undefined ? {} : messageIn(flags.message);
  for (const name of ['gateway', 'type', 'id'] as const) refuseOther(name, flags[name], written[name]);
  const claims = {
    gateway: flags.gateway, target: MAIN_ENTITY, type: flags.type, id: flags.id ?? randomBytes(8).toString('hex'), issued: Math.floor(systemClock.wallMicros() / 1_000_000), ttlSeconds: secondsOf(flags.ttl),
    ...(flags.notBefore === undefined ? {} : { notBefore: timeOf(flags.notBefore) }), isDryRun: flags.dryRun === true, ...(flags.urgent === true ? { isUrgent: true } : {}), parameters: parametersOf(flags.params ?? '{}'),
  };
  const message = signMessage(await openKeyFile(io, flags.key, flags.passphraseFile), { ...unsignedMessage(claims), ...written, status: 'init' });
  io.json(message);
  io.error(`for te/${MAIN_ENTITY}/cmd/${flags.type}/${claimsOf(message).id}`);
}

/** Throws `cli.usage`, `command.malformed`. */
function messageIn(path: string): CommandMessage {
  try {
    return parseMessage(readFileSync(path));
  } catch (cause) {
    if (cause instanceof TenzroError) throw cause;
    throw new TenzroError('cli.usage', `--message: cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}

/** Whoever names one gateway on the command line signs for no other. */
function refuseOther(name: string, flag: string | undefined, written: Json | undefined): void {
  if (flag !== undefined && written !== undefined && written !== flag) throw new TenzroError('cli.usage', `--${name} is ${flag}, the message says ${JSON.stringify(written)}`);
}

export function secondsOf(text: string): number {
  const [, number, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  if (number === undefined || unit === undefined) throw new TenzroError('cli.usage', `--ttl ${text}: write 60s, 10m, 2h or 3d`);
  return Number(number) * UNIT_SECONDS[unit as keyof typeof UNIT_SECONDS];
}

export function timeOf(text: string): number {
  const millis = Date.parse(text);
  if (Number.isNaN(millis)) throw new TenzroError('cli.usage', `--not-before ${text}: write 2026-11-23T08:00Z`);
  return Math.floor(millis / 1_000);
}

export function parametersOf(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Readonly<Record<string, unknown>>;
  } catch (cause) {
    throw new TenzroError('cli.usage', `--params: ${messageOf(cause)}`, { cause });
  }
  throw new TenzroError('cli.usage', '--params is not a JSON object');
}
