/** Commands to a gateway: types, classes, states and the signed claims. docs/reference/commands.md is their reference. */
import type { Maybe } from './types.ts';

/**
 * interactive: somebody waits for the answer; it fails after 30 s. job: may outlive restarts and outages, and fails when its validity ends.
 * Types without a handler on this gateway are accepted as signed and end as `failed`.
 */
export const COMMAND_CLASS = {
  attest: 'interactive',
  cancel: 'interactive',
  config_update: 'job',
  diagnostics: 'interactive',
  driver_call: 'interactive',
  firmware_update: 'job',
  log_upload: 'interactive',
  model_install: 'job',
  release: 'job',
  restart: 'job',
  shell: 'interactive',
  software_update: 'job',
  sync_time: 'interactive',
} as const;
export type CommandType = keyof typeof COMMAND_CLASS;
export const COMMAND_TYPES = Object.keys(COMMAND_CLASS) as readonly CommandType[];
export const isCommandType = (text: string): text is CommandType => Object.hasOwn(COMMAND_CLASS, text);

/** In `fleet.operators[].may`: every type but those of the list below, which have to be named. */
export const MAY_ALL = '*';
const NAMED_ONLY: readonly CommandType[] = ['shell', 'driver_call', 'release'];

/** Commands that begin within maintenance windows only, where there are any. */
const DISTURBING: readonly string[] = ['config_update', 'firmware_update', 'model_install', 'restart', 'software_update'] satisfies readonly CommandType[];
export const isDisturbing = ({ type, isUrgent, isDryRun }: Pick<CommandClaims, 'type' | 'isUrgent' | 'isDryRun'>): boolean => DISTURBING.includes(type) && isUrgent !== true && !isDryRun;

/** `refused` is never a state of a command: it is what an entry says of a message that did not become one. */
export const COMMAND_STATES = ['init', 'scheduled', 'executing', 'successful', 'failed', 'refused'] as const;
export type CommandState = (typeof COMMAND_STATES)[number];
export const hasEnded = (state: CommandState): boolean => state === 'successful' || state === 'failed';

/** What a signature says: every member of a message but `status` and `signature`. */
export interface CommandClaims {
  readonly gateway: string;
  /** Entity in thin-edge's grammar. */
  readonly target: string;
  readonly type: string;
  /** [A-Za-z0-9_-], at most 64; serves once for its type. */
  readonly id: string;
  /** Seconds since 1970, by the signer's clock. */
  readonly issued: number;
  readonly ttlSeconds: number;
  /** Seconds since 1970; absent: at once. */
  readonly notBefore?: number;
  readonly isDryRun: boolean;
  /** Waits for no maintenance window. */
  readonly isUrgent?: boolean;
  readonly parameters: Readonly<Record<string, unknown>>;
}

/** Somebody whose signed commands count. */
export interface Operator {
  readonly name: string;
  /** ML-DSA-65, raw. */
  readonly publicKey: Uint8Array;
  /** JWK thumbprint of the key, base64url. */
  readonly kid: string;
  readonly may: readonly string[];
}

export const mayCommand = ({ may }: Pick<Operator, 'may'>, type: string): boolean =>
  may.includes(type) || (may.includes(MAY_ALL) && !(NAMED_ONLY as readonly string[]).includes(type));

/** What a gateway does for one type. */
export interface CommandHandler {
  /** Whether this gateway can do it at all, as it runs now. */
  readonly support: Maybe<true>;
  /**
   * Resolves with the result, JSON of at most `LIMITS.commandResultBytesMax`; rejects with a TenzroError. MUST have no effect before it is called, and none
   * after `signal` aborts. With `isDryRun` it only looks whether it would work.
   */
  run(command: CommandClaims, signal: AbortSignal): Promise<Readonly<Record<string, unknown>>>;
  /** Once it executes, nothing stops it. */
  readonly isUnstoppable?: boolean;
  /**
   * The result is flushed and was announced; called again at every later start while the command is remembered, so it MUST know by itself whether there is
   * anything left to do. MUST NOT throw.
   */
  settled?(command: Pick<CommandClaims, 'id'>): void;
  /**
   * In a run after the one that executed it: the result, where it can be told that the effect has happened; never has the effect itself. Rejects with a
   * TenzroError where it was taken back; may wait for either until the gateway stops.
   */
  resume?(command: CommandClaims): Readonly<Record<string, unknown>> | undefined | Promise<Readonly<Record<string, unknown>> | undefined>;
}
