/** Measurement entries of a bundle, by the places that the head names. Entries were decoded and their inclusion checked before. */
import { messageOf } from '#runtime/core/errors.ts';
import { KIND, type Measurement } from '#runtime/core/types.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import { decodeMeasurement, type MeasurementBody } from '#runtime/ledger/measurement.ts';
import type { OpenedBundle } from './opened.ts';

type Found<W extends Measurement> =
  | { readonly kind: 'value'; readonly index: number; readonly body: Extract<MeasurementBody, { readonly what: W }> }
  /** The head names no place, or the bundle does not hold it. */
  | { readonly kind: 'none'; readonly reason: string }
  /** What stands there is something else than the head says. */
  | { readonly kind: 'wrong'; readonly reason: string };

const NAMES: Readonly<Record<Measurement, string>> = { tcg: 'boot event log', ima: 'IMA list', software: 'software measurement' };

export function findMeasurement<W extends Measurement>({ bundle }: OpenedBundle, index: number | undefined, what: W): Found<W> {
  if (index === undefined) return { kind: 'none', reason: `the head names no ${NAMES[what]}` };
  const found = bundle.entries.find((entry) => entry.index === index);
  if (!found) return { kind: 'none', reason: `the ${NAMES[what]} that the head names, entry ${index}, is not in the bundle: it was pruned, or left out` };
  const wrong = (why: string): Found<W> => ({ kind: 'wrong', reason: `entry ${index}, which the head names as its ${NAMES[what]}, ${why}` });
  try {
    const { kind, body } = decodeEntry(found.bytes);
    if (kind !== KIND.measurement) return wrong('is no measurement');
    const measurement = decodeMeasurement(body);
    return isOf(measurement, what) ? { kind: 'value', index, body: measurement } : wrong(`is another measurement (${NAMES[measurement.what]})`);
  } catch (error) {
    return wrong(`does not decode: ${messageOf(error)}`);
  }
}

const isOf = <W extends Measurement>(body: MeasurementBody, what: W): body is Extract<MeasurementBody, { readonly what: W }> => body.what === what;
