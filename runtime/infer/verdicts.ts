/** Remembers each source's last verdict per model, so that a change is told once. */
import { LIMITS } from '#runtime/core/limits.ts';
import { INFERENCE_BODY, KIND, type Cbor } from '#runtime/core/types.ts';
import type { UnstampedDraft } from './messages.ts';
import type { Verdict } from './plan.ts';

export interface VerdictChange {
  readonly model: string;
  readonly source: string;
  /** 'anomaly': it was normal, or unknown since the start, before; 'normal': it was an anomaly. */
  readonly verdict: Verdict;
  readonly score: number;
  readonly threshold: number;
  readonly wallMicros: number;
}

export class Verdicts {
  readonly #changed: (change: VerdictChange) => void;
  /** Sources under anomaly, by model. */
  readonly #anomalous = new Map<string, Set<string>>();
  readonly #inferences = new Map<string, number>();

  constructor(changed: (change: VerdictChange) => void) { this.#changed = changed; }

  inferences(model: string): number { return this.#inferences.get(model) ?? 0; }

  /** The drafts are flushed. */
  stored(drafts: readonly UnstampedDraft[], wallMicros: number): void {
    for (const { kind, source, body } of drafts) if (kind === KIND.inference && body instanceof Map) this.#see(source, body as ReadonlyMap<number, Cbor>, wallMicros);
  }

  #see(source: string, body: ReadonlyMap<number, Cbor>, wallMicros: number): void {
    const model = body.get(INFERENCE_BODY.model);
    if (typeof model !== 'string') return;
    const verdict: Verdict = body.get(INFERENCE_BODY.verdict) === 'anomaly' ? 'anomaly' : 'normal';
    this.#inferences.set(model, this.inferences(model) + 1);
    const anomalous = this.#anomalous.get(model) ?? new Set();
    this.#anomalous.set(model, anomalous);
    if (anomalous.has(source) === (verdict === 'anomaly')) return;
    if (verdict === 'normal') anomalous.delete(source);
    else if (anomalous.size < LIMITS.inferSourcesMax) anomalous.add(source);
    this.#changed({ model, source, verdict, score: Number(body.get(INFERENCE_BODY.score)), threshold: Number(body.get(INFERENCE_BODY.threshold)), wallMicros });
  }
}
