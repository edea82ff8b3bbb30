/**
 * The types of the data path. An entry is one leaf of the datachain: a deterministic CBOR map
 * `{1 version, 2 kind, 3 source, 4 wall µs, 5 boot epoch, 6 monotonic µs, 7 body}`; docs/reference/entry-format.md is its reference.
 */

/** Entry kinds; the numbers are on disk and in proofs for ever. */
export const KIND = {
  boot: 1,
  shutdown: 2,
  reading: 3,
  event: 4,
  alarm: 5,
  summary: 6,
  inference: 7,
  command: 8,
  result: 9,
  gap: 10,
  clockStep: 11,
  config: 12,
  model: 13,
  registration: 14,
  enrolment: 15,
  epoch: 16,
  measurement: 17,
  lease: 18,
  keyEpoch: 19,
  claim: 20,
  update: 21,
} as const;
export type KindName = keyof typeof KIND;
export type KindNumber = (typeof KIND)[KindName];

const KIND_NAMES = new Map<number, KindName>(Object.entries(KIND).map(([name, number]) => [number, name as KindName]));
export const kindName = (kind: number): KindName | undefined => KIND_NAMES.get(kind);

/** Absence is data: never null, NaN or silence. */
export type Maybe<T> = { readonly kind: 'value'; readonly value: T } | { readonly kind: 'none'; readonly reason: string };

/** What deterministic CBOR of ours may hold. Maps have integer keys. */
export type Cbor = number | bigint | string | boolean | null | Uint8Array | readonly Cbor[] | ReadonlyMap<number, Cbor>;

export interface Entry {
  readonly kind: KindNumber;
  /** Source entity in thin-edge's grammar, e.g. `device/motor//`. */
  readonly source: string;
  readonly wallMicros: number;
  readonly bootEpoch: number;
  readonly monoMicros: number;
  readonly body: Cbor;
}

/** An entry not yet stamped with epoch: the writer adds the boot epoch. */
export type Draft = Omit<Entry, 'bootEpoch'>;

export interface StoredEntry {
  /** Position in the log, from 0. */
  readonly index: number;
  /** The exact leaf bytes. */
  readonly bytes: Uint8Array;
}

/** One scalar of a reading. Units are UCUM-like plain text; '' where the sensor states none. */
export interface ChannelValue {
  /** Dotted where thin-edge groups values: `coordinate.x`. */
  readonly channel: string;
  readonly value: number;
  readonly unit: string;
}

/** Keys of a reading's body (kind `reading`). */
export const READING_BODY = {
  topic: 1,
  /** What the sensor sent, byte for byte. */
  payload: 2,
  /** What we made of it: array of [channel, value, unit]. */
  values: 3,
  /** Bit set of READING_FLAG. */
  flags: 4,
  /** The sensor's own time in wall µs, only where it stated one. */
  sensorMicros: 5,
  /** Name of the mapping rule that decoded it; absent for thin-edge's own format. */
  mapping: 6,
  /** MQTT packet identifier at QoS 1 and 2: lets a redelivery be recognised after a restart. */
  packetId: 7,
} as const;

export const READING_FLAG = { duplicate: 1, retained: 2, simulated: 4, alarmClear: 8 } as const;

/** Keys of an event's body (kind `event`); 1, 2, 4, 5 and 7 mean the same in readings, events, alarms and registrations. */
export const EVENT_BODY = { topic: 1, payload: 2, /** Absent where the sender gave none. */ text: 3, flags: 4, sensorMicros: 5, packetId: 7 } as const;

/** Keys of an alarm's body (kind `alarm`). A cleared alarm has READING_FLAG.alarmClear and neither text nor severity. */
export const ALARM_BODY = { topic: 1, payload: 2, text: 3, flags: 4, sensorMicros: 5, packetId: 7, /** One of ALARM_SEVERITIES. */ severity: 8 } as const;
export const ALARM_SEVERITIES = ['critical', 'major', 'minor', 'warning'] as const;

/** Keys of a registration's body (kind `registration`): who an entity says it is, and in which units it measures. */
export const REGISTRATION_BODY = {
  topic: 1,
  /** Absent where the gateway registered the entity by itself. */
  payload: 2,
  /** One of REGISTRATION_HOW. */
  how: 3,
  flags: 4,
  packetId: 7,
  /** `device`, `child-device` or `service`. */
  type: 8,
  name: 9,
  /** Units of one measurement type: array of [channel, unit]. */
  units: 10,
} as const;
/** message: said by itself · firstSeen: it just began to publish · metadata: units of a measurement · removed: registration or metadata withdrawn. */
export const REGISTRATION_HOW = ['message', 'firstSeen', 'metadata', 'removed'] as const;

/** Keys of a summary's body (kind `summary`): what stands for the readings of one window on one topic. */
export const SUMMARY_BODY = {
  topic: 1,
  /** Readings in the window. */
  count: 2,
  /** Array of [channel, unit, count, min, max, mean, last]. */
  channels: 3,
  /** READING_FLAGs of any of the readings. */
  flags: 4,
  /** Arrival of the first and of the last reading, wall µs. */
  fromMicros: 5,
  toMicros: 6,
  /** RFC 6962 root over the readings: a leaf is the deterministic CBOR of the body that `every` would have recorded. */
  root: 7,
} as const;

/** Keys of an inference's body (kind `inference`). */
export const INFERENCE_BODY = {
  model: 1,
  /** SHA-256 of the ONNX file. */
  digest: 2,
  /** The execution provider that really ran it, e.g. `cpu`. */
  provider: 3,
  score: 4,
  /** 'normal' | 'anomaly' as the manifest's threshold says. */
  verdict: 5,
  threshold: 6,
  /** Indices of the entries that the window was made of: the auditor can run the model again. */
  inputs: 7,
  durationMicros: 8,
} as const;

/** Keys of the body of a `command` entry: somebody whose key counts here wants something, and it was not done yet. */
export const COMMAND_BODY = {
  type: 1,
  id: 2,
  operator: 3,
  /** JWK thumbprint of the key, base64url. */
  kid: 4,
  /** The signed message, byte for byte. */
  message: 5,
  /** When it ends at the latest, µs since 1970 by the newest time that the gateway could prove. */
  expiresMicros: 6,
} as const;

/** Keys of the body of a `result` entry: a state that a command has reached, written before what follows from it; or messages that were refused. */
export const RESULT_BODY = {
  type: 1,
  id: 2,
  /** One of COMMAND_STATES. */
  state: 3,
  /** failed, refused: an error code and what there is to say. */
  code: 4,
  reason: 5,
  /** successful: JSON text. */
  result: 6,
  /** Index of the command's entry. */
  command: 7,
  /** refused: how many messages since the last such entry, this one included. */
  count: 8,
  /** refused: SHA-256 of the message. */
  digest: 9,
  /** Whose command it is, as its entry says: absent for what was refused. */
  operator: 10,
  kid: 11,
} as const;

/** Keys of a gap's body: loss itself is recorded. */
export const GAP_BODY = { reason: 1, count: 2, fromMicros: 3, toMicros: 4, detail: 5 } as const;

/** Keys of the body of a `boot` entry. `lastStop` is 'first', 'clean' or 'unclean'; `previousSize` the number of entries found. */
export const BOOT_BODY = { version: 1, lastStop: 2, previousSize: 3 } as const;

/** Keys of the body of a `shutdown` entry: the last of an orderly run. */
export const SHUTDOWN_BODY = { reason: 1 } as const;

/** Keys of the body of a `config` entry: the settings in force, written at each start; or how a change that the fleet asked for goes. */
export const CONFIG_BODY = {
  /** SHA-256 of the settings in force. */
  digest: 1,
  /** Name of the twin; absent for a change by command. */
  twin: 2,
  /** `desired`: somebody whose key counts wants it; else the state that it came to, as twins report it. */
  change: 3,
  version: 4,
  reason: 5,
  /** Of who signed it: name, JWK thumbprint of the key, and the message, byte for byte. */
  operator: 6,
  kid: 7,
  message: 8,
  /** Id of the `config_update`. */
  command: 9,
} as const;

/** Keys of the body of a `model` entry: what judges from here on. `state` is 'running', or why the model does not run. */
export const MODEL_BODY = { name: 1, digest: 2, provider: 3, state: 4 } as const;

/** Keys of the body of a `clockStep` entry: the wall time in µs that was expected and the one that was found, and 'running' or 'start'. */
export const CLOCK_STEP_BODY = { expectedMicros: 1, foundMicros: 2, when: 3 } as const;

/**
 * Keys of the body of an `epoch` entry: the first of a chain that replaces another one, damaged or ended by intention. With `successor` it is the last word
 * of the chain that ends: SHA-256 of signing key ‖ exchange key of the identity that goes on; `successorTls` is SHA-256 of the SubjectPublicKeyInfo of that
 * signing key, by which a fleet's broker lets it in.
 */
export const EPOCH_BODY = { code: 1, detail: 2, chainId: 3, lastBlockHash: 4, quarantine: 5, successor: 6, successorTls: 7 } as const;

/** Keys of the body of an `enrolment` entry: the enroller's COSE_Sign1 (ledger/enrolment.ts) that binds device, EK, AK and identity keys. */
export const ENROLMENT_BODY = { statement: 1 } as const;

/** Keys of the body of a `claim` entry: to whom the gateway belongs from here on, or that somebody tried to get it (provisioning/claim). */
export const CLAIM_BODY = {
  /** One of CLAIM_STATES. */
  state: 1,
  /** 16 bytes; absent where no claim was under way. */
  claimId: 2,
  /** owned, rotated: SHA-256 of each owner key, ML-DSA-65. */
  ownerKeys: 3,
  /** owned: the six words that both sides showed. */
  words: 4,
  /** owned: SHA-256 of the hand-over as its first owner key signed it. */
  handOver: 5,
  /** owned: SHA-256 of the fleet's certificate. */
  fleetCa: 6,
  /** failed: an error code and what there is to say. */
  code: 7,
  reason: 8,
  /** revoked: the list, byte for byte as an owner signed it; certified: SHA-256 of the certificates that are shown from now on (PEM). */
  message: 9,
  certificates: 10,
} as const;
export const CLAIM_STATES = ['owned', 'rotated', 'released', 'failed', 'certified', 'revoked'] as const;
export type ClaimEntryState = (typeof CLAIM_STATES)[number];

/** Keys of the body of an `update` entry: what became of another system or application (docs/operate/update.md). */
export const UPDATE_BODY = {
  /** One of UPDATE_CHANGES. */
  change: 1,
  /** `firmware` or `software`. */
  what: 2,
  /** Versions; absent where unknown. */
  from: 3,
  to: 4,
  /** refused, returned: an error code and what there is to say. */
  code: 5,
  reason: 6,
  /** Id of the command; absent for what was done at the machine. */
  command: 7,
  /** refused: where it came from. */
  source: 8,
} as const;
/** committed: it proved itself · returned: it did not, and the one before runs again · refused: it was not installed. */
export const UPDATE_CHANGES = ['committed', 'returned', 'refused'] as const;
export type UpdateChange = (typeof UPDATE_CHANGES)[number];

/**
 * Keys of the body of a `lease` entry: the verifier's COSE_Sign1 (ledger/lease.ts), which blocks name by its SHA-256; or, without one, that there is no
 * lease any more: `state` is 'none', 'lapsed' or 'refused'.
 */
export const LEASE_BODY = { statement: 1, state: 2, reason: 3 } as const;

/** Keys of the body of a `measurement` entry: what booted, which files ran, which software this is. */
export const MEASUREMENT_BODY = {
  /** One of MEASUREMENTS. */
  what: 1,
  /** tcg and ima: the log, or this chunk of it, byte for byte. */
  log: 2,
  /** SHA-256 of the whole log so far (tcg, ima); of the runtime's files (software). */
  digest: 3,
  /** ima: where in the log this chunk begins. */
  offset: 4,
  /** software: array of [component, SHA-256]. */
  components: 5,
  /** tcg and ima: why there is no log; then neither log nor digest. */
  reason: 6,
} as const;
/** tcg: firmware and boot loader's event log · ima: the kernel's measurement list · software: runtime files, models, configuration. */
export const MEASUREMENTS = ['tcg', 'ima', 'software'] as const;
export type Measurement = (typeof MEASUREMENTS)[number];

/**
 * Keys of the body of a `keyEpoch` entry: from here on confidential entries are sealed under a new content key, which each recipient can open
 * (ledger/confidential.ts).
 */
export const KEY_EPOCH_BODY = {
  /** 16 bytes that the sealed entries name: the entry's monotonic time in µs, big-endian, then 8 random bytes. */
  context: 1,
  /** HPKE's numbers of KEM, KDF and AEAD (RFC 9180 §7). */
  suite: 2,
  /** Array of [name, SHA-256 of the public key, HPKE's enc, sealed content key]. */
  recipients: 3,
} as const;

/** Keys of the body of a confidential reading, event, alarm or summary: 1, 4 and 7 are in clear and mean what they mean in its kind, the rest is sealed. */
export const SEALED_BODY = {
  topic: 1,
  flags: 4,
  /** Absent in summaries, where 7 is sealed. */
  packetId: 7,
  context: 20,
  /** Number of the entry under its content key, from 0: also the nonce. */
  sequence: 21,
  /** AES-256-GCM over the CBOR of the other keys, tag included. */
  ciphertext: 22,
  /** With packetId: lets the gateway, and nobody else, recognise a redelivery after a restart. */
  tag: 23,
} as const;

/** One head of the log: `root` is the RFC 6962 root over the first `size` leaves. */
export interface TreeHead {
  readonly size: number;
  readonly root: Uint8Array;
}

/** What a chain holds, as `tenzro status` says it. */
export interface ChainStatus {
  /** Hex; null until the genesis block is sealed: scripts find every key. */
  readonly id: string | null;
  readonly entries: number;
  readonly blocks: number;
  /** Entries under a block. */
  readonly attestedEntries: number;
  /** ISO 8601; null while there is no block. */
  readonly lastBlockAt: string | null;
}

/** Where the way to a fleet stands, as `tenzro status` says it. */
export interface UpstreamStatus {
  readonly name: string;
  readonly broker: string;
  readonly connected: boolean;
  /** Key exchange of the last connection; null before it. */
  readonly keyExchange: string | null;
  /** Attested entries that are not receipted. */
  readonly lag: number;
  /** The newest receipt: block, entries under it, and the controller's time, ISO 8601. */
  readonly receipt: { readonly sequence: number; readonly treeSize: number; readonly at: string } | null;
  /** Why nothing moves; null where nothing is wrong. */
  readonly fault: string | null;
}
