/** What rooms need of each other, so that only the composition roots join them. */
import type { ErrorCode } from './errors.ts';
import type { JsonObject } from './json.ts';
import type { Cbor, Draft, KindNumber, Maybe, StoredEntry, TreeHead } from './types.ts';

/** Logger port; `observe` implements it. Fields never carry secrets. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(bindings: { room: string }): Log;
}

/** Named counters, one flat name space: `ingest.rejected.json`. Cheap enough for the hot path. */
export interface Counters {
  add(name: string, by?: number): void;
  set(name: string, value: number): void;
  snapshot(): Record<string, number>;
}

/** A message as it arrived at the front door. It and its payload are valid only until `accept` returns: the door uses the object again. */
export interface InboundMessage {
  readonly clientId: string;
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  readonly duplicate: boolean;
  /** 0 at QoS 0. */
  readonly packetId: number;
}

/** The front door's only view of what lies behind it. */
export interface Intake {
  /**
   * Takes the order of the message synchronously, copies what it needs, and calls `done` exactly once: with nothing when the message is
   * flushed (or policy does not record it), with an error when it will not be. MUST NOT throw.
   */
  accept(message: InboundMessage, done: (error?: Error) => void): void;
}

/** A message with its arrival times, as it crosses to the writer thread. */
export interface InboundRecord extends InboundMessage {
  readonly wallMicros: number;
  readonly monoMicros: number;
}

export type DecodeOutcome =
  | {
    readonly kind: 'record'; readonly entryKind: KindNumber; readonly source: string; readonly body: Cbor;
    /** The body is sealed; `keyEpoch`, where there is one, MUST be recorded before it. */
    readonly confidential?: { readonly keyEpoch?: Draft };
  }
  /** Acknowledged and, by policy, not an entry of its own. */
  | { readonly kind: 'skip'; readonly reason: 'unrecorded' | 'unchanged' | 'duplicate' | 'summarised' }
  /** Bad input: acknowledged (a retry would be as bad), counted under its code, told on te/errors. */
  | { readonly kind: 'reject'; readonly code: ErrorCode; readonly detail: string };

/** Pure: bytes in, entries out. Runs in the writer thread; keeps only small per-topic state. Never throws. */
export interface Decoder {
  decode(record: InboundRecord): DecodeOutcome;
  /** Entries that time alone makes due (closed summary windows, first registrations), oldest first. */
  due(wallMicros: number, monoMicros: number): readonly Draft[];
  /** The same at an orderly end: open summary windows are closed early. */
  drain(wallMicros: number, monoMicros: number): readonly Draft[];
  /** Feeds what the log already holds, oldest first, so that redeliveries after a restart are recognised. */
  remember(entryKind: KindNumber, source: string, body: Cbor): void;
  /** After `remember`: a message that the broker retains. A registration or units that the log's tail did not hold count from now on; nothing is recorded. */
  learn(topic: string, payload: Uint8Array): void;
}

/** Read side of the ledger: what followers and proofs pull from. Everything returned is committed AND flushed. */
export interface LedgerReader {
  /** Number of entries; indices are 0 … size-1. */
  size(): number;
  /** Index of the oldest entry still stored. */
  oldest(): number;
  /** Entries from `from` on, in order, at most `max`. */
  read(from: number, max: number): Iterable<StoredEntry>;
  /**
   * Index of the first entry from `from` on whose batch contains one of the byte strings; `size()` when none does. Passes over whole batches,
   * at memory speed: for followers that care for few entries. What it stops at need not match by itself.
   */
  seek(from: number, needles: readonly Uint8Array[]): number;
  cursor(name: string): number;
}

/** Write side, seen from the main thread. */
export interface LedgerWriter {
  /** Resolves with the index when flushed. Rejects with a TenzroError. */
  append(draft: Draft): Promise<number>;
  head(): Promise<TreeHead>;
  /** Stores a follower's position; flushed with the next batch. Never goes back. */
  setCursor(name: string, index: number): void;
}

export interface LastBlock {
  readonly sequence: number;
  readonly payload: Uint8Array;
  /** As `encodeEvidence` made it. */
  readonly evidence: Uint8Array;
  /** PCR 14 after this block's extension, where a TPM made it. */
  readonly pcrAfter?: Uint8Array;
  /** The TPM's resetCount when the block was quoted. */
  readonly resetCount?: number;
}

export interface SealedBlock extends LastBlock {
  /** COSE_Sign1, as `sign1` made it. */
  readonly cose: Uint8Array;
}

/** What the sealer needs of the ledger. Every promise resolves after the flush and rejects with a TenzroError. */
export interface BlockStore {
  head(): Promise<TreeHead>;
  /** Payload of block 0; undefined on a chain that has none yet. */
  genesis(): Promise<Uint8Array | undefined>;
  lastBlock(): Promise<LastBlock | undefined>;
  /** Evidence of a committed block. Rejects with `ledger.no_entry`. */
  evidence(sequence: number): Promise<Uint8Array>;
  /** The block that was begun and not yet committed, as `encodePending` made it. */
  readPending(): Promise<Uint8Array | undefined>;
  writePending(record: Uint8Array): Promise<void>;
  /** Stores the block and drops the pending record in one transaction. */
  commitBlock(block: SealedBlock): Promise<void>;
}

/** Pulls from the ledger by its own durable cursor. `follow` returns when `signal` aborts. */
export interface Follower {
  readonly name: string;
  follow(signal: AbortSignal): Promise<void>;
  /** Next index it will look at: lag is ledger size minus this. */
  processed(): number;
}

/** An entry decoded far enough to be filtered. */
export interface EntryFilter {
  readonly kinds?: readonly KindNumber[];
  readonly source?: string;
}

/** A small durable map with string keys, in key order. Writes are grouped; only `flushed` says that they survive a power cut. */
export interface KeyValueStore extends AsyncDisposable {
  put(key: string, value: Uint8Array): void;
  remove(key: string): void;
  /** All pairs on disk whose key starts with `prefix`. */
  range(prefix: string): Iterable<{ readonly key: string; readonly value: Uint8Array }>;
  /** Resolves when every earlier write is on disk, however long that has to wait for space; rejects with `ledger.io` when one of them failed. */
  flushed(): Promise<void>;
}

/** TPMS_ATTEST and TPMT_SIGNATURE exactly as the TPM sent them. */
export interface AnchorStatement {
  readonly attest: Uint8Array;
  readonly signature: Uint8Array;
}

/** A TPM, seen from the sealer: what ties a block to hardware. Every call rejects with a `tpm.*` error, also when `signal` aborts. */
export interface Anchor {
  /** TPMT_PUBLIC of the attestation key: the same for as long as the TPM keeps its endorsement seed, over TPM2_Clear too. */
  readonly akPublic: Uint8Array;
  /** For a genesis: TPMT_PUBLIC of the endorsement key, its certificate and those of its issuers (X.509 DER) where they are known. May take many seconds. */
  endorsement(signal: AbortSignal): Promise<{ readonly ekPublic: Uint8Array; readonly ekCertificate?: Uint8Array; readonly ekChain?: readonly Uint8Array[] }>;
  /** PCR 14 of the SHA-256 bank, 32 bytes. */
  pcr14(signal: AbortSignal): Promise<Uint8Array>;
  /** TPM2_PCR_Extend of PCR 14 with a SHA-256 digest. */
  extend(digest: Uint8Array, signal: AbortSignal): Promise<void>;
  /** TPM2_Quote with `extraData` = digest over SHA-256 PCRs that include 14, and the values that its digest covers, ascending. */
  quote(digest: Uint8Array, signal: AbortSignal): Promise<AnchorStatement & { readonly pcrs: readonly (readonly [number, Uint8Array])[] }>;
  /** TPM2_NV_Certify of the NV counter as it stands, with `extraData` = digest; `nvPublic` is its TPMS_NV_PUBLIC. One that is not there is defined and begun. */
  counter(digest: Uint8Array, signal: AbortSignal): Promise<AnchorStatement & { readonly nvPublic: Uint8Array }>;
  /** TPM2_NV_Increment of that counter. */
  increment(signal: AbortSignal): Promise<void>;
  /** What the TPM holds now. Changes nothing. */
  look(signal: AbortSignal): Promise<AnchorLook>;
}

/** A TPM's state, read and not signed: for who sits at the machine. */
export interface AnchorLook {
  /** None: there is no counter, or it was never begun. `nvPublic` is its TPMS_NV_PUBLIC. */
  readonly counter: Maybe<{ readonly value: bigint; readonly nvPublic: Uint8Array }>;
  /** PCR 14 of the SHA-256 bank, 32 bytes. */
  readonly pcr14: Uint8Array;
  /** Counts the resets of the TPM: PCR 14 speaks about blocks with the same count only. */
  readonly resetCount: number;
}

/** What decides whether sealed keys open: how the machine booted, and how often keys of this machine were revoked. */
export interface BootState {
  /** PCRs of the SHA-256 bank, ascending. */
  readonly pcrs: readonly (readonly [index: number, value: Uint8Array])[];
  /** Value of the TPM's revocation counter. */
  readonly revocation: bigint;
}

/** Who may say in which boot states a sealed secret opens. */
export interface SealingPolicy {
  /** P-256 public key, x ‖ y, 64 bytes. */
  readonly authority: Uint8Array;
  /** Binds approvals to one secret, 32 bytes. */
  readonly policyRef: Uint8Array;
}

/** A boot state with the authority's word for it. */
export interface Approved {
  readonly state: BootState;
  /** ECDSA over SHA-256 of the state's policy digest and the policyRef: r ‖ s, 64 bytes. */
  readonly signature: Uint8Array;
}

/** A secret that only the TPM can read. */
export interface SealedSecret {
  /** TPMT_PUBLIC. */
  readonly publicArea: Uint8Array;
  /** Contents of a TPM2B_PRIVATE. */
  readonly privateArea: Uint8Array;
}

/** By which names a TPM is known again. */
export interface VaultNames {
  /** Of the storage key that the secret lies under: another after TPM2_Clear. */
  readonly parent: Uint8Array;
  /** Of the attestation key: the same over TPM2_Clear. */
  readonly attestationKey: Uint8Array;
}

/** Authorisations of the hierarchies, 32 bytes each. */
export interface HierarchyAuth {
  readonly owner: Uint8Array;
  readonly endorsement: Uint8Array;
  readonly lockout: Uint8Array;
}

/** A TPM, seen from the gateway's identity. Every call rejects with a `tpm.*` or `identity.*` error, also when `signal` aborts. */
export interface KeyVault {
  /** Makes what is missing: storage key, attestation key, endorsement key (all persistent) and counter. Throws `identity.handle_taken`, `identity.tpm_owned`. */
  prepare(signal: AbortSignal): Promise<VaultNames>;
  /** Which TPM this is, measured by what `prepare` had made. */
  identify(names: VaultNames, signal: AbortSignal): Promise<'ours' | 'cleared' | 'foreign'>;
  bootState(pcrs: readonly number[], signal: AbortSignal): Promise<BootState>;
  /** At most 128 bytes, under the storage key of that name. */
  seal(secret: Uint8Array, policy: SealingPolicy, parent: Uint8Array, signal: AbortSignal): Promise<SealedSecret>;
  /** The caller zeroes what it gets. Rejects with `tpm.refused` when the state is not that of the approval, or the blob not of this TPM. */
  unseal(sealed: SealedSecret, policy: SealingPolicy, approved: Approved, parent: Uint8Array, signal: AbortSignal): Promise<Buffer>;
  /** Increments the revocation counter; resolves with its new value. */
  revoke(auth: HierarchyAuth, parent: Uint8Array, signal: AbortSignal): Promise<bigint>;
  /** Which hierarchies have an authorisation, whosever. */
  ownership(signal: AbortSignal): Promise<Readonly<Record<keyof HierarchyAuth, boolean>>>;
  /** Sets the authorisations that are not set. Throws `identity.tpm_owned` where somebody else has set them. */
  own(auth: HierarchyAuth, parent: Uint8Array, signal: AbortSignal): Promise<void>;
}

/** A TPM, seen from enrolment: opens what an enroller protected for its EK and AK. */
export interface Activator {
  /** TPMT_PUBLIC of the EK and of the AK that it activates for. */
  readonly ekPublic: Uint8Array;
  readonly akPublic: Uint8Array;
  /**
   * TPM2_ActivateCredential: contents of a TPM2B_ID_OBJECT and of a TPM2B_ENCRYPTED_SECRET in, the credential out. The caller zeroes what it gets. Rejects
   * with `tpm.refused` when it was made for another EK or AK, with other `tpm.*` errors also when `signal` aborts.
   */
  activate(blob: Uint8Array, secret: Uint8Array, signal: AbortSignal): Promise<Buffer>;
}

/** A connection to the fleet's broker that comes back by itself and delivers what it subscribed to. */
export interface FleetLink extends AsyncDisposable {
  /** Connected and subscribed. */
  readonly isReady: boolean;
  /** Key exchange of the last connection as IANA names it, `none` without TLS; undefined before it. */
  readonly keyExchange: string | undefined;
  /** Why it is not ready. */
  readonly fault: string;
  /** Resolves with true when it is ready, with false when `signal` aborts first. */
  ready(signal: AbortSignal): Promise<boolean>;
  /** At QoS 1. Resolves when the broker acknowledged it, which is no delivery. Rejects with `link.offline`. */
  publish(topic: string, payload: Uint8Array, options: { readonly retain: boolean }): Promise<void>;
}

/** A part of a gateway or of a controller that speaks over a fleet's broker. All of them share one link. */
export interface LinkUser {
  /** Whole topic filters. */
  readonly filters: readonly string[];
  /** Of the subscriptions to them; 1 where it is not said. 0 for what is retained anyway: nothing queues up at the broker while we are gone. */
  readonly qos?: 0 | 1;
  /** A message on a topic that `filters` match, retained ones again at every connect. Hostile until it verifies. MUST NOT throw; the payload is valid during the call only. */
  receive(topic: string, payload: Uint8Array): void;
  /** Connected and subscribed, also again; retained messages come before or after. MUST NOT throw. */
  connected?(link: FleetLink): void;
  /** The connection broke, or was closed for good: what was retained comes again after the next `connected`. MUST NOT throw. */
  lost?(): void;
}

/** One value for one operation of a device that acts. */
export interface DriverCall {
  /** Of the command: the device gets it at most once. */
  readonly id: string;
  readonly driver: string;
  readonly operation: string;
  readonly value: number;
}

/** Devices that act on the world. */
export interface Actuator {
  /** `<driver>.<operation>` of all that they do. */
  readonly operations: readonly string[];
  /** Whether `call` would be tried now. Throws `command.parameters`, `driver.bounds`, `driver.rate`. */
  check(call: DriverCall): void;
  /** After `check`. Rejects with `driver.refused`, and with `driver.unconfirmed` where nobody knows what became of it, also when `signal` aborts. */
  call(call: DriverCall, signal: AbortSignal): Promise<JsonObject>;
}

/** Replaces the gateway's software or firmware, with a way back. */
export interface Updater {
  /** Whether this gateway can replace that at all. */
  support(kind: UpdateKind): Maybe<true>;
  /** Throws `command.parameters`, `command.consent` for what it would not install. */
  check(kind: UpdateKind, parameters: Readonly<Record<string, unknown>>): void;
  /** Looks at it as `install` would first, and changes nothing. Rejects with a TenzroError. */
  inspect(kind: UpdateKind, parameters: Readonly<Record<string, unknown>>, signal: AbortSignal): Promise<JsonObject>;
  /**
   * Rejects with a TenzroError, and then what ran before goes on. Resolves only where nothing was to be done: else a restart ends it, and `ended` tells in the
   * run after.
   */
  install(kind: UpdateKind, command: UpdateCommand, signal: AbortSignal): Promise<JsonObject>;
  /** The result when what the command installed was committed; rejects with `update.returned` when the system before came back. Undefined: it installed nothing, or the gateway stops first. */
  ended(kind: UpdateKind, command: UpdateCommand): Promise<JsonObject | undefined>;
}

export interface UpdateCommand {
  readonly id: string;
  readonly parameters: Readonly<Record<string, unknown>>;
}

/** firmware: the whole system, as an image · software: the application's folder. */
export type UpdateKind = 'software' | 'firmware';

/** One of two places that a system starts from. */
export interface Slot {
  /** `A` or `B`. */
  readonly name: string;
  readonly version: Maybe<string>;
  /** good: committed · trial: starts, and has not proved itself · bad: its tries are used up, or it was given up · empty: nothing whole is in it. */
  readonly state: 'good' | 'trial' | 'bad' | 'empty';
  /** Starts that it has left before the other slot's turn; absent where the boot loader keeps that to itself. */
  readonly triesLeft?: number;
}

export interface SlotsStatus {
  /** What bundles must be made for. */
  readonly compatible: string;
  readonly booted: Slot;
  readonly other: Slot;
  /** Name of the slot that the next start tries first. */
  readonly next: string;
}

/** Where a bundle is: a file of this machine (absolute path), or an `http://127.0.0.1:PORT/…` that answers ranges and is there until `install` or `inspect` settled. */
export type BundleSource = { readonly kind: 'file'; readonly path: string } | { readonly kind: 'loopback'; readonly url: string };

/** What a bundle says of itself; its signature is good. */
export interface BundleFacts {
  readonly compatible: string;
  readonly version: string;
}

/**
 * A system with two slots and a way back. Every promise rejects with an `update.*` error, also when `signal` aborts; `update.signature`, `update.compatible` and
 * `update.bundle` say what is wrong with a bundle.
 */
export interface Slots {
  /** What they hold. */
  readonly holds: UpdateKind;
  /** What has to start again for the other slot to run. */
  readonly restarts: 'machine' | 'gateway';
  /** Rejects with `update.busy` where the other slot is being written, whoever began that. */
  status(signal: AbortSignal): Promise<SlotsStatus>;
  /** Checks the signature. Changes nothing. */
  inspect(source: BundleSource, signal: AbortSignal): Promise<BundleFacts>;
  /**
   * Writes the other slot. Resolves when it is whole and on trial from the next start on; when it rejects, or the power fails, the booted slot starts next. The
   * booted slot is never touched. `report`: percent of all work, 0 to 100.
   */
  install(source: BundleSource, report: (percent: number) => void, signal: AbortSignal): Promise<void>;
  /** The booted slot has proved itself. Changes nothing where that is said already. */
  commit(signal: AbortSignal): Promise<void>;
  /** The other slot starts next. Rejects with `update.no_way_back` where the other one does not hold a good system. */
  revert(signal: AbortSignal): Promise<void>;
  /** The booted slot starts next, and the other one never by itself. */
  abandon(signal: AbortSignal): Promise<void>;
  /** Begins the restart, and resolves when it is under way. */
  restart(signal: AbortSignal): Promise<void>;
}
