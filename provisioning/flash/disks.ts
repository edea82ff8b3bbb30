/** Which disk is meant, and whether it may be overwritten: lsblk(8) says what there is, `checkedDisk` judges (pure). */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { isJsonObject, parseBoundedJson, type JsonObject } from '#runtime/core/json.ts';

/** A block device as the kernel has it, with what stands on it. */
export interface Disk {
  readonly path: string;
  /** `disk`, `part`, `loop`, `crypt`, `lvm`, `raid1` … */
  readonly type: string;
  readonly sizeBytes: number;
  readonly sectorBytes: number;
  readonly isRemovable: boolean;
  readonly isReadOnly: boolean;
  readonly model: string;
  /** `usb`, `mmc`, `nvme` … */
  readonly transport: string;
  readonly fileSystem: string;
  readonly label: string;
  /** Also `[SWAP]`. */
  readonly mountPoints: readonly string[];
  readonly children: readonly Disk[];
}

export interface DiskWish {
  readonly imageBytes: number;
  readonly forceFixed: boolean;
}

const COLUMNS = 'PATH,TYPE,SIZE,LOG-SEC,RM,HOTPLUG,RO,MODEL,TRAN,FSTYPE,LABEL,PARTLABEL,MOUNTPOINTS';
const LSBLK_MS = 20_000;
const LSBLK_BYTES_MAX = 8 * 1024 * 1024;
/** Disk, partition, mapping, volume: each a list in an object. */
const JSON_BOUNDS = { bytesMax: LSBLK_BYTES_MAX, depthMax: 20, valuesMax: 200_000 };
const SYSTEM_MOUNTS = /^(?:\/|\/boot(?:\/.*)?|\/usr|\/var|\/home|\/efi|\[SWAP\])$/;
const WHOLE = new Set(['disk', 'loop']);

const run = promisify(execFile);

/** Every block device, as trees. Throws `flash.program`. */
export async function disksHere(signal: AbortSignal): Promise<readonly Disk[]> {
  try {
    const { stdout } = await run('lsblk', ['--json', '--bytes', '--output', COLUMNS], { signal, timeout: LSBLK_MS, maxBuffer: LSBLK_BYTES_MAX, env: { PATH: process.env['PATH'] ?? '', LC_ALL: 'C' } });
    return disksIn(stdout);
  } catch (cause) {
    signal.throwIfAborted();
    if (cause instanceof TenzroError) throw cause;
    throw new TenzroError('flash.program', `lsblk does not say which disks there are: ${messageOf(cause)}`, { cause });
  }
}

/** What `lsblk --json --bytes` printed. */
export function disksIn(text: string): readonly Disk[] {
  const told = parseBoundedJson(Buffer.from(text), JSON_BOUNDS, (why) => new TenzroError('flash.program', `what lsblk says cannot be read: ${why}`));
  return nodes(isJsonObject(told) ? told['blockdevices'] : undefined);
}

const nodes = (told: unknown): readonly Disk[] => (Array.isArray(told) ? told.filter((node) => isJsonObject(node)).map((node) => diskOf(node)) : []);

function diskOf(node: JsonObject): Disk {
  const text = (name: string): string => { const value = node[name]; return typeof value === 'string' ? value.trim() : ''; };
  const number = (name: string): number => { const value = node[name]; return typeof value === 'number' ? value : 0; };
  const mounts = node['mountpoints'];
  return {
    path: text('path'), type: text('type'), sizeBytes: number('size'), sectorBytes: number('log-sec') || 512,
    isRemovable: node['rm'] === true || node['hotplug'] === true, isReadOnly: node['ro'] === true,
    model: text('model'), transport: text('tran'), fileSystem: text('fstype'), label: text('label') || text('partlabel'),
    mountPoints: Array.isArray(mounts) ? mounts.filter((point) => typeof point === 'string') : [], children: nodes(node['children']),
  };
}

/** It and everything on it. */
const allOn = (disk: Disk): readonly Disk[] => [disk, ...disk.children.flatMap(allOn)];

/** Those that `checkedDisk` would take, for who has not named one. */
export function candidates(disks: readonly Disk[]): readonly Disk[] {
  return disks.filter((disk) => disk.type === 'disk' && disk.isRemovable && disk.sizeBytes > 0 && !disk.isReadOnly && allOn(disk).every(({ mountPoints }) => mountPoints.length === 0));
}

/** The whole disk at `path` (without symlinks). Throws `flash.target`, and `flash.fixed` where only `forceFixed` is missing. */
export function checkedDisk(disks: readonly Disk[], path: string, { imageBytes, forceFixed }: DiskWish): Disk {
  const root = disks.find((disk) => allOn(disk).some((part) => part.path === path));
  if (!root) throw refused(path, 'lsblk does not know it');
  if (root.path !== path || !WHOLE.has(root.type)) throw refused(path, root.path === path ? `it is of type ${root.type}, no disk` : `it is a part of a disk; an image with its own partitions goes onto the whole disk, ${root.path}`);
  checkUnused(root);
  if (root.isReadOnly) throw refused(path, 'it is read-only: look for the switch at the side of the card or its adapter');
  if (root.sizeBytes === 0) throw refused(path, 'there is no medium in it');
  if (root.sizeBytes < imageBytes) throw refused(path, `it has ${root.sizeBytes} bytes, the image has ${imageBytes}`);
  if (!root.isRemovable && !forceFixed) throw new TenzroError('flash.fixed', `${path} is built into this machine${root.model === '' ? '' : ` (${root.model})`}, no card and no stick`);
  return root;
}

function checkUnused(root: Disk): void {
  const used = allOn(root).flatMap(({ path, mountPoints }) => mountPoints.map((point) => ({ path, point })));
  const system = used.find(({ point }) => SYSTEM_MOUNTS.test(point));
  if (system) throw refused(root.path, `this machine runs from it (${system.path} is ${system.point})`);
  if (used.length > 0) throw refused(root.path, `it is in use; first: ${[...new Set(used.map(({ point }) => `umount ${point}`))].join('; ')}`);
  const holder = root.children.flatMap((part) => part.children)[0] ?? root.children.find(({ type }) => type !== 'part');
  if (holder) throw refused(root.path, `${holder.path} (${holder.type}) stands on it; close that first`);
}

const refused = (path: string, why: string): TenzroError => new TenzroError('flash.target', `${path} is not overwritten: ${why}`);
