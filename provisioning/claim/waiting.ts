/**
 * Codes that wait to be used, in the folder `claim/` of a data directory: `shown.cbor` lives ten minutes and not beyond a restart of the machine,
 * `printed.cbor` until the gateway is claimed. `tenzro claim show` alone writes them; the gateway reads them, and removes both once it has an owner.
 * A file is deterministic CBOR `[magic, version, code, boot, until]`, then SHA-256 of it, which finds damage (it protects against nobody).
 */
import { readFile } from 'node:fs/promises';
import { uptime } from 'node:os';
import { join } from 'node:path';
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { OwnFolder } from '../ownFolder.ts';
import { decodeClaimCode, encodeClaimCode, type ClaimCode } from './code.ts';

const MAGIC = 'tenzro claim code';
const VERSION = 1;
const HASH_BYTES = 32;
const FILE_BYTES_MAX = 1_024;
export const SHOWN_LIFETIME_MS = 600_000;

const NAME = { shown: 'shown.cbor', printed: 'printed.cbor' } as const;
type Way = keyof typeof NAME;

/** The machine's own time, which nobody sets and every process sees: its boot, and the milliseconds since then (suspended ones too). */
export interface Moment {
  readonly boot: string;
  readonly uptimeMs: number;
}

/** proc(5), random(4). */
export async function momentNow(): Promise<Moment> {
  return { boot: (await readFile('/proc/sys/kernel/random/boot_id', 'latin1')).trim(), uptimeMs: Math.round(uptime() * 1_000) };
}

export interface WaitingCode {
  readonly code: ClaimCode;
  /** Undefined: printed, until the gateway is claimed. */
  readonly until: Moment | undefined;
}

/** Milliseconds that it can still be used, Infinity for a printed one, 0 when it is over. */
export function lifetimeMs({ until }: WaitingCode, now: Moment): number {
  if (!until) return Infinity;
  return until.boot === now.boot ? Math.max(0, Math.min(until.uptimeMs - now.uptimeMs, SHOWN_LIFETIME_MS)) : 0;
}

export const shownFrom = (code: ClaimCode, now: Moment): WaitingCode => ({ code, until: { boot: now.boot, uptimeMs: now.uptimeMs + SHOWN_LIFETIME_MS } });

export class WaitingCodes {
  readonly #folder: OwnFolder;

  constructor(dataDir: string) {
    this.#folder = new OwnFolder(join(dataDir, 'claim'), { codes: { permissions: 'claim.state', damaged: 'claim.state', io: 'claim.state' }, fileBytesMax: FILE_BYTES_MAX });
  }

  /** Those that can be used now, for the gateway with these keys; the caller zeroes their secrets. Throws `claim.state`, `claim.code_newer_version`. */
  async usable(keyDigest: Uint8Array, now: Moment): Promise<Partial<Readonly<Record<Way, WaitingCode>>>> {
    const found: Partial<Record<Way, WaitingCode>> = {};
    for (const way of ['shown', 'printed'] as const) {
      const waiting = await this.#read(way);
      if (!waiting) continue;
      if (equalBytes(waiting.code.keyDigest, keyDigest) && lifetimeMs(waiting, now) > 0) found[way] = waiting;
      else waiting.code.secret.fill(0);
    }
    return found;
  }

  /** Takes the place of the one before, which is worth nothing from then on. */
  async write(waiting: WaitingCode): Promise<void> {
    const body = encodeCbor([MAGIC, VERSION, encodeClaimCode(waiting.code), waiting.until?.boot ?? null, waiting.until?.uptimeMs ?? null]);
    const bytes = Buffer.concat([body, sha256(body)]);
    try {
      await this.#folder.replace(NAME[waiting.until ? 'shown' : 'printed'], bytes);
    } finally {
      body.fill(0);
      bytes.fill(0);
    }
  }

  /** The gateway has an owner, or has just lost one: no code from before works again. */
  async removeAll(): Promise<void> {
    await this.#folder.inSystem('', () => this.#folder.make());
    for (const name of Object.values(NAME)) await this.#folder.remove(name);
  }

  async #read(way: Way): Promise<WaitingCode | undefined> {
    const bytes = await this.#folder.read(NAME[way]);
    if (!bytes) return undefined;
    try {
      return decodeWaiting(bytes, way);
    } finally {
      bytes.fill(0);
    }
  }
}

function decodeWaiting(bytes: Uint8Array, way: Way): WaitingCode {
  const damaged = (why: string): TenzroError => new TenzroError('claim.state', `claim/${NAME[way]} is damaged: ${why}`);
  if (bytes.length <= HASH_BYTES) throw damaged(`it has ${bytes.length} bytes`);
  const body = bytes.subarray(0, -HASH_BYTES);
  if (!equalBytes(sha256(body), bytes.subarray(-HASH_BYTES))) throw damaged('its checksum is wrong');
  const parts = decodeCbor(body);
  const [magic, version, code, boot, uptimeMs] = Array.isArray(parts) ? (parts as readonly Cbor[]) : [];
  if (magic !== MAGIC || typeof version !== 'number' || typeof code !== 'string') throw damaged('it is no waiting code');
  if (version !== VERSION) throw new TenzroError('claim.code_newer_version', `claim/${NAME[way]} has version ${version}, this version reads ${VERSION}`);
  const isShown = typeof boot === 'string' && typeof uptimeMs === 'number';
  if (isShown !== (way === 'shown')) throw damaged('it is under another name');
  return { code: decodeClaimCode(code), until: isShown ? { boot, uptimeMs } : undefined };
}
