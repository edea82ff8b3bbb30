/** A first root file system for Linux, as the kernel unpacks it: an uncompressed cpio archive of the format "newc" (Documentation/driver-api/early-userspace/buffer-format.rst). */

export interface ArchiveFile {
  /** Relative to the root; the folders above it come before it. */
  readonly path: string;
  /** Type and permissions, as in stat(2). */
  readonly mode: number;
  readonly content: Uint8Array;
}

const MAGIC = '070701';
const TRAILER = 'TRAILER!!!';
const ALIGN_BYTES = 4;
export const MODE = { folder: 0o040755, program: 0o100755, file: 0o100644, characterDevice: 0o020600 } as const;

const padded = (bytes: Uint8Array): Buffer => Buffer.concat([bytes, Buffer.alloc(-bytes.length & (ALIGN_BYTES - 1))]);

/** `device`: major and minor number of a device node. */
function member({ path, mode, content }: ArchiveFile, inode: number, device: readonly [number, number] = [0, 0]): Buffer {
  const name = Buffer.from(`${path}\0`);
  // c_ino c_mode c_uid c_gid c_nlink c_mtime c_filesize c_maj c_min c_rmaj c_rmin c_namesize c_chksum: eight hexadecimal digits each
  const numbers = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, ...device, name.length, 0];
  const header = Buffer.from(MAGIC + numbers.map((number) => number.toString(16).padStart(8, '0')).join(''));
  return Buffer.concat([padded(Buffer.concat([header, name])), padded(content)]);
}

/** The archive, with /dev/console in it: the kernel opens that before the first program can make one. */
export function initramfs(files: readonly ArchiveFile[]): Buffer {
  const none = Buffer.alloc(0);
  return Buffer.concat([
    member({ path: 'dev', mode: MODE.folder, content: none }, 1),
    member({ path: 'dev/console', mode: MODE.characterDevice, content: none }, 2, [5, 1]),
    ...files.map((file, index) => member(file, 3 + index)),
    member({ path: TRAILER, mode: 0, content: none }, 0),
  ]);
}
