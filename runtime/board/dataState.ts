/** What tenzro-data.service found (image/system/root/usr/lib/tenzro-edge/data writes it), and what that means for the operator. Pure. */
import { ERRORS, type ErrorCode } from '#runtime/core/errors.ts';

/** As `tenzro status` tells it. */
export interface BoardFault {
  readonly code: ErrorCode;
  readonly detail: string;
  readonly hint: string;
}

export const faultOf = (code: ErrorCode, detail: string): BoardFault => ({ code, detail, hint: ERRORS[code].hint });

/** rw: as it should be · full: no room for its folders · ro: cannot be written · memory: not usable, memory in its place · nothing: not even that. */
type Mounted = 'rw' | 'full' | 'ro' | 'memory' | 'nothing';
const MOUNTED: ReadonlySet<string> = new Set(['rw', 'full', 'ro', 'memory', 'nothing'] satisfies Mounted[]);
const TEXT_MAX = 4_096;

export interface DataState {
  readonly mounted: Mounted;
  /** `/dev/…`; '' where there is none. */
  readonly partition: string;
  /** The device itself takes no writes. */
  readonly isLocked: boolean;
  /** Of systemd-repart; 0 is fine. */
  readonly repart: number;
  /** Exit codes of e2fsck in the order of the attempts. */
  readonly checks: readonly (readonly [attempt: Check, code: number])[];
}

const CHECKS = ['preen', 'repair', 'backup', 'backupSmall'] as const;
type Check = (typeof CHECKS)[number];

/** Undefined for what the unit did not write. */
export function parseDataState(text: string): DataState | undefined {
  if (text.length > TEXT_MAX) return undefined;
  const values = new Map(text.split('\n').filter((line) => line.includes('=')).map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
  const mounted = values.get('mounted') ?? '';
  if (!MOUNTED.has(mounted)) return undefined;
  const checks = CHECKS.flatMap((attempt) => (values.has(attempt) ? [[attempt, Number(values.get(attempt))] as const] : []));
  return { mounted: mounted as Mounted, partition: values.get('partition') ?? '', isLocked: values.get('locked') === '1', repart: Number(values.get('repart') ?? 0), checks };
}

/** Nothing where the data partition is as it should be. */
export function dataFaults(state: DataState): readonly BoardFault[] {
  switch (state.mounted) {
    case 'memory': return [faultOf('board.data_emergency', `${whyNot(state)}; the gateway runs in memory`)];
    case 'nothing': return [faultOf('board.data_emergency', `${whyNot(state)}, and memory could not be mounted in its place`)];
    case 'ro': return [faultOf('board.data_readonly', `${state.partition} can only be read${state.isLocked ? ': the card takes no writes' : ''}`)];
    case 'full': return [faultOf('board.data_full', `${state.partition} has no room for its folders`)];
    case 'rw': return repairFaults(state);
  }
}

function whyNot({ partition, repart, checks }: DataState): string {
  if (partition === '') return repart === 0 ? 'there is no data partition' : `no data partition could be made (systemd-repart ended with ${repart})`;
  const tried = checks.map(([attempt, code]) => `${attempt} ${code}`).join(', ');
  return `${partition} cannot be mounted${tried === '' ? '' : ` (e2fsck: ${tried})`}`;
}

/** e2fsck(8): 1 and 2 say that it corrected something. What preening corrects after a power cut loses nothing that was acknowledged. */
function repairFaults({ partition, checks }: DataState): readonly BoardFault[] {
  const repaired = checks.find(([attempt, code]) => attempt !== 'preen' && code <= 2);
  return repaired ? [faultOf('board.data_repaired', `${partition} was damaged and repaired (e2fsck: ${repaired[0]} ${repaired[1]})`)] : [];
}
