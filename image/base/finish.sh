#!/bin/sh
# Ends the making of the card's system, outside its root: finish.sh ROOT. The packages' scripts have made no initrd (INITRD=No), which emulation makes slow.
set -eu
root=$1

sed -i 's/^MODULES=.*/MODULES=list/' "$root/etc/initramfs-tools/initramfs.conf"
cp /mnt/base/initrd-modules "$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -c -k all

# The boot loader asks for these two; raspi-firmware's own copies belong on the first partition, which a card's builder fills from /usr/lib.
kernel=$(basename "$root"/boot/vmlinuz-*)
ln -sfn "boot/$kernel" "$root/vmlinuz"
ln -sfn "boot/initrd.img-${kernel#vmlinuz-}" "$root/initrd.img"
rm -rf "$root/vmlinuz.old" "$root/initrd.img.old" "$root/boot/firmware"
mkdir "$root/boot/firmware"

# Nothing that two cards would share, and nothing of this build: apt is not there to read its folders.
rm -f "$root/etc/hostname" "$root/etc/resolv.conf" "$root/var/lib/systemd/random-seed" "$root/var/lib/systemd/credential.secret"
: > "$root/etc/machine-id"
ln -s /run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
rm -rf "$root/var/lib/apt" "$root/etc/apt"
for dir in var/log var/cache var/tmp; do find "$root/$dir" ! -type d -delete; done
find "$root/var/lib/dpkg" "$root/etc" \( -name '*-old' -o -name 'passwd-' -o -name 'group-' -o -name 'shadow-' -o -name 'gshadow-' \) -type f -delete
