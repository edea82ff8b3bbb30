/** Which TPM a configuration means. Nothing is opened here: a transport connects at its first command. */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import type { AttestSettings } from '#runtime/core/settings.ts';
import { findSwtpm, swtpmTransport, type StartChild } from './swtpm.ts';
import { deviceTransport, socketTransport, type Transport } from './transport.ts';

/** The kernel's device with a resource manager. */
const DEFAULT_DEVICE = '/dev/tpmrm0';

export type TpmSource =
  | { readonly kind: 'device' | 'socket' | 'emulated'; readonly description: string; readonly transport: Transport }
  | { readonly kind: 'none'; readonly reason: string };

/** `auto`: the kernel's TPM, else an own emulator with its state under `dataDir`, else none. */
export function chooseTpm({ mode, path }: AttestSettings['tpm'], dataDir: string, startChild?: StartChild): TpmSource {
  const device = path === '' ? DEFAULT_DEVICE : path;
  switch (mode) {
    case 'none': return { kind: 'none', reason: 'the configuration says attest.tpm.mode: none' };
    case 'socket': return { kind: 'socket', description: `the TPM behind ${path}`, transport: socketTransport(path) };
    case 'device': return { kind: 'device', description: device, transport: deviceTransport(device) };
    case 'emulated': return emulated(dataDir, startChild);
    case 'auto': return automatic(dataDir, startChild);
  }
}

function automatic(dataDir: string, startChild: StartChild | undefined): TpmSource {
  if (isUsable(DEFAULT_DEVICE)) return { kind: 'device', description: DEFAULT_DEVICE, transport: deviceTransport(DEFAULT_DEVICE) };
  if (findSwtpm() !== undefined) return emulated(dataDir, startChild);
  return { kind: 'none', reason: `no ${DEFAULT_DEVICE} that this user may open, and no swtpm installed (apt-get install swtpm emulates one)` };
}

const emulated = (dataDir: string, startChild: StartChild | undefined): TpmSource =>
  ({ kind: 'emulated', description: 'an own TPM emulator (swtpm): good for development, proves nothing about hardware', transport: swtpmTransport(join(dataDir, 'swtpm'), { startChild }) });

function isUsable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
