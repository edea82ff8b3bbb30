/** What the main thread and the inference thread tell each other. Plain data: it crosses by structured clone. */
import type { ErrorCode } from '#runtime/core/errors.ts';
import { GAP_BODY, KIND, type Cbor, type Draft, type Maybe } from '#runtime/core/types.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';

/** The main thread's clock stamps it: monotonic clocks of threads differ. */
export type UnstampedDraft = Omit<Draft, 'wallMicros' | 'monoMicros'>;

/** Appended in one transaction with the cursor: both or neither. */
export interface Batch {
  readonly drafts: readonly UnstampedDraft[];
  /** First index still needed. */
  readonly cursor: number;
}

/** What `tenzro status` shows of one model. */
export interface ModelStatus {
  readonly name: string;
  /** SHA-256 in hexadecimal; '' while unknown. */
  readonly digest: string;
  /** Execution provider that really runs it; '' while none does. */
  readonly provider: string;
  readonly state: Maybe<'running'>;
}

export interface ThreadData {
  readonly dataDir: string;
  readonly modelsDir: string;
  /** Packages here go before those of the same name there. */
  readonly installedDir: string;
  /** Empty: all packages that are there. */
  readonly models: readonly string[];
  /** '': the ONNX Runtime that comes with the application. */
  readonly runtimeDir: string;
}

export type ToThread =
  /** The log has grown. */
  | { readonly kind: 'head' }
  /** The batch last sent is flushed. */
  | { readonly kind: 'stored' }
  | { readonly kind: 'ping' }
  | { readonly kind: 'stop' };

export type FromThread =
  | { readonly kind: 'pong' }
  | { readonly kind: 'models'; readonly models: readonly ModelStatus[] }
  | { readonly kind: 'modelFailed'; readonly name: string; readonly code: ErrorCode; readonly reason: string }
  | { readonly kind: 'note'; readonly code: string; readonly message: string }
  | { readonly kind: 'batch'; readonly batch: Batch; readonly position: number }
  | { readonly kind: 'progress'; readonly position: number; readonly counts: Readonly<Record<string, number>> };

export interface Gap {
  readonly reason: string;
  readonly count: number;
  readonly fromMicros?: number;
  readonly toMicros?: number;
  readonly detail: string;
}

export function gapDraft({ reason, count, fromMicros, toMicros, detail }: Gap): UnstampedDraft {
  const body = new Map<number, Cbor>([[GAP_BODY.reason, reason], [GAP_BODY.count, count], [GAP_BODY.detail, detail]]);
  if (fromMicros !== undefined) body.set(GAP_BODY.fromMicros, fromMicros);
  if (toMicros !== undefined) body.set(GAP_BODY.toMicros, toMicros);
  return { kind: KIND.gap, source: MAIN_ENTITY, body };
}
