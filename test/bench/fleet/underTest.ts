/** The controller under test, as its users run it, with an owner who signs: `tenzro fleet serve` with its own broker, asked over its socket as the command line asks it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { callController } from '#runtime/controller/apiClient.ts';
import { systemClock } from '#runtime/core/clock.ts';
import type { Operator } from '#runtime/core/command.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { thumbprintOf } from '#runtime/crypto/jws.ts';
import { signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';
import { decryptOwnerKey } from '#runtime/crypto/ownerKey.ts';
import { signCommand } from '#runtime/fleet/message.ts';
import { makeOwnFleet, PASSPHRASE, type OwnFleet } from '#test/support/ownFleet.ts';
import { useOf, type ProcessUse, type Program } from '#test/support/process.ts';
import { nowMs } from './clock.ts';

/** As `tenzro fleet run` does. */
const SUBMITTED_AT_ONCE = 100;
const CLAIMED_AT_ONCE = 32;
const TYPE = 'diagnostics';
const CLAIM_ID = '0a1b';

export interface Order {
  readonly gateway: string;
  readonly type: string;
  readonly id: string;
  readonly message: JsonObject;
}

export class FleetUnderTest implements AsyncDisposable {
  readonly own: OwnFleet;
  readonly owner: Signer;
  #program: Program;

  private constructor(own: OwnFleet, owner: Signer, program: Program) {
    [this.own, this.owner, this.#program] = [own, owner, program];
  }

  static async start(dir: string): Promise<FleetUnderTest> {
    const own = await makeOwnFleet(dir);
    const seed = decryptOwnerKey(readFileSync(join(own.home, 'owner-1.key'), 'utf8'), Buffer.from(PASSPHRASE));
    return new FleetUnderTest(own, signerOfSeed(seed), await own.start());
  }

  get program(): Program { return this.#program; }
  get use(): ProcessUse { return useOf(this.#program.pid); }
  get ca(): string { return readFileSync(join(this.own.home, 'ca.pem'), 'utf8'); }
  get url(): string { return `mqtts://localhost:${this.own.port}`; }
  get operators(): readonly Operator[] { return [{ name: 'owner-1', publicKey: this.owner.publicKey, kid: thumbprintOf(this.owner.publicKey), may: ['*'] }]; }

  /** When it was dead. */
  async kill(): Promise<number> {
    await this.#program.end('SIGKILL');
    return nowMs();
  }

  /** When it served again. */
  async restart(): Promise<number> {
    this.#program = await this.own.start();
    return nowMs();
  }

  /** As the end of a claim tells the register. */
  async claim(gateways: readonly { readonly name: string; readonly publicKey: Uint8Array }[]): Promise<void> {
    const ownerKeys = [Buffer.from(this.owner.publicKey).toString('base64')];
    for (let at = 0; at < gateways.length; at += CLAIMED_AT_ONCE) {
      await Promise.all(gateways.slice(at, at + CLAIMED_AT_ONCE).map(async ({ name, publicKey }) => {
        await this.ask('gateways.begin', { name, claimId: CLAIM_ID, signingKey: Buffer.from(publicKey).toString('base64'), ownerKeys });
        await this.ask('gateways.claimed', { name, claimId: CLAIM_ID });
      }));
    }
  }

  /** Signed beforehand, as always. */
  sign(gateways: readonly string[], id: string): readonly Order[] {
    const claims = { target: MAIN_ENTITY, type: TYPE, id, issued: Math.floor(systemClock.wallMicros() / 1_000_000), ttlSeconds: 600, isDryRun: false, parameters: {} };
    return gateways.map((gateway) => ({ gateway, type: TYPE, id, message: signCommand(this.owner, { ...claims, gateway }) }));
  }

  /** Milliseconds from handing in the first one to hearing how each ended. Throws where one does not end well. */
  async fanOut(orders: readonly Order[]): Promise<readonly number[]> {
    const ended: number[] = [];
    const from = nowMs();
    const hear = ({ state, gateway, reason }: JsonObject): void => {
      if (state === 'successful') ended.push(nowMs() - from);
      else if (state === 'failed' || state === 'silent') throw new Error(`a command for ${JSON.stringify(gateway)} ended ${state}: ${JSON.stringify(reason)}`);
    };
    const watched: Promise<JsonObject>[] = [];
    for (let at = 0; at < orders.length; at += SUBMITTED_AT_ONCE) {
      const some = orders.slice(at, at + SUBMITTED_AT_ONCE);
      await this.ask('commands.submit', { commands: some.map(({ gateway, message }) => ({ gateway, message })) });
      watched.push(callController(this.own.home, 'commands.watch', { commands: some.map(({ gateway, type, id }) => ({ gateway, type, id })) }, { onEvent: hear }));
    }
    await Promise.all(watched);
    if (ended.length !== orders.length) throw new Error(`${ended.length} of ${orders.length} commands ended`);
    return ended;
  }

  async ask(method: string, parameters: JsonObject): Promise<JsonObject> { return callController(this.own.home, method, parameters); }

  async [Symbol.asyncDispose](): Promise<void> { await this.#program[Symbol.asyncDispose](); }
}
