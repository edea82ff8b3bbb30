/**
 * The configuration file's schema: type, range, default and meaning of every key stand here and nowhere else (docs/reference/configuration.md is
 * held against it by a test). The only file that imports `valibot`. Relations between keys are in relations.ts.
 */
import * as v from 'valibot';
import { COMMAND_TYPES, MAY_ALL } from '#runtime/core/command.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { WEEKDAYS, type Settings } from '#runtime/core/settings.ts';
import type { Path } from './document.ts';

/** The schema of the newest file format that this version reads. */
export const CONFIG_VERSION = 1;

/** Defaults that depend on the machine. Paths are absolute. */
export interface MachineDefaults {
  readonly nodeName: string;
  readonly dataDir: string;
  readonly modelsDir: string;
  readonly systemIntervalMs: number;
}

const setting = <S extends v.GenericSchema, const D extends v.InferInput<S>>(schema: S, fallback: D, means: string) =>
  v.optional(v.pipe(schema, v.description(means)), fallback);
const required = <S extends v.GenericSchema>(schema: S, means: string) => v.pipe(schema, v.description(means));
const absent = <S extends v.GenericSchema>(schema: S, means: string) => v.exactOptional(v.pipe(schema, v.description(means)));

const integer = (min: number, max: number) => v.pipe(v.number(), v.integer(), v.minValue(min), v.maxValue(max));
const text = (maxLength: number) => v.pipe(v.string(), v.minLength(1), v.maxLength(maxLength));
const name = v.pipe(text(64), v.regex(/^[A-Za-z0-9_-]+$/, 'use letters, digits, _ and - only'));
const filter = text(LIMITS.topicBytesMax);
const timeOfDay = v.pipe(v.string(), v.regex(/^([01]\d|2[0-3]):[0-5]\d$/, 'write hh:mm'));
const DAY_MS = 86_400_000;

const listener = v.object({
  host: setting(text(253), '0.0.0.0', 'Address or host name to listen on.'),
  port: required(integer(0, 65_535), 'TCP port; 0 picks a free one.'),
  anonymous: setting(v.boolean(), false, 'Lets clients in without a user. Loopback only.'),
  tls: absent(v.object({
    certFile: required(text(4096), 'PEM certificate chain.'),
    keyFile: required(text(4096), 'PEM private key.'),
    clientCaFile: absent(text(4096), 'PEM authorities; when set, clients must present a certificate of theirs.'),
    minVersion: setting(v.picklist(['TLSv1.2', 'TLSv1.3']), 'TLSv1.3', 'TLSv1.2 also lets in microcontrollers that speak nothing newer: it has no post-quantum key exchange, and `tenzro status` says so.'),
  }), 'TLS for this listener.'),
});

const user = v.object({
  name: required(text(256), 'MQTT user name. `anonymous` states what clients without a user may do; nobody logs in as it.'),
  passwordHash: setting(v.pipe(v.string(), v.regex(/^$|^scrypt\$\d+\$\d+\$\d+\$[A-Za-z0-9+/]+={0,2}\$[A-Za-z0-9+/]+={0,2}$/, 'make it with: tenzro config hash-password')), '', 'Made by `tenzro config hash-password`; never the password itself. Only `anonymous` goes without.'),
  publish: setting(v.array(filter), [], 'Topic filters the user may publish to; `%c` stands for the client id, `%u` for the user.'),
  subscribe: setting(v.array(filter), [], 'Topic filters the user may subscribe to.'),
});

const mapping = v.object({
  name: required(name, 'Name of the rule; it stands in the readings that it decoded.'),
  topic: required(filter, 'Topic filter with `+` and `#`.'),
  source: required(text(256), 'Entity of the reading, four segments; `{1}`, `{2}` … stand for what each `+` matched.'),
  values: required(v.pipe(v.array(v.object({
    path: absent(text(256), 'Dotted path into the JSON payload, `[n]` for array elements. Absent: the payload is a bare number.'),
    channel: required(text(LIMITS.channelNameBytesMax), 'Channel name of the value.'),
    unit: setting(v.pipe(v.string(), v.maxLength(32)), '', 'Unit of the value, as text.'),
  })), v.minLength(1), v.maxLength(LIMITS.channelsPerReadingMax)), 'What to take out of a message.'),
});

const recording = v.object({
  topic: required(filter, 'Topic filter that the rule is for. First match wins; without one every message is recorded.'),
  mode: required(v.picklist(['every', 'onChange', 'summary', 'never']), 'every message, only changes, one summary per window, or nothing.'),
  deadband: setting(v.pipe(v.number(), v.finite(), v.minValue(0)), 0, 'onChange: smallest absolute change of any channel that counts.'),
  windowMs: setting(integer(0, DAY_MS), 0, 'summary: length of the window, 1000 or more.'),
  confidential: setting(v.boolean(), false, 'Records readings, events and alarms sealed to `confidential.recipients`; models do not see them.'),
});

const section = <E extends v.ObjectEntries>(entries: E) => v.optional(v.object(entries), {} as v.InferInput<v.ObjectSchema<E, undefined>>);

const forwardRules = v.array(v.object({
  topic: required(filter, 'MQTT topic filter; the first rule that matches counts.'),
  mode: required(v.picklist(['all', 'never']), 'all: entries of the topic leave the site. never: only their hashes do.'),
}));

const uplink = v.object({
  name: required(name, 'Name of the fleet; `owner` is the one that claimed the gateway.'),
  url: required(v.pipe(v.string(), v.regex(/^mqtts?:\/\//, 'begin with mqtts://')), "The fleet's broker, `mqtts://host:port`; `mqtt://` on loopback only."),
  caFile: setting(v.pipe(v.string(), v.maxLength(4096)), '', "PEM certificates that the broker's TLS certificate must chain to. Empty: the system's authorities."),
  user: setting(v.pipe(v.string(), v.maxLength(256)), '', 'User name for the broker. Empty: none.'),
  passwordFile: setting(v.pipe(v.string(), v.maxLength(4096)), '', 'File, readable by its owner only, whose first line is the password. Empty: none.'),
  certificate: setting(v.boolean(), false, 'Shows a certificate around the ML-DSA-65 identity key to a broker that asks for one; the broker has to know ML-DSA (OpenSSL 3.5).'),
  receiptKey: required(v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, 'use the 64 hexadecimal digits that tenzro fleet init prints')), "SHA-256 of the fleet controller's ML-DSA-65 key, hexadecimal: whose receipts count."),
  maxBytesPerSecond: setting(integer(0, Number.MAX_SAFE_INTEGER), 0, 'Bytes that are sent per second at most, compressed; 0: no limit.'),
  forward: setting(forwardRules, [], 'Which entries go to this fleet, of those that leave the site at all.'),
});

const fleet = section({
  operators: setting(v.pipe(v.array(v.object({
    name: required(name, 'Name of the operator; it stands in the chain.'),
    publicKeyFile: required(text(4096), 'PEM file of the ML-DSA-65 public key, made by `tenzro fleet keygen`.'),
    may: required(v.array(v.picklist([MAY_ALL, ...COMMAND_TYPES])), 'Types of commands; `*` stands for all but shell, driver_call and release, which have to be named.'),
  })), v.maxLength(LIMITS.operatorsMax)), [], 'Whose signed commands this gateway obeys. Nobody: it obeys none.'),
  shell: setting(v.boolean(), false, 'Consent to the command `shell`: whoever may give it does what the user of the gateway can do.'),
  driverCalls: setting(v.pipe(v.array(v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{1,64}$/, 'write driver.operation'))), v.maxLength(LIMITS.actuatorsMax)), [], 'Consent to `driver_call`: the operations that may be called, `driver.operation`, each one of `actuators`.'),
  maintenance: setting(v.pipe(v.array(v.object({
    days: setting(v.array(v.picklist(WEEKDAYS)), [], 'Days on which it begins, `mon` to `sun`. Empty: every day.'),
    from: required(timeOfDay, 'Beginning, UTC, `hh:mm`.'),
    to: required(timeOfDay, 'End, UTC, `hh:mm`; one that is not after the beginning is on the next day.'),
  })), v.maxLength(LIMITS.maintenanceWindowsMax)), [], 'Windows in which restarts, updates, model and configuration changes may begin, unless they are signed as urgent. None: at any time.'),
});

const claim = section({
  enabled: setting(v.boolean(), true, 'Lets an owner claim this gateway over the local network while a code of `tenzro claim show` waits, and reach it with orders later. The claim protocol authenticates.'),
  host: setting(text(253), '0.0.0.0', 'IPv4 address to listen on for that; a loopback address keeps it on this machine.'),
  port: setting(integer(0, 65_535), 0, 'TCP port for that; 0 picks a free one: gateways are found by mDNS.'),
});

const update = section({
  allowDowngrade: setting(v.boolean(), false, 'Consent to updates by command that go back to an older version (`allow_downgrade`).'),
  fromMedia: setting(v.boolean(), true, 'Installs a signed, newer bundle that lies on a plugged-in stick or on the boot partition.'),
  commitOffline: setting(v.boolean(), false, "Keeps a new system also where it does not reach the fleet's broker: for sites that are seldom online."),
  trialSeconds: setting(integer(60, 900), LIMITS.updateTrialMs / 1_000, 'How long a new system may take to prove itself before it is started again; after three tries the one before runs again.'),
});

/** The access point of a card without a network. */
const portal = section({
  mode: setting(v.picklist(['auto', 'on', 'off']), 'auto', 'Opens an access point with a page that takes a Wi-Fi network, while nobody owns this gateway and it has no network. `auto`: on our image only.'),
  waitSeconds: setting(integer(10, 3_600), 60, 'How long it waits for a cable or a known Wi-Fi network before that.'),
});

const actuators = setting(v.pipe(v.array(v.object({
  driver: required(name, 'Name of the device; with thin-edge topics its entity is `device/<driver>//`.'),
  operation: required(name, 'Name of what it does.'),
  min: required(v.pipe(v.number(), v.finite()), 'Smallest value that may be set.'),
  max: required(v.pipe(v.number(), v.finite()), 'Greatest value that may be set.'),
  unit: setting(v.pipe(v.string(), v.maxLength(32)), '', 'Unit of the value, as text.'),
  minIntervalMs: setting(integer(0, DAY_MS), 1_000, 'Shortest time between two calls.'),
  timeoutMs: setting(integer(100, LIMITS.actuatorTimeoutMsMax), 5_000, "Longest wait for the device's confirmation."),
  topic: absent(filter, 'Where the value is published. Absent: `te/device/<driver>///cmd/<operation>/<id>`, where the device confirms.'),
  key: absent(text(LIMITS.channelNameBytesMax), 'With `topic`: the payload is `{"<key>": value}`. Absent: the bare number.'),
})), v.maxLength(LIMITS.actuatorsMax)), [], 'What devices on the local broker can be told to do; `fleet.driverCalls` says what of it may be commanded.');

/** Builds the schema; its output is `Settings`, with every default filled in. */
export function settingsSchema(defaults: MachineDefaults) {
  return v.object({
    version: setting(v.literal(CONFIG_VERSION), CONFIG_VERSION, 'Version of the file format.'),
    node: section({ name: setting(name, defaults.nodeName, 'Gateway id: letters, digits, _ and -. Default: the host name.') }),
    dataDir: setting(text(4096), defaults.dataDir, 'Data directory. Default: /var/lib/tenzro-edge where it exists, else .tenzro beside the application.'),
    mqtt: section({
      port: setting(integer(0, 65_535), 1883, 'Port of the loopback listener, which needs no user; 0 picks a free one.'),
      listeners: setting(v.array(listener), [], 'Further listeners.'),
      users: setting(v.array(user), [], 'Who may log in.'),
    }),
    ingest: section({
      registration: setting(v.picklist(['auto', 'explicit']), 'auto', 'auto: a child that just starts publishing is registered; explicit: it is rejected until registered.'),
      mappings: setting(v.array(mapping), [], "Other devices' topics, mapped to readings. First match wins."),
      record: setting(v.array(recording), [], 'What is recorded for which topic.'),
    }),
    confidential: section({
      recipients: setting(v.pipe(v.array(v.object({
        name: required(name, 'Name of the recipient; it stands in the chain.'),
        publicKeyFile: required(text(4096), 'PEM file of its X-Wing public key, made by `tenzro confidential keygen`.'),
      })), v.maxLength(LIMITS.recipientsMax)), [], 'Who can read confidential entries. The gateway itself cannot.'),
    }),
    system: section({
      enabled: setting(v.boolean(), true, "Records the machine's own temperatures, load, memory, disk, network and power."),
      intervalMs: setting(integer(500, DAY_MS), defaults.systemIntervalMs, 'Time between two such readings. From a checkout; where the gateway is installed 60000, because each is flushed to a card and sealed soon.'),
    }),
    infer: section({
      enabled: setting(v.boolean(), true, 'Runs models on what comes in.'),
      modelsDir: setting(text(4096), defaults.modelsDir, 'Folder of the model packages. Default: models beside the application.'),
      models: setting(v.array(name), [], 'Package names; empty: all that are there.'),
      runtimeDir: setting(v.pipe(v.string(), v.maxLength(4096)), '', 'Folder of an onnxruntime-node that you built with CUDA (docs/operate/jetson.md): native code, trusted as the gateway is, so no fleet may set it. Empty: the one that comes with the application, CPU only.'),
    }),
    ledger: section({
      batchDelayMs: setting(integer(1, 1000), LIMITS.batchDelayMs, 'Longest wait of an acknowledged message for others to share its flush.'),
      retention: section({
        maxBytes: setting(integer(16 * 1024 * 1024, Number.MAX_SAFE_INTEGER), 4 * 1024 ** 3, "Quota of the chain's file in bytes; older entries are pruned, their hashes stay."),
        maxAgeDays: setting(integer(0, 36_500), 0, 'Age in days after which entries are pruned; 0: no limit by age.'),
      }),
    }),
    attest: section({
      intervalMs: setting(integer(1000, DAY_MS), LIMITS.blockIntervalMs, 'Time between two blocks while entries come in.'),
      idleIntervalMs: setting(integer(1000, DAY_MS), LIMITS.idleBlockIntervalMs, 'Time between two blocks while nothing comes in.'),
      anchorIntervalMs: setting(integer(1000, DAY_MS), LIMITS.anchorIntervalMs, 'Time between two increments of the TPM counter.'),
      tpm: section({
        mode: setting(v.picklist(['auto', 'device', 'socket', 'emulated', 'none']), 'auto', 'auto: /dev/tpmrm0, else an own swtpm where it is installed (emulated), else none.'),
        path: setting(v.pipe(v.string(), v.maxLength(4096)), '', 'device: path of the TPM, /dev/tpmrm0 when empty; socket: `host:port` or path of a unix socket.'),
        ekCertificateFile: setting(v.pipe(v.string(), v.maxLength(4096)), '', 'Certificate of the EK and those of its issuers, PEM or DER, for a TPM that holds none. Empty: what the TPM holds.'),
      }),
    }),
    identity: section({
      authorityFile: setting(v.pipe(v.string(), v.maxLength(4096)), '', 'PEM file of the P-256 public key whose holder approves the boot states in which the sealed keys open. Empty: each approved state approves the next.'),
      pcrs: setting(v.pipe(v.array(integer(0, 23)), v.maxLength(8)), [0, 2, 4, 7], 'SHA-256 PCRs that the keys are sealed to.'),
    }),
    verifier: section({
      url: setting(v.pipe(v.string(), v.regex(/^$|^https:\/\//, 'begin with https://')), '', 'Who appraises this gateway and grants its lease, `https://host:port`. Empty: nobody.'),
      caFile: setting(v.pipe(v.string(), v.maxLength(4096)), '', "PEM certificates that the verifier's TLS certificate must chain to. Empty: the system's authorities."),
      key: setting(v.pipe(v.string(), v.regex(/^$|^[0-9a-f]{64}$/, 'use the 64 hexadecimal digits that tenzro verifier init prints')), '', "SHA-256 of the verifier's ML-DSA-65 key, hexadecimal."),
    }),
    fleet,
    actuators,
    claim,
    portal,
    update,
    uplinks: setting(v.pipe(v.array(uplink), v.maxLength(LIMITS.uplinksMax)), [], 'Fleets that get the datachain and command this gateway; each has a broker of its own.'),
    forward: setting(forwardRules, [], 'Which entries leave the site at all, towards any fleet, the owner\'s too; those without a rule, or without a topic, do. No rule of an uplink lets go what stays here.'),
    log: section({ level: setting(v.picklist(['debug', 'info', 'warn', 'error']), 'info', 'Least severe level that is logged.') }),
  });
}

export type SettingsSchema = ReturnType<typeof settingsSchema>;

export interface SchemaIssue {
  readonly path: Path;
  readonly message: string;
}

/** Checks types and ranges. Keys that the schema does not know are dropped here: `unknownKeys` names them. */
export function checkAgainst(schema: SettingsSchema, value: unknown): { readonly settings: Settings | undefined; readonly issues: readonly SchemaIssue[] } {
  const result = v.safeParse(schema, value);
  if (!result.success) {
    return { settings: undefined, issues: result.issues.map((issue) => ({ path: (issue.path ?? []).map((item) => item.key as string | number), message: wordsOf(issue) })) };
  }
  const { version: _version, ...settings } = result.output;
  return { settings, issues: [] };
}

function wordsOf(issue: v.BaseIssue<unknown>): string {
  if (issue.type === 'min_value' || issue.type === 'max_value') return `${issue.received} is out of range: ${issue.expected ?? ''}`.replace('>=', 'at least ').replace('<=', 'at most ');
  if (issue.type === 'regex') return issue.message;
  if (issue.received === 'undefined') return 'is missing';
  const isSecret = issue.path?.at(-1)?.key === 'passwordHash';
  return `expected ${words(issue.expected ?? issue.type)}, found ${isSecret ? 'something else' : issue.received}`;
}
const words = (expected: string): string => expected.replaceAll('"', '').replace(/^\((.*)\)$/, '$1').replaceAll(' | ', ', ').replace('Array', 'a list').replace('Object', 'a section').replace(/^!NaN$/, 'a number');
