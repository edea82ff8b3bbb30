/** The real programs that tests are held against. Installed by install-peers.sh, named here once. */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Context } from 'mocha';
import { skipBecause } from './skips.ts';

/** Program to the Debian package that brings it. */
const PACKAGE_OF = {
  'avahi-browse': 'avahi-utils',
  'avahi-daemon': 'avahi-daemon',
  bmaptool: 'bmap-tools',
  busctl: 'systemd',
  cc: 'gcc',
  cjpeg: 'libjpeg-turbo-progs',
  curl: 'curl',
  evmctl: 'ima-evm-utils',
  'dbus-daemon': 'dbus',
  'dpkg-deb': 'dpkg',
  dtc: 'device-tree-compiler',
  'fsck.fat': 'dosfstools',
  ip: 'iproute2',
  losetup: 'mount',
  mdir: 'mtools',
  mformat: 'mtools',
  mtype: 'mtools',
  mke2fs: 'e2fsprogs',
  mkimage: 'u-boot-tools',
  mksquashfs: 'squashfs-tools',
  mosquitto: 'mosquitto',
  mosquitto_passwd: 'mosquitto',
  mosquitto_pub: 'mosquitto-clients',
  mosquitto_sub: 'mosquitto-clients',
  'nats-server': 'nats-server',
  nsenter: 'util-linux',
  NetworkManager: 'network-manager',
  nmcli: 'network-manager',
  openssl: 'openssl',
  pdftoppm: 'poppler-utils',
  qrencode: 'qrencode',
  rauc: 'rauc',
  sfdisk: 'fdisk',
  swtpm: 'swtpm',
  swtpm_ioctl: 'swtpm-tools',
  swtpm_setup: 'swtpm-tools',
  swtpm_localca: 'swtpm-tools',
  tpm2_activatecredential: 'tpm2-tools',
  tpm2_checkquote: 'tpm2-tools',
  tpm2_pcrextend: 'tpm2-tools',
  tpm2_eventlog: 'tpm2-tools',
  tpm2_clear: 'tpm2-tools',
  tpm2_pcrreset: 'tpm2-tools',
  python3: 'python3',
  'systemd-analyze': 'systemd',
  'systemd-notify': 'systemd',
  'systemd-repart': 'systemd',
  unshare: 'util-linux',
  wpa_cli: 'wpasupplicant',
  wpa_supplicant: 'wpasupplicant',
  xz: 'xz-utils',
  zbarimg: 'zbar-tools',
} as const;
export type Peer = keyof typeof PACKAGE_OF;

/** Absolute path of the program, or undefined. Debian keeps servers in /usr/sbin, which a user's PATH may lack. */
export function findPeer(name: Peer): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

/** Path of the program. Without it the test is skipped with the reason, and in CI fails: there nothing may be missing. */
export function requirePeer(context: Context, name: Peer): string {
  const found = findPeer(name);
  if (found !== undefined) return found;
  const reason = `${name} is missing: apt-get install ${PACKAGE_OF[name]}`;
  if (process.env['CI'] === 'true') throw new Error(reason);
  return skipBecause(context, reason);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
