/** The sector that says which slot starts: a U-Boot environment without a flag for a second copy (U-Boot 2025.01, include/env_internal.h: CRC-32 little-endian, then NAME=VALUE, each ended by a zero, one more zero at the end). */
import { crc32 } from 'node:zlib';
import { BOOT_STATE_BYTES, BOOT_TRIES } from '../layout.ts';

const CRC_BYTES = 4;

/** As boot.cmd and RAUC write it. */
export function bootState(variables: Readonly<Record<string, string>>): Buffer {
  const sector = Buffer.alloc(BOOT_STATE_BYTES);
  const text = Object.entries(variables).map(([name, value]) => `${name}=${value}\0`).join('');
  if (CRC_BYTES + text.length + 1 > BOOT_STATE_BYTES) throw new Error('the boot state does not fit its sector');
  sector.write(text, CRC_BYTES, 'latin1');
  sector.writeUInt32LE(crc32(sector.subarray(CRC_BYTES)), 0);
  return sector;
}

/** Of a new card, whose second slot is empty. */
export const FIRST_BOOT_STATE = bootState({ BOOT_ORDER: 'A B', BOOT_A_LEFT: String(BOOT_TRIES), BOOT_B_LEFT: '0' });
