/** Everything around a gateway at its slowest: a disk that takes its time to flush, and a TPM that takes its time to sign. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { GatewayOptions } from './gateway.ts';
import { compile } from './native.ts';
import { startSlowTpm } from './slowTpm.ts';
import { tempDir } from './temp.ts';

export interface Hardship extends AsyncDisposable {
  readonly options: Required<Pick<GatewayOptions, 'env' | 'configFile'>>;
  readonly signed: () => number;
}

/** `swtpm`: path of the program. Needs a C compiler. Blocks are sealed every second, so that the slow TPM is busy. */
export async function hardship({ swtpm, flushMs, signMs }: { readonly swtpm: string; readonly flushMs: number; readonly signMs: number }): Promise<Hardship> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(tempDir('hardship'));
  const tpm = stack.use(await startSlowTpm(swtpm, signMs));
  const library = compile('test/fault/slowdisk.c', join(dir.path, 'slowdisk.so'), ['-shared', '-fPIC']);
  const configFile = join(dir.path, 'tenzro.yaml');
  writeFileSync(configFile, `attest:\n  intervalMs: 1000\n  tpm:\n    mode: socket\n    path: ${tpm.address}\n`);
  const owned = stack.move();
  return { options: { configFile, env: { LD_PRELOAD: library, SLOWDISK_MS: String(flushMs) } }, signed: tpm.signed, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
