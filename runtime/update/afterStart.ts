/** What a start makes of an update that was under way. Pure. */
import type { SlotsStatus } from '#runtime/core/ports.ts';
import type { UpdateRecord } from './record.ts';

/** A restart that does not come about is asked for again this often. */
const RESTARTS_MAX = 3;

/**
 * trial: it runs and has to prove itself · committed: it has · restart: it is whole and waits for the restart · returned: it was tried, and the one before runs ·
 * interrupted: it never was whole, and nothing of it shall start.
 */
export type AfterStart = 'trial' | 'committed' | 'restart' | 'returned' | 'interrupted';

export function afterStart({ phase, slot, restarts }: Pick<UpdateRecord, 'phase' | 'slot' | 'restarts'>, { booted, next }: SlotsStatus): AfterStart {
  if (phase === 'committed' || phase === 'returned') return phase;
  if (booted.name === slot) return booted.state === 'good' ? 'committed' : 'trial';
  if (phase === 'installing') return 'interrupted';
  return next === slot && restarts < RESTARTS_MAX ? 'restart' : 'returned';
}
