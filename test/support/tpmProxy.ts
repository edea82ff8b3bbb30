/** Stands between our driver and a TPM emulator, and spoils what passes. One client, like swtpm itself. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { HEADER_BYTES } from '#drivers/tpm2/constants.ts';
import { tempDir } from './temp.ts';

/** What happens to one exchange. `answer`: this goes back instead, and the TPM never sees the command. */
export type Fault =
  | { readonly kind: 'answer'; readonly response: Buffer }
  | { readonly kind: 'alter'; readonly alter: (response: Buffer) => Buffer }
  /** The TPM carries the command out, and the connection ends in place of a response. */
  | { readonly kind: 'disconnect' }
  | { readonly kind: 'silence' };

export interface TpmProxy extends AsyncDisposable {
  readonly address: string;
  /** For the next exchanges, in order; those after them pass. */
  readonly faults: Fault[];
  /** Commands that the TPM saw. */
  readonly passed: () => number;
}

/** A response that is only a code. */
export function refusal(code: number): Fault {
  const response = Buffer.from('80010000000a00000000', 'hex');
  response.writeUInt32BE(code, 6);
  return { kind: 'answer', response };
}

/** `holdMs`: for how long the answer to a command is held back. */
export async function tpmProxy(tpmAddress: string, holdMs: (command: Buffer) => number = () => 0): Promise<TpmProxy> {
  const dir = tempDir('tpm-proxy');
  const address = join(dir.path, 'proxy.sock');
  const faults: Fault[] = [];
  const clients = new Set<Socket>();
  let passed = 0;
  const server = createServer((client) => {
    const tpm = connect(tpmAddress);
    clients.add(client);
    client.on('close', () => { clients.delete(client); tpm.destroy(); });
    client.on('error', () => client.destroy());
    tpm.on('error', () => client.destroy());
    tpm.on('close', () => client.destroy());
    let fault: Fault | undefined;
    let heldMs = 0;
    client.on('data', (command: Buffer) => {
      fault = faults.shift();
      if (fault?.kind === 'silence') return;
      if (fault?.kind === 'answer') return void client.write(fault.response);
      passed += 1;
      heldMs = holdMs(command);
      tpm.write(command);
    });
    let response: Buffer = Buffer.alloc(0);
    tpm.on('data', (chunk: Buffer) => {
      response = Buffer.concat([response, chunk]);
      if (response.length < HEADER_BYTES || response.length < response.readUInt32BE(2)) return;
      const whole = response;
      response = Buffer.alloc(0);
      if (fault?.kind === 'disconnect') return void client.destroy();
      const answer = fault?.kind === 'alter' ? fault.alter(whole) : whole;
      if (heldMs === 0) client.write(answer);
      else setTimeout(() => client.write(answer), heldMs);
    });
  });
  server.listen(address);
  await once(server, 'listening');
  return {
    address, faults, passed: () => passed,
    [Symbol.asyncDispose]: async () => {
      for (const client of clients) client.destroy();
      server.close();
      await once(server, 'close');
      dir[Symbol.dispose]();
    },
  };
}
