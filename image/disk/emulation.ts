/** What a slot for QEMU's board has beside the real one's: the driver of its TPM, and a shell for tests on a port that no board has. */
import { cp, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const SHELL = join(import.meta.dirname, '../../test/image/guest-overlay');
const FOLDER = 'usr/lib/emulated-tpm';
const UNITS = 'etc/systemd/system';
const UNIT = 'emulated-tpm.service';

/** All that is added, as paths of the running system. */
export const EMULATION = /^\/(?:usr\/lib\/emulated-tpm\/|etc\/systemd\/system\/.*emulated-tpm\.service$|usr\/lib\/(?:udev\/rules\.d\/90-|systemd\/system\/)test-shell\.)/;

/** By insmod: the kernel's lists of modules stay those of real boards. */
const LOAD = `[Unit]
Description=TPM of an emulated board
DefaultDependencies=no
Before=sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/modprobe tpm_tis_core
ExecStart=/usr/sbin/insmod /${FOLDER}/tpm_tis.ko

[Install]
WantedBy=sysinit.target
`;

/** `module`: the file of the driver, for the kernel of the tree. */
export async function addEmulation(tree: string, module: string): Promise<void> {
  await mkdir(join(tree, FOLDER), { recursive: true });
  await cp(module, join(tree, FOLDER, 'tpm_tis.ko'));
  await writeFile(join(tree, UNITS, UNIT), LOAD);
  await mkdir(join(tree, UNITS, 'sysinit.target.wants'), { recursive: true });
  await symlink(`../${UNIT}`, join(tree, UNITS, 'sysinit.target.wants', UNIT));
  await cp(SHELL, tree, { recursive: true });
}
