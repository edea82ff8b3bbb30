/** What the follower needs to know of a model. A model package's manifest fits it as it stands; only the thread's composition root joins the two. */
import type { Maybe } from '#runtime/core/types.ts';

export interface ModelPlan {
  readonly name: string;
  readonly source: {
    /** Four levels, `+` stands for any one. */
    readonly entity: string;
    /** Measurement type: level behind `/m/`; `none`: any topic. */
    readonly type: Maybe<string>;
  };
  readonly channels: readonly { readonly channel: string; readonly unit: string }[];
  readonly window: { readonly readings: number; readonly stride: number; readonly maxGapMs: number };
  /** A score at or above it is an anomaly. */
  readonly threshold: number;
}

/** A model that is loaded and runs. */
export interface Judge {
  readonly plan: ModelPlan;
  /** SHA-256 of the ONNX file. */
  readonly digest: Uint8Array;
  readonly provider: string;
  /** Row-major `[count, readings × channels]` → `count` scores. Rejects with `model.run`. */
  run(rows: Float32Array, count: number): Promise<Float32Array>;
}

export type Verdict = 'normal' | 'anomaly';
