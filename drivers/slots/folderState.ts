/**
 * Which folder of the application starts next; pure. The package's own folder is always there and has no counter; A and B hold updates. One small file says the
 * rest, replaced whole: image/deb/system/slots reads and writes the same, with the same rules.
 */
import { TenzroError } from '#runtime/core/errors.ts';

export const FOLDERS = ['A', 'B'] as const;
export type Folder = (typeof FOLDERS)[number];
export type Place = Folder | 'package';

export interface FolderState {
  /** Starts where nothing is on trial. */
  readonly committed: Place;
  /** With no try left: given up. */
  readonly trial: Folder | 'none';
  /** Starts that the trial has left: 0 to `TRIES`. */
  readonly left: number;
}

/** As many as a card's boot loader gives a system. */
export const TRIES = 3;
export const FACTORY: FolderState = { committed: 'package', trial: 'none', left: 0 };

export const formatState = ({ committed, trial, left }: FolderState): string => `committed=${committed}\ntrial=${trial}\nleft=${left}\n`;

/** What is damaged counts as nothing: the package starts. */
export function parseState(text: string): FolderState {
  const found = /^committed=(package|A|B)\ntrial=(none|A|B)\nleft=([0-3])\n$/.exec(text);
  if (!found) return FACTORY;
  const [, committed, trial, left] = found;
  return { committed: committed as Place, trial: trial as FolderState['trial'], left: Number(left) };
}

/** What starts, and the state that has to be on disk before it does. `fits`: whole, and newer than the package. */
export function choose(state: FolderState, fits: (folder: Folder) => boolean): { readonly place: Place; readonly state: FolderState } {
  const { committed, trial, left } = state;
  if (trial !== 'none' && left > 0 && fits(trial)) return { place: trial, state: { ...state, left: left - 1 } };
  return { place: committed !== 'package' && fits(committed) ? committed : 'package', state };
}

/** Where an update goes: never where anything runs from that has proved itself. */
export const targetOf = ({ committed }: FolderState): Folder => (committed === 'A' ? 'B' : 'A');

/** Before the first byte is written there: whatever happens now, nobody starts it. Throws `update.on_trial`. */
export function begin(state: FolderState, running: Place): FolderState {
  const target = targetOf(state);
  if (state.trial !== 'none' && (state.left > 0 || running === state.trial)) throw new TenzroError('update.on_trial', `folder ${state.trial} has not proved itself yet`);
  if (running === target) throw new TenzroError('update.on_trial', `the gateway runs from folder ${target}, which is not committed`);
  return { ...state, trial: target, left: 0 };
}

/** It is whole and on disk. */
export const installed = (state: FolderState): FolderState => ({ ...state, trial: targetOf(state), left: TRIES });

/** What runs has proved itself. */
export function commit(state: FolderState, running: Place): FolderState {
  return running === state.trial ? { committed: running, trial: 'none', left: 0 } : state;
}

/** The other one starts next: of a trial what is committed, of what is committed the other folder, or the package. Throws `update.no_way_back`. */
export function revert(state: FolderState, running: Place, fits: (folder: Folder) => boolean): FolderState {
  if (running === state.trial) return { ...state, left: 0 };
  const other = FOLDERS.find((folder) => folder !== running && folder !== state.trial && fits(folder)) ?? 'package';
  if (other === running) throw new TenzroError('update.no_way_back', 'the package runs, and no folder holds a newer application that has proved itself');
  return { ...state, committed: other, left: 0 };
}

/** What runs starts next, and the other one never by itself. A trial goes on being one. */
export const abandon = (state: FolderState, running: Place): FolderState => (running === state.trial ? state : { ...state, committed: running, left: 0 });
