# Which slot starts. The same script on a Raspberry Pi and under QEMU's virt machine: U-Boot sets devtype and devnum to the disk it found this on.
# The state is one sector of the partition bootstate, a U-Boot environment with CRC-32 (`env export -c`). Linux writes it too (RAUC, fw_setenv).

# Room for the large kernels of a distribution, below the end of 512 MB. U-Boot's own places on a Pi lie 38 MB apart.
if test "${vendor}" = "raspberrypi"; then
  setenv kernel_addr_r 0x00200000
  setenv ramdisk_addr_r 0x08000000
  setenv board_args "console=tty0 console=ttyS1,115200 cma=64M"
else
  setenv board_args "console=tty0 console=ttyAMA0"
fi
setenv state_addr ${kernel_addr_r}

# What is not in the sector, or a sector that is damaged: both slots, A first, all tries.
setenv BOOT_ORDER
setenv BOOT_A_LEFT
setenv BOOT_B_LEFT
setenv machine_id
setenv state_lba
${devtype} dev ${devnum}
if part start ${devtype} ${devnum} bootstate state_lba; then
  if ${devtype} read ${state_addr} ${state_lba} 1; then
    env import -c ${state_addr} 0x200 BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT machine_id || echo "tenzro: boot state damaged, starting anew"
  fi
fi
test -n "${BOOT_ORDER}" || setenv BOOT_ORDER "A B"
test -n "${BOOT_A_LEFT}" || setenv BOOT_A_LEFT 3
test -n "${BOOT_B_LEFT}" || setenv BOOT_B_LEFT 3

# The first slot of the order that has a try left. The try is taken before it is used.
setenv slot
for name in ${BOOT_ORDER}; do
  if test -z "${slot}"; then
    if test "${name}" = "A"; then
      if test 0x${BOOT_A_LEFT} -gt 0; then
        setexpr BOOT_A_LEFT ${BOOT_A_LEFT} - 1
        setenv slot A
        setenv partition system-a
      fi
    fi
    if test "${name}" = "B"; then
      if test 0x${BOOT_B_LEFT} -gt 0; then
        setexpr BOOT_B_LEFT ${BOOT_B_LEFT} - 1
        setenv slot B
        setenv partition system-b
      fi
    fi
  fi
done
if test -z "${slot}"; then
  echo "tenzro: no slot has tries left, both get them back"
  setenv BOOT_ORDER "A B"
  setenv BOOT_A_LEFT 3
  setenv BOOT_B_LEFT 3
fi
if test -n "${state_lba}"; then
  env export -c -s 0x200 ${state_addr} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT machine_id
  ${devtype} write ${state_addr} ${state_lba} 1
fi
# Not at once: a card on which nothing starts is not worn out by trying.
if test -z "${slot}"; then
  sleep 10
  reset
fi
echo "tenzro: slot ${slot}, order ${BOOT_ORDER}, tries left A ${BOOT_A_LEFT} B ${BOOT_B_LEFT}"

setenv bootargs "root=PARTLABEL=${partition} rootfstype=ext4 ro rootwait=60 ${board_args} loglevel=4 panic=5 rauc.slot=${slot}"
test -n "${machine_id}" && setenv bootargs "${bootargs} systemd.machine_id=${machine_id}"
# The device tree that came with the board: from the Pi's firmware, with overlays; from QEMU.
setenv tree_addr ${fdtcontroladdr}
test -n "${fdt_addr}" && setenv tree_addr ${fdt_addr}
if part number ${devtype} ${devnum} ${partition} number; then
  if load ${devtype} ${devnum}:${number} ${kernel_addr_r} /vmlinuz; then
    if load ${devtype} ${devnum}:${number} ${ramdisk_addr_r} /initrd.img; then
      booti ${kernel_addr_r} ${ramdisk_addr_r}:${filesize} ${tree_addr}
    fi
  fi
fi
echo "tenzro: slot ${slot} does not load"
sleep 1
reset
