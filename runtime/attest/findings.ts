/** What a block finds missing before it, as an entry for people; for verifiers it stands in the block itself. Pure. */
import type { Clock } from '#runtime/core/clock.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { GAP_BODY, KIND, type Cbor, type Draft } from '#runtime/core/types.ts';
import type { BlockInfo, SealFinding } from './sealer.ts';

const REASON = { increments: 'NV counter increments without a block', extensions: 'PCR 14 extensions without a block' } as const;
const CAUSES = 'blocks were cut, an older disk image was restored, two chains share the TPM, or another program uses it';

/** A gap of increments of the NV counter, or of extensions of PCR 14 (at least one: it does not tell how many). */
export function findingDraft(finding: SealFinding, { sequence }: Pick<BlockInfo, 'sequence'>, clock: Clock): Draft {
  const detail = finding.kind === 'extensions'
    ? `block ${sequence} finds PCR 14 extended after block ${finding.after}, in the same boot of the TPM, by what is no block of this chain: ${CAUSES}`
    : `block ${sequence} finds ${finding.count} increments of the NV counter since block ${finding.since.sequence} that are in no block of this chain: ${CAUSES}`;
  const count = finding.kind === 'extensions' ? 1n : finding.count;
  const body = new Map<number, Cbor>([[GAP_BODY.reason, REASON[finding.kind]], [GAP_BODY.count, count], [GAP_BODY.toMicros, clock.wallMicros()], [GAP_BODY.detail, detail]]);
  return { kind: KIND.gap, source: MAIN_ENTITY, wallMicros: clock.wallMicros(), monoMicros: clock.monoMicros(), body };
}
