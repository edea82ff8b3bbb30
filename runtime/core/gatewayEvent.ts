/** What a running gateway tells of itself to whoever shows it to people. */
import type { Entry } from './types.ts';

export type GatewayEvent =
  | { readonly type: 'ready'; readonly node: string; readonly version: string; readonly dataDir: string; readonly listeners: readonly string[]; readonly afterMs: number }
  | { readonly type: 'trust'; readonly level: string; readonly reason: string }
  | { readonly type: 'model'; readonly name: string; readonly digest: string; readonly provider: string }
  | { readonly type: 'entry'; readonly index: number; readonly entry: Entry }
  | { readonly type: 'block'; readonly sequence: number; readonly treeSize: number; readonly root: Uint8Array; readonly level: string }
  /** Anything else worth a line: a scenario that plays, a shutdown that proceeds. */
  | { readonly type: 'note'; readonly text: string };
