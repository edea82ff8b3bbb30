/** A gateway's updates on a machine that RAUC sees: everything real but the gateway itself, whose control socket says what a test wants. */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import type { Context } from 'mocha';
import { RaucSlots } from '#drivers/slots/rauc.ts';
import { confirmSlots } from '#runtime/cli/updateConfirm.ts';
import { systemClock } from '#runtime/core/clock.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import type { Counters, Log } from '#runtime/core/ports.ts';
import { UPDATE_BODY, type Draft } from '#runtime/core/types.ts';
import { openControl } from '#runtime/observe/control.ts';
import type { GatewayStatus } from '#runtime/observe/status.ts';
import { NO_SLOTS, Updating } from '#runtime/updating.ts';
import { startBundleServer, type BundleServer } from './bundleServer.ts';
import { RaucWorld, type BundleWords } from './raucWorld.ts';
import { skipBecause } from './skips.ts';
import { tempDir, type TempDir } from './temp.ts';
import { until } from './until.ts';

const SILENT: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined, child: () => SILENT };
const COUNTERS: Counters = { add: () => undefined, set: () => undefined, snapshot: () => ({}) };
const NAMES = new Map<number, string>(Object.entries(UPDATE_BODY).map(([name, key]) => [key, name]));
const CONFIRM = { isQuiet: true, steadyMs: 40, lookMs: 10 };

export class UpdateStage implements AsyncDisposable {
  readonly world: RaucWorld;
  readonly slots: RaucSlots;
  readonly server: BundleServer;
  readonly settings: { dataDir: string; update: { allowDowngrade: boolean; fromMedia: boolean; commitOffline: boolean; trialSeconds: number } };
  /** What the chain was told. */
  readonly entries: JsonObject[] = [];
  readonly #dir: TempDir;
  #run = new AbortController();
  #following: Promise<void> = Promise.resolve();
  updating: Updating;

  static async open(context: Context): Promise<UpdateStage> {
    const world = await RaucWorld.open(context);
    if (world.isStreaming) {
      await world[Symbol.asyncDispose]();
      return skipBecause(context, 'this RAUC streams bundles, which takes nbd and dm-verity of the kernel: npm run test:image shows that');
    }
    const stage = new UpdateStage(world, await startBundleServer(Buffer.from('none')));
    await stage.slots.commit(stage.never);
    return stage;
  }

  private constructor(world: RaucWorld, server: BundleServer) {
    this.world = world;
    this.server = server;
    this.slots = new RaucSlots(world.places);
    this.#dir = tempDir('updates');
    this.settings = { dataDir: this.#dir.path, update: { allowDowngrade: false, fromMedia: true, commitOffline: false, trialSeconds: 1 } };
    this.updating = this.#start();
  }

  readonly never = new AbortController().signal;

  /** The gateway's run ends, killed or not, and another one begins. */
  async restartGateway(): Promise<void> {
    this.#run.abort();
    await this.#following;
    this.#run = new AbortController();
    this.updating = this.#start();
  }

  /** The machine's restart. */
  async reboot(): Promise<string> {
    this.#run.abort();
    await this.#following;
    const slot = await this.world.boot();
    await this.restartGateway();
    return slot;
  }

  /** Puts a bundle on the server. */
  async offer(name: string, words: BundleWords): Promise<string> {
    this.server.served.bytes = readFileSync(await this.world.bundle(name, words));
    return this.server.url;
  }

  /** Installs by command until the machine is told to restart. Rejects with what the command fails with. */
  async install(id: string, parameters: JsonObject, signal = this.#run.signal): Promise<void> {
    this.updating.check('firmware', parameters);
    rmSync(this.world.places.askFile, { force: true });
    const running = this.updating.install('firmware', { id, parameters }, signal);
    const failed = running.then(() => undefined, (error: unknown) => { if (!this.#run.signal.aborted) throw error; });
    await Promise.race([failed, until('the restart', () => existsSync(this.world.places.askFile))]);
  }

  /** The health gate, over a gateway that says this. Exit code. */
  async confirm(said: Partial<GatewayStatus> | undefined): Promise<number> {
    const io = { signal: this.never, line: () => undefined, error: () => undefined, exitCode: 0 };
    await using resources = new AsyncDisposableStack();
    if (said) resources.use(await openControl({ dataDir: this.settings.dataDir, status: () => ({ ...HEALTHY, ...said }), freshBundle: async () => Buffer.alloc(0) }));
    await confirmSlots(io, this.slots, this.settings, CONFIRM);
    return io.exitCode;
  }

  async told(count: number): Promise<readonly JsonObject[]> {
    await until('the chain', () => this.entries.length >= count);
    return this.entries;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#run.abort();
    await this.#following;
    await this.server[Symbol.asyncDispose]();
    await this.world[Symbol.asyncDispose]();
    this.#dir[Symbol.dispose]();
  }

  #start(): Updating {
    const ledger = { append: async ({ body }: Draft) => this.entries.push(Object.fromEntries([...(body as ReadonlyMap<number, string>)].map(([key, value]) => [NAMES.get(key) ?? key, value]))) };
    const updating = new Updating({ settings: this.settings, slots: { ...NO_SLOTS, firmware: { kind: 'value', value: this.slots } }, isOffline: () => false, ledger, clock: systemClock, counters: COUNTERS, log: SILENT });
    this.#following = updating.follow(this.#run.signal);
    return updating;
  }
}

const UPSTREAM = { name: 'f', broker: 'mqtts://x:1', keyExchange: null, lag: 0, receipt: null, fault: null };
export const upstreams = (connected: boolean): GatewayStatus['fleet'] => ({ ...HEALTHY.fleet, upstreams: [{ ...UPSTREAM, connected }] });
const HEALTHY = {
  ready: true, node: 'n', version: '0', pid: process.pid, blocksSealed: 1, update: null, health: { ok: true, stalled: [] }, fleet: { upstreams: [], commands: [], owner: null, clock: { state: 'unrefuted', wall: '', provable: '' } },
} as unknown as GatewayStatus;
