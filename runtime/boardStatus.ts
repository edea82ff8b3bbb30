/** What is wrong with the card this gateway runs from. Nothing where it does not run from our image. Read anew each time: a card can fail while it runs. */
import { readFileSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { dataFaults, faultOf, parseDataState, type BoardFault, type DataState } from '#runtime/board/dataState.ts';
import type { FileReport } from '#runtime/board/firstBoot.ts';
import { BOARD, KEPT, type BoardFolders } from './boardCard.ts';
import { parseRecord } from './boarding.ts';

const DATA_STATE = 'data';
/** Of the data partition, below which the gateway soon cannot write. */
const FREE_BYTES_MIN = 4 * 1024 * 1024;

export function boardFaults(folders: BoardFolders = BOARD, mounts = '/proc/self/mountinfo'): readonly BoardFault[] {
  const state = parseDataState(textOf(join(folders.state, DATA_STATE)) ?? '');
  if (!state) return [];
  const mountinfo = textOf(mounts) ?? '';
  const record = parseRecord(textOf(join(folders.data, KEPT.record)));
  return [
    ...dataFaults(state),
    ...sinceThen(state, folders, mountinfo),
    ...mountinfo === '' || optionsOf(mountinfo, folders.boot) ? [] : [faultOf('board.boot_partition', `${folders.boot} is not mounted: nobody has looked at the files on it`)],
    ...record.reports.flatMap((report) => reportLines(report).map((line) => faultOf('board.boot_file', line))),
    ...record.wiping.map(({ name }) => faultOf('board.boot_partition', `${name} was taken over and could not be wiped`)),
  ];
}

/** `tenzro.yaml:3:5: mqtt.prot: unknown key (did you mean port?)` */
export const reportLines = ({ name, problems }: FileReport): readonly string[] => problems.map(({ place, key, message, hint }) =>
  `${name}${place ? `:${place.line}:${place.column}` : ''}: ${key === '' ? '' : `${key}: `}${message}${hint === undefined ? '' : ` (${hint})`}`);

/** What became of it while the system ran. */
function sinceThen({ mounted, partition }: DataState, { data }: BoardFolders, mountinfo: string): readonly BoardFault[] {
  if (mounted !== 'rw') return [];
  if (optionsOf(mountinfo, data)?.includes('ro')) return [faultOf('board.data_readonly', `${partition}: the kernel has found errors and writes no more`)];
  const { bavail, bsize } = statfsSync(data);
  return bavail * bsize < FREE_BYTES_MIN ? [faultOf('board.data_full', `${partition} has ${bavail * bsize} bytes left`)] : [];
}

/** proc_pid_mountinfo(5): what stands behind the hyphen is the file system's own, the same in every namespace. Undefined where nothing is mounted. */
function optionsOf(mountinfo: string, folder: string): readonly string[] | undefined {
  return mountinfo.split('\n').findLast((line) => line.split(' ')[4] === folder)?.split(' - ')[1]?.split(' ')[2]?.split(',');
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined; // not there: nothing to say about it
  }
}
