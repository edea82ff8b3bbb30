/** `tenzro fleet logs`: a signed `log_upload` through the controller, and its answer as a person reads a log. */
import { randomBytes } from 'node:crypto';
import { gunzipSync } from 'node:zlib';
import { callController } from '#runtime/controller/apiClient.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { isJsonObject, type Json, type JsonObject } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { printable } from '#runtime/core/printable.ts';
import { humanLine } from '#runtime/observe/humanLine.ts';
import { EXIT, type Io } from '../io.ts';
import { gatewaysOf } from './groups.ts';
import { openOwnerKey, type OwnerFlags } from './owner.ts';
import { signFor } from './run.ts';

export interface LogsFlags extends OwnerFlags {
  readonly lines: string;
  readonly since?: string;
  readonly level?: string;
  readonly search?: string;
  readonly json?: boolean;
}

const TTL_SECONDS = 60;
const TYPE = 'log_upload';

/** Throws `cli.usage`, `fleet.key`, `controller.*`, `command.*`. */
export async function fleetLogs(io: Io, gateway: string, flags: LogsFlags): Promise<void> {
  const { dir, since, level, search } = flags;
  const lines = Number(flags.lines);
  if (!Number.isInteger(lines) || lines < 1 || lines > LIMITS.logUploadLinesMax) throw new TenzroError('cli.usage', `--lines ${flags.lines}: write 1 to ${LIMITS.logUploadLinesMax}`);
  const parameters = { lines, ...(since === undefined ? {} : { since }), ...(level === undefined ? {} : { level }), ...(search === undefined ? {} : { search }) };
  const id = randomBytes(8).toString('hex');
  const issued = Math.floor(systemClock.wallMicros() / 1_000_000);
  const { message } = signFor(await openOwnerKey(io, flags), gateway, { type: TYPE, id, issued, ttlSeconds: TTL_SECONDS, isDryRun: false, parameters });
  if ((await gatewaysOf(dir, gateway)).unknown.length > 0) io.error(`${gateway} was never heard of: it has ${TTL_SECONDS} s to answer`);
  await callController(dir, 'commands.submit', { commands: [{ gateway, message }] });
  io.catchSignals();
  let last: JsonObject = {};
  await callController(dir, 'commands.watch', { commands: [{ gateway, type: TYPE, id }] }, { signal: io.signal, onEvent: (event) => { last = event; } });
  if (last['state'] !== 'successful') {
    io.exitCode = EXIT.problem;
    return io.error(`${gateway}: ${typeof last['reason'] === 'string' ? printable(last['reason']) : 'no answer'}`);
  }
  const result = isJsonObject(last['said']) ? last['said']['result'] : undefined;
  const log = logOf(result);
  if (flags.json) return io.json(log);
  for (const line of log.lines) io.line(humanLine(line, io.color).trimEnd());
  if (log.cut) io.error(`${log.found - log.lines.length} older lines that fit are left out: ask for less (--since, --level, --search) or more (--lines)`);
}

/** What the gateway said, whoever it is: bounded and checked. Throws `controller.request` for what is no answer. */
export function logOf(result: Json | undefined): { readonly lines: readonly string[]; readonly found: number; readonly cut: boolean } {
  if (!isJsonObject(result)) throw new TenzroError('controller.request', 'the gateway sent no log');
  const { encoding, log, lines_found: found, cut } = result;
  if (typeof log !== 'string' || typeof found !== 'number' || (encoding !== 'text' && encoding !== 'gzip+base64')) throw new TenzroError('controller.request', 'the gateway sent no log that this version reads');
  const text = encoding === 'text' ? log : unpacked(log);
  return { lines: text === '' ? [] : text.split('\n').filter(isLogLine), found, cut: cut === true };
}

function unpacked(text: string): string {
  try {
    return gunzipSync(Buffer.from(text, 'base64'), { maxOutputLength: 2 * LIMITS.logRingBytesMax }).toString('utf8');
  } catch (cause) {
    throw new TenzroError('controller.request', `the gateway's log does not unpack: ${messageOf(cause)}`, { cause });
  }
}

function isLogLine(line: string): boolean {
  try {
    return isJsonObject(JSON.parse(line));
  } catch {
    return false; // what is no line of a log is not shown
  }
}
