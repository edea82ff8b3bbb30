/** Carries bytes between the gateway on this machine and an operator who waits elsewhere. It sees what anybody on the network would see, and can do no more. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';

const CONNECT_MS = 5_000;

export interface RelayEnd {
  readonly host: string;
  readonly port: number;
}

/** Resolves when either side has ended. Throws `claim.link` where one of them does not answer. */
export async function relay(gateway: RelayEnd, operators: readonly RelayEnd[], signal: AbortSignal): Promise<void> {
  const far = await firstOf(operators, signal);
  try {
    const near = await reach(gateway, signal);
    await Promise.allSettled([pipeline(near, far, { signal }), pipeline(far, near, { signal })]);
  } finally {
    far.destroy();
  }
}

async function firstOf(ends: readonly RelayEnd[], signal: AbortSignal): Promise<Socket> {
  const faults: string[] = [];
  for (const end of ends) {
    try {
      return await reach(end, signal);
    } catch (error) {
      if (signal.aborted) throw error;
      faults.push(messageOf(error));
    }
  }
  throw new TenzroError('claim.link', faults.join('; '));
}

async function reach({ host, port }: RelayEnd, signal: AbortSignal): Promise<Socket> {
  const socket = connect({ host, port, noDelay: true });
  try {
    await once(socket, 'connect', { signal: AbortSignal.any([signal, AbortSignal.timeout(CONNECT_MS)]) });
    return socket;
  } catch (cause) {
    socket.on('error', () => undefined).destroy(); // it is told here
    throw new TenzroError('claim.link', `no connection to ${host}:${port}: ${messageOf(cause)}`, { cause });
  }
}
