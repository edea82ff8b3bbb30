/** One pino JSON line as a line for people: `14:02:11 warn  broker  client refused  client=pump code=broker.auth`. */
import { printable } from '#runtime/core/printable.ts';

/** pino's level numbers. */
const LEVELS = new Map([[20, 'debug'], [30, 'info'], [40, 'warn'], [50, 'error'], [60, 'fatal']]);
const COLORS = new Map([['debug', '2'], ['warn', '33'], ['error', '31'], ['fatal', '31']]);

interface Line {
  readonly level?: number;
  readonly time?: number;
  readonly msg?: unknown;
  readonly room?: unknown;
}

/** Takes and returns a whole line, newline included. Whose line it is does not matter: another gateway's says what it likes, and bends no terminal. */
export function humanLine(json: string, color: boolean): string {
  const { level = 30, time = 0, msg = '', room = '', ...fields } = JSON.parse(json) as Line & Record<string, unknown>;
  const name = LEVELS.get(level) ?? 'info';
  const paint = (text: string, code: string | undefined): string => (color && code !== undefined ? `\u001b[${code}m${text}\u001b[0m` : text);
  const clock = new Date(time).toTimeString().slice(0, 8);
  const rest = Object.entries(fields).map(([key, value]) => `${key}=${words(value)}`).join(' ');
  const head = `${paint(clock, '2')} ${paint(name.padEnd(5), COLORS.get(name))} ${printable(textOf(room)).padEnd(7)} ${printable(textOf(msg))}`;
  return `${rest === '' ? head : `${head}  ${paint(printable(rest), '2')}`}\n`;
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));

/** An error reads as `code: message`; text without blanks needs no quotes. */
function words(value: unknown): string {
  if (typeof value === 'string') return /[\s"=]/.test(value) || value === '' ? JSON.stringify(value) : value;
  if (typeof value === 'object' && value !== null && 'message' in value) {
    const { code, message } = value as { code?: unknown; message: unknown };
    return JSON.stringify(typeof code === 'string' ? `${code}: ${String(message)}` : String(message));
  }
  return JSON.stringify(value);
}
