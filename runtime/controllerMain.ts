/** The composition root of `tenzro fleet serve`: joins the controller's folder, the fleet's broker, the verifier's checks and the store. */
import { systemClock as clock } from '#runtime/core/clock.ts';
import { messageOf } from '#runtime/core/errors.ts';
import type { FleetLink, LinkUser, Log } from '#runtime/core/ports.ts';
import { Chains } from '#runtime/controller/chains.ts';
import { openHouse, receiptKeyOf, storeOf } from '#runtime/controller/house.ts';
import { Intake, type BlockJudge, type Sender } from '#runtime/controller/intake.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import { Hub } from '#runtime/link/hub.ts';
import { openLink } from '#runtime/link/mqttLink.ts';
import { CounterTable } from '#runtime/observe/counters.ts';
import { createLog } from '#runtime/observe/log.ts';
import { checkIncrement, isSignedByGenesis } from '#runtime/verify/increment.ts';
import { authoritiesOf, passwordIn } from './uplinking.ts';

export interface ControllerOptions {
  readonly dir: string;
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

const FILTER = 'te/+/chain/+/up';
const JUDGE: BlockJudge = { judge: checkIncrement, isSignedByGenesis };

/** Serves until `signal` aborts, or the disk breaks. Throws `controller.*`, `ledger.*`, `config.unreadable`, `link.credentials`. */
export async function runController({ dir, broker, caFile = '', user, passwordFile, logForm, color, onReady }: ControllerOptions, signal: AbortSignal): Promise<void> {
  const log = createLog({ level: 'info', form: logForm, color });
  const counters = new CounterTable();
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => undefined); // whoever serves has it
  const { name, signer, storeDir } = await openHouse(dir);
  await using resources = new AsyncDisposableStack();
  const store = resources.use(await openKeyValueStore(storeDir, (state, detail) => { tellState(log, state, detail); }, 'keep'));
  const chains = new Chains(store);
  const intake = new Intake({ chains, judge: JUDGE, signer, clock, counters, log });
  const [ca, password] = [await authoritiesOf(caFile), passwordFile === undefined ? undefined : await passwordIn(passwordFile)];
  const shipments: LinkUser = {
    filters: [FILTER],
    receive(topic, payload) {
      const sender = senderOf(topic);
      if (!sender) return;
      const copy = Uint8Array.from(payload); // mqtt's is a view of its read buffer
      intake.take(sender, copy).then((answer) => answer && link.publish(`te/${sender.gateway}/chain/${sender.chain}/receipt`, answer, { retain: true }))
        .catch((error: unknown) => { if (isOffline(error)) counters.add('link.offline'); else failed.reject(error); });
    },
  };
  const link: FleetLink = resources.use(openLink({
    url: broker, ca, clientId: `te-controller-${name}`, ...(user === undefined ? {} : { user }), ...(password === undefined ? {} : { password }), hub: new Hub([shipments], log),
  }));
  if (await Promise.race([link.ready(signal), failed.promise])) onReady({ broker, receiptKey: receiptKeyOf(signer), chains: chains.size, keyExchange: link.keyExchange ?? 'unknown' });
  await Promise.race([aborted(signal), failed.promise]);
  log.info({ counters: counters.snapshot() }, 'stopping');
}

/** Every chain that the controller in `dir` keeps, beside a running one too. */
export async function withChains<T>(dir: string, look: (chains: Chains) => T): Promise<T> {
  await using store = await openKeyValueStore(await storeOf(dir), undefined, 'keep');
  return look(new Chains(store));
}

/** Ids of gateways have no dots and spaces; a chain's is 64 hexadecimal digits. */
function senderOf(topic: string): Sender | undefined {
  const [, gateway, chain] = /^te\/([A-Za-z0-9_-]{1,64})\/chain\/([0-9a-f]{64})\/up$/.exec(topic) ?? [];
  return gateway === undefined || chain === undefined ? undefined : { gateway, chain };
}

function tellState(log: Log, state: string, detail: string): void {
  if (state === 'ok') log.info({}, 'the disk takes writes again');
  else log.error({ code: state }, `no receipts until the disk takes writes: ${messageOf(detail)}`);
}

const isOffline = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'link.offline';

function aborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (signal.aborted) resolve();
  signal.addEventListener('abort', () => { resolve(); }, { once: true });
  return promise;
}
