/** A temporary TPM emulator for tests, reachable on a unix socket (by us) or two TCP ports (by tpm2-tools). */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { Context } from 'mocha';
import { setTimeout as delay } from 'node:timers/promises';
import { deviceTransport, socketTransport, type Transport } from '#drivers/tpm2/transport.ts';
import { machineTpm, proxiedTpm } from './kernelTpm.ts';
import { requirePeer } from './peers.ts';
import { skipBecause } from './skips.ts';

export interface TemporaryTpm extends AsyncDisposable {
  /** For `transportTo`: a socket, with one client at a time; or a device of the kernel, named `tpmrm…`. */
  readonly address: string;
  /** For tpm2-tools (`-T`), when started with `tools`; while a socket has no other client. */
  readonly tcti: string;
  /** Ends the process (kill −9 with `hard`) and starts it again on the same state: a TPM reset. */
  restart(options?: { readonly hard?: boolean }): Promise<void>;
  stop(): Promise<void>;
}

export interface TpmWishes {
  /** Listens on TCP for tpm2-tools instead of the unix socket. */
  readonly tools?: boolean;
  /** The test resets it, is its platform firmware, or wants one more: never the machine's TPM. */
  readonly own?: boolean;
  /** Its keys outlive a broken connection: not behind a kernel, whose resource manager then flushes them. */
  readonly bare?: boolean;
}

/**
 * An emulator; with TENZRO_TEST_TPM, a device of the kernel such as /dev/tpmrm0, that TPM, which loses its keys and NV indices (TPM2_Clear). Skips the
 * test when swtpm is not installed (fails in CI).
 */
export async function temporaryTpm(context: Context, wishes: TpmWishes = {}): Promise<TemporaryTpm> {
  const device = process.env['TENZRO_TEST_TPM'];
  if (device === undefined) return startTpm(requirePeer(context, 'swtpm'), wishes);
  if (wishes.bare === true) skipBecause(context, 'a kernel flushes the keys of a connection that breaks; this test keeps them');
  return wishes.own === true ? proxiedTpm(context) : machineTpm(context, device);
}

export const transportTo = (address: string): Transport => (basename(address).startsWith('tpmrm') ? deviceTransport(address) : socketTransport(address));

/** The same for those who are no test. `program`: path of swtpm. */
export async function startTpm(program: string, { tools = false }: Pick<TpmWishes, 'tools'> = {}): Promise<TemporaryTpm> {
  const folder = await mkdtemp(join(tmpdir(), 'tenzro-tpm-'));
  const port = tools ? await freePortPair() : 0;
  const address = tools ? `127.0.0.1:${port}` : join(folder, 'tpm.sock');
  const endpoint = (offset: number, name: string): string => (tools ? `type=tcp,port=${port + offset},bindaddr=127.0.0.1` : `type=unixio,path=${join(folder, name)}`);
  const args = ['socket', '--tpm2', '--tpmstate', `dir=${folder}`, '--server', endpoint(0, 'tpm.sock'), '--ctrl', endpoint(1, 'ctrl.sock'), '--flags', 'not-need-init,startup-clear', '--log', `file=${join(folder, 'log')}`];
  let child: ChildProcess | undefined;

  const start = async (): Promise<void> => {
    const started = spawn(program, args, { stdio: 'ignore' });
    child = started;
    while (!(await answers(tools ? { host: '127.0.0.1', port } : { path: address }))) {
      if (started.exitCode !== null) throw new Error(`swtpm ended with ${started.exitCode}: see ${folder}/log`);
      await delay(5);
    }
  };
  const stop = async (signal: NodeJS.Signals = 'SIGTERM'): Promise<void> => {
    const running = child;
    child = undefined;
    if (!running || running.exitCode !== null || running.signalCode !== null) return;
    const exit = once(running, 'exit');
    running.kill(signal);
    await exit;
  };

  await start();
  return {
    address,
    tcti: `swtpm:host=127.0.0.1,port=${port}`,
    restart: async ({ hard = false } = {}) => { await stop(hard ? 'SIGKILL' : 'SIGTERM'); await rm(address, { force: true }); await start(); },
    stop,
    [Symbol.asyncDispose]: async () => { await stop(); await rm(folder, { recursive: true, force: true }); },
  };
}

/** swtpm serves one client at a time and takes the next one when that leaves. */
async function answers(target: { host: string; port: number } | { path: string }): Promise<boolean> {
  const socket = connect(target);
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

/** tpm2-tools expect the control channel on the port after the data channel's. */
async function freePortPair(): Promise<number> {
  for (;;) {
    const first = createServer().listen(0, '127.0.0.1');
    await once(first, 'listening');
    const { port } = first.address() as AddressInfo;
    const second = createServer();
    const free = await new Promise<boolean>((resolve) => { second.once('error', () => resolve(false)).listen(port + 1, '127.0.0.1', () => resolve(true)); });
    await Promise.all([first, second].filter((server) => server.listening).map((server) => new Promise((resolve) => { server.close(resolve); })));
    if (free) return port;
  }
}
