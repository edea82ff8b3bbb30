/** What a controller that serves says of itself, for people; `--json` has all of it. */
import { isJsonObject, type Json, type JsonObject } from '#runtime/core/json.ts';
import { printable } from '#runtime/core/printable.ts';
import type { Io } from '../io.ts';

/** Thousands may be connected, and as many frozen. */
const NAMES_MAX = 20;
const DIGEST_CHARS = 16;

/** `status` as `controller.status` tells it; of another version something may be missing. */
export function servingLines(io: Pick<Io, 'paint'>, status: JsonObject): readonly string[] {
  const { name, isReady, uptimeMs, fault, url, receiptKey, chains } = status;
  const [broker, register, counters] = [partOf(status['broker']), partOf(status['register']), Object.entries(partOf(status['counters']))];
  const frozen = namesIn(register['frozen']);
  const width = Math.max(0, ...counters.map(([counter]) => counter.length));
  return [
    `${io.paint(word(name), 'bold')}: ${isReady === true ? io.paint('ready', 'green') : io.paint('not connected', 'yellow')}, serves since ${seconds(uptimeMs)} s`,
    ...(typeof fault === 'string' && fault !== '' ? [io.paint(`fault    ${printable(fault)}`, 'red')] : []),
    `broker   ${word(url)}${brokerWords(broker)}`,
    ...('clients' in broker ? [`clients  ${word(broker['clients'])}${listed(namesIn(broker['users']))}`] : []),
    `fleet    ${word(register['gateways'])} gateways, ${word(chains)} chains${register['isOpen'] === true ? ', open: whoever the broker lets in belongs to it' : ''}; policy ${word(register['policy']).slice(0, DIGEST_CHARS)}…`,
    ...(frozen.length === 0 ? [] : [io.paint(`frozen   ${frozen.length}${listed(frozen)}`, 'red')]),
    ...(register['short'] === 0 ? [] : [io.paint(`short    ${word(register['short'])} chains fall short of the policy: tenzro fleet ls says which`, 'yellow')]),
    `acts     ${word(register['acts'])}`,
    `key      ${word(receiptKey)} signs receipts and acts`,
    ...counters.map(([counter, value]) => io.paint(`  ${printable(counter).padEnd(width)}  ${word(value)}`, 'dim')),
  ];
}

function brokerWords(broker: JsonObject): string {
  if (!('clients' in broker)) return ` (run by others${typeof broker['keyExchange'] === 'string' ? `, ${printable(broker['keyExchange'])}` : ''})`;
  const seen = Object.entries(partOf(broker['groups'])).map(([group, count]) => `${word(count)} × ${printable(group)}`).join(', ');
  return ` (its own, at ${word(broker['host'])}:${word(broker['port'])}), ${word(broker['tlsVersion'])}${seen === '' ? '' : `, handshakes: ${seen}`}`;
}

const listed = (names: readonly string[]): string =>
  names.length === 0 ? '' : `: ${names.slice(0, NAMES_MAX).join(', ')}${names.length > NAMES_MAX ? ` and ${names.length - NAMES_MAX} more (--json has all)` : ''}`;
const namesIn = (value: Json | undefined): readonly string[] => (Array.isArray(value) ? (value as readonly Json[]).flatMap((name) => (typeof name === 'string' ? [printable(name)] : [])) : []);
const partOf = (value: Json | undefined): JsonObject => (isJsonObject(value) ? value : {});
const word = (value: Json | undefined): string => (typeof value === 'string' || typeof value === 'number' ? printable(String(value)) : '?');
const seconds = (ms: Json | undefined): string => (typeof ms === 'number' ? String(Math.round(ms / 1_000)) : '?');
