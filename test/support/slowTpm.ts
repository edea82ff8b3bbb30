/** A TPM that takes its time to sign, as hardware does: swtpm behind a proxy that holds back the answers to signing commands. */
import { COMMAND, HEADER_BYTES } from '#drivers/tpm2/constants.ts';
import { startTpm } from './swtpm.ts';
import { tpmProxy } from './tpmProxy.ts';

const SIGNING: ReadonlySet<number> = new Set([COMMAND.quote, COMMAND.nvCertify]);

export interface SlowTpm extends AsyncDisposable {
  /** For attest.tpm.path with mode `socket`. */
  readonly address: string;
  /** Signing commands so far. */
  readonly signed: () => number;
}

/** `program`: path of swtpm. */
export async function startSlowTpm(program: string, signMs: number): Promise<SlowTpm> {
  await using stack = new AsyncDisposableStack();
  const tpm = stack.use(await startTpm(program));
  let signed = 0;
  const proxy = stack.use(await tpmProxy(tpm.address, { holdMs: (command) => {
    if (command.length < HEADER_BYTES || !SIGNING.has(command.readUInt32BE(6))) return 0;
    signed++;
    return signMs;
  } }));
  const owned = stack.move();
  return { address: proxy.address, signed: () => signed, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
