/** `commands.*`: what the command line asks of the desk. */
import { whenAborted } from '#runtime/core/abort.ts';
import { isoOfMicros } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { isJsonObject, type JsonObject } from '#runtime/core/json.ts';
import { FLEET_NAME } from '#runtime/core/twin.ts';
import type { Api, ApiCall } from './api.ts';
import { ordersIn, type Desk } from './desk.ts';
import { isOver, keyOf, type CommandName, type DeskRecord } from './deskRecord.ts';

const LISTED_MAX = 1_000;

/**
 * `submit {commands: [{gateway, message}]}` and `cancel` (the same with signed `cancel`s; what they cancel is taken off the broker too) → `{commands: [record]}` ·
 * `list {gateway?, open?}` → the newest, `{commands, total}` · `show {gateway, type, id}` → record with `said` · `watch {commands: [{gateway, type, id}]}`: emits each
 * record as it is and as it changes, until all have ended.
 */
export const deskApi = (desk: Desk): Api => ({
  'commands.submit': async ({ commands }) => ({ commands: (await desk.submit(ordersIn(commands))).map((record) => viewOf(desk, record)) }),
  'commands.cancel': async ({ commands }) => {
    const orders = ordersIn(commands);
    const cancelled = orders.map(({ gateway, message: { type, parameters } }) => {
      if (type !== 'cancel' || !isJsonObject(parameters)) throw new TenzroError('controller.request', 'commands.cancel takes signed commands of type cancel');
      return nameIn({ ...parameters, gateway });
    });
    const records = await desk.submit(orders);
    for (const name of cancelled) await desk.withdraw(name);
    return { commands: records.map((record) => viewOf(desk, record)) };
  },
  'commands.list': async ({ gateway, open }) => {
    const all = [...desk.all()].filter((record) => (gateway === undefined || record.gateway === gateway) && (open !== true || !isOver(record.state)));
    return { total: all.length, commands: all.toSorted((a, b) => b.submittedMicros - a.submittedMicros).slice(0, LISTED_MAX).map((record) => viewOf(desk, record)) };
  },
  'commands.show': async (parameters) => {
    const record = found(desk, nameIn(parameters));
    return { ...viewOf(desk, record), said: desk.said(record) };
  },
  'commands.watch': async ({ commands }, call) => watch(desk, namesIn(commands), call),
});

async function watch(desk: Desk, names: readonly CommandName[], { emit, signal }: ApiCall): Promise<JsonObject> {
  const open = new Set(names.map(keyOf));
  const done = Promise.withResolvers<void>();
  const tell = (record: DeskRecord): void => {
    if (!open.has(keyOf(record))) return;
    emit({ ...viewOf(desk, record), ...(isOver(record.state) ? { said: desk.said(record) } : {}) });
    if (isOver(record.state)) open.delete(keyOf(record));
    if (open.size === 0) done.resolve();
  };
  using listening = new DisposableStack();
  listening.use(desk.listen(tell));
  for (const name of names) tell(found(desk, name));
  await Promise.race([done.promise, whenAborted(signal)]);
  return { open: open.size };
}

function found(desk: Desk, name: CommandName): DeskRecord {
  const record = desk.get(name);
  if (!record) throw new TenzroError('controller.request', `no command ${keyOf(name)}: it was never handed in here, or is long forgotten`);
  return record;
}

function namesIn(value: unknown): readonly CommandName[] {
  if (!Array.isArray(value) || value.length === 0) throw new TenzroError('controller.request', 'commands is not a list of {gateway, type, id}');
  return (value as readonly unknown[]).map(nameIn);
}

function nameIn(value: unknown): CommandName {
  const { gateway, type, id } = isJsonObject(value) ? value : {};
  return { gateway: textIn(gateway), type: textIn(type), id: textIn(id) };
}

function textIn(value: unknown): string {
  if (typeof value !== 'string' || !FLEET_NAME.test(value)) throw new TenzroError('controller.request', 'a command is named by gateway, type and id: 1 to 64 letters, digits, _ and -');
  return value;
}

const viewOf = (desk: Desk, { gateway, type, id, kid, state, reason, submittedMicros, changedMicros, endsMicros }: DeskRecord): JsonObject => ({
  gateway, type, id, by: desk.operatorOf(kid)?.name ?? kid, state, ...(reason === '' ? {} : { reason }), submittedAt: isoOfMicros(submittedMicros), changedAt: isoOfMicros(changedMicros), endsAt: isoOfMicros(endsMicros),
});
