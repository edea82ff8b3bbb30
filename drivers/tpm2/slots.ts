/**
 * The few places that a TPM has for loaded keys and sessions (three each at least: PTP §5.5). Behind the kernel's resource manager they never run
 * out; on a bare TPM what was used longest ago gives way (TPM2_ContextSave, Part 1 §30) and comes back when it is used again.
 *
 * All methods run inside the command queue's tasks, so one at a time.
 */
import { TpmReader } from '#runtime/crypto/tpmReader.ts';
import { decodeResponse, encodeCommand, EMPTY, guard, TpmWriter } from './codec.ts';
import { CAPABILITY, COMMAND, HANDLE_RANGE, type CommandCode } from './constants.ts';
import { RC, TpmRefusal } from './errors.ts';

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
}

const ROOM_TRIES_MAX = 8;
const STRAYS_MAX = 64;

/** Which kind of place a refusal asks for, §6.6.3. */
const LACKING = new Map<number, SlotKind>([
  [RC.objectMemory, 'object'], [RC.objectHandles, 'object'], [RC.memory, 'object'], [RC.sessionMemory, 'session'], [RC.sessionHandles, 'session'],
]);

export class Slots {
  readonly #send: (command: Buffer) => Promise<Buffer>;
  readonly #places = new Set<Place>();
  #uses = 0;

  constructor(send: (command: Buffer) => Promise<Buffer>) { this.#send = send; }

  /** Sends what `encode` makes once all of `needed` is loaded, again each time that the TPM lacked room and room could be made. */
  async exchange(needed: readonly Slot[], encode: () => Buffer): Promise<Buffer> {
    for (let tries = 0; ; tries += 1) {
      await this.#restore(needed);
      const response = await this.#send(encode());
      const kind = LACKING.get(response.readUInt32BE(6));
      if (kind === undefined || tries === ROOM_TRIES_MAX || !(await this.#makeRoom(kind, needed))) return response;
    }
  }

  /** What a command has just made. Whatever was thought to be there is gone: the TPM was reset. */
  adopt(kind: SlotKind, handle: number): Slot {
    for (const place of this.#places) if (place.context === undefined && samePlace(place, kind, handle)) this.#places.delete(place);
    const place: Place = { kind, handle, context: undefined, lastUse: this.#uses += 1 };
    this.#places.add(place);
    return place;
  }

  /** Flushes; one that is gone already is left alone. */
  async release(slot: Slot): Promise<void> {
    const place = this.#find(slot);
    if (!place) return;
    this.#places.delete(place); // whatever comes of the flush: without an owner it is stray
    if (place.kind === 'session' || place.context === undefined) await this.#command(COMMAND.flushContext, new TpmWriter().u32(place.handle).done());
  }

  /** Somebody flushed this handle by hand. */
  forget(handle: number): void {
    for (const place of this.#places) if (place.handle === handle && (place.kind === 'session' || place.context === undefined)) this.#places.delete(place);
  }

  /** Flushes what is loaded and not ours, left by an earlier process or by a command whose end we did not see. Gives their number. */
  async flushStrays(kind: SlotKind): Promise<number> {
    const ranges = kind === 'object' ? [HANDLE_RANGE.transient] : [HANDLE_RANGE.loadedSession, HANDLE_RANGE.savedSession];
    let flushed = 0;
    for (const first of ranges) {
      for (const handle of await this.#handles(first)) {
        if ([...this.#places].some((place) => samePlace(place, kind, handle) && (kind === 'session' || place.context === undefined))) continue;
        await this.#command(COMMAND.flushContext, new TpmWriter().u32(handle).done());
        flushed += 1;
      }
    }
    return flushed;
  }

  #find(slot: Slot): Place | undefined { return [...this.#places].find((place) => place === slot); }

  async #restore(needed: readonly Slot[]): Promise<void> {
    for (const slot of needed) {
      const place = this.#find(slot);
      if (!place) continue;
      place.lastUse = this.#uses += 1;
      const { context } = place;
      if (context === undefined) continue;
      const response = await this.exchange(needed.filter((other) => other !== slot && this.#find(other)?.context === undefined), () => plain(COMMAND.contextLoad, context));
      const frame = decodeResponse(response, { handle: true, sessions: false });
      if (frame.code !== RC.success) {
        this.#places.delete(place);
        throw new TpmRefusal(COMMAND.contextLoad, frame.code);
      }
      place.handle = frame.handle;
      place.context = undefined;
    }
  }

  async #makeRoom(kind: SlotKind, needed: readonly Slot[]): Promise<boolean> {
    if (await this.flushStrays(kind) > 0) return true;
    const [oldest] = [...this.#places].filter((place) => place.kind === kind && place.context === undefined && !needed.includes(place)).toSorted((a, b) => a.lastUse - b.lastUse);
    if (!oldest) return false;
    const { code, parameters } = decodeResponse(await this.#send(plain(COMMAND.contextSave, new TpmWriter().u32(oldest.handle).done())), { handle: false, sessions: false });
    if (code !== RC.success) return false;
    oldest.context = parameters;
    if (kind === 'object') await this.#command(COMMAND.flushContext, new TpmWriter().u32(oldest.handle).done()); // a saved session leaves by itself
    return true;
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
    const frame = decodeResponse(await this.#send(plain(code, parameters)), { handle: false, sessions: false });
    if (frame.code !== RC.success) throw new TpmRefusal(code, frame.code);
    return frame.parameters;
  }
}

const plain = (code: CommandCode, parameters: Buffer): Buffer => encodeCommand({ code, handles: [], authorization: EMPTY, parameters });

/** The list of saved sessions does not tell their type, so only the low bytes count (Part 2 §7.2). */
function samePlace(place: Slot, kind: SlotKind, handle: number): boolean {
  return place.kind === kind && (kind === 'object' ? place.handle === handle : (place.handle & 0xffffff) === (handle & 0xffffff));
}
