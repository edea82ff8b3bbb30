/** Small files of the kernel and of the boot partition, as `tenzro doctor` reads them: what is not there, or not for this user, is empty. */
import { accessSync, closeSync, constants, openSync, readSync } from 'node:fs';

/** A sysfs attribute is a page at most; a configuration is not long either. */
const FILE_BYTES_MAX = 65_536;

/** Properties of the device tree end in a NUL, files of /proc in a newline. */
export const text = (file: string): string => beginning(file).replaceAll('\0', '').trim();
/** A property that is a list. */
export const texts = (file: string): string[] => beginning(file).split('\0').filter((one) => one !== '');
export const lines = (file: string): string[] => text(file).split('\n').map((line) => line.trim()).filter((line) => line !== '');

function beginning(file: string): string {
  if (!isReadable(file)) return '';
  const fd = openSync(file, 'r');
  try {
    const bytes = Buffer.alloc(FILE_BYTES_MAX);
    return bytes.toString('utf8', 0, readSync(fd, bytes));
  } finally {
    closeSync(fd);
  }
}

function isReadable(file: string): boolean {
  try {
    accessSync(file, constants.R_OK);
    return true;
  } catch {
    return false; // whatever forbids it, there is nothing to read
  }
}
