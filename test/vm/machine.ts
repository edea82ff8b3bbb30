/** A virtual machine with a TPM: QEMU, and swtpm behind its tpm-tis. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { spawn, type ChildProcess } from 'node:child_process';
import { until } from '#test/support/until.ts';

export interface MachineOptions {
  /** For the TPM's state, its socket and the console. */
  readonly folder: string;
  readonly kernel: string;
  readonly initramfs: string;
  readonly commandLine: string;
  /** UEFI's code, and a copy of its variables that the machine may change; without them SeaBIOS. */
  readonly uefi?: { readonly code: string; readonly variables: string };
  /** Tag to folder. */
  readonly shares: Readonly<Record<string, { readonly path: string; readonly readOnly: boolean }>>;
  readonly accelerator: Accelerator;
  readonly limitMs: number;
  /** File in `folder` for the serial line, firmware's and kernel's. The console /dev/hvc0 goes to our stdout. */
  readonly console: string;
}
export type Accelerator = 'kvm' | 'tcg';

export const QEMU = 'qemu-system-x86_64';
/** With all that QEMU 7.2 emulates (`max`), one node process in about four ended in a segmentation fault; with an older processor, none of 25. */
const CPU = { kvm: 'host', tcg: 'Westmere' } as const;
const MEMORY_MIB = 2048;
const KVM_PROBE_MS = 6_000;

/** KVM where a kernel gets through its first second with it: in a machine that is virtual itself, /dev/kvm may exist and not work. */
export async function fastestAccelerator(kernel: string): Promise<Accelerator> {
  if (!existsSync('/dev/kvm')) return 'tcg';
  const probe = spawn(QEMU, ['-accel', 'kvm', '-m', '256', '-nographic', '-no-reboot', '-nodefaults', '-kernel', kernel, '-append', 'panic=-1'], { stdio: 'ignore', timeout: KVM_PROBE_MS, killSignal: 'SIGKILL' });
  const [code] = (await once(probe, 'exit')) as [number | null];
  return code === 0 ? 'kvm' : 'tcg';
}

/** Runs until it switches itself off. Rejects when it is not done after `limitMs`, or never began. */
export async function runMachine(options: MachineOptions): Promise<void> {
  const tpmSocket = join(options.folder, 'tpm.sock');
  const tpm = spawn('swtpm', ['socket', '--tpm2', '--tpmstate', `dir=${options.folder}`, '--ctrl', `type=unixio,path=${tpmSocket}`, '--log', `file=${join(options.folder, 'swtpm.log')}`, '--terminate'], { stdio: 'ignore' });
  try {
    await until('swtpm to listen', () => existsSync(tpmSocket), { hopeless: () => (tpm.exitCode === null ? undefined : `it ended with ${tpm.exitCode}`) });
    const machine = spawn(QEMU, machineArguments(options, tpmSocket), { stdio: ['ignore', 'inherit', 'inherit'], timeout: options.limitMs, killSignal: 'SIGKILL' });
    const [code, signal] = (await once(machine, 'exit')) as [number | null, string | null];
    if (signal !== null) throw new Error(`the machine was not done after ${options.limitMs / 1_000} s`);
    if (code !== 0) throw new Error(`${QEMU} ended with ${code}`);
  } finally {
    await ended(tpm);
  }
}

function machineArguments(options: MachineOptions, tpmSocket: string): string[] {
  const { uefi } = options;
  return [
    '-accel', options.accelerator, '-cpu', CPU[options.accelerator], '-machine', 'q35', '-smp', '2', '-m', String(MEMORY_MIB), '-nodefaults', '-no-reboot', '-display', 'none', '-serial', `file:${join(options.folder, options.console)}`,
    '-chardev', 'stdio,id=steps', '-device', 'virtio-serial-pci', '-device', 'virtconsole,chardev=steps', '-device', 'virtio-rng-pci',
    ...(uefi ? ['-drive', `if=pflash,format=raw,unit=0,readonly=on,file=${uefi.code}`, '-drive', `if=pflash,format=raw,unit=1,file=${uefi.variables}`] : []),
    '-kernel', options.kernel, '-initrd', options.initramfs, '-append', options.commandLine,
    '-chardev', `socket,id=tpm,path=${tpmSocket}`, '-tpmdev', 'emulator,id=tpm0,chardev=tpm', '-device', 'tpm-tis,tpmdev=tpm0',
    ...Object.entries(options.shares).flatMap(([tag, { path, readOnly }]) => ['-virtfs', `local,mount_tag=${tag},path=${path},security_model=none,multidevs=remap${readOnly ? ',readonly=on' : ''}`]),
  ];
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
}
