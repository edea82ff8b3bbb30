/** Folders of a test, gone with it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface TempDir extends Disposable {
  readonly path: string;
}

/** `using dir = tempDir('kill')`: removed at the end of the block. */
export function tempDir(purpose: string): TempDir {
  const path = mkdtempSync(join(tmpdir(), `tenzro-${purpose}-`));
  return { path, [Symbol.dispose]: () => { rmSync(path, { recursive: true, force: true, maxRetries: 3 }); } };
}
