/**
 * The few places that a TPM has for loaded keys and sessions (three each on an emulator). Behind the kernel's resource manager they never run
 * out; on a bare TPM what was used longest ago gives way (TPM2_ContextSave, Part 1 §30) and comes back when it is used again.
 *
 * All methods run inside the command queue's tasks, so one at a time.
 */
import { TenzroError } from '#runtime/core/errors.ts';
import { TpmReader } from '#runtime/crypto/tpmReader.ts';
import { decodeResponse, encodeCommand, EMPTY, guard, TpmWriter } from './codec.ts';
import { CAPABILITY, COMMAND, HANDLE_RANGE, type CommandCode } from './constants.ts';
import { decodeResponseCode, RC, RC_FORMAT_1, TpmRefusal } from './errors.ts';

export type SlotKind = 'object' | 'session';

/** One loaded key, object or session. */
export interface Slot {
  readonly kind: SlotKind;
  /** Changes when an object comes back; that of a session stays. */
  readonly handle: number;
}

interface Place extends Slot {
  handle: number;
  /** TPMS_CONTEXT (Part 2 §14.5) while it is swapped out. */
  context: Buffer | undefined;
  lastUse: number;
  /** How many sessions had been swapped out before it. */
  savedAt: number;
}

const ROOM_TRIES_MAX = 8;
const STRAYS_MAX = 64;
/** A TPM saves no more sessions when one has been out for TPM_PT_CONTEXT_GAP_MAX others, 255 at least (Part 1 §30): it goes in and out before. */
const SESSION_GAP_MAX = 128;

/** Which kind of place a refusal asks for, §6.6.3. */
const LACKING = new Map<number, SlotKind>([
  [RC.objectMemory, 'object'], [RC.objectHandles, 'object'], [RC.memory, 'object'], [RC.sessionMemory, 'session'], [RC.sessionHandles, 'session'],
]);

export class Slots {
  readonly #send: (command: Buffer) => Promise<Buffer>;
  readonly #places = new Set<Place>();
  #uses = 0;
  #sessionsSaved = 0;
  #mayHaveStrays = false;

  constructor(send: (command: Buffer) => Promise<Buffer>) { this.#send = send; }

  /** There is something to clean up. */
  get isUsed(): boolean { return this.#places.size > 0 || this.#mayHaveStrays; }

  /**
   * Sends what `encode` makes once all of `needed` is loaded, again each time that the TPM lacked room and room could be made. `makes`: the command
   * loads something. Throws `tpm.key_lost` or `tpm.session_lost` where a needed one is gone.
   */
  async exchange(needed: readonly Slot[], encode: () => Buffer, { makes = false }: { readonly makes?: boolean } = {}): Promise<Buffer> {
    if (this.#mayHaveStrays) await this.flushStrays().catch(tolerateRefusal); // a TPM that waits for its startup refuses
    for (let tries = 0; ; tries += 1) {
      await this.#restore(needed);
      const response = await (makes ? this.#sendWatched(encode()) : this.#send(encode()));
      const kind = LACKING.get(response.readUInt32BE(6));
      if (kind === undefined || tries === ROOM_TRIES_MAX || !(await this.#makeRoom(kind, needed))) return response;
    }
  }

  /** What a command has just made. Whatever was thought to be there is gone: the TPM was reset. */
  adopt(kind: SlotKind, handle: number): Slot {
    for (const place of this.#places) if (isThere(place, kind, handle)) this.#places.delete(place);
    const place: Place = { kind, handle, context: undefined, lastUse: this.#uses += 1, savedAt: 0 };
    this.#places.add(place);
    return place;
  }

  /** Flushes; one that is gone already is left alone. */
  async release(slot: Slot): Promise<void> {
    const place = this.#find(slot);
    if (!place) return;
    this.#places.delete(place);
    if (place.kind === 'object' && place.context !== undefined) return; // nothing of it is in the TPM
    const { code } = decodeResponse(await this.#sendWatched(plain(COMMAND.flushContext, new TpmWriter().u32(place.handle).done())), PLAIN);
    if (code !== RC.success && decodeResponseCode(code).base !== RC_FORMAT_1.handle) this.#mayHaveStrays = true;
  }

  async releaseAll(): Promise<void> {
    for (const place of this.#places) await this.release(place);
    if (this.#mayHaveStrays) await this.flushStrays();
  }

  /** Somebody flushed this handle by hand. */
  forget(handle: number): void {
    for (const place of this.#places) if (place.handle === handle && (place.kind === 'session' || place.context === undefined)) this.#places.delete(place);
  }

  /** The TPM is about to lose them all. */
  forgetAll(): void {
    this.#places.clear();
    this.#mayHaveStrays = false;
  }

  /** Flushes what is loaded and not ours, left by an earlier process or by a command whose answer did not come. Gives their number. */
  async flushStrays(kinds: readonly SlotKind[] = ['object', 'session']): Promise<number> {
    let flushed = 0;
    for (const kind of kinds) {
      for (const first of RANGES[kind]) {
        for (const handle of await this.#handles(first)) {
          if ([...this.#places].some((place) => isThere(place, kind, handle))) continue;
          await this.#command(COMMAND.flushContext, new TpmWriter().u32(handle).done());
          flushed += 1;
        }
      }
    }
    if (kinds.length === 2) this.#mayHaveStrays = false;
    return flushed;
  }

  /** A command that loads or flushes: without its answer nobody knows what is there. */
  async #sendWatched(command: Buffer): Promise<Buffer> {
    const before = this.#mayHaveStrays;
    this.#mayHaveStrays = true;
    const response = await this.#send(command);
    this.#mayHaveStrays = before;
    return response;
  }

  #find(slot: Slot): Place | undefined { return [...this.#places].find((place) => place === slot); }

  async #restore(needed: readonly Slot[]): Promise<void> {
    for (const slot of needed) {
      const place = this.#find(slot);
      if (!place) throw new TenzroError(slot.kind === 'object' ? 'tpm.key_lost' : 'tpm.session_lost', 'it was disposed of or flushed, or the TPM was reset');
      place.lastUse = this.#uses += 1;
      while (place.context !== undefined && !(await this.#load(place))) {
        if (!(await this.#makeRoom(slot.kind, needed))) throw new TpmRefusal(COMMAND.contextLoad, slot.kind === 'object' ? RC.objectMemory : RC.sessionMemory);
      }
    }
  }

  /** False when there is no room. */
  async #load(place: Place): Promise<boolean> {
    const frame = decodeResponse(await this.#sendWatched(plain(COMMAND.contextLoad, place.context ?? Buffer.alloc(0))), { handle: true, sessions: false });
    if (LACKING.has(frame.code)) return false;
    if (frame.code !== RC.success) {
      this.#places.delete(place);
      throw new TpmRefusal(COMMAND.contextLoad, frame.code);
    }
    place.handle = frame.handle;
    place.context = undefined;
    return true;
  }

  /** False when nothing can give way. */
  async #makeRoom(kind: SlotKind, needed: readonly Slot[]): Promise<boolean> {
    if (await this.flushStrays([kind]) > 0) return true;
    const [oldest] = [...this.#places].filter((place) => place.kind === kind && place.context === undefined && !needed.includes(place)).toSorted((a, b) => a.lastUse - b.lastUse);
    if (!oldest) return false;
    await this.#save(oldest);
    if (kind === 'session') await this.#refreshSession();
    return true;
  }

  async #save(place: Place): Promise<void> {
    const { code, parameters } = decodeResponse(await this.#send(plain(COMMAND.contextSave, new TpmWriter().u32(place.handle).done())), PLAIN);
    if (code !== RC.success) {
      this.#places.delete(place); // a TPM that was reset does not have it
      return;
    }
    place.context = parameters;
    if (place.kind === 'object') await this.#sendWatched(plain(COMMAND.flushContext, new TpmWriter().u32(place.handle).done())); // a saved session leaves by itself
    else place.savedAt = this.#sessionsSaved += 1;
  }

  async #refreshSession(): Promise<void> {
    const waiting = [...this.#places].filter((place) => place.kind === 'session' && place.context !== undefined && this.#sessionsSaved - place.savedAt > SESSION_GAP_MAX);
    for (const place of waiting) if (await this.#load(place)) await this.#save(place);
  }

  async #handles(first: number): Promise<number[]> {
    const parameters = await this.#command(COMMAND.getCapability, new TpmWriter().u32(CAPABILITY.handles).u32(first).u32(STRAYS_MAX).done());
    return guard(() => {
      const reader = new TpmReader(parameters, 'TPM response');
      reader.u8(); // more data
      reader.u32();
      const handles = Array.from({ length: Math.min(reader.u32(), STRAYS_MAX) }, () => reader.u32());
      reader.end();
      return handles;
    });
  }

  async #command(code: CommandCode, parameters: Buffer): Promise<Buffer> {
    const frame = decodeResponse(await this.#send(plain(code, parameters)), PLAIN);
    if (frame.code !== RC.success) throw new TpmRefusal(code, frame.code);
    return frame.parameters;
  }
}

const RANGES = { object: [HANDLE_RANGE.transient], session: [HANDLE_RANGE.loadedSession, HANDLE_RANGE.savedSession] } as const;
const PLAIN = { handle: false, sessions: false } as const;
function tolerateRefusal(error: unknown): void {
  if (!(error instanceof TpmRefusal)) throw error;
}

const plain = (code: CommandCode, parameters: Buffer): Buffer => encodeCommand({ code, handles: [], authorization: EMPTY, parameters });

/** An object that is swapped out leaves its handle to others. The list of saved sessions does not tell their type, so only the low bytes count (Part 2 §7.2). */
function isThere(place: Place, kind: SlotKind, handle: number): boolean {
  if (place.kind !== kind) return false;
  return kind === 'object' ? place.handle === handle && place.context === undefined : (place.handle & 0xffffff) === (handle & 0xffffff);
}
