/** The composition root of `tenzro fleet serve`: joins the controller's folder, the fleet's broker, the parts that speak over it, and the store. */
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { whenAborted } from '#runtime/core/abort.ts';
import { isoOfMicros, systemClock as clock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import type { Log } from '#runtime/core/ports.ts';
import { joinApis, openApi, type Api } from '#runtime/controller/api.ts';
import { Acts } from '#runtime/controller/acts.ts';
import { Chains } from '#runtime/controller/chains.ts';
import { filesOf, openHouse, prepareRenewal, receiptKeyOf, storeOf } from '#runtime/controller/house.ts';
import type { ControllerPart, PartContext } from '#runtime/controller/part.ts';
import { preparePassphraseChange, type KeyFile, type Passphrases } from '#runtime/controller/passphraseChange.ts';
import { Presence } from '#runtime/controller/presence.ts';
import { Releases } from '#runtime/controller/releases.ts';
import { twinApi } from '#runtime/controller/twinApi.ts';
import { TwinDesk, type TwinDeskOptions } from '#runtime/controller/twinDesk.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import { acquireLock } from '#runtime/ledger/lock.ts';
import { Hub } from '#runtime/link/hub.ts';
import { openLink } from '#runtime/link/mqttLink.ts';
import { CounterTable } from '#runtime/observe/counters.ts';
import { createLog } from '#runtime/observe/log.ts';
import { openDispatch, ownersIn } from './dispatching.ts';
import { openFleetBroker, type FleetBroker, type FleetBrokerOptions } from './fleetBroker.ts';
import { openRegistry } from './registering.ts';
import { openRenewing } from './renewing.ts';
import { authoritiesOf, passwordIn } from './uplinking.ts';

/** A broker that others run. */
export interface OuterBroker {
  /** `mqtts://host:port`. */
  readonly url: string;
  readonly caFile?: string;
  readonly user?: string;
  readonly passwordFile?: string;
}

export interface ControllerOptions {
  readonly dir: string;
  /** Of the folder; zeroed when the keys are open. */
  readonly passphrase: Buffer;
  /** The fleet's broker, or where its own one listens. */
  readonly broker: OuterBroker | FleetBrokerOptions['listen'];
  readonly logForm: 'people' | 'json';
  readonly color: boolean;
  /** Told once, when it is connected and subscribed. */
  readonly onReady: (ready: Ready) => void;
}

export interface Ready {
  readonly broker: string;
  readonly receiptKey: string;
  readonly chains: number;
  readonly keyExchange: string;
}

/** What has not been written by then has no space. */
const STOP_DEADLINE_MS = 5_000;

/** Serves until `signal` aborts, or the disk breaks. Throws `controller.*`, `ledger.*`, `broker.*`, `fleet.key`, `config.unreadable`, `link.credentials`. */
export async function runController({ dir, passphrase, broker, logForm, color, onReady }: ControllerOptions, signal: AbortSignal): Promise<void> {
  const log = createLog({ level: 'info', form: logForm, color });
  const counters = new CounterTable();
  const house = await openHouse(dir, passphrase).finally(() => { passphrase.fill(0); });
  await using resources = new AsyncDisposableStack();
  resources.use(lockHouse(dir));
  const onStoreState = (state: string, detail: string): void => { tellState(log, state, detail); };
  const store = resources.use(await openKeyValueStore(filesOf(dir).store, onStoreState, 'keep'));
  const context: PartContext = { dir, house, store, clock, counters, log };
  const chains = new Chains(store);
  const presence = new Presence(context);
  const { parts: others, register, registryFacts } = openParts(context, chains);
  const parts: readonly ControllerPart[] = [presence, ...others];
  const hub = new Hub(parts.flatMap(({ users = [] }) => users), log);
  const { link, url, facts } = resources.use('url' in broker ? await reachBroker(broker, `${house.name}-${presence.instance.slice(0, 8)}`, hub) : await openFleetBroker(context, { listen: broker, register, hub, onStoreState }));
  const status: Api = {
    'controller.status': async () => ({ name: house.name, receiptKey: receiptKeyOf(house.signer), uptimeMs: Math.round(performance.now()), url, isReady: link.isReady, fault: link.fault, broker: facts(), register: registryFacts(), chains: chains.size, counters: counters.snapshot() }),
  };
  resources.use(await openApi(dir, joinApis([status, ...parts.map(({ api = {} }) => api)]), log));
  const stop = new AbortController();
  const broken = Promise.withResolvers<never>();
  broken.promise.catch(() => undefined); // whoever serves has it
  const work = parts.map(async (part) => part.follow?.(stop.signal).catch((error: unknown) => { broken.reject(error); }));
  try {
    if (await Promise.race([link.ready(signal), broken.promise])) onReady({ broker: url, receiptKey: receiptKeyOf(house.signer), chains: chains.size, keyExchange: link.keyExchange ?? 'unknown' });
    await Promise.race([whenAborted(signal), broken.promise]);
    log.info({ counters: counters.snapshot() }, 'stopping');
  } finally {
    stop.abort();
    await Promise.race([Promise.all(work), sleep(STOP_DEADLINE_MS, undefined, { ref: false })]);
  }
}

/** Everything that the controller does, each in its own file. */
function openParts(context: PartContext, chains: Chains): { readonly parts: readonly ControllerPart[]; readonly register: FleetBrokerOptions['register']; readonly registryFacts: () => JsonObject } {
  const { acts, register, refused, part, facts } = openRegistry(context, { chains, isOpen: context.house.isOpen });
  const owners = ownersIn(context);
  const renewing = openRenewing(context, { register, chains, acts, owners });
  const operators = (): ReturnType<typeof owners> => owners().filter(({ kid }) => !renewing.isKeyRevoked(kid));
  const isMember = (gateway: string): boolean => context.house.isOpen || register.isMember(gateway);
  return { parts: [part, renewing.part, openDispatch(context, { acts, refused, operators, isMember, releases: new Releases({ ...context, chains, register }) }), openTwins(context, { acts, refused, operators, isMember })], register, registryFacts: facts };
}

function openTwins({ house: { signer }, ...context }: PartContext, options: Pick<TwinDeskOptions, 'acts' | 'refused' | 'operators' | 'isMember'>): ControllerPart {
  const desk = new TwinDesk({ ...context, ...options, signer });
  return { users: [desk], api: twinApi(desk) };
}

/** `name`: of this run; with one that another has too, each would cut the other off. */
async function reachBroker({ url, caFile = '', user, passwordFile }: OuterBroker, name: string, hub: Hub): Promise<FleetBroker> {
  const [ca, password] = [await authoritiesOf(caFile), passwordFile === undefined ? undefined : await passwordIn(passwordFile)];
  const link = openLink({ url, ca, clientId: `te-controller-${name}`, ...(user === undefined ? {} : { user }), ...(password === undefined ? {} : { password }), hub });
  return { link, url, facts: () => ({ keyExchange: link.keyExchange ?? null }), [Symbol.asyncDispose]: () => link[Symbol.asyncDispose]() };
}

/** Another intermediate authority, while no controller runs; milliseconds since 1970 until which it issues. The caller zeroes the passphrase. Throws as `prepareRenewal`, and `controller.running`. */
export async function renewAuthority(dir: string, passphrase: Buffer, rootFile: string | undefined, who: string): Promise<number> {
  const renewal = await prepareRenewal(dir, { passphrase, ...(rootFile === undefined ? {} : { rootFile }), nowMs: Math.floor(clock.wallMicros() / 1_000) });
  using _ = lockHouse(dir);
  await using store = await openKeyValueStore(filesOf(dir).store, undefined, 'keep');
  await new Acts(store, renewal.signer, clock).record({ who, what: 'authority.renewed', about: renewal.name, detail: `intermediate until ${isoOfMicros(renewal.endsMs * 1_000)}` });
  await renewal.commit();
  return renewal.endsMs;
}

/** Another passphrase for the folder's keys and `carried` ones, while no controller runs. Throws as `preparePassphraseChange`, and `controller.running`. */
export async function changePassphrase(dir: string, passphrases: Passphrases, carried: readonly string[], who: string): Promise<readonly KeyFile[]> {
  const storeDir = await storeOf(dir);
  using _ = lockHouse(dir);
  const change = await preparePassphraseChange(dir, passphrases, carried);
  await using store = await openKeyValueStore(storeDir, undefined, 'keep');
  await new Acts(store, change.signer, clock).record({ who, what: 'passphrase.changed', about: change.name, detail: change.files.flatMap(({ path, state }) => (state === 'changes' ? [basename(path)] : [])).join(' ') });
  await change.commit();
  return change.files;
}

/** Throws `controller.running`. */
function lockHouse(dir: string): Disposable {
  try {
    return acquireLock(filesOf(dir).lock);
  } catch (cause) {
    if (cause instanceof TenzroError && cause.code === 'ledger.locked') throw new TenzroError('controller.running', cause.message, { cause });
    throw cause;
  }
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
