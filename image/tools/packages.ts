/** What the tools chroot carries, and what the card's system does; the locks say in which versions. */

/** To make images, bundles and to boot them under emulation. */
export const TOOL_PACKAGES: readonly string[] = [
  'arch-test', 'bmap-tools', 'ca-certificates', 'cpio', 'device-tree-compiler', 'dosfstools', 'e2fsprogs', 'faketime', 'fdisk', 'gdisk', 'genimage', 'mmdebstrap', 'mtools', 'openssl',
  'qemu-system-arm', 'qemu-system-data', 'qemu-user', 'qemu-utils', 'rauc', 'squashfs-tools', 'swtpm', 'swtpm-tools', 'u-boot-qemu', 'u-boot-tools', 'util-linux', 'xz-utils', 'zstd',
  'apt', 'mount',
];

/** The card's system. No apt: its root is read-only and comes whole. No ssh server. */
export const BASE_PACKAGES: readonly string[] = [
  'ca-certificates', 'dbus', 'dosfstools', 'e2fsprogs', 'fdisk', 'firmware-brcm80211', 'init-system-helpers', 'initramfs-tools', 'iproute2', 'iw', 'kmod', 'libnss-myhostname', 'libnss-resolve',
  'libpam-systemd', 'libstdc++6', 'libubootenv-tool', 'linux-image-arm64', 'login', 'mount', 'netbase', 'passwd', 'procps', 'raspi-firmware', 'rauc', 'rauc-service', 'rfkill', 'systemd',
  'systemd-repart', 'systemd-resolved', 'systemd-sysv', 'systemd-timesyncd', 'systemd-zram-generator', 'tzdata', 'u-boot-rpi', 'udev', 'wireless-regdb', 'wpasupplicant', 'zstd',
];
