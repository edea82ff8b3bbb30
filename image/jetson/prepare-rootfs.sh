#!/bin/bash
# Installs our arm64 package into the user's own Linux_for_Tegra/rootfs: docs/operate/jetson.md. Everything happens in a layer over the tree and is
# laid onto it when it has worked, so a failure leaves the tree as it was. Exit: 0 installed or already so, 1 it failed, 2 refused or wrong usage.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  cat <<'EOF'
Usage: sudo image/jetson/prepare-rootfs.sh --l4t DIR [--deb FILE] [--dry-run]

Installs Tenzro Edge into DIR/rootfs, a Jetson Linux R36 (JetPack 6) tree on which apply_binaries.sh has run.
Fetches nothing and flashes nothing.

  --l4t DIR    the Linux_for_Tegra folder
  --deb FILE   the package; default: the only tenzro-edge_*_arm64.deb in dist/
  --dry-run    checks everything that can be checked, says what would be done, changes nothing
  --help       this text
EOF
}

refuse() { echo "prepare-rootfs: $1" >&2; [ -z "${2:-}" ] || echo "  $2" >&2; exit 2; }
say() { echo "prepare-rootfs: $*"; }

l4t='' deb='' dry=no
while [ $# -gt 0 ]; do
  case $1 in
    --l4t | --deb)
      [ $# -ge 2 ] || refuse "$1 wants a value" 'prepare-rootfs.sh --help'
      if [ "$1" = --l4t ]; then l4t=$2; else deb=$2; fi
      shift 2 ;;
    --dry-run) dry=yes; shift ;;
    --help) usage; exit 0 ;;
    *) refuse "unknown argument $1" 'prepare-rootfs.sh --help' ;;
  esac
done
[ -n "$l4t" ] || refuse '--l4t is missing' 'prepare-rootfs.sh --help'
for tool in dpkg-deb dpkg-query dpkg findmnt unshare; do
  command -v "$tool" >/dev/null || refuse "this machine has no $tool" 'Run it on Ubuntu or Debian, as L4T itself wants.'
done

# The tree.
named=$l4t
l4t=$(readlink -e "$named") || refuse "no folder $named" 'Name the Linux_for_Tegra folder, which the Jetson Linux driver package unpacks to.'
rootfs=$l4t/rootfs
case $l4t in *[:,\\]*) refuse "a colon, comma or backslash in $l4t" 'The kernel cannot lay a layer over such a path: move the tree.' ;; esac
[ -x "$l4t/flash.sh" ] && [ -x "$l4t/apply_binaries.sh" ] || refuse "$l4t is no Linux_for_Tegra folder: flash.sh or apply_binaries.sh is missing" 'Unpack the Jetson Linux driver package, and the sample root file system into its rootfs.'
[ -d "$rootfs" ] && [ ! -L "$rootfs" ] || refuse "$rootfs is no folder of its own" 'The sample root file system is unpacked there, as root: sudo tar -xpf Tegra_Linux_Sample-Root-Filesystem_*.tbz2 -C rootfs'
[ "$(stat -c %d:%i "$rootfs")" != "$(stat -c %d:%i /)" ] || refuse "$rootfs is the root of the running system" 'On a running Jetson: sudo apt install ./tenzro-edge_*_arm64.deb'
[ -f "$rootfs/var/lib/dpkg/status" ] || refuse "$rootfs holds no Debian system" 'Unpack the sample root file system into it.'
[ -f "$rootfs/etc/nv_tegra_release" ] || refuse "$rootfs/etc/nv_tegra_release is missing: NVIDIA's part is not in it yet" "Run first: cd $l4t && sudo ./apply_binaries.sh"
release=$(sed -n 's/^# R\([0-9]*\) (release), REVISION: \([0-9.]*\).*/R\1.\2/p' "$rootfs/etc/nv_tegra_release" | head -n 1)
case $release in R36.*) ;; *) refuse "Jetson Linux ${release:-of an unknown release}: only R36 (JetPack 6) was prepared for" 'JetPack 5 is too old for our Node (glibc 2.31); for a newer one install the package on the board.' ;; esac
fact() { dpkg-query --admindir="$rootfs/var/lib/dpkg" -W -f "$2" "$1" 2>/dev/null || true; }
[ "$(fact nvidia-l4t-core '${db:Status-Status}')" = installed ] || refuse 'nvidia-l4t-core is not installed in it: apply_binaries.sh did not end well' "Run again: cd $l4t && sudo ./apply_binaries.sh"
[ "$(fact dpkg '${Architecture}')" = arm64 ] || refuse "$rootfs is not arm64 but $(fact dpkg '${Architecture}')"
os=$(. "$rootfs/etc/os-release" && echo "$ID $VERSION_ID")
[ "$os" = 'ubuntu 22.04' ] || refuse "$rootfs is $os, not ubuntu 22.04"

# The package.
if [ -z "$deb" ]; then
  found=("$here"/../../dist/tenzro-edge_*_arm64.deb)
  [ ${#found[@]} -eq 1 ] && [ -f "${found[0]}" ] || refuse 'there is not exactly one tenzro-edge_*_arm64.deb in dist/' 'Build it (npm run build:deb -- --arch arm64) or name one with --deb.'
  deb=${found[0]}
fi
deb=$(readlink -e "$deb") || refuse "no file $deb"
field() { dpkg-deb -f "$deb" "$1" 2>/dev/null || true; }
[ "$(field Package) $(field Architecture)" = 'tenzro-edge arm64' ] || refuse "$deb is no tenzro-edge for arm64"
version=$(field Version)
before=$(fact tenzro-edge '${db:Status-Status} ${Version}')
if [ "$before" = "installed $version" ] && [ -z "$(dpkg --root="$rootfs" --verify tenzro-edge 2>&1)" ]; then
  say "tenzro-edge $version is in $rootfs already, every file as packaged; nothing to do"
  exit 0
fi

# This machine.
inside=$(findmnt -rno TARGET | while IFS= read -r at; do case $(printf '%b' "$at") in "$rootfs"/*) echo "$at" ;; esac; done)
[ -z "$inside" ] || refuse "something is mounted below $rootfs: $(echo "$inside" | head -n 1)" 'Another program works on the tree, or ended badly: unmount it (sudo umount -R) and look again.'
read -r type options < <(findmnt -rnT "$rootfs" -o FSTYPE,OPTIONS)
case $type in ext4 | xfs | btrfs) ;; *) refuse "$rootfs lies on $type" 'Owners, modes and a layer over it need ext4, xfs or btrfs: move the whole Linux_for_Tegra folder there.' ;; esac
case ,$options, in *,ro,* | *,noexec,* | *,nodev,* | *,nosuid,*) refuse "the file system below $rootfs is mounted $options" 'It must be writable, with exec, dev and suid, as flash.sh wants it too.' ;; esac
need=$((2 * $(field Installed-Size) / 1024 + 100))
free=$(($(stat -f -c '%a * %S' "$rootfs") / 1024 / 1024))
[ "$free" -ge "$need" ] || refuse "$free MiB free, $need are needed (package twice, and 100)"
if [ "$(uname -m)" != aarch64 ] && ! grep -ls '^enabled' /proc/sys/fs/binfmt_misc/qemu-aarch64* 2>/dev/null | xargs -r grep -ls '^flags: [A-Z]*F' | grep -q .; then
  refuse 'this machine cannot run arm64 programs: no qemu-aarch64 registered with flag F' 'sudo apt install qemu-user-static binfmt-support (Ubuntu 22.04 and later; of Debian, 13: the qemu-user of 12 crashes in Node)'
fi
if [ $dry = yes ]; then
  say "would install tenzro-edge $version into $rootfs (Jetson Linux $release, now: ${before:-not installed}), $free MiB free"
  exit 0
fi
[ "$(id -u)" = 0 ] || refuse 'needs root: owners in the tree, a layer over it, chroot' 'sudo in front'

# Only in a layer, with its own mounts, processes and no network: all of it ends with the process.
install_in_layer() {
  local rootfs=$1 work=$2 deb=$3 merged=$2/merged name
  shopt -s nullglob dotglob
  mount -t overlay overlay -o "lowerdir=$rootfs,upperdir=$work/upper,workdir=$work/work" "$merged"
  mount -t proc proc "$merged/proc"
  for name in run tmp dev; do mount -t tmpfs tmpfs "$merged/$name"; done
  for name in 'null 1 3' 'zero 1 5' 'random 1 8' 'urandom 1 9'; do read -r file major minor <<<"$name"; mknod -m 666 "$merged/dev/$file" c "$major" "$minor"; done
  cp "$deb" "$merged/tmp/package.deb"
  in_tree() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive chroot "$merged" "$@"; }
  in_tree dpkg --install /tmp/package.deb
  [ -z "$(in_tree dpkg --verify tenzro-edge)" ]
  in_tree tenzro --version
  umount "$merged"/{proc,run,tmp,dev}
  # What the layer hides: files that went away, and all of a folder that was made anew.
  cd "$work/upper"
  find . -type d -print0 | while IFS= read -r -d '' dir; do
    for entry in "$rootfs/$dir"/*; do
      [ -e "$merged/$dir/${entry##*/}" ] || [ -L "$merged/$dir/${entry##*/}" ] || printf '%s\0' "$dir/${entry##*/}"
    done
  done > "$work/gone"
}

work=$(mktemp -d "$l4t/.tenzro-edge.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
mkdir "$work"/{upper,work,merged}
chmod --reference="$rootfs" "$work/upper" && chown --reference="$rootfs" "$work/upper"
say "installing tenzro-edge $version into $rootfs (Jetson Linux $release)"
if ! unshare --mount --pid --net --ipc --uts --fork --kill-child bash -euo pipefail -c "$(declare -f install_in_layer); install_in_layer \"\$@\"" layer "$rootfs" "$work" "$deb"; then
  echo 'prepare-rootfs: it failed; the tree is as it was' >&2
  exit 1
fi

# Onto the tree: seconds, and not to be stopped half-way. Where the power goes, the same command again sets it right.
trap '' INT TERM HUP
find "$work/upper" -type c -delete
(cd "$rootfs" && xargs -0r rm -rf -- < "$work/gone")
cp -a --no-preserve=xattr --remove-destination "$work/upper/." "$rootfs/"
sync -f "$rootfs"

say "installed: tenzro-edge $(fact tenzro-edge '${Version}'), $(du -sm "$rootfs/opt/tenzro-edge" | cut -f1) MiB in /opt/tenzro-edge, unit enabled"
cat <<EOF
Next, in $l4t (NVIDIA's own tools; the board in recovery mode):
  sudo tools/l4t_create_default_user.sh ...     a user of your own, if none was made
  sudo ./flash.sh BOARD internal                or tools/kernel_flash/l4t_initrd_flash.sh for NVMe and USB
Then, on the board:
  sudo -u tenzro tenzro status
  sudo -u tenzro tenzro doctor
EOF
