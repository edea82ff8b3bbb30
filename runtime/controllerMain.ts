/** The composition root of `tenzro fleet serve`: joins the controller's folder, the fleet's broker, the parts that speak over it, and the store. */
import { whenAborted } from '#runtime/core/abort.ts';
import { systemClock as clock } from '#runtime/core/clock.ts';
import { messageOf } from '#runtime/core/errors.ts';
import type { Log } from '#runtime/core/ports.ts';
import { joinApis, openApi } from '#runtime/controller/api.ts';
import { Chains } from '#runtime/controller/chains.ts';
import { filesOf, openHouse, receiptKeyOf, storeOf } from '#runtime/controller/house.ts';
import type { ControllerPart, PartContext } from '#runtime/controller/part.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import { Hub } from '#runtime/link/hub.ts';
import { openLink } from '#runtime/link/mqttLink.ts';
import { CounterTable } from '#runtime/observe/counters.ts';
import { createLog } from '#runtime/observe/log.ts';
import { openDispatch, ownersIn } from './dispatching.ts';
import { openRegistry } from './registering.ts';
import { authoritiesOf, passwordIn } from './uplinking.ts';

export interface ControllerOptions {
  readonly dir: string;
  /** Of the folder; zeroed when the keys are open. */
  readonly passphrase: Buffer;
  /** The fleet's broker, `mqtts://host:port`. */
  readonly broker: string;
  readonly caFile?: string;
  readonly user?: string;
  readonly passwordFile?: string;
  readonly logForm: 'people' | 'json';
  readonly color: boolean;
  /** Told once, when it is connected and subscribed. */
  readonly onReady: (ready: { readonly broker: string; readonly receiptKey: string; readonly chains: number; readonly keyExchange: string }) => void;
}

/** Serves until `signal` aborts, or the disk breaks. Throws `controller.*`, `ledger.*`, `config.unreadable`, `link.credentials`. */
export async function runController({ dir, passphrase, broker, caFile = '', user, passwordFile, logForm, color, onReady }: ControllerOptions, signal: AbortSignal): Promise<void> {
  const log = createLog({ level: 'info', form: logForm, color });
  const counters = new CounterTable();
  const house = await openHouse(dir, passphrase).finally(() => { passphrase.fill(0); });
  await using resources = new AsyncDisposableStack();
  const store = resources.use(await openKeyValueStore(filesOf(dir).store, (state, detail) => { tellState(log, state, detail); }, 'keep'));
  const chains = new Chains(store);
  const parts = openParts({ dir, house, store, clock, counters, log }, chains);
  const [ca, password] = [await authoritiesOf(caFile), passwordFile === undefined ? undefined : await passwordIn(passwordFile)];
  const hub = new Hub(parts.flatMap(({ users = [] }) => users), log);
  const link = resources.use(openLink({ url: broker, ca, clientId: `te-controller-${house.name}`, ...(user === undefined ? {} : { user }), ...(password === undefined ? {} : { password }), hub }));
  resources.use(await openApi(dir, joinApis(parts.map(({ api = {} }) => api)), log));
  const stop = new AbortController();
  const broken = Promise.withResolvers<never>();
  broken.promise.catch(() => undefined); // whoever serves has it
  const work = parts.map(async (part) => part.follow?.(stop.signal).catch((error: unknown) => { broken.reject(error); }));
  try {
    if (await Promise.race([link.ready(signal), broken.promise])) onReady({ broker, receiptKey: receiptKeyOf(house.signer), chains: chains.size, keyExchange: link.keyExchange ?? 'unknown' });
    await Promise.race([whenAborted(signal), broken.promise]);
    log.info({ counters: counters.snapshot() }, 'stopping');
  } finally {
    stop.abort();
    await Promise.all(work);
  }
}

/** Everything that the controller does, each in its own file. */
function openParts(context: PartContext, chains: Chains): readonly ControllerPart[] {
  const { acts, part } = openRegistry(context, { chains, isOpen: context.house.isOpen });
  return [part, openDispatch(context, { acts, operators: ownersIn(context) })];
}

/** Every chain that the controller in `dir` keeps, beside a running one too. */
export async function withChains<T>(dir: string, look: (chains: Chains) => T): Promise<T> {
  await using store = await openKeyValueStore(await storeOf(dir), undefined, 'keep');
  return look(new Chains(store));
}

function tellState(log: Log, state: string, detail: string): void {
  if (state === 'ok') log.info({}, 'the disk takes writes again');
  else log.error({ code: state }, `no receipts until the disk takes writes: ${messageOf(detail)}`);
}
