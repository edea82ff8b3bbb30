/** What the image is besides Debian's packages and ours: the files of `root/`, and what copying alone does not make. */
import { join } from 'node:path';

/** Copied onto the tree as it is; directories 0755, files 0644 or as `executables` says, all of root. */
export const SYSTEM_ROOT = join(import.meta.dirname, 'root');

/** Paths in the tree, without a slash at the beginning. */
export const SYSTEM = {
  /** Mode 0755. */
  executables: ['data', 'host', 'trial', 'maintenance', 'reset-data'].map((name) => `usr/lib/tenzro-edge/${name}`),
  /** Where something is mounted, and what the root of a running system cannot make itself. */
  directories: ['boot/firmware', 'data', 'etc/tenzro-edge', 'etc/wpa_supplicant', 'var/cache', 'var/lib/systemd/timesync', 'var/lib/tenzro-edge', 'var/log', 'var/tmp'],
  /** Path to target. What is there in their place is replaced. */
  links: {
    'etc/localtime': '../run/tenzro/localtime',
    'etc/resolv.conf': '../run/systemd/resolve/stub-resolv.conf',
    'etc/systemd/system/default.target': '/usr/lib/systemd/system/multi-user.target',
    'etc/mtab': '../proc/self/mounts',
    'var/lib/dbus/machine-id': '/etc/machine-id',
  },
  /** Unit to the target that wants it, as `[Install]` of the unit says. */
  enabled: {
    'tenzro-edge.service': 'multi-user.target',
    'tenzro-first-boot.service': 'multi-user.target',
    'tenzro-screen.service': 'multi-user.target',
    'tenzro-maintenance.service': 'multi-user.target',
    'tenzro-ask-reboot.path': 'multi-user.target',
    'tenzro-update-boot.service': 'multi-user.target',
    'tenzro-data.service': 'sysinit.target',
    'tenzro-trial.timer': 'sysinit.target',
    'var-lib-tenzro\\x2dedge.mount': 'local-fs.target',
    'etc-tenzro\\x2dedge.mount': 'local-fs.target',
    'etc-wpa_supplicant.mount': 'local-fs.target',
    'var-lib-systemd.mount': 'local-fs.target',
    'var-lib-systemd-timesync.mount': 'local-fs.target',
    'systemd-networkd.service': 'multi-user.target',
    'systemd-resolved.service': 'sysinit.target',
    'systemd-timesyncd.service': 'sysinit.target',
  },
  /** Units and generators that must do nothing here. */
  masked: [
    ...[
      // A prompt at which nobody can log in; the screen is ours.
      'getty@tty1.service', 'getty@.service', 'serial-getty@.service', 'console-getty.service', 'autovt@.service',
      // Root is read-only, machine id and data partition are our own units' business.
      'systemd-repart.service', 'systemd-firstboot.service', 'systemd-machine-id-commit.service', 'systemd-sysusers.service', 'systemd-pstore.service', 'systemd-growfs-root.service',
      'systemd-networkd-wait-online.service', 'wpa_supplicant.service', 'NetworkManager.service', 'ssh.service', 'ssh.socket', 'sshd.service',
      // Packages come with the slot.
      'apt-daily.timer', 'apt-daily-upgrade.timer', 'dpkg-db-backup.timer', 'e2scrub_all.timer', 'e2scrub_reap.service', 'fstrim.timer', 'man-db.timer', 'logrotate.timer',
      // Marks a slot good as soon as it runs; ours waits for the gateway.
      'rauc-mark-good.service',
    ].map((unit) => `etc/systemd/system/${unit}`),
    ...['systemd-gpt-auto-generator', 'systemd-getty-generator'].map((name) => `etc/systemd/system-generators/${name}`),
  ],
  /** Numbers that must not change from one version to the next: they own what lies on /data. Before packages bring their own. */
  groups: { tenzro: 900, netdev: 901, gpio: 902, i2c: 903, spi: 904, tss: 905 },
  users: { tenzro: { uid: 900, gid: 900, home: '/var/lib/tenzro-edge', shell: '/usr/sbin/nologin', comment: 'Tenzro Edge gateway' } },
  /** Groups that the gateway's user is in, where the tree has them. */
  memberOf: { tenzro: ['tss', 'gpio', 'i2c', 'spi', 'dialout', 'video'] },
  /** What building may have left, and what no two cards may share. */
  removed: [
    'etc/hostname', 'etc/ssh/ssh_host_*', 'var/lib/systemd/random-seed', 'var/lib/systemd/credential.secret', 'etc/wpa_supplicant/*', 'var/lib/tenzro-edge/*', 'etc/tenzro-edge/*',
    'var/log/*', 'var/cache/*', 'var/tmp/*', 'tmp/*', 'run/*', 'root/.bash_history', 'etc/resolv.conf.build',
  ],
} as const;
