/** TPMs behind a kernel and its resource manager, in place of an emulator behind a socket: where the tests run in a virtual machine (test/vm). */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Context } from 'mocha';
import { requirePeer } from './peers.ts';
import { run } from './process.ts';
import { skipBecause } from './skips.ts';
import type { TemporaryTpm } from './swtpm.ts';
import { until } from './until.ts';

/** Of the kernel's driver for TPMs that are programs (Documentation/security/tpm/tpm_vtpm_proxy.rst). */
const PROXY_DEVICE = '/dev/vtpmx';

/** PCRs that the operating system may reset (PTP §4.7: debug, and application support). */
const OPEN_PCRS = ['16', '23'];

/** The machine's TPM, after TPM2_Clear: the counters and keys of earlier tests are gone, and the PCRs that any program may reset are. */
export async function machineTpm(context: Context, device: string): Promise<TemporaryTpm> {
  for (const [program, args] of [[requirePeer(context, 'tpm2_clear'), []], [requirePeer(context, 'tpm2_pcrreset'), OPEN_PCRS]] as const) {
    const { code, output } = await run(program, ['-T', `device:${device}`, ...args]);
    if (code !== 0) throw new Error(`${program} on ${device}: ${output}`);
  }
  const impossible = (): Promise<never> => Promise.reject(new Error(`${device} ends with the machine: ask for a TPM of the test's own`));
  return { address: device, tcti: `device:${device}`, restart: impossible, stop: impossible, [Symbol.asyncDispose]: async () => {} };
}

/** A fresh swtpm that the kernel drives as it drives the machine's TPM. */
export async function proxiedTpm(context: Context): Promise<TemporaryTpm> {
  const program = requirePeer(context, 'swtpm');
  if (!existsSync(PROXY_DEVICE)) skipBecause(context, `it needs a TPM of its own, and the kernel shows no ${PROXY_DEVICE}: modprobe tpm_vtpm_proxy`);
  const folder = await mkdtemp(join(tmpdir(), 'tenzro-tpm-'));
  const address = join(folder, 'tpmrm'); // numbers of devices change while an old one is held open
  let child: ChildProcess | undefined;

  const start = async (): Promise<void> => {
    const started = spawn(program, ['chardev', '--vtpm-proxy', '--tpm2', '--tpmstate', `dir=${folder}`, '--log', `file=${join(folder, 'log')}`], { stdio: ['ignore', 'pipe', 'ignore'] });
    child = started;
    let told = '';
    started.stdout.setEncoding('utf8').on('data', (text: string) => { told += text; });
    const device = await until('the kernel to drive swtpm', () => {
      const number = /\/dev\/tpm(\d+)/.exec(told)?.[1];
      return number !== undefined && existsSync(`/dev/tpmrm${number}`) && `/dev/tpmrm${number}`;
    }, { hopeless: () => (started.exitCode === null ? undefined : `swtpm ended with ${started.exitCode}`) });
    await symlink(device, address);
  };
  const stop = async (signal: NodeJS.Signals = 'SIGTERM'): Promise<void> => {
    const running = child;
    child = undefined;
    await rm(address, { force: true });
    if (!running || running.exitCode !== null || running.signalCode !== null) return;
    const exit = once(running, 'exit');
    running.kill(signal);
    await exit;
  };

  await start();
  return {
    address, tcti: `device:${address}`, stop,
    restart: async ({ hard = false } = {}) => { await stop(hard ? 'SIGKILL' : 'SIGTERM'); await start(); },
    [Symbol.asyncDispose]: async () => { await stop(); await rm(folder, { recursive: true, force: true }); },
  };
}
