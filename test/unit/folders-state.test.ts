/** Which folder starts: the rules in TypeScript, explored whole, and the launcher's in sh held against them. */
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { abandon, begin, choose, commit, formatState, installed, parseState, revert, targetOf, FACTORY, FOLDERS, TRIES, type Folder, type FolderState, type Place } from '#drivers/slots/folderState.ts';
import { folderAt } from '#drivers/slots/folderPaths.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { AppFolders } from '#test/support/appFolders.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir } from '#test/support/temp.ts';

const PLACES: readonly Place[] = ['package', 'A', 'B'];
const STATES: readonly FolderState[] = PLACES.flatMap((committed) => (['none', ...FOLDERS] as const).flatMap((trial) => [0, 1, 2, 3].map((left) => ({ committed, trial, left }))));

/** proven: was committed once · new: whole, never was. Folders come and go by renaming, so there is nothing between. */
type Content = 'none' | 'new' | 'proven';
interface World {
  readonly state: FolderState;
  readonly A: Content;
  readonly B: Content;
  readonly running: Place;
}

const fitsIn = (world: World) => (folder: Folder): boolean => world[folder] === 'new' || world[folder] === 'proven';
const tried = <T>(work: () => T): T | undefined => {
  try {
    return work();
  } catch (error) {
    assert.ok(error instanceof TenzroError);
    return undefined;
  }
};

/** Every world on disk that an installation passes, in the keeper's order; the power may fail after each. */
function installing(world: World): World[] {
  const begun = tried(() => begin(world.state, world.running));
  if (begun === undefined) return [];
  const target = targetOf(begun);
  const passed: World[] = [];
  let at = world;
  const on = (change: Partial<World>): void => { at = { ...at, ...change }; passed.push(at); };
  if (world.state.trial !== 'none') on({ [world.state.trial]: 'none' }); // renamed, then removed
  on({ state: begun });
  on({ [target]: 'none' });
  on({ [target]: 'new' }); // renamed into place when it is whole
  on({ state: installed(begun) });
  return passed;
}

function following(world: World): World[] {
  const started = choose(world.state, fitsIn(world));
  const proven = (state: FolderState): World => ({ ...world, state, ...(world.running === 'package' ? {} : { [world.running]: 'proven' }) });
  const back = tried(() => revert(world.state, world.running, fitsIn(world)));
  return [
    { ...world, state: started.state, running: started.place }, ...installing(world),
    ...(world.state.trial === world.running ? [proven(commit(world.state, world.running))] : []), { ...world, state: abandon(world.state, world.running) }, ...(back ? [{ ...world, state: back }] : []),
  ];
}

const reachable = (): World[] => {
  const seen = new Map<string, World>();
  const queue: World[] = [{ state: FACTORY, A: 'none', B: 'none', running: 'package' }];
  for (let world = queue.pop(); world !== undefined; world = queue.pop()) {
    const key = JSON.stringify(world);
    if (seen.has(key)) continue;
    seen.set(key, world);
    queue.push(...following(world));
  }
  return [...seen.values()];
};

describe('folders of the application: their state', () => {
  it('reads what it writes, and takes anything else for nothing', () => {
    for (const state of STATES) assert.deepEqual(parseState(formatState(state)), state);
    for (const text of ['', 'committed=A\n', 'committed=C\ntrial=none\nleft=0\n', 'committed=A\ntrial=none\nleft=4\n', 'committed=A\ntrial=none\nleft=0', 'committed=A\ntrial=none\nleft=0\n\n']) assert.deepEqual(parseState(text), FACTORY, text);
  });

  it('starts nothing unproven uncounted, and nothing that is not whole, after any power cut anywhere', () => {
    const worlds = reachable();
    for (const world of worlds) {
      const { place, state } = choose(world.state, fitsIn(world));
      if (place === 'package') continue;
      assert.ok(fitsIn(world)(place), JSON.stringify(world));
      assert.ok(world[place] === 'proven' || (world.state.trial === place && state.left === world.state.left - 1), `unproven and uncounted: ${JSON.stringify(world)}`);
    }
    assert.ok(worlds.length > 50, String(worlds.length));
  });

  it('never writes to what is committed, or to what runs', () => {
    for (const world of reachable()) {
      for (const after of installing(world)) for (const folder of FOLDERS) {
        if (folder === world.running || folder === world.state.committed) assert.equal(after[folder], world[folder], JSON.stringify(world));
      }
    }
  });

  it('comes back after its tries, whatever was on trial', () => {
    for (const world of reachable()) {
      let { state } = world;
      let place: Place = world.running;
      for (let start = 0; start <= TRIES; start++) ({ place, state } = choose(state, fitsIn(world)));
      assert.ok(place === 'package' || place === state.committed, JSON.stringify(world));
    }
  });

  it('has the launcher choose, and count, as it says', async function () {
    this.timeout(60_000);
    requirePeer(this, 'dpkg-deb');
    using dir = tempDir('folders');
    const folders = new AppFolders(dir.path);
    await folders.prepare();
    const versions = { missing: undefined, older: '0.9.0', newer: '1.1.0' } as const;
    for (const [inA, inB] of [['newer', 'newer'], ['newer', 'missing'], ['older', 'newer'], ['missing', 'missing']] as const) {
      const held = { A: versions[inA], B: versions[inB] };
      for (const folder of FOLDERS) {
        await rm(folderAt(folders.paths, folder), { recursive: true, force: true });
        if (held[folder] !== undefined) await folders.lay(folderAt(folders.paths, folder), held[folder]);
      }
      for (const state of STATES) {
        await folders.write(state);
        const expected = choose(state, (folder) => held[folder] === '1.1.0');
        assert.deepEqual({ place: await folders.select(), state: await folders.state() }, expected, JSON.stringify({ state, held }));
      }
    }
  });
});
