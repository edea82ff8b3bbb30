/** Which commands a roll-out may need: its owner signs them all before it begins. Pure. */
import { commandIdOf, type Direction, type RolloutState } from './rolloutState.ts';

/** Every message that it may need, in the order in which the owner signs them. */
export function* neededCommands({ plan, gateways }: Pick<RolloutState, 'plan' | 'gateways'>): Iterable<{ readonly gateway: string; readonly direction: Direction; readonly attempt: number; readonly commandId: string }> {
  const attempts = (direction: Direction): number => (direction === 'forward' ? plan.attempts : plan.rollback ? plan.attempts + 1 : 0);
  for (const gateway of gateways) {
    for (const direction of ['forward', 'undo'] as const) {
      for (let attempt = 1; attempt <= attempts(direction); attempt++) yield { gateway, direction, attempt, commandId: commandIdOf(plan.id, gateway, direction, attempt) };
    }
  }
}
