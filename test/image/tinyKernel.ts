/**
 * The smallest thing that U-Boot's `booti` takes for Linux: the header of Documentation/arch/arm64/booting.rst and some twenty instructions. It prints what is printable of the device tree
 * it was handed, and with it the command line, to the serial port of QEMU's `virt`, then ends as its kind says. So a slot says who booted it, within milliseconds.
 */

/** `resets`: a system that dies each time; `off`: ends the machine; `hangs`. */
export type Ending = 'resets' | 'off' | 'hangs';

const HEADER_BYTES = 64;
const IMAGE_BYTES = 4096;
/** 4 KiB pages, may lie anywhere. */
const FLAGS = 0b1010n;
/** "ARM\x64" */
const MAGIC = 0x644d5241;
const BRANCH_OVER_HEADER = 0x14000010;

/** x0 holds the address of the device tree (booting.rst); its header is of Devicetree Specification 0.4, section 5.2: structure block at [8], its size at [36], big-endian. */
const PRINT_TREE = [
  0xaa0003f3, // mov   x19, x0
  0xd2a12001, // movz  x1, #0x0900, lsl #16   the PL011 of `virt`
  0xb9400a63, // ldr   w3, [x19, #8]
  0x5ac00863, // rev   w3, w3
  0xb9402662, // ldr   w2, [x19, #36]
  0x5ac00842, // rev   w2, w2
  0x8b130063, // add   x3, x3, x19
  0x38401464, // next: ldrb w4, [x3], #1
  0x7100809f, // cmp   w4, #0x20
  0x54000083, // b.lo  skip
  0x7101f89f, // cmp   w4, #0x7e
  0x54000048, // b.hi  skip
  0xb9000024, // str   w4, [x1]
  0x71000442, // skip: subs w2, w2, #1
  0x54ffff21, // b.ne  next
  0x52800144, // mov   w4, #10
  0xb9000024, // str   w4, [x1]
] as const;

const HANG = 0x14000000; // b .
/** PSCI (Arm DEN 0022) SYSTEM_OFF 0x84000008 and SYSTEM_RESET 0x84000009, by hypervisor call as `virt` has it. */
const psci = (moveFunction: number): readonly number[] => [moveFunction, 0x72b08000 /* movk w0, #0x8400, lsl #16 */, 0xd4000002 /* hvc #0 */, HANG];
const ENDINGS: Readonly<Record<Ending, readonly number[]>> = { resets: psci(0x52800120), off: psci(0x52800100), hangs: [HANG] };

export function tinyKernel(ending: Ending): Buffer {
  const image = Buffer.alloc(IMAGE_BYTES);
  image.writeUInt32LE(BRANCH_OVER_HEADER, 0);
  image.writeBigUInt64LE(BigInt(IMAGE_BYTES), 16);
  image.writeBigUInt64LE(FLAGS, 24);
  image.writeUInt32LE(MAGIC, 56);
  for (const [index, word] of [...PRINT_TREE, ...ENDINGS[ending]].entries()) image.writeUInt32LE(word, HEADER_BYTES + 4 * index);
  return image;
}
