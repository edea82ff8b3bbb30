/**
 * A TPM 2.0, seen through the commands that attestation needs (Part 3 names them alike). Calls may come concurrently; they are carried out one
 * after the other. Every call rejects with a `tpm.*` TenzroError, a refusal with `TpmRefusal`; `signal` ends the wait, not the command.
 */
import { LIMITS } from '#runtime/core/limits.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { NV_ATTRIBUTE, parseNvPublic, parsePublic, readClockInfo, readPcrSelections, TPM_ALG, type TpmClockInfo, type TpmNvPublic, type TpmPublic } from '#runtime/crypto/tpmEvidence.ts';
import { TpmReader } from '#runtime/crypto/tpmReader.ts';
import { decodeResponse, EMPTY, encodeCommand, garbled, guard, pcrSelection, TpmWriter } from './codec.ts';
import { CommandQueue } from './commandQueue.ts';
import { CAPABILITY, COMMAND, COUNTER_BYTES, HANDLE, HANDLE_RANGE, PROPERTY, SESSION_HMAC, STARTUP_CLEAR, type CommandCode } from './constants.ts';
import { RC, TpmRefusal } from './errors.ts';
import { emptyPassword, newNonce, saltFor, Session, sessionKeyOf, type Authorization } from './session.ts';
import type { Transport } from './transport.ts';

/** Anything with a handle; its name enters the HMAC of sessions (Part 1 §16). */
interface Entity {
  readonly handle: number;
  readonly name: Uint8Array;
}

export interface LoadedKey extends Entity {
  readonly public: TpmPublic;
}

/** Both exactly as the TPM sent them. */
export interface Statement {
  /** TPMS_ATTEST. */
  readonly attest: Uint8Array;
  /** TPMT_SIGNATURE. */
  readonly signature: Uint8Array;
}

export interface TpmProperties {
  /** TCG vendor id, e.g. `IFX`, `STM`, `IBM` (swtpm). */
  readonly manufacturer: string;
  readonly vendor: string;
  /** 64 bits, in the vendor's own meaning. */
  readonly firmwareVersion: bigint;
}

interface Command {
  readonly code: CommandCode;
  readonly entities?: readonly Entity[];
  /** For the first entities, in order; further ones may only encrypt. */
  readonly authorizations?: readonly Authorization[];
  readonly parameters?: Buffer;
  readonly answersHandle?: boolean;
}

const TRIES_FOR_ALL_PCRS = 24;

export class Tpm implements AsyncDisposable {
  readonly #transport: Transport;
  readonly #queue: CommandQueue;

  /** Owns the transport. */
  constructor(transport: Transport, { timeoutMs = LIMITS.tpmTimeoutMs }: { readonly timeoutMs?: number } = {}) {
    this.#transport = transport;
    this.#queue = new CommandQueue(transport, timeoutMs);
  }

  [Symbol.asyncDispose](): PromiseLike<void> { return this.#transport[Symbol.asyncDispose](); }

  /** TPM2_Startup(CLEAR); a TPM that the firmware has started already is left as it is. */
  async startup(signal: AbortSignal): Promise<void> {
    try {
      await this.#perform({ code: COMMAND.startup, parameters: new TpmWriter().u16(STARTUP_CLEAR).done() }, signal);
    } catch (error) {
      if (!(error instanceof TpmRefusal) || error.base !== RC.initialize) throw error;
    }
  }

  /** TPM2_Shutdown(CLEAR): an orderly end, after which the clock is `safe`. Only for a TPM that nobody else shuts down (an own emulator). */
  async shutdown(signal: AbortSignal): Promise<void> {
    await this.#perform({ code: COMMAND.shutdown, parameters: new TpmWriter().u16(STARTUP_CLEAR).done() }, signal);
  }

  async properties(signal: AbortSignal): Promise<TpmProperties> {
    const found = new Map(await this.#capability(CAPABILITY.properties, PROPERTY.manufacturer, PROPERTY.firmwareVersion2 - PROPERTY.manufacturer + 1, (reader) => [reader.u32(), reader.u32()] as const, signal));
    const text = (from: number, to: number): string => {
      const words = new TpmWriter();
      for (let property = from; property <= to; property += 1) words.u32(found.get(property) ?? 0);
      return words.done().toString('latin1').replaceAll('\0', '').trim();
    };
    const firmware = (property: number): bigint => BigInt(found.get(property) ?? 0);
    return {
      manufacturer: text(PROPERTY.manufacturer, PROPERTY.manufacturer),
      vendor: text(PROPERTY.vendorString1, PROPERTY.vendorString4),
      firmwareVersion: (firmware(PROPERTY.firmwareVersion1) << 32n) | firmware(PROPERTY.firmwareVersion2),
    };
  }

  /**
   * Flushes loaded keys and sessions that an earlier process left. Behind a resource manager each connection sees only its own; a bare TPM
   * (an emulator's socket) has one client, three places for keys, and no resource manager to clean up.
   */
  async flushLeftovers(signal: AbortSignal): Promise<void> {
    for (const first of [HANDLE_RANGE.transient, HANDLE_RANGE.loadedSession]) {
      const handles = await this.#capability(CAPABILITY.handles, first, 16, (reader) => reader.u32(), signal);
      for (const handle of handles) await this.flushContext(handle, signal);
    }
  }

  /** From `template` (templates.ts) and an empty password. `hierarchy`: HANDLE.endorsement or HANDLE.owner. RSA keys take a hardware TPM many seconds. */
  async createPrimary(hierarchy: number, template: Uint8Array, signal: AbortSignal): Promise<LoadedKey> {
    const sensitive = new TpmWriter().sized(EMPTY).sized(EMPTY).done(); // TPMS_SENSITIVE_CREATE, §11.1.15
    const parameters = new TpmWriter().sized(sensitive).sized(template).sized(EMPTY).u32(0).done();
    const { handle, reader } = await this.#execute({ code: COMMAND.createPrimary, entities: [permanent(hierarchy)], authorizations: [emptyPassword], parameters, answersHandle: true }, signal);
    const made = guard(() => {
      const area = parsePublic(reader.sized());
      reader.sized(); // creation data, its hash, a ticket (§10.7.3) and the name, none of which we need
      reader.sized();
      reader.bytes(6);
      reader.sized();
      reader.sized();
      reader.end();
      return area;
    });
    return { handle, name: made.name, public: made };
  }

  async flushContext(handle: number, signal: AbortSignal): Promise<void> {
    await this.#perform({ code: COMMAND.flushContext, parameters: new TpmWriter().u32(handle).done() }, signal);
  }

  async readPublic(handle: number, signal: AbortSignal): Promise<LoadedKey> {
    const { reader } = await this.#execute({ code: COMMAND.readPublic, entities: [{ handle, name: EMPTY }] }, signal);
    const read = guard(() => {
      const area = parsePublic(reader.sized());
      reader.sized(); // name and qualified name
      reader.sized();
      reader.end();
      return area;
    });
    return { handle, name: read.name, public: read };
  }

  /** SHA-256 values, ascending by PCR. Throws `tpm.unsupported` when the bank is off. */
  async pcrRead(pcrs: readonly number[], signal: AbortSignal): Promise<readonly (readonly [number, Uint8Array])[]> {
    const values = new Map<number, Uint8Array>();
    for (let tries = 0; tries < TRIES_FOR_ALL_PCRS && values.size < pcrs.length; tries += 1) {
      const wanted = pcrs.filter((pcr) => !values.has(pcr));
      const { reader } = await this.#execute({ code: COMMAND.pcrRead, parameters: pcrSelection(wanted) }, signal);
      const answered = guard(() => {
        reader.u32(); // update counter
        const selected = readPcrSelections(reader).filter(({ hash }) => hash === TPM_ALG.sha256).flatMap(({ pcrs: some }) => some);
        const digests = Array.from({ length: Math.min(reader.u32(), selected.length) }, () => reader.sized());
        reader.end();
        return selected.slice(0, digests.length).map((pcr, at) => [pcr, digests[at] ?? EMPTY] as const);
      });
      if (answered.length === 0) throw new TenzroError('tpm.unsupported', `the TPM has no SHA-256 value for PCR ${wanted.join(', ')}`);
      for (const [pcr, value] of answered) values.set(pcr, value);
    }
    return [...values].toSorted(([a], [b]) => a - b);
  }

  async pcrExtend(pcr: number, digest: Uint8Array, signal: AbortSignal, authorization: Authorization = emptyPassword): Promise<void> {
    const parameters = new TpmWriter().u32(1).u16(TPM_ALG.sha256).bytes(digest).done(); // TPML_DIGEST_VALUES, §10.9.6
    await this.#perform({ code: COMMAND.pcrExtend, entities: [permanent(pcr)], authorizations: [authorization], parameters }, signal);
  }

  async quote(ak: LoadedKey, extraData: Uint8Array, pcrs: readonly number[], signal: AbortSignal, authorization: Authorization = emptyPassword): Promise<Statement> {
    const parameters = new TpmWriter().sized(extraData).u16(TPM_ALG.null).bytes(pcrSelection(pcrs)).done();
    const { reader } = await this.#execute({ code: COMMAND.quote, entities: [ak], authorizations: [authorization], parameters }, signal);
    return statement(reader);
  }

  async readClock(signal: AbortSignal): Promise<TpmClockInfo> {
    const { reader } = await this.#execute({ code: COMMAND.readClock }, signal);
    return guard(() => {
      reader.u64(); // time since the last power-on; TPMS_TIME_INFO, §10.11.6
      const info = readClockInfo(reader);
      reader.end();
      return info;
    });
  }

  /** At most as many bytes as the TPM's largest digest, 32 at least; fewer than asked for are an error. */
  async getRandom(sizeBytes: number, signal: AbortSignal, authorization?: Authorization): Promise<Uint8Array> {
    const authorizations = authorization ? [authorization] : [];
    const { reader } = await this.#execute({ code: COMMAND.getRandom, authorizations, parameters: new TpmWriter().u16(sizeBytes).done() }, signal);
    const random = single(reader);
    if (random.length !== sizeBytes) throw garbled(`${random.length} random bytes instead of ${sizeBytes}`);
    return random;
  }

  async nvReadPublic(index: number, signal: AbortSignal): Promise<TpmNvPublic> {
    const { reader } = await this.#execute({ code: COMMAND.nvReadPublic, entities: [{ handle: index, name: EMPTY }] }, signal);
    return guard(() => {
      const read = parseNvPublic(reader.sized());
      reader.sized(); // the name, which we compute
      reader.end();
      return read;
    });
  }

  /** A counter that anyone on this machine may read and increment: its worth is that it never goes back, not even over TPM2_Clear. */
  async nvDefineCounter(index: number, signal: AbortSignal): Promise<void> {
    const { ownerWrite, authWrite, ownerRead, authRead, noDa, typeCounter } = NV_ATTRIBUTE;
    const area = new TpmWriter().u32(index).u16(TPM_ALG.sha256).u32(ownerWrite | authWrite | ownerRead | authRead | noDa | typeCounter).sized(EMPTY).u16(COUNTER_BYTES).done();
    const parameters = new TpmWriter().sized(EMPTY).sized(area).done();
    await this.#perform({ code: COMMAND.nvDefineSpace, entities: [permanent(HANDLE.owner)], authorizations: [emptyPassword], parameters }, signal);
  }

  async nvIncrement(nv: TpmNvPublic, signal: AbortSignal): Promise<void> {
    const entity = nvEntity(nv);
    await this.#perform({ code: COMMAND.nvIncrement, entities: [entity, entity], authorizations: [emptyPassword] }, signal);
  }

  /** `sizeBytes` at most TPM_PT_NV_BUFFER_MAX, 512 at least. `authority`: the index itself, or HANDLE.owner. */
  async nvRead(nv: TpmNvPublic, offset: number, sizeBytes: number, signal: AbortSignal): Promise<Uint8Array> {
    const authority = (nv.attributes & NV_ATTRIBUTE.authRead) === 0 ? permanent(HANDLE.owner) : nvEntity(nv);
    const parameters = new TpmWriter().u16(sizeBytes).u16(offset).done();
    const { reader } = await this.#execute({ code: COMMAND.nvRead, entities: [authority, nvEntity(nv)], authorizations: [emptyPassword], parameters }, signal);
    return single(reader);
  }

  /** The AK's word on the whole contents of an index. */
  async nvCertify(ak: LoadedKey, nv: TpmNvPublic, extraData: Uint8Array, signal: AbortSignal): Promise<Statement> {
    const entity = nvEntity(nv);
    const parameters = new TpmWriter().sized(extraData).u16(TPM_ALG.null).u16(nv.sizeBytes).u16(0).done();
    const { reader } = await this.#execute({ code: COMMAND.nvCertify, entities: [ak, entity, entity], authorizations: [emptyPassword, emptyPassword], parameters }, signal);
    return statement(reader);
  }

  /** An HMAC session salted to `key`, which the caller MUST have pinned. Close it with `flushContext(session.handle)`. */
  async startSession(key: LoadedKey, signal: AbortSignal): Promise<Session> {
    const nonceCaller = newNonce();
    const { salt, encrypted } = saltFor(key.public);
    const parameters = new TpmWriter().sized(nonceCaller).sized(encrypted).u8(SESSION_HMAC).u16(TPM_ALG.aes).u16(128).u16(TPM_ALG.cfb).u16(TPM_ALG.sha256).done();
    const { handle, reader } = await this.#execute({ code: COMMAND.startAuthSession, entities: [key, permanent(HANDLE.null)], parameters, answersHandle: true }, signal);
    const nonceTpm = single(reader);
    return new Session(handle, sessionKeyOf(salt, nonceTpm, nonceCaller), nonceTpm);
  }

  /** All values of a capability from `first` on, at most `count`. */
  async #capability<T>(capability: number, first: number, count: number, item: (reader: TpmReader) => T, signal: AbortSignal): Promise<T[]> {
    const { reader } = await this.#execute({ code: COMMAND.getCapability, parameters: new TpmWriter().u32(capability).u32(first).u32(count).done() }, signal);
    return guard(() => {
      reader.u8(); // more data
      if (reader.u32() !== capability) throw garbled('another capability than asked for');
      const items = Array.from({ length: Math.min(reader.u32(), count) }, () => item(reader));
      reader.end();
      return items;
    });
  }

  /** A command whose answer is only that it was done. */
  async #perform(command: Command, signal: AbortSignal): Promise<void> {
    const { reader } = await this.#execute(command, signal);
    guard(() => reader.end());
  }

  #execute(command: Command, signal: AbortSignal): Promise<{ readonly handle: number; readonly reader: TpmReader }> {
    const { code, entities = [], authorizations = [], parameters = Buffer.alloc(0), answersHandle = false } = command;
    return this.#queue.run(async () => {
      const names = entities.map(({ name }) => name);
      const sent = authorizations.reduce((bytes, authorization) => authorization.protect(bytes), parameters);
      const authorization = Buffer.concat(authorizations.map((one) => one.authorize(code, names, sent)));
      const response = await this.#queue.send(encodeCommand({ code, handles: entities.map(({ handle }) => handle), authorization, parameters: sent }));
      const frame = decodeResponse(response, { handle: answersHandle, sessions: authorizations.length > 0 });
      if (frame.code !== RC.success) throw new TpmRefusal(code, frame.code);
      let clear = frame.parameters;
      const tail = frame.authorization;
      if (tail) {
        guard(() => {
          for (const one of authorizations) clear = one.accept(code, clear, tail);
          tail.end();
        });
      }
      return { handle: frame.handle, reader: new TpmReader(clear, 'TPM response') };
    }, signal);
  }
}

/** Hierarchies and PCRs: their name is their handle (Part 1 §16). */
function permanent(handle: number): Entity {
  return { handle, name: new TpmWriter().u32(handle).done() };
}

const nvEntity = ({ index, name }: TpmNvPublic): Entity => ({ handle: index, name });

function single(reader: TpmReader): Buffer {
  return guard(() => {
    const value = reader.sized();
    reader.end();
    return value;
  });
}

function statement(reader: TpmReader): Statement {
  return guard(() => ({ attest: reader.sized(), signature: reader.rest() }));
}
