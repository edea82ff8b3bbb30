/** Small kernel files under a configurable root, so that a test brings its own machine. What cannot be read is absent, whatever the reason. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Trimmed text, or undefined: sensors answer ENODATA, EIO, EINVAL and EACCES as readily as ENOENT. */
export async function readText(...path: readonly string[]): Promise<string | undefined> {
  try {
    return (await readFile(join(...path), 'utf8')).trim();
  } catch {
    return undefined; // absence is the answer
  }
}

/** A decimal number that is the whole file. */
export async function readNumber(...path: readonly string[]): Promise<number | undefined> {
  const text = await readText(...path);
  if (text === undefined || !/^-?\d+(\.\d+)?$/.test(text)) return undefined;
  const value = Number(text);
  return Number.isFinite(value) ? value : undefined;
}

/** Names in a folder, in natural order (`hwmon2` before `hwmon10`); none where there is no such folder. */
export async function list(...path: readonly string[]): Promise<readonly string[]> {
  try {
    return (await readdir(join(...path))).toSorted((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  } catch {
    return []; // no folder, nothing of that sort
  }
}

/** Kernel names as channel names: `Package id 0` is `Package_id_0`, VLAN `eth0.5` is `eth0_5`. */
export const channelName = (text: string): string => text.replaceAll(/[^A-Za-z0-9-]+/g, '_').replaceAll(/^_+|_+$/g, '') || 'unnamed';
