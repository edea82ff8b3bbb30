/** A fleet for tests of desk and roll-outs: mosquitto with TLS, a controller in its own process, light gateways, and an owner who signs. */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Context } from 'mocha';
import { callController, type AskOptions } from '#runtime/controller/apiClient.ts';
import { parseRollout, planFile, type RolloutPlan } from '#runtime/controller/rolloutPlan.ts';
import { neededCommands } from '#runtime/controller/rolloutNeeds.ts';
import { beginRollout, cancelIdOf } from '#runtime/controller/rolloutState.ts';
import { systemClock } from '#runtime/core/clock.ts';
import type { CommandClaims } from '#runtime/core/command.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { signCommand } from '#runtime/fleet/message.ts';
import { newParty, type Party } from './commandHarness.ts';
import type { DeskVictimOptions } from './deskVictim.ts';
import { makeBroker, type FleetBroker } from './fleet.ts';
import { LightGateway, type Habit } from './lightGateway.ts';
import { connectClient, type TestClient } from './mqttClient.ts';
import { Program } from './process.ts';
import { until } from './until.ts';

const USER = 'fleet';
const VICTIM = join(import.meta.dirname, 'deskVictim.ts');
const SIGNED_AT_ONCE = 100;

export type Answer = JsonObject & { readonly [name: string]: unknown };

export class DeskFleet implements AsyncDisposable {
  readonly owner = newParty('owner-1', ['*', 'shell', 'driver_call', 'release']);
  readonly dir: string;
  readonly broker: FleetBroker;
  readonly #password: string;
  readonly #resources: AsyncDisposableStack;
  #mosquitto: Program;
  #controller: Program | undefined;

  private constructor(dir: string, broker: FleetBroker, mosquitto: Program, resources: AsyncDisposableStack) {
    this.#mosquitto = mosquitto;
    this.dir = join(dir, 'controller');
    this.broker = broker;
    this.#password = readFileSync(broker.passwordFile, 'utf8').trim();
    this.#resources = resources;
    mkdirSync(this.dir, { mode: 0o700 });
  }

  static async make(context: Context, dir: string): Promise<DeskFleet> {
    const resources = new AsyncDisposableStack();
    const broker = await makeBroker(context, dir);
    return new DeskFleet(dir, broker, await broker.start(), resources);
  }

  get login(): { url: string; ca: string; user: string; password: string } {
    return { url: this.broker.url, ca: readFileSync(this.broker.caFile, 'utf8'), user: USER, password: this.#password };
  }

  async startController(): Promise<Program> {
    const options: DeskVictimOptions = { dir: this.dir, url: this.broker.url, caFile: this.broker.caFile, user: USER, password: this.#password, publicKey: Buffer.from(this.owner.signer.publicKey).toString('base64') };
    const program = new Program(process.execPath, [VICTIM, JSON.stringify(options)]);
    this.#controller = program;
    await until('the controller', () => program.stdout.includes('ready'), { timeoutMs: 20_000, hopeless: () => (program.running ? undefined : program.output) });
    return program;
  }

  /** What it retained is gone. */
  async killBroker(): Promise<void> {
    await this.#mosquitto.end('SIGKILL');
    this.#mosquitto = await this.broker.start();
  }

  async killController(): Promise<void> { await this.#controller?.end('SIGKILL'); }
  get output(): string { return this.#controller?.output ?? ''; }

  async gateway(name: string, habit?: Habit): Promise<LightGateway> {
    return this.#resources.use(new LightGateway(name, [this.owner.operator], this.login, habit)).connected();
  }

  /** Somebody at the broker who has its password. */
  async stranger(): Promise<TestClient> {
    const { ca, user, password } = this.login;
    return this.#resources.use(await connectClient(this.broker.port, { protocol: 'mqtts', host: 'localhost', ca, username: user, password }));
  }

  async ask(method: string, parameters: JsonObject, options?: AskOptions): Promise<Answer> { return callController(this.dir, method, parameters, options); }

  sign(gateway: string, over: Partial<CommandClaims> = {}, { signer }: Pick<Party, 'signer'> = this.owner): { readonly gateway: string; readonly message: JsonObject } {
    const claims = { gateway, target: MAIN_ENTITY, type: 'diagnostics', id: '1', issued: Math.floor(systemClock.wallMicros() / 1_000_000), ttlSeconds: 60, isDryRun: false, parameters: {}, ...over };
    return { gateway, message: signCommand(signer, claims) };
  }

  /** Resolves when all have ended, with how. */
  async watch(commands: readonly { readonly gateway: string; readonly type: string; readonly id: string }[]): Promise<readonly Answer[]> {
    const told = new Map<string, Answer>();
    await this.ask('commands.watch', { commands }, { onEvent: (event) => { told.set(JSON.stringify([event['gateway'], event['id']]), event); } });
    return [...told.values()];
  }

  /** As the command line does: every message is signed beforehand. */
  async startRollout(file: unknown, gateways: readonly string[]): Promise<RolloutPlan> {
    const plan = parseRollout(file);
    const { longestSeconds } = await this.ask('rollouts.prepare', { plan: planFile(plan), gateways });
    const orders = [...neededCommands(beginRollout(plan, gateways, 0))].flatMap(({ gateway, direction, commandId }) => {
      const { type, parameters } = direction === 'undo' && plan.rollback ? plan.rollback : plan.command;
      const ttlSeconds = Number(longestSeconds) + 3_600;
      return [this.sign(gateway, { type, parameters, id: commandId, ttlSeconds }), this.sign(gateway, { type: 'cancel', parameters: { type, id: commandId }, id: cancelIdOf(commandId), ttlSeconds })];
    });
    for (let at = 0; at < orders.length; at += SIGNED_AT_ONCE) await this.ask('rollouts.sign', { id: plan.id, commands: orders.slice(at, at + SIGNED_AT_ONCE) });
    await this.ask('rollouts.start', { id: plan.id });
    return plan;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#controller?.[Symbol.asyncDispose]();
    await this.#resources[Symbol.asyncDispose]();
    await this.#mosquitto[Symbol.asyncDispose]();
  }
}
