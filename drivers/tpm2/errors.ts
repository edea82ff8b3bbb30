/** Response codes (Part 2 §6.6) as names, with what to do. */
import { TenzroError } from '#runtime/core/errors.ts';
import { COMMAND, type CommandCode } from './constants.ts';

/** TPM_RC, §6.6.3; format-0 codes and warnings. */
export const RC = {
  success: 0x000, initialize: 0x100, failure: 0x101, disabled: 0x120, authUnavailable: 0x12f, reboot: 0x130, nvAuthorization: 0x149, nvUninitialized: 0x14a,
  nvSpace: 0x14b, nvDefined: 0x14c, needsTest: 0x153, objectMemory: 0x902, sessionMemory: 0x903, memory: 0x904, sessionHandles: 0x905, objectHandles: 0x906,
  yielded: 0x908, testing: 0x90a, nvRate: 0x920, lockout: 0x921, retry: 0x922, nvUnavailable: 0x923,
} as const;
/** TPM_RC of format 1: the error number without what it concerns. */
export const RC_FORMAT_1 = {
  asymmetric: 0x81, attributes: 0x82, hash: 0x83, value: 0x84, hierarchy: 0x85, keySize: 0x87, type: 0x8a, handle: 0x8b, range: 0x8d, authFail: 0x8e, nonce: 0x8f,
  scheme: 0x92, size: 0x95, symmetric: 0x96, tag: 0x97, selector: 0x98, insufficient: 0x9a, signature: 0x9b, key: 0x9c, policyFail: 0x9d, integrity: 0x9f,
  reservedBits: 0xa1, badAuth: 0xa2, expired: 0xa3, policyCommand: 0xa4, binding: 0xa5, curve: 0xa6, eccPoint: 0xa7,
} as const;

const NAMES = new Map<number, string>([...Object.entries(RC), ...Object.entries(RC_FORMAT_1)].map(([name, code]) => [code, name]));
const COMMAND_NAMES = new Map<number, string>(Object.entries(COMMAND).map(([name, code]) => [code, name]));

/** What the reader can do, where it is not evident from the name. */
const ADVICE = new Map<number, string>([
  [RC.initialize, 'the TPM was reset and not started: start the gateway again'],
  [RC.failure, 'the TPM is in failure mode: power the machine off and on'],
  [RC.disabled, 'the hierarchy is disabled: enable the TPM in the firmware setup'],
  [RC.reboot, 'the TPM wants a restart of the machine'],
  [RC.nvSpace, 'the TPM has no NV space left: remove an index that is not used (tpm2_getcap handles-nv-index, tpm2_nvundefine)'],
  [RC.objectMemory, 'the TPM has no room for another key: use the resource manager (/dev/tpmrm0)'],
  [RC.objectHandles, 'the TPM has no room for another key: use the resource manager (/dev/tpmrm0)'],
  [RC.sessionMemory, 'the TPM has no room for another session: use the resource manager (/dev/tpmrm0)'],
  [RC.nvRate, 'the TPM limits how often its NV memory is written: wait'],
  [RC.lockout, 'the TPM is locked against guessing: wait, or tpm2_dictionarylockout --clear-lockout'],
  [RC.nvUnavailable, 'the NV memory of the TPM cannot be written'],
  [RC_FORMAT_1.authFail, 'the hierarchy has a password that the gateway does not know: clear it, or define the index beforehand'],
  [RC_FORMAT_1.badAuth, 'the hierarchy has a password that the gateway does not know: clear it, or define the index beforehand'],
]);

/** Worth sending again, unchanged: §6.6.3, TPM_RC_WARN. */
export const isRetryable = (code: number): boolean => code === RC.retry || code === RC.yielded || code === RC.testing || code === RC.nvRate;

export interface DecodedCode {
  readonly name: string;
  /** What the error is about, 1-based: `parameter 2`, `handle 1`, `session 1`; empty for format 0. */
  readonly subject: string;
  /** The code with the subject's bits taken out: a value of RC or RC_FORMAT_1. */
  readonly base: number;
}

/** §6.6.2: bit 7 chooses the format; in format 1, bit 6 says parameter, else bit 11 says session, else handle; bits 8–11 number it. */
export function decodeResponseCode(code: number): DecodedCode {
  if ((code & 0x80) === 0) return { name: NAMES.get(code) ?? 'unknown', subject: '', base: code };
  const base = code & 0xbf;
  const name = NAMES.get(base) ?? 'unknown';
  if ((code & 0x40) !== 0) return { name, subject: `parameter ${(code >> 8) & 0xf}`, base };
  const number = (code >> 8) & 0x7;
  if (number === 0) return { name, subject: '', base };
  return { name, subject: `${(code & 0x800) === 0 ? 'handle' : 'session'} ${number}`, base };
}

/** The TPM understood and said no. */
export class TpmRefusal extends TenzroError {
  /** As it came. */
  readonly responseCode: number;
  /** A value of RC or RC_FORMAT_1. */
  readonly base: number;

  constructor(command: CommandCode, responseCode: number) {
    const { name, subject, base } = decodeResponseCode(responseCode);
    const advice = ADVICE.get(base);
    super('tpm.refused', `TPM2 ${commandName(command)}: ${name}${subject && ` (${subject})`}, code 0x${responseCode.toString(16)}${advice === undefined ? '' : `: ${advice}`}`);
    this.responseCode = responseCode;
    this.base = base;
  }
}

const commandName = (code: CommandCode): string => COMMAND_NAMES.get(code) ?? `0x${(code as number).toString(16)}`;
