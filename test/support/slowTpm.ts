/** A TPM that takes its time to sign, as hardware does: swtpm behind a proxy that holds back the answers to signing commands. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startTpm } from './swtpm.ts';

/** TPM 2.0 Part 2 §6.5.2: TPM2_Quote, TPM2_NV_Certify, TPM2_Sign, TPM2_Certify. */
const SIGNING = new Set([0x158, 0x184, 0x15d, 0x148]);
/** TPM 2.0 Part 1 §18.2: tag u16, size u32, command code u32. */
const HEADER_BYTES = 10;

export interface SlowTpm extends AsyncDisposable {
  /** For attest.tpm.path with mode `socket`. */
  readonly address: string;
  /** Signing commands so far. */
  readonly signed: () => number;
}

/** `program`: path of swtpm. A command and its answer fit one chunk each: one client, one command at a time. */
export async function startSlowTpm(program: string, signMs: number): Promise<SlowTpm> {
  await using stack = new AsyncDisposableStack();
  const tpm = stack.use(await startTpm(program));
  const address = join(tpm.folder, 'slow.sock');
  let signed = 0;
  const serve = (client: Socket): void => {
    const behind = connect(tpm.address);
    let isSigning = false;
    client.on('data', (command) => {
      isSigning = command.length >= HEADER_BYTES && SIGNING.has(command.readUInt32BE(6));
      if (isSigning) signed++;
      behind.write(command);
    });
    behind.on('data', (answer) => {
      void delay(isSigning ? signMs : 0).then(() => client.write(answer));
    });
    for (const [one, other] of [[client, behind], [behind, client]] as const) one.on('error', () => other.destroy()).on('close', () => other.destroy());
  };
  const server = createServer(serve).listen(address);
  await once(server, 'listening');
  stack.defer(() => { server.close(); });
  const owned = stack.move();
  return { address, signed: () => signed, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
