/**
 * A TPM 2.0. Its commands stand in groups, named as in Part 3: `tpm.keys`, `tpm.nv`, `tpm.pcr`, `tpm.attest`, `tpm.sessions`, `tpm.policy`,
 * `tpm.hierarchy`, `tpm.info`; here is what they share. Calls may come concurrently; they are carried out one after the other. Every call rejects
 * with a `tpm.*` TenzroError, a refusal with `TpmRefusal`; `signal` ends the wait, not the command.
 *
 * Last come the authorisations, in the order of the entities that need one; where one is missing, the entity's password goes (the empty one,
 * unless `withAuth` gave it another). Further sessions only encrypt.
 */
import { LIMITS } from '#runtime/core/limits.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { TpmReader } from '#runtime/crypto/tpmReader.ts';
import { Attestation } from './attestation.ts';
import { AuthorizationArea } from './authorization.ts';
import { decodeResponse, encodeCommand, guard, TpmWriter } from './codec.ts';
import { nothing, type Command, type Executor } from './command.ts';
import { CommandQueue } from './commandQueue.ts';
import { COMMAND, STARTUP_CLEAR } from './constants.ts';
import { RC, TpmRefusal } from './errors.ts';
import { Hierarchies } from './hierarchy.ts';
import { Information } from './information.ts';
import { Keys } from './keys.ts';
import { NvMemory } from './nv.ts';
import { Pcrs } from './pcr.ts';
import { Policies } from './policy.ts';
import { Sessions } from './sessions.ts';
import { Slots, type Slot, type SlotKind } from './slots.ts';
import type { Transport } from './transport.ts';

const NEVER = new AbortController().signal;
const CLOSE_TIMEOUT_MS = 2_000;

export class Tpm implements Executor, AsyncDisposable {
  readonly keys: Keys = new Keys(this);
  readonly nv: NvMemory = new NvMemory(this);
  readonly pcr: Pcrs = new Pcrs(this);
  readonly attest: Attestation = new Attestation(this);
  readonly sessions: Sessions = new Sessions(this);
  readonly policy: Policies = new Policies(this);
  readonly hierarchy: Hierarchies = new Hierarchies(this);
  readonly info: Information = new Information(this);
  readonly #transport: Transport;
  readonly #queue: CommandQueue;
  readonly #slots: Slots;
  #isClosed = false;

  /** Owns the transport. */
  constructor(transport: Transport, { timeoutMs = LIMITS.tpmTimeoutMs }: { readonly timeoutMs?: number } = {}) {
    this.#transport = transport;
    const queue = new CommandQueue(transport, timeoutMs);
    this.#queue = queue;
    this.#slots = new Slots((command) => queue.send(command));
  }

  /** Flushes what is still loaded, if the TPM does that in a moment, and closes the transport. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isClosed && this.#slots.isUsed) await this.#queue.run(() => this.#slots.releaseAll(), AbortSignal.timeout(CLOSE_TIMEOUT_MS)).catch(tolerate);
    this.#isClosed = true;
    await this.#transport[Symbol.asyncDispose]();
  }

  /** TPM2_Startup(CLEAR); a TPM that the firmware has started already is left as it is. */
  async startup(signal: AbortSignal): Promise<void> {
    try {
      await this.execute({ code: COMMAND.startup, parameters: new TpmWriter().u16(STARTUP_CLEAR).done() }, nothing, signal);
    } catch (error) {
      if (!(error instanceof TpmRefusal) || error.base !== RC.initialize) throw error;
    }
  }

  /** TPM2_Shutdown(CLEAR): an orderly end, after which the clock is `safe`. Only for a TPM that nobody else shuts down (an own emulator). */
  async shutdown(signal: AbortSignal): Promise<void> {
    await this.execute({ code: COMMAND.shutdown, parameters: new TpmWriter().u16(STARTUP_CLEAR).done() }, () => this.#slots.forgetAll(), signal);
  }

  /**
   * Flushes loaded keys and sessions that an earlier process left, and not those of this driver. Behind a resource manager each connection sees
   * only its own; a bare TPM (an emulator's socket) has one client, three places for keys, and no resource manager to clean up.
   */
  async flushLeftovers(signal: AbortSignal): Promise<void> {
    await this.#queue.run(() => this.#slots.flushStrays(), signal);
  }

  /** TPM2_FlushContext of any handle. What this driver loaded is better disposed of: `await using key = …`. */
  async flushContext(handle: number, signal: AbortSignal): Promise<void> {
    await this.execute({ code: COMMAND.flushContext, parameters: new TpmWriter().u32(handle).done() }, () => this.#slots.forget(handle), signal);
  }

  execute<T>(command: Command, parse: (parameters: TpmReader) => T, signal: AbortSignal): Promise<T> {
    return this.#queue.run(async () => {
      const { accept } = await this.#exchange(command, undefined);
      return accept(parse);
    }, signal);
  }

  async load<T>(kind: SlotKind, command: Command, parse: (parameters: TpmReader, slot: Slot) => T, signal: AbortSignal): Promise<T> {
    const { value } = await this.#queue.run(async () => {
      const { slot, accept } = await this.#exchange(command, kind);
      try {
        return { slot, value: accept((parameters) => parse(parameters, slot)) };
      } catch (error) {
        await this.#release(slot);
        throw error;
      }
    }, signal, ({ slot }) => this.#release(slot));
    return value;
  }

  async release(slot: Slot): Promise<void> {
    if (!this.#isClosed) await this.#queue.run(() => this.#release(slot), NEVER);
  }

  /** What cannot be flushed now has no owner from here on, and is flushed as a stray before the next command. */
  #release(slot: Slot): Promise<void> { return this.#slots.release(slot).catch(tolerate); }

  #exchange(command: Command, made: undefined): Promise<Answer>;
  #exchange(command: Command, made: SlotKind): Promise<Answer & { readonly slot: Slot }>;
  async #exchange(command: Command, made: SlotKind | undefined): Promise<Answer & { readonly slot: Slot | undefined }> {
    if (this.#isClosed) throw new TenzroError('tpm.usage', 'the driver is closed');
    const { code, entities = [], parameters = Buffer.alloc(0) } = command;
    const area = new AuthorizationArea(command);
    const sent = area.protect(parameters);
    if (sent !== parameters) parameters.fill(0); // what is encrypted is secret
    const authorization = area.encode(sent);
    const needed = [...entities.flatMap(({ slot }) => (slot ? [slot] : [])), ...area.slots];
    try {
      const response = await this.#slots.exchange(needed, () => encodeCommand({ code, handles: entities.map(({ handle }) => handle), authorization, parameters: sent }), { makes: made !== undefined });
      const frame = decodeResponse(response, { handle: made !== undefined, sessions: area.length > 0 });
      if (frame.code !== RC.success) throw new TpmRefusal(code, frame.code);
      const slot = made === undefined ? undefined : this.#slots.adopt(made, frame.handle);
      const { authorization: answers } = frame;
      const accept = <T>(parse: (reader: TpmReader) => T): T => {
        const clear = answers ? checked(area, frame.parameters, answers) : frame.parameters;
        try {
          return guard(() => parseAll(clear, parse));
        } finally {
          if (clear !== frame.parameters) clear.fill(0);
        }
      };
      return { slot, accept };
    } catch (error) {
      if (!(error instanceof TpmRefusal)) area.lose(); // a refused command leaves the nonces as they are
      throw error;
    }
  }
}

interface Answer {
  /** Checks the authorisations, then parses the parameters to their end. */
  readonly accept: <T>(parse: (parameters: TpmReader) => T) => T;
}

function parseAll<T>(parameters: Buffer, parse: (reader: TpmReader) => T): T {
  const reader = new TpmReader(parameters, 'TPM response');
  const value = parse(reader);
  reader.end();
  return value;
}

/** For cleaning up: a TPM that is gone or says no is nobody's concern any more. */
function tolerate(error: unknown): void {
  if (!(error instanceof TenzroError)) throw error;
}

function checked(area: AuthorizationArea, parameters: Buffer, answers: TpmReader): Buffer {
  try {
    return area.accept(parameters, answers);
  } catch (error) {
    area.lose();
    throw error;
  }
}
