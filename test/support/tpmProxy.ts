/** Stands between our driver and a TPM, and spoils what passes. */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { transportTo } from './swtpm.ts';
import { tempDir } from './temp.ts';

const NEVER = new AbortController().signal;

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
  /** What came from the driver, the newest COMMANDS_KEPT. */
  readonly commands: readonly Buffer[];
}

const COMMANDS_KEPT = 64;

/** A response that is only a code. */
export function refusal(code: number): Fault {
  const response = Buffer.from('80010000000a00000000', 'hex');
  response.writeUInt32BE(code, 6);
  return { kind: 'answer', response };
}

/** One exchange in hostile hands: what goes back for `command`. `ask` is the TPM, for this command or any other, any number of times. */
export type Meddle = (command: Buffer, ask: (command: Buffer) => Promise<Buffer>) => Promise<Buffer>;

export const honest: Meddle = (command, ask) => ask(command);

/** `tpmAddress`: as `transportTo` takes it. `holdMs`: for how long the answer to a command is held back. */
export async function tpmProxy(tpmAddress: string, { holdMs = () => 0, meddle = honest }: { readonly holdMs?: (command: Buffer) => number; readonly meddle?: Meddle } = {}): Promise<TpmProxy> {
  const dir = tempDir('tpm-proxy');
  const address = join(dir.path, 'proxy.sock');
  const faults: Fault[] = [];
  const clients = new Set<Socket>();
  const commands: Buffer[] = [];
  let passed = 0;
  const server = createServer((client) => {
    const tpm = transportTo(tpmAddress);
    clients.add(client);
    client.on('close', () => { clients.delete(client); void tpm[Symbol.asyncDispose](); });
    client.on('error', () => client.destroy());
    const pass = async (command: Buffer, fault: Fault | undefined): Promise<void> => {
      passed += 1;
      const heldMs = holdMs(command);
      const response = await meddle(command, (asked) => tpm.transact(asked, NEVER));
      if (fault?.kind === 'disconnect') return void client.destroy();
      const answer = fault?.kind === 'alter' ? fault.alter(response) : response;
      if (heldMs === 0) client.write(answer);
      else setTimeout(() => client.write(answer), heldMs);
    };
    client.on('data', (command: Buffer) => {
      commands.push(command);
      if (commands.length > COMMANDS_KEPT) commands.shift();
      const fault = faults.shift();
      if (fault?.kind === 'silence') return;
      if (fault?.kind === 'answer') return void client.write(fault.response);
      pass(command, fault).catch(() => client.destroy()); // the TPM is gone
    });
  });
  server.listen(address);
  await once(server, 'listening');
  return {
    address, faults, commands, passed: () => passed,
    [Symbol.asyncDispose]: async () => {
      for (const client of clients) client.destroy();
      server.close();
      await once(server, 'close');
      dir[Symbol.dispose]();
    },
  };
}
