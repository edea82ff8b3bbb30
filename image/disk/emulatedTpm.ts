/** What a slot has beside the real one for QEMU's board: the driver of its TPM, and who loads it. */
import { cp, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** All of it has this name. */
export const EMULATED_TPM = 'emulated-tpm';
const FOLDER = `usr/lib/${EMULATED_TPM}`;
const UNITS = 'etc/systemd/system';

/** By insmod: the kernel's lists of modules stay those of real boards. */
const UNIT = `[Unit]
Description=TPM of an emulated board
DefaultDependencies=no
After=systemd-udevd.service
Before=sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/modprobe tpm_tis_core
ExecStart=/usr/sbin/insmod /${FOLDER}/tpm_tis.ko
`;

/** `module`: the file of the driver, for the kernel of the tree. */
export async function addEmulatedTpm(tree: string, module: string): Promise<void> {
  await mkdir(join(tree, FOLDER), { recursive: true });
  await cp(module, join(tree, FOLDER, 'tpm_tis.ko'));
  await writeFile(join(tree, UNITS, `${EMULATED_TPM}.service`), UNIT);
  await mkdir(join(tree, UNITS, 'sysinit.target.wants'), { recursive: true });
  await symlink(`../${EMULATED_TPM}.service`, join(tree, UNITS, 'sysinit.target.wants', `${EMULATED_TPM}.service`));
}
