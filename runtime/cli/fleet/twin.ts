/** `tenzro fleet twin`: what is desired of a gateway's configuration and what it reports; a change is signed here, with the owner's key. */
import { readFileSync, statSync } from 'node:fs';
import { parseDocumentText } from '#runtime/config/document.ts';
import { callController } from '#runtime/controller/apiClient.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { isJsonObject, type Json, type JsonObject } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { printable } from '#runtime/core/printable.ts';
import { checkedDesired, encodeDesired, TWIN_TYP, twinSigningInput } from '#runtime/core/twin.ts';
import { signDetached } from '#runtime/crypto/jws.ts';
import { EXIT, type Io } from '../io.ts';
import { openOwnerKey, type OwnerFlags } from './owner.ts';
import { secondsOf } from './sign.ts';

export interface TwinFlags extends OwnerFlags {
  readonly name: string;
  readonly set?: string;
  readonly confirm: string;
  readonly despiteConflict?: boolean;
  readonly wait: boolean;
  readonly json?: boolean;
}

/** Throws `cli.usage`, `fleet.key`, `controller.*`, `twin.*`. Exit 1 where the change did not stay in force. */
export async function fleetTwin(io: Io, gateway: string | undefined, flags: TwinFlags): Promise<void> {
  if (flags.set !== undefined) return setTwin(io, gateway, flags.set, flags);
  if (gateway === undefined) return listTwins(io, flags);
  const twin = await callController(flags.dir, 'twins.show', { gateway, name: flags.name });
  if (flags.json) return io.json(twin);
  const { desired, reported, conflict } = twin;
  if (typeof conflict === 'string') io.line(io.paint(`CONFLICT  ${printable(conflict)}`, 'red'));
  io.line(isJsonObject(desired) ? `desired   version ${wordOf(desired['version'])}` : 'desired   nothing');
  io.line(isJsonObject(reported) ? `reported  ${reportWords(reported)}` : 'reported  nothing yet');
  if (isJsonObject(reported)) io.line(printable(JSON.stringify(reported['value'], null, 2)));
}

async function listTwins(io: Io, { dir, json }: TwinFlags): Promise<void> {
  const { twins } = await callController(dir, 'twins.list', {});
  if (json) return io.json(twins);
  for (const twin of Array.isArray(twins) ? (twins as readonly Json[]).filter(isJsonObject) : []) {
    const { gateway, name, reported, conflict } = twin;
    io.line(`${wordOf(gateway).padEnd(24)} ${wordOf(name).padEnd(12)} ${isJsonObject(reported) ? reportWords(reported) : 'nothing reported'}${typeof conflict === 'string' ? io.paint('  CONFLICT', 'red') : ''}`);
  }
}

async function setTwin(io: Io, gateway: string | undefined, file: string, flags: TwinFlags): Promise<void> {
  if (gateway === undefined) throw new TenzroError('cli.usage', '--set needs a gateway');
  const { dir, name, json, wait, despiteConflict = false } = flags;
  const { next, confirmKey } = await callController(dir, 'twins.show', { gateway, name });
  const desired = checkedDesired({ version: next, value: valueIn(file), confirmSeconds: secondsOf(flags.confirm), confirmKey });
  const signer = await openOwnerKey(io, flags);
  const message = encodeDesired(desired, signDetached(signer, twinSigningInput(gateway, name, 'desired', desired), TWIN_TYP.desired)).toString('utf8');
  const onEvent = (report: JsonObject): void => { if (!json) io.line(reportWords(report)); };
  if (!json) io.line(`version ${desired.version} of ${name} is desired of ${printable(gateway)}`);
  const outcome = await callController(dir, 'twins.set', { gateway, name, message, despiteConflict, wait }, { onEvent, signal: io.signal });
  const { reported } = outcome;
  if (wait && !(isJsonObject(reported) && reported['version'] === desired.version && reported['state'] === 'confirmed')) io.exitCode = EXIT.problem;
  if (json) io.json(outcome);
}

function valueIn(file: string): Json {
  try {
    const { size } = statSync(file);
    if (size > LIMITS.twinMessageBytesMax) throw new TenzroError('fleet.file', `${file}: ${size} bytes, more than ${LIMITS.twinMessageBytesMax}`);
    const { faults: [fault], value } = parseDocumentText(readFileSync(file, 'utf8'));
    if (fault) throw new TenzroError('fleet.file', `${file}:${fault.place.line}:${fault.place.column}: ${fault.message}`);
    if (isJsonObject(value)) return value;
    throw new TenzroError('fleet.file', `${file}: not a section`);
  } catch (cause) {
    if (cause instanceof TenzroError) throw cause;
    throw new TenzroError('fleet.file', `cannot read ${file}: ${messageOf(cause)}`, { cause });
  }
}

const wordOf = (value: Json | undefined): string => (typeof value === 'string' || typeof value === 'number' ? printable(String(value)) : '?');
const reportWords = ({ version, state, reason }: JsonObject): string => `version ${wordOf(version)} ${wordOf(state)}${typeof reason === 'string' ? `: ${printable(reason)}` : ''}`;
