/** One line per entry, for people. Pure. */
import { isoOfMicros } from '#runtime/core/clock.ts';
import { printable } from '#runtime/core/printable.ts';
import { GAP_BODY, INFERENCE_BODY, KEY_EPOCH_BODY, KIND, READING_BODY, READING_FLAG, SEALED_BODY, kindName, type Cbor, type Entry } from '#runtime/core/types.ts';
import { commandWords } from '#runtime/verify/commandWords.ts';
import { viewEntry, type Json } from '#runtime/verify/entryView.ts';

const CHANNELS_SHOWN_MAX = 4;
const SUMMARY_CHARS_MAX = 120;
/** A thumbprint, of which a line shows the beginning. */
const KEY_IN_FULL = /\(key ([\w-]{8})[\w-]{35}\)/;
/** UCUM's unity. */
const DIMENSIONLESS = '1';

/** `    42  2026-11-23T14:02:11.123Z  reading    device/motor//  rms 1.21 mm/s, kurtosis 3.02`. */
export function renderEntryLine(index: number, entry: Entry): string {
  const kind = (kindName(entry.kind) ?? String(entry.kind)).padEnd(12);
  return `${String(index).padStart(7)}  ${isoOfMicros(entry.wallMicros)}  ${kind} ${printable(entry.source).padEnd(20)}  ${summaryOf(index, entry)}`;
}

/** What the entry says, in at most 120 characters. */
export function summaryOf(index: number, entry: Entry): string {
  const text = printable(wordsOf(index, entry));
  return text.length <= SUMMARY_CHARS_MAX ? text : `${text.slice(0, SUMMARY_CHARS_MAX - 1)}…`;
}

function wordsOf(index: number, entry: Entry): string {
  const { body } = entry;
  if (body instanceof Map) {
    const fields = body as ReadonlyMap<number, Cbor>;
    const ciphertext = fields.get(SEALED_BODY.ciphertext);
    if (ciphertext instanceof Uint8Array) return `confidential, ${ciphertext.length} bytes sealed`;
    if (entry.kind === KIND.keyEpoch) return `new content key for ${recipientsOf(fields.get(KEY_EPOCH_BODY.recipients)).join(', ')}`;
    if (entry.kind === KIND.reading) return readingWords(fields);
    if (entry.kind === KIND.inference) return inferenceWords(fields);
    if (entry.kind === KIND.gap) return `${textOf(fields.get(GAP_BODY.count))} lost: ${textOf(fields.get(GAP_BODY.reason))}`;
  }
  const command = commandWords(viewEntry(index, entry));
  if (command !== undefined) return command.replace(KEY_IN_FULL, '(key $1…)');
  const view = viewEntry(index, entry).body;
  return typeof view === 'object' && view !== null && !Array.isArray(view) ? fieldWords(view as Readonly<Record<string, Json>>) : plainWords(view);
}

const recipientsOf = (recipients: Cbor | undefined): readonly string[] =>
  (Array.isArray(recipients) ? (recipients as readonly Cbor[]) : []).map((recipient) => textOf(Array.isArray(recipient) ? (recipient as readonly Cbor[])[0] : undefined));

/** Told elsewhere on the line, or of no use to people. */
const UNSAID: ReadonlySet<string> = new Set(['topic', 'payload', 'packetId', 'sensorMicros', 'root']);

function fieldWords(fields: Readonly<Record<string, Json>>): string {
  const said = Object.entries(fields).filter(([name, value]) => !UNSAID.has(name) && !(Array.isArray(value) && value.length === 0));
  if (said.length === 0 && fields['payload'] !== undefined) return plainWords(fields['payload']);
  return said.map(([name, value]) => `${name} ${plainWords(value)}`).join(', ');
}

const plainWords = (value: Json): string => (typeof value === 'string' ? value : JSON.stringify(value));

function readingWords(fields: ReadonlyMap<number, Cbor>): string {
  const values = fields.get(READING_BODY.values);
  const channels = Array.isArray(values) ? (values as readonly Cbor[]) : [];
  const shown = channels.slice(0, CHANNELS_SHOWN_MAX).map(channelWords);
  if (channels.length > CHANNELS_SHOWN_MAX) shown.push(`${channels.length - CHANNELS_SHOWN_MAX} more`);
  const flags = fields.get(READING_BODY.flags);
  const marks = typeof flags === 'number' ? (['simulated', 'duplicate', 'retained'] as const).filter((name) => (flags & READING_FLAG[name]) !== 0) : [];
  return `${shown.join(', ')}${marks.length === 0 ? '' : ` (${marks.join(', ')})`}`;
}

function channelWords(value: Cbor): string {
  const [channel, number, unit] = Array.isArray(value) ? (value as readonly Cbor[]) : [];
  return `${textOf(channel)} ${numberWords(number)}${typeof unit === 'string' && unit !== '' && unit !== DIMENSIONLESS ? ` ${unit}` : ''}`;
}

function inferenceWords(fields: ReadonlyMap<number, Cbor>): string {
  const about = `score ${numberWords(fields.get(INFERENCE_BODY.score))} against ${numberWords(fields.get(INFERENCE_BODY.threshold))}`;
  return `${textOf(fields.get(INFERENCE_BODY.model))}: ${textOf(fields.get(INFERENCE_BODY.verdict))}, ${about} on ${textOf(fields.get(INFERENCE_BODY.provider))}`;
}

const numberWords = (value: Cbor | undefined): string => (typeof value === 'number' ? String(Number(value.toPrecision(5))) : textOf(value));
export const textOf = (value: Cbor | undefined): string => (typeof value === 'string' || typeof value === 'number' ? String(value) : '?');
