/**
 * Programs for arm64 on this machine, by the QEMU of the tools chroot: Debian 12's own (7.2) is too old for Node.
 * Registered at the kernel with flag F, which holds QEMU open, so that it works in any chroot.
 */
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { BuildProblem } from '#image/tools/problem.ts';
import type { Tools } from '#image/tools/tools.ts';

const run = promisify(execFile);
const BINFMT = '/proc/sys/fs/binfmt_misc';
/** Our own entry. The kernel asks the newest entry first, so one of the distribution stays as it is. */
const NAME = 'tenzro-edge-arm64';
/** ELF header of AArch64 (EM_AARCH64 = 183, ELF for the Arm 64-bit architecture), as QEMU's scripts/qemu-binfmt-conf.sh has it; `\x` is the kernel's to read. */
const MAGIC = String.raw`\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00`;
const MASK = String.raw`\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff`;

/** True where our entry is live, fixed, and of these tools. `entry`: what the kernel tells of it. */
export const isRegistered = (entry: string, interpreter: string): boolean =>
  /^enabled$/m.test(entry) && /^flags: \S*F/m.test(entry) && entry.includes(`\ninterpreter ${interpreter}\n`);

/** Registers where it must; true where it did. Changes nothing on an arm64 machine. It stays until the machine restarts. */
export async function ensureArm64({ root }: Tools): Promise<boolean> {
  if (process.arch === 'arm64') return false;
  const interpreter = join(root, 'usr/bin/qemu-aarch64');
  const entry = join(BINFMT, NAME);
  const told = await readFile(entry, 'utf8').catch(() => '');
  if (isRegistered(told, interpreter)) return false;
  try {
    if (await readFile(join(BINFMT, 'status'), 'utf8').catch(() => '') === '') await run('mount', ['-t', 'binfmt_misc', 'binfmt_misc', BINFMT]);
    if (told !== '') await writeFile(entry, '-1');
    await writeFile(join(BINFMT, 'register'), `:${NAME}:M::${MAGIC}:${MASK}:${interpreter}:F`);
    return true;
  } catch (cause) {
    throw new BuildProblem('emulation', `this machine does not let us register QEMU for arm64 programs at ${BINFMT}`,
      'Run "modprobe binfmt_misc" as root on the machine itself and build again; a container needs --privileged; switched off by "echo 0", switch it on: echo 1 > /proc/sys/fs/binfmt_misc/status.', { cause });
  }
}
