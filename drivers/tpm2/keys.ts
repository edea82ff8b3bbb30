/** `tpm.keys`: objects (Part 3 §12, primary ones §24.1), what they do (§20), and persistent ones (§28.5). */
import { TenzroError } from '#runtime/core/errors.ts';
import { equalBytes } from '#runtime/core/bytes.ts';
import type { ProtectedCredential } from '#runtime/crypto/credential.ts';
import { parsePublic, TPM_ALG, type TpmPublic } from '#runtime/crypto/tpmEvidence.ts';
import type { TpmReader } from '#runtime/crypto/tpmReader.ts';
import { EMPTY, garbled, TpmWriter } from './codec.ts';
import { nothing, one, permanent, type Entity, type Executor } from './command.ts';
import { COMMAND, HANDLE, HANDLE_RANGE, TAG } from './constants.ts';
import type { Authorization } from './session.ts';
import type { Slot } from './slots.ts';

/** A key or another object that is there: loaded, or persistent. */
export interface TpmObject extends Entity {
  readonly public: TpmPublic;
}

/** One that this driver loaded, and that takes a place until it is disposed of: `await using key = …`. */
export interface LoadedKey extends TpmObject, AsyncDisposable {
  readonly slot: Slot;
}

/** An object outside of the TPM, wrapped by its parent: keep both, in a file or elsewhere. */
export interface WrappedObject {
  /** Contents of a TPM2B_PRIVATE (Part 2 §12.3.7). */
  readonly private: Uint8Array;
  /** TPMT_PUBLIC (Part 2 §12.2.4). */
  readonly public: Uint8Array;
}

/** TPMT_TK_VERIFIED (Part 2 §10.7.4), as it came. */
export type VerifiedTicket = Uint8Array;

export interface Sensitive {
  /** authValue of the new object. Default: none. */
  readonly authValue?: Uint8Array;
  /** What a sealed object shall hold: at most 128 bytes. Default: the TPM makes a key. */
  readonly data?: Uint8Array;
}

export class Keys {
  readonly #executor: Executor;

  constructor(executor: Executor) { this.#executor = executor; }

  /**
   * TPM2_CreatePrimary from a template (templates.ts): the same key each time, as long as the hierarchy's seed lasts. `hierarchy`: a handle
   * (HANDLE.endorsement, HANDLE.owner), or `permanent(handle, authValue)`. RSA keys take a hardware TPM many seconds.
   */
  createPrimary(hierarchy: number | Entity, template: Uint8Array, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<LoadedKey> {
    const entity = typeof hierarchy === 'number' ? permanent(hierarchy) : hierarchy;
    const command = { code: COMMAND.createPrimary, entities: [entity], authorized: 1, authorizations, parameters: creation({}, template) };
    return this.#executor.load('object', command, (reader, slot) => {
      const area = parsePublic(reader.sized());
      skipCreation(reader);
      return this.#loaded(slot, area, reader.sized());
    }, signal);
  }

  /** TPM2_Create: an object under `parent`, which stays outside until it is loaded. */
  create(parent: TpmObject, template: Uint8Array, sensitive: Sensitive, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<WrappedObject> {
    const command = { code: COMMAND.create, entities: [parent], authorized: 1, authorizations, parameters: creation(sensitive, template) };
    return this.#executor.execute(command, (reader) => {
      const wrapped = { private: reader.sized(), public: reader.sized() };
      parsePublic(wrapped.public);
      skipCreation(reader);
      return wrapped;
    }, signal);
  }

  /** TPM2_Load, under the parent that wrapped it. */
  load(parent: TpmObject, object: WrappedObject, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<LoadedKey> {
    const area = parsePublic(object.public);
    const parameters = new TpmWriter().sized(object.private).sized(object.public).done();
    return this.#executor.load('object', { code: COMMAND.load, entities: [parent], authorized: 1, authorizations, parameters }, (reader, slot) => this.#loaded(slot, area, reader.sized()), signal);
  }

  /**
   * TPM2_LoadExternal of a public area alone, to verify with or to encrypt to. `hierarchy`: tickets that it gives hold there, and none with
   * HANDLE.null.
   */
  loadExternal(publicArea: Uint8Array, hierarchy: number, signal: AbortSignal): Promise<LoadedKey> {
    const area = parsePublic(publicArea);
    const parameters = new TpmWriter().sized(EMPTY).sized(publicArea).u32(hierarchy).done();
    return this.#executor.load('object', { code: COMMAND.loadExternal, parameters }, (reader, slot) => this.#loaded(slot, area, reader.sized()), signal);
  }

  /** TPM2_ReadPublic: what lies at a handle. It is not owned: disposing is up to whoever loaded it. */
  readPublic(handle: number, signal: AbortSignal): Promise<TpmObject> {
    return this.#executor.execute({ code: COMMAND.readPublic, entities: [{ handle, name: EMPTY }] }, (reader) => {
      const area = parsePublic(reader.sized());
      expectName(area, reader.sized());
      reader.sized(); // qualified name
      return { handle, name: area.name, public: area };
    }, signal);
  }

  /** TPM2_EvictControl: `object` gets a persistent handle of the owner (0x81000000–0x817FFFFF), and stays over resets. */
  persist(object: TpmObject, persistentHandle: number, owner: Entity, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<TpmObject> {
    if (persistentHandle < HANDLE_RANGE.persistent || persistentHandle > 0x81ffffff) throw new TenzroError('tpm.usage', 'persistent handles begin with 0x81');
    const parameters = new TpmWriter().u32(persistentHandle).done();
    return this.#executor.execute({ code: COMMAND.evictControl, entities: [owner, object], authorized: 1, authorizations, parameters },
      () => ({ handle: persistentHandle, name: object.name, public: object.public }), signal);
  }

  /** TPM2_EvictControl: removes a persistent object. */
  evict(object: TpmObject, owner: Entity, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<void> {
    const parameters = new TpmWriter().u32(object.handle).done();
    return this.#executor.execute({ code: COMMAND.evictControl, entities: [owner, object], authorized: 1, authorizations, parameters }, nothing, signal);
  }

  /** TPM2_Unseal: the data of a sealed object. Let a session encrypt the response where the bus is not trusted. The caller zeroes what it gets. */
  unseal(object: TpmObject, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<Buffer> {
    return this.#executor.execute({ code: COMMAND.unseal, entities: [object], authorized: 1, authorizations }, one, signal);
  }

  /** TPM2_Sign of a SHA-256 digest by an unrestricted key, with its own scheme: a TPMT_SIGNATURE. */
  sign(key: TpmObject, digest: Uint8Array, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<Buffer> {
    const parameters = new TpmWriter().sized(digest).u16(TPM_ALG.null).u16(TAG.hashCheck).u32(HANDLE.null).sized(EMPTY).done();
    return this.#executor.execute({ code: COMMAND.sign, entities: [key], authorized: 1, authorizations, parameters }, (reader) => reader.rest(), signal);
  }

  /** TPM2_VerifySignature of a TPMT_SIGNATURE over a SHA-256 digest. The ticket is what TPM2_PolicyAuthorize asks for. */
  verifySignature(key: TpmObject, digest: Uint8Array, signature: Uint8Array, signal: AbortSignal): Promise<VerifiedTicket> {
    const parameters = new TpmWriter().sized(digest).bytes(signature).done();
    return this.#executor.execute({ code: COMMAND.verifySignature, entities: [key], parameters }, (reader) => {
      const [tag, hierarchy, hash] = [reader.u16(), reader.u32(), reader.sized()];
      if (tag !== TAG.verified) throw garbled(`a ticket of tag 0x${tag.toString(16)}`);
      return new TpmWriter().u16(tag).u32(hierarchy).sized(hash).done();
    }, signal);
  }

  /** TPM2_MakeCredential: wraps up to 32 bytes for the holder of `ek`, who needs the object of that name loaded to read them. */
  makeCredential(ek: TpmObject, credential: Uint8Array, objectName: Uint8Array, signal: AbortSignal): Promise<ProtectedCredential> {
    const parameters = new TpmWriter().sized(credential).sized(objectName).done();
    return this.#executor.execute({ code: COMMAND.makeCredential, entities: [ek], parameters }, (reader) => ({ blob: reader.sized(), secret: reader.sized() }), signal);
  }

  /** TPM2_ActivateCredential: the other end. Authorisations: of `object`, then of `ek` (for a key of the EK templates a policy session with PolicySecret of the endorsement hierarchy). */
  activateCredential(object: TpmObject, ek: TpmObject, { blob, secret }: ProtectedCredential, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<Buffer> {
    const parameters = new TpmWriter().sized(blob).sized(secret).done();
    return this.#executor.execute({ code: COMMAND.activateCredential, entities: [object, ek], authorized: 2, authorizations, parameters }, one, signal);
  }

  #loaded(slot: Slot, area: TpmPublic, name: Uint8Array): LoadedKey {
    expectName(area, name);
    const executor = this.#executor;
    return { slot, name: area.name, public: area, get handle(): number { return slot.handle; }, [Symbol.asyncDispose]: () => executor.release(slot) };
  }
}

/** TPM2B_SENSITIVE_CREATE (Part 2 §11.1.16), TPM2B_PUBLIC, outside info and creation PCRs. */
function creation({ authValue = EMPTY, data = EMPTY }: Sensitive, template: Uint8Array): Buffer {
  const sensitive = new TpmWriter().sized(authValue).sized(data).done();
  const parameters = new TpmWriter().sized(sensitive).sized(template).sized(EMPTY).u32(0).done();
  sensitive.fill(0);
  return parameters;
}

/** Creation data, its hash and a ticket (Part 2 §15.2, §10.7.3): nobody asks us how a key came to be, TPM2_Certify tells what it is. */
function skipCreation(reader: TpmReader): void {
  reader.sized();
  reader.sized();
  reader.bytes(6);
  reader.sized();
}

/** Both sides compute the name: a response that was altered on the bus, or a template that the TPM understood otherwise, shows here. */
function expectName(area: TpmPublic, name: Uint8Array): void {
  if (!equalBytes(area.name, name)) throw garbled('its name is not that of the public area');
}
