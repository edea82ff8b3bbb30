#!/usr/bin/env bash
# Installs the real programs that the tests are held against; only what is missing, and visibly.
# Without apt or the right to use it: says what is missing and goes on (those tests are skipped). In CI a missing peer is a failure.
set -uo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

# program:package, for programs; file:package for headers.
peers=(
  swtpm:swtpm swtpm_setup:swtpm-tools tpm2_checkquote:tpm2-tools evmctl:ima-evm-utils
  mosquitto:mosquitto mosquitto_pub:mosquitto-clients nats-server:nats-server
  cc:gcc /usr/include/stdio.h:libc6-dev
  unshare:util-linux ip:iproute2 avahi-browse:avahi-utils avahi-daemon:avahi-daemon dbus-daemon:dbus NetworkManager:network-manager wpa_supplicant:wpasupplicant curl:curl
  dpkg-deb:dpkg systemd-analyze:systemd systemd-notify:systemd python3:python3 git:git
  bmaptool:bmap-tools mformat:mtools sfdisk:fdisk fsck.fat:dosfstools xz:xz-utils
  mke2fs:e2fsprogs mkimage:u-boot-tools dtc:device-tree-compiler rauc:rauc mksquashfs:squashfs-tools
  busctl:systemd
  zbarimg:zbar-tools qrencode:qrencode pdftoppm:poppler-utils cjpeg:libjpeg-turbo-progs
)

missing_packages() {
  local peer name
  for peer in "${peers[@]}"; do
    name=${peer%%:*}
    if [[ $name == /* ]]; then [[ -e $name ]]; else command -v "$name" >/dev/null; fi || echo "${peer##*:}"
  done
}

mapfile -t packages < <(missing_packages)
((${#packages[@]} == 0)) && exit 0

install="apt-get install -y --no-install-recommends ${packages[*]}"
as_root=()
((EUID == 0)) || as_root=(sudo -n)
if command -v apt-get >/dev/null && { ((EUID == 0)) || sudo -n true 2>/dev/null; }; then
  echo "peers for the tests: $install"
  export DEBIAN_FRONTEND=noninteractive
  # Debian starts the services it installs; a mosquitto on port 1883 would be in the gateway's way. 101: action forbidden by policy.
  policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null && "${as_root[@]}" chmod 755 $policy
    trap '"${as_root[@]}" rm -f $policy' EXIT
  fi
  "${as_root[@]}" apt-get update -q || echo "apt-get update failed: trying with the lists there are"
  "${as_root[@]}" ${install}
fi

mapfile -t packages < <(missing_packages)
((${#packages[@]} == 0)) && exit 0
echo "missing, their tests are skipped: ${packages[*]} (sudo apt-get install ${packages[*]})"
[[ ${CI:-} == true ]] && exit 1
exit 0
