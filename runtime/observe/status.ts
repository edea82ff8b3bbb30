/** What a gateway says about itself: GET /status on the control socket, and `tenzro status --json`. Names here are stable. */
import type { ChainStatus } from '#runtime/core/types.ts';
import type { StalledWork } from './progress.ts';

export interface GatewayStatus {
  /** The broker listens, the ledger takes entries. */
  readonly ready: boolean;
  readonly node: string;
  readonly version: string;
  readonly pid: number;
  readonly uptimeMs: number;
  readonly dataDir: string;
  readonly chain: ChainStatus;
  readonly trust: { readonly level: string; readonly reason: string };
  readonly broker: { readonly listeners: readonly ListenerStatus[]; readonly clients: number };
  readonly models: readonly ModelStatus[];
  /** Progress: a follower with work before it that does not move is named here. */
  readonly health: { readonly ok: boolean; readonly stalled: readonly StalledWork[] };
  readonly counters: Readonly<Record<string, number>>;
}

interface ListenerStatus {
  readonly url: string;
  readonly anonymous: boolean;
  /** The oldest version that it takes, and its handshakes so far by key exchange group. */
  readonly tls?: { readonly minVersion: string; readonly groups: Readonly<Record<string, number>> };
}

interface ModelStatus {
  readonly name: string;
  /** SHA-256 of the ONNX file, hex. */
  readonly digest: string;
  /** Execution provider that really runs it. */
  readonly provider: string;
}
