/** The one connection to the TPM that a configuration means. */
import type { TpmSource } from './source.ts';
import { Tpm } from './tpm.ts';

export interface TpmConnection extends AsyncDisposable {
  /** Undefined where there is no TPM. */
  readonly tpm: Tpm | undefined;
  /** Somebody uses it from here on: an own emulator is then shut down in order at the end. */
  begin(): void;
}

const SHUTDOWN_MS = 2_000;

/** Connects at the first command. An own emulator is shut down in order, so that its clock is safe at the next start; a real TPM outlives us. */
export function connectTpm(source: TpmSource): TpmConnection {
  if (source.kind === 'none') return { tpm: undefined, begin: () => undefined, [Symbol.asyncDispose]: async () => undefined };
  const tpm = new Tpm(source.transport);
  let isUsed = false;
  return {
    tpm,
    begin: () => { isUsed = true; },
    async [Symbol.asyncDispose]() {
      if (isUsed && source.kind === 'emulated') await tpm.shutdown(AbortSignal.timeout(SHUTDOWN_MS)).catch(() => undefined); // it ends all the same
      await tpm[Symbol.asyncDispose]();
    },
  };
}
