/**
 * What firmware and kernel measured since boot, as the kernel's securityfs shows it: the TCG event log and IMA's measurement list. Both files are
 * for root (Linux security/integrity/ima/ima_fs.c, drivers/char/tpm/eventlog/common.c: mode 0440); docs/reference/measured-boot.md says how a
 * service user gets to read them. IMA's ASCII form has the same rights, so that it would help nobody.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Maybe } from '#runtime/core/types.ts';

const BOOT_LOG = 'sys/kernel/security/tpm0/binary_bios_measurements';
const IMA_LOG = 'sys/kernel/security/ima/binary_runtime_measurements';
const READ_BYTES = 64 * 1024;

export interface BootLogOptions {
  /** Folder that holds `sys`; tests bring their own. Default `/`. */
  readonly root?: string;
  /** A longer log is absent, with that as its reason. */
  readonly maxBytes: number;
}

/** The TCG event log. Rejects with `core.system` when it is there and reading it fails. */
export async function readBootLog({ root = '/', maxBytes }: BootLogOptions): Promise<Maybe<Buffer>> {
  return readLog(join(root, BOOT_LOG), 0, maxBytes, 'this machine does not measure its boot: its firmware keeps no event log (a Raspberry Pi\'s has none), or the kernel sees no TPM');
}

/** IMA's measurement list from byte `from` on: it only grows. Rejects as `readBootLog` does. */
export async function readImaLog({ root = '/', maxBytes }: BootLogOptions, from: number): Promise<Maybe<Buffer>> {
  return readLog(join(root, IMA_LOG), from, maxBytes, 'this kernel does not measure files (no IMA), or securityfs is not mounted');
}

async function readLog(path: string, from: number, maxBytes: number, absence: string): Promise<Maybe<Buffer>> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
    if (code === 'ENOENT' || code === 'ENOTDIR') return { kind: 'none', reason: absence };
    if (code === 'EACCES' || code === 'EPERM') return { kind: 'none', reason: `this user may not read ${path}: see docs/reference/measured-boot.md` };
    throw new TenzroError('core.system', `cannot open ${path}`, { cause });
  }
  try {
    return await readRest(file, path, from, maxBytes);
  } catch (cause) {
    throw cause instanceof TenzroError ? cause : new TenzroError('core.system', `cannot read ${path}`, { cause });
  } finally {
    await file.close();
  }
}

/** Files of securityfs state no size: read until nothing comes. */
async function readRest(file: FileHandle, path: string, from: number, maxBytes: number): Promise<Maybe<Buffer>> {
  const parts: Buffer[] = [];
  let sizeBytes = 0;
  for (;;) {
    const part = Buffer.allocUnsafe(READ_BYTES);
    const { bytesRead } = await file.read(part, 0, READ_BYTES, from + sizeBytes);
    if (bytesRead === 0) return { kind: 'value', value: Buffer.concat(parts, sizeBytes) };
    sizeBytes += bytesRead;
    if (sizeBytes > maxBytes) return { kind: 'none', reason: `${path} is longer than ${maxBytes} bytes: it is not recorded` };
    parts.push(part.subarray(0, bytesRead));
  }
}
