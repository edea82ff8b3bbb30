/** What image/disk/boot.cmd does with the boot state, said a second time: the boots under QEMU are held against this. */
import { crc32 } from 'node:zlib';
import { bootState } from '#image/disk/bootState.ts';
import { BOOT_STATE_BYTES, BOOT_TRIES } from '#image/layout.ts';

const CRC_BYTES = 4;

export type SlotName = 'A' | 'B';
const SLOTS: readonly SlotName[] = ['A', 'B'];

export interface BootState {
  /** Slots that may be tried, the preferred one first. */
  readonly order: readonly SlotName[];
  readonly left: Readonly<Record<SlotName, number>>;
}

/** What is believed where nobody can read the sector. */
export const FRESH: BootState = { order: ['A', 'B'], left: { A: BOOT_TRIES, B: BOOT_TRIES } };

export interface Choice {
  /** Undefined: no slot had a try left; it all begins anew, after ten seconds. */
  readonly slot: SlotName | undefined;
  /** As it stands on the card before the slot's kernel is loaded. */
  readonly next: BootState;
}

export function choose(state: BootState): Choice {
  const slot = state.order.find((name) => state.left[name] > 0);
  if (slot === undefined) return { slot, next: FRESH };
  return { slot, next: { ...state, left: { ...state.left, [slot]: state.left[slot] - 1 } } };
}

/** The slots in the order of their tries, over resets of a machine that never commits. */
export function* tries(state: BootState): Generator<Choice, never> {
  for (let now = state; ;) {
    const choice = choose(now);
    yield choice;
    now = choice.next;
  }
}

/** The sector as boot loader and system write it; `others`: further variables. */
export const sectorOf = ({ order, left }: BootState, others: Readonly<Record<string, string>> = {}): Buffer =>
  bootState({ BOOT_ORDER: order.join(' '), BOOT_A_LEFT: String(left.A), BOOT_B_LEFT: String(left.B), ...others });

/** Undefined where the checksum is not that of the content: nobody may believe it. */
export function variablesIn(sector: Buffer): ReadonlyMap<string, string> | undefined {
  const body = sector.subarray(CRC_BYTES, BOOT_STATE_BYTES);
  if (sector.readUInt32LE(0) !== crc32(body)) return undefined;
  const entries = body.toString('latin1').split('\0');
  return new Map(entries.slice(0, entries.indexOf('')).map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]));
}

/** As the boot loader takes it: what is missing or empty counts as never written; numbers are hexadecimal there. */
export function stateOf(sector: Buffer): BootState {
  const variables = variablesIn(sector);
  const left = (name: SlotName): number => Number.parseInt(variables?.get(`BOOT_${name}_LEFT`) ?? String(BOOT_TRIES), 16);
  const order = (variables?.get('BOOT_ORDER') ?? '').split(' ').filter((name): name is SlotName => SLOTS.some((slot) => slot === name));
  return { order: order.length > 0 ? order : FRESH.order, left: { A: left('A'), B: left('B') } };
}
