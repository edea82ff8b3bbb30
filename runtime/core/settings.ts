/**
 * The effective configuration, as every room reads it: plain data, the same keys as the YAML file (docs/reference/configuration.md).
 * `runtime/config` produces it; defaults make an empty file valid.
 */
export interface Settings {
  readonly node: {
    /** Gateway id: [A-Za-z0-9_-]+ (brokers of fleets mistreat spaces and dots). Default: the host name, cleaned. */
    readonly name: string;
  };
  /** Absolute path of the data directory. */
  readonly dataDir: string;
  readonly mqtt: MqttSettings;
  readonly ingest: IngestSettings;
  readonly confidential: ConfidentialSettings;
  readonly system: { readonly enabled: boolean; readonly intervalMs: number };
  readonly infer: InferSettings;
  readonly ledger: LedgerSettings;
  readonly attest: AttestSettings;
  readonly identity: IdentitySettings;
  readonly verifier: VerifierSettings;
  readonly uplinks: readonly UplinkSettings[];
  /** The site's own policy, over every fleet's, the owner's too: what it withholds stays. */
  readonly forward: readonly ForwardRule[];
  readonly fleet: FleetSettings;
  readonly claim: ClaimSettings;
  readonly portal: PortalSettings;
  readonly update: UpdateSettings;
  readonly actuators: readonly ActuatorSettings[];
  readonly log: { readonly level: 'debug' | 'info' | 'warn' | 'error' };
}

export interface MqttSettings {
  /** Port of the default loopback listener; 0 picks a free one. */
  readonly port: number;
  /** Further listeners; beyond loopback each needs users. */
  readonly listeners: readonly ListenerSettings[];
  readonly users: readonly UserSettings[];
}

export interface ListenerSettings {
  readonly host: string;
  readonly port: number;
  /** Refused by `config check` for a host beyond loopback. */
  readonly anonymous: boolean;
  readonly tls?: {
    readonly certFile: string;
    readonly keyFile: string;
    readonly clientCaFile?: string;
    /** Default TLSv1.3; TLSv1.2 for microcontrollers that cannot do better: without post-quantum key exchange. */
    readonly minVersion?: 'TLSv1.2' | 'TLSv1.3';
  };
}

export interface UserSettings {
  readonly name: string;
  /** `scrypt$<N>$<r>$<p>$<salt base64>$<hash base64>`: made by `tenzro config hash-password`. */
  readonly passwordHash: string;
  /** Topic filters; `%c` stands for the client id, `%u` for the user. */
  readonly publish: readonly string[];
  readonly subscribe: readonly string[];
}

export interface IngestSettings {
  /** `auto`: a child that just starts publishing is registered with defaults. `explicit`: it is rejected until registered. */
  readonly registration: 'auto' | 'explicit';
  readonly mappings: readonly MappingRule[];
  readonly record: readonly RecordRule[];
}

/** Maps a foreign device's topic to a reading. First match wins. */
export interface MappingRule {
  readonly name: string;
  /** MQTT topic filter with `+` and `#`. */
  readonly topic: string;
  /** Source entity; `{1}`, `{2}` … stand for the levels that `+` matched. */
  readonly source: string;
  readonly values: readonly {
    /** Dotted path into the JSON payload, `[n]` for array elements; absent: the payload is a bare number. */
    readonly path?: string;
    readonly channel: string;
    readonly unit: string;
  }[];
}

/** What is recorded for which topic. First match wins; without a match: every message. */
export interface RecordRule {
  readonly topic: string;
  readonly mode: 'every' | 'onChange' | 'summary' | 'never';
  /** onChange: smallest absolute change of any channel that counts. Default 0: any change. */
  readonly deadband: number;
  /** summary: length of the window. */
  readonly windowMs: number;
  /** Readings, events and alarms are recorded sealed to `confidential.recipients`. */
  readonly confidential?: boolean;
}

/** Who can read what is recorded as confidential. */
export interface ConfidentialSettings {
  readonly recipients: readonly {
    readonly name: string;
    /** Absolute path of the PEM file that `tenzro confidential keygen` wrote. */
    readonly publicKeyFile: string;
  }[];
}

export interface InferSettings {
  readonly enabled: boolean;
  /** Absolute path of the folder that holds the model packages. */
  readonly modelsDir: string;
  /** Package names; empty: all that are there. */
  readonly models: readonly string[];
  /** Absolute path of an `onnxruntime-node` of the owner's own build, with accelerators that ours lacks; '': ours. */
  readonly runtimeDir: string;
}

export interface LedgerSettings {
  readonly batchDelayMs: number;
  readonly retention: {
    /** Quota of the chain's file; older entries are pruned (their hashes stay). */
    readonly maxBytes: number;
    /** 0: no limit by age. */
    readonly maxAgeDays: number;
  };
}

export interface AttestSettings {
  readonly intervalMs: number;
  readonly idleIntervalMs: number;
  readonly anchorIntervalMs: number;
  readonly tpm: {
    /** `auto`: /dev/tpmrm0, else an own swtpm where it is installed (emulated), else none. */
    readonly mode: 'auto' | 'device' | 'socket' | 'emulated' | 'none';
    /** device: path; socket: `host:port` or the path of a unix socket. */
    readonly path: string;
    /** PEM or DER: the EK's certificate, then its issuers'. Empty: what the TPM holds. */
    readonly ekCertificateFile: string;
  };
}

export interface IdentitySettings {
  /** PEM file of the P-256 key whose holder approves the boot states in which the sealed keys open; empty: each approved state approves the next. */
  readonly authorityFile: string;
  /** SHA-256 PCRs that the keys are sealed to. */
  readonly pcrs: readonly number[];
}

/** Who appraises this gateway and grants its lease. */
export interface VerifierSettings {
  /** `https://host:port`; empty: nobody. */
  readonly url: string;
  /** PEM certificates that the verifier's TLS certificate must chain to; empty: the system's authorities. */
  readonly caFile: string;
  /** SHA-256 of the verifier's ML-DSA-65 key, hex: `tenzro verifier init` prints it. */
  readonly key: string;
}

/** Who commands this gateway. */
export interface FleetSettings {
  readonly operators: readonly {
    readonly name: string;
    /** Absolute path of the PEM file that `tenzro fleet keygen` wrote. */
    readonly publicKeyFile: string;
    /** Types of commands; `*`: all but those that have to be named (core/command.ts). */
    readonly may: readonly string[];
  }[];
  /** The owner's consent to `shell`. */
  readonly shell: boolean;
  /** The owner's consent to `driver_call`: `<driver>.<operation>`. */
  readonly driverCalls: readonly string[];
  /** When commands that disturb may begin; empty: always. */
  readonly maintenance: readonly MaintenanceWindow[];
}

/** UTC. */
export interface MaintenanceWindow {
  /** On which it begins; empty: every day. */
  readonly days: readonly Weekday[];
  /** `hh:mm`; an end that is not after the beginning is one of the next day. */
  readonly from: string;
  readonly to: string;
}

/** From Sunday on, as `Date` counts them. */
export const WEEKDAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const;
export type Weekday = (typeof WEEKDAYS)[number];

/** One operation of a device that acts, over MQTT. */
export interface ActuatorSettings {
  readonly driver: string;
  readonly operation: string;
  readonly min: number;
  readonly max: number;
  readonly unit: string;
  /** Shortest time between two calls. */
  readonly minIntervalMs: number;
  /** For the device's confirmation. */
  readonly timeoutMs: number;
  /** Absent: the device `te/device/<driver>//` speaks thin-edge's commands and confirms. Else where the value goes, and nobody confirms. */
  readonly topic?: string;
  /** With `topic`: `{"<key>": value}`; absent: the bare number. */
  readonly key?: string;
}

/** How an owner can reach this gateway on the local network while it has none, and for orders later. */
export interface ClaimSettings {
  readonly enabled: boolean;
  readonly host: string;
  /** 0 picks a free one: gateways are found by their codes. */
  readonly port: number;
}

/** The access point of a gateway without owner and network. */
export interface PortalSettings {
  /** auto: on our image only. */
  readonly mode: 'auto' | 'on' | 'off';
  /** Without a network, before it opens. */
  readonly waitSeconds: number;
}

/** What may replace the system or the application, and when it has proved itself. */
export interface UpdateSettings {
  /** The owner's consent to a `firmware_update` or `software_update` with `allow_downgrade`. */
  readonly allowDowngrade: boolean;
  /** Newer bundles on a stick, or on the boot partition, are installed without anybody's word. */
  readonly fromMedia: boolean;
  /** A system on trial need not reach its fleet. */
  readonly commitOffline: boolean;
  /** Within that a system on trial must have proved itself. */
  readonly trialSeconds: number;
}

/** A fleet that gets the datachain, and whose broker commands come over. */
export interface UplinkSettings {
  /** [A-Za-z0-9_-]+; not `OWNER_UPSTREAM` (core/fleet.ts). */
  readonly name: string;
  /** The fleet's broker, `mqtts://host:port`. */
  readonly url: string;
  /** PEM certificates that the broker's must chain to; empty: the system's authorities. */
  readonly caFile: string;
  /** Empty: none. */
  readonly user: string;
  /** File whose first line is the password; empty: none. */
  readonly passwordFile: string;
  /** Shows a certificate around the identity key where the broker asks for one. */
  readonly certificate: boolean;
  /** SHA-256 of the controller's ML-DSA-65 key, hex: `tenzro fleet init` prints it. */
  readonly receiptKey: string;
  /** After compression; 0: no limit. */
  readonly maxBytesPerSecond: number;
  /** First match wins; without a match, and without a topic: all. */
  readonly forward: readonly ForwardRule[];
}

/** Which entries leave the site. `never`: only their hash does. */
export interface ForwardRule {
  readonly topic: string;
  readonly mode: 'all' | 'never';
}
