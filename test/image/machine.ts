/** One arm64 machine under QEMU, as a board is: a card, a serial line, perhaps a TPM, a network, a watchdog. Pulling its plug is SIGKILL. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { until } from '#test/support/until.ts';
import { Console } from './console.ts';
import { GuestShell } from './guestShell.ts';
import type { Tools } from './tools.ts';

export interface MachineOptions {
  readonly tools: Tools;
  /** Its TPM's state, sockets and logs; a machine that starts again is given the same one. */
  readonly folder: string;
  /** The card: a raw image, written to. */
  readonly card: string;
  /** Everything that is written to the card is noted here too, in order, with every flush (diskLog.ts). */
  readonly diskLog?: string;
  readonly memoryMiB?: number;
  readonly hasTpm?: boolean;
  /** Ports of this machine's loopback to ports of the guest; without it there is no network. The guest reaches this machine as 10.0.2.2. */
  readonly forwards?: readonly { readonly host: number; readonly guest: number }[];
  /** A root shell on a port of its own: only images built for emulation have it (guest-overlay). */
  readonly hasShell?: boolean;
  /** A watchdog on PCI that resets the machine. */
  readonly hasWatchdog?: boolean;
}

const DEFAULT_MEMORY_MIB = 1024;
const FIRMWARE = ['usr', 'lib', 'u-boot', 'qemu_arm64', 'u-boot.bin'] as const;
const START_TIMEOUT_MS = 20_000;
/** As guest-overlay knows it. */
const SHELL_PORT = 'tenzro.shell';

export class Machine implements AsyncDisposable {
  readonly console: Console;
  /** Undefined without `hasShell`. */
  readonly shell: GuestShell | undefined;
  readonly #qemu: ChildProcess;
  readonly #tpm: ChildProcess | undefined;
  readonly #startedMs = performance.now();

  private constructor(qemu: ChildProcess, tpm: ChildProcess | undefined, line: Console, shell: GuestShell | undefined) {
    this.#qemu = qemu;
    this.#tpm = tpm;
    this.console = line;
    this.shell = shell;
  }

  /** Switches it on. */
  static async start(options: MachineOptions): Promise<Machine> {
    const { folder } = options;
    mkdirSync(folder, { recursive: true });
    const socketOf = (name: string): string => join(folder, `${name}.sock`);
    for (const name of ['serial', 'shell', 'tpm']) rmSync(socketOf(name), { force: true });
    if (options.diskLog !== undefined) writeFileSync(options.diskLog, ''); // QEMU fills it, and makes none
    const tpm = options.hasTpm === true ? await startTpm(options, socketOf('tpm')) : undefined;
    const errors = openSync(join(folder, 'qemu.log'), 'a');
    const [file, ...args] = options.tools.command('qemu-system-aarch64', machineArguments(options, socketOf));
    const qemu = spawn(file, args, { stdio: ['ignore', errors, errors], env: options.tools.environment });
    process.once('exit', () => qemu.kill('SIGKILL')); // its TPM ends with it
    const reach = async (name: string): Promise<Socket> => until(`the ${name} line of QEMU`, () => connected(socketOf(name)), { timeoutMs: START_TIMEOUT_MS, hopeless: () => (qemu.exitCode === null ? undefined : `it ended with ${qemu.exitCode}: see ${folder}/qemu.log`) });
    try {
      const line = new Console(await reach('serial'), join(folder, 'console.log'));
      return new Machine(qemu, tpm, line, options.hasShell === true ? new GuestShell(await reach('shell'), join(folder, 'shell.log')) : undefined);
    } catch (error) {
      await Promise.all([ended(qemu), ended(tpm)]);
      throw error;
    }
  }

  /** Since it was switched on. */
  get seconds(): number { return (performance.now() - this.#startedMs) / 1_000; }

  get isRunning(): boolean { return this.#qemu.exitCode === null && this.#qemu.signalCode === null; }

  /** Resolves when it has switched itself off. */
  async off(timeoutMs: number): Promise<void> {
    await until('the machine to switch itself off', () => !this.isRunning, { timeoutMs, intervalMs: 100 });
  }

  /** Pulls the plug, of the TPM too. */
  async cut(): Promise<void> {
    await Promise.all([ended(this.#qemu), ended(this.#tpm)]);
    this.console[Symbol.dispose]();
    this.shell?.[Symbol.dispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.cut(); }
}

async function startTpm({ tools, folder }: MachineOptions, socket: string): Promise<ChildProcess> {
  const state = join(folder, 'tpm');
  mkdirSync(state, { recursive: true });
  const [file, ...args] = tools.command('swtpm', ['socket', '--tpm2', '--tpmstate', `dir=${state}`, '--ctrl', `type=unixio,path=${socket}`, '--log', `file=${join(folder, 'swtpm.log')}`, '--terminate']);
  const tpm = spawn(file, args, { stdio: 'ignore' });
  await until('swtpm to listen', () => existsSync(socket), { timeoutMs: START_TIMEOUT_MS, hopeless: () => (tpm.exitCode === null ? undefined : `it ended with ${tpm.exitCode}: see ${folder}/swtpm.log`) });
  return tpm;
}

/**
 * The host's page cache outlives QEMU, so what the guest wrote is in the file after SIGKILL, flushed or not: kinder than a card. `diskLog` tells what was flushed, and diskLog.ts takes the rest away again.
 * Flushes therefore need not reach this machine's disk (cache.no-flush, below the node that notes them).
 */
function machineArguments({ tools, card, diskLog, memoryMiB = DEFAULT_MEMORY_MIB, hasTpm, forwards, hasShell, hasWatchdog }: MachineOptions, socketOf: (name: string) => string): string[] {
  const serial = (name: string): string => `socket,id=${name},path=${socketOf(name)},server=on,wait=off`;
  const drive = diskLog === undefined
    ? `driver=raw,node-name=card,file.driver=file,file.filename=${card},cache.no-flush=on`
    : `driver=blklogwrites,node-name=card,file.driver=raw,file.cache.no-flush=on,file.file.driver=file,file.file.filename=${card},log.driver=file,log.filename=${diskLog},log.cache.no-flush=on`;
  return [
    '-L', tools.path('usr', 'share', 'qemu'), '-M', 'virt', '-cpu', 'cortex-a53', '-smp', '2', '-m', String(memoryMiB), '-nodefaults', '-display', 'none', '-monitor', 'none', '-bios', tools.path(...FIRMWARE),
    '-chardev', serial('serial'), '-serial', 'chardev:serial', '-blockdev', drive, '-device', 'virtio-blk-device,drive=card', '-device', 'virtio-rng-device',
    ...hasTpm === true ? ['-chardev', `socket,id=tpm,path=${socketOf('tpm')}`, '-tpmdev', 'emulator,id=tpm0,chardev=tpm', '-device', 'tpm-tis-device,tpmdev=tpm0'] : [],
    ...forwards === undefined ? [] : ['-netdev', ['user', 'id=lan', ...forwards.map(({ host, guest }) => `hostfwd=tcp:127.0.0.1:${host}-:${guest}`)].join(','), '-device', 'virtio-net-device,netdev=lan'],
    ...hasShell === true ? ['-device', 'virtio-serial-device', '-chardev', serial('shell'), '-device', `virtserialport,chardev=shell,name=${SHELL_PORT}`] : [],
    ...hasWatchdog === true ? ['-device', 'i6300esb', '-action', 'watchdog=reset'] : [],
  ];
}

async function connected(path: string): Promise<Socket | undefined> {
  if (!existsSync(path)) return undefined;
  const socket = connect(path);
  await once(socket, 'connect');
  return socket;
}

async function ended(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
}
