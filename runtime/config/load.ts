/** Finds, reads and judges the configuration: `Settings` for the rooms, and for people where each value comes from. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { TenzroError, messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import type { Settings } from '#runtime/core/settings.ts';
import { parseDocumentText, type ConfigDocument, type Path, type Place } from './document.ts';
import { listKeys, unknownKeys } from './keys.ts';
import { nearest } from './nearest.ts';
import { checkRelations } from './relations.ts';
import { CONFIG_VERSION, checkAgainst, settingsSchema, type MachineDefaults, type SettingsSchema } from './schema.ts';

const SYSTEM_DATA_DIR = '/var/lib/tenzro-edge';
const SYSTEM_CONFIG_FILE = '/etc/tenzro-edge/tenzro.yaml';
const CONFIG_NAME = 'tenzro.yaml';
/** Between readings of the machine itself. A card that wrote for each ten seconds of an idle day was measured at 1.3 GB. */
const INSTALLED_INTERVAL_MS = 60_000;
/** Who tries it in a checkout wants to see something. */
const TRIED_INTERVAL_MS = 10_000;

export interface LoadOptions {
  /** Folder of package.json. */
  readonly appRoot: string;
  /** Relative paths from flags and environment start here. */
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Command-line flags; they win over everything. */
  readonly flags: { readonly data?: string; readonly config?: string; readonly mqttPort?: string };
}

export type Origin =
  | { readonly from: 'default' }
  | { readonly from: 'file'; readonly file: string; readonly line: number }
  | { readonly from: 'environment'; readonly name: string }
  | { readonly from: 'flag'; readonly name: string };

export interface LoadedConfig {
  readonly settings: Settings;
  /** The file that was read; undefined where there is none. */
  readonly file: string | undefined;
  /** What it says; empty where there is none. */
  readonly text: string;
  /** Where the value of a dotted key (`mqtt.port`) comes from. */
  readonly originOf: (key: string) => Origin;
}

export interface ConfigProblem {
  /** File name, or the flag or environment variable at fault. */
  readonly where: string;
  readonly place: Place | undefined;
  /** `mqtt.listeners[0].port`; '' for the document itself. */
  readonly key: string;
  readonly message: string;
  readonly hint: string | undefined;
}

/** Everything that is wrong at once, so that one look mends it. */
export class ConfigError extends TenzroError {
  readonly problems: readonly ConfigProblem[];

  constructor(code: ErrorCode, problems: readonly ConfigProblem[], options: { cause?: unknown } = {}) {
    super(code, problems.map(problemLine).join('\n'), options);
    this.problems = problems;
  }
}

/** `file:line:column: key: what is wrong (hint)`, as editors and compilers write it. */
export function problemLine(problem: ConfigProblem): string {
  const place = problem.place === undefined ? '' : `:${problem.place.line}:${problem.place.column}`;
  const key = problem.key === '' ? '' : `${problem.key}: `;
  return `${problem.where}${place}: ${key}${problem.message}${problem.hint === undefined ? '' : ` (${problem.hint})`}`;
}

interface Override {
  readonly value: string;
  readonly origin: Origin & { readonly name: string };
}

/** Throws ConfigError: `config.unreadable`, `config.syntax`, `config.invalid`, `config.newer_version`. */
export function loadConfig(options: LoadOptions): LoadedConfig {
  const dataDir = override(options, 'data', '--data', 'TENZRO_DATA');
  const port = override(options, 'mqttPort', '--mqtt-port', 'TENZRO_MQTT_PORT');
  const defaults = machineDefaults(options);
  const file = findFile(options, dataDir === undefined ? defaults.dataDir : resolve(options.cwd, dataDir.value));
  const document = parseDocumentText(file?.text ?? '');
  const fileName = file?.path ?? '';
  const stated = judge(document, fileName, settingsSchema(defaults));
  const settings = withOverrides(anchored(stated, file === undefined ? options.cwd : dirname(file.path)), options.cwd, dataDir, port);
  const overridden = new Map<string, Origin>();
  if (dataDir) overridden.set('dataDir', dataDir.origin);
  if (port) overridden.set('mqtt.port', port.origin);
  return {
    settings,
    file: file?.path,
    text: file?.text ?? '',
    originOf: (key) => {
      const path = key.split('.');
      return overridden.get(key) ?? (document.has(path) ? { from: 'file', file: fileName, line: document.placeOfKey(path).line } : { from: 'default' });
    },
  };
}

/** Absolute path of the file that `loadConfig` reads, or of the one that it would read if it were there. */
export function configFileOf(options: LoadOptions): string {
  const dataDir = override(options, 'data', '--data', 'TENZRO_DATA');
  const home = join(dataDir === undefined ? machineDefaults(options).dataDir : resolve(options.cwd, dataDir.value), CONFIG_NAME);
  return pathOf(options, home) ?? home;
}

/** What a file of this text would say there: without flags and environment. Throws like `loadConfig`. */
export function readConfigText(text: string, file: string, appRoot: string): Settings {
  return anchored(judge(parseDocumentText(text), file, settingsSchema(machineDefaults({ appRoot }))), dirname(file));
}

function override(options: LoadOptions, flag: keyof LoadOptions['flags'], flagName: string, variable: string): Override | undefined {
  const given = options.flags[flag];
  if (given !== undefined) return { value: given, origin: { from: 'flag', name: flagName } };
  const value = options.env[variable];
  return value === undefined || value === '' ? undefined : { value, origin: { from: 'environment', name: variable } };
}

function machineDefaults({ appRoot }: Pick<LoadOptions, 'appRoot'>): MachineDefaults {
  const installed = statSync(SYSTEM_DATA_DIR, { throwIfNoEntry: false })?.isDirectory() ?? false;
  return {
    nodeName: hostname().replace(/[^A-Za-z0-9_-]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 64) || 'gateway',
    dataDir: installed ? SYSTEM_DATA_DIR : join(appRoot, '.tenzro'),
    modelsDir: join(appRoot, 'models'),
    systemIntervalMs: installed ? INSTALLED_INTERVAL_MS : TRIED_INTERVAL_MS,
  };
}

function findFile(options: LoadOptions, dataDir: string): { readonly path: string; readonly text: string } | undefined {
  const named = override(options, 'config', '--config', 'TENZRO_CONFIG');
  const path = pathOf(options, join(dataDir, CONFIG_NAME));
  if (path === undefined) return undefined;
  try {
    return { path, text: readFileSync(path, 'utf8') };
  } catch (cause) {
    const message = `cannot be read${named === undefined ? '' : `, as ${named.origin.name} asks`}: ${messageOf(cause)}`;
    throw new ConfigError('config.unreadable', [{ where: path, place: undefined, key: '', message, hint: undefined }], { cause });
  }
}

/** A file that is asked for by name, or the first of the usual places that is there. */
function pathOf(options: LoadOptions, home: string): string | undefined {
  const named = override(options, 'config', '--config', 'TENZRO_CONFIG');
  return named === undefined ? [home, SYSTEM_CONFIG_FILE].find((candidate) => existsSync(candidate)) : resolve(options.cwd, named.value);
}

function judge(document: ConfigDocument, where: string, schema: SettingsSchema): Settings {
  const fail = (code: ErrorCode, problems: readonly Omit<ConfigProblem, 'where'>[]): never => {
    throw new ConfigError(code, problems.map((problem) => ({ where, ...problem })));
  };
  if (document.faults.length > 0) fail('config.syntax', document.faults.map((fault) => ({ place: fault.place, key: '', message: fault.message, hint: undefined })));
  const value = document.value ?? {};
  const at = (path: Path) => ({ place: document.placeOfKey(path), key: keyOf(path) });
  const version = (value as { version?: unknown }).version;
  if (typeof version === 'number' && version > CONFIG_VERSION) {
    fail('config.newer_version', [{ ...at(['version']), message: `${version} is newer than ${CONFIG_VERSION}, the newest that this version reads`, hint: undefined }]);
  }
  const strangers = unknownKeys(schema, value).map(({ path, known }) => (known === undefined
    ? { ...at(path), message: 'expected a section, found a list', hint: undefined }
    : { ...at(path), message: 'is not a known key', hint: hintFor(String(path.at(-1)), known, schema) }));
  const { settings, issues } = checkAgainst(schema, value);
  const wrong = [...issues, ...(settings === undefined ? [] : checkRelations(settings, (path) => document.has(path)))];
  const problems = [...strangers, ...wrong.map(({ path, message }) => ({ ...at(path), message, hint: undefined }))];
  if (problems.length > 0 || settings === undefined) return fail('config.invalid', problems.toSorted((a, b) => a.place.line - b.place.line || a.place.column - b.place.column));
  return settings;
}

const keyOf = (path: Path): string => path.map((step) => (typeof step === 'number' ? `[${step}]` : `.${step}`)).join('').replace(/^\./, '');

/** Nearest key at the same place; else the same word elsewhere in the file; else what may stand here. */
function hintFor(word: string, known: readonly string[], schema: SettingsSchema): string {
  const near = nearest(word, known);
  if (near !== undefined) return `did you mean '${near}'?`;
  const elsewhere = listKeys(schema).find(({ key }) => key.split('.').at(-1) === word);
  return elsewhere === undefined ? `known here: ${known.join(', ')}` : `did you mean '${elsewhere.key}'?`;
}

/** Makes the paths that the file states absolute: they are relative to the file. */
function anchored(settings: Settings, base: string): Settings {
  const listeners = settings.mqtt.listeners.map((listener) => {
    if (listener.tls === undefined) return listener;
    const { certFile, keyFile, clientCaFile } = listener.tls;
    const tls = { ...listener.tls, certFile: resolve(base, certFile), keyFile: resolve(base, keyFile), ...(clientCaFile === undefined ? {} : { clientCaFile: resolve(base, clientCaFile) }) };
    return { ...listener, tls };
  });
  return {
    ...settings,
    dataDir: resolve(base, settings.dataDir),
    mqtt: { ...settings.mqtt, listeners },
    confidential: { recipients: settings.confidential.recipients.map(({ name, publicKeyFile }) => ({ name, publicKeyFile: resolve(base, publicKeyFile) })) },
    fleet: { ...settings.fleet, operators: settings.fleet.operators.map((operator) => ({ ...operator, publicKeyFile: resolve(base, operator.publicKeyFile) })) },
    infer: { ...settings.infer, modelsDir: resolve(base, settings.infer.modelsDir), runtimeDir: anchoredFile(base, settings.infer.runtimeDir) },
    uplinks: settings.uplinks.map((uplink) => ({ ...uplink, caFile: anchoredFile(base, uplink.caFile), passwordFile: anchoredFile(base, uplink.passwordFile) })),
  };
}

/** Empty stays empty. */
const anchoredFile = (base: string, path: string): string => (path === '' ? '' : resolve(base, path));

/** The rules of the file hold for overrides too: a port that a listener has taken is refused here as well. */
function withOverrides(settings: Settings, cwd: string, dataDir: Override | undefined, port: Override | undefined): Settings {
  let result = dataDir === undefined ? settings : { ...settings, dataDir: resolve(cwd, dataDir.value) };
  if (port !== undefined) {
    const fail = (message: string): never => { throw new ConfigError('config.invalid', [{ where: port.origin.name, place: undefined, key: 'mqtt.port', message, hint: undefined }]); };
    const number = /^\d{1,5}$/.test(port.value) ? Number(port.value) : Number.NaN;
    if (!(number <= 65_535)) fail(`'${port.value}' is not a port: give 0 to 65535`);
    result = { ...result, mqtt: { ...result.mqtt, port: number } };
    const [clash] = checkRelations(result, () => false);
    if (clash) fail(`${keyOf(clash.path)}: ${clash.message}`);
  }
  return result;
}
