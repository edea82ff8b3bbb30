/** Compiles the small C programs of the tests and benches into a folder of theirs. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { findPeer } from './peers.ts';

const ROOT = join(import.meta.dirname, '..', '..');

/** Compiles `source` (from the root) to `output`. Throws with what to install when there is no compiler. */
export function compile(source: string, output: string, flags: readonly string[] = []): string {
  const cc = findPeer('cc');
  if (cc === undefined) throw new Error(`${source} needs a C compiler: apt-get install gcc libc6-dev`);
  execFileSync(cc, ['-O2', '-Wall', '-Wextra', '-Werror', '-o', output, join(ROOT, source), ...flags], { stdio: ['ignore', 'inherit', 'inherit'] });
  return output;
}
