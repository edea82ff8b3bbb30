/** Response codes (Part 2 §6.6) as names, with what to do. */
import { TenzroError } from '#runtime/core/errors.ts';
import { COMMAND, type CommandCode } from './constants.ts';

/** TPM_RC, §6.6.3: those of format 0 (RC_VER1) and warnings (RC_WARN). `referenceH0`…`6` and `S0`…`6` are decoded from their numbers. */
export const RC = {
  success: 0x000, badTag: 0x01e,
  initialize: 0x100, failure: 0x101, sequence: 0x103, private: 0x10b, hmac: 0x119, disabled: 0x120, exclusive: 0x121, authType: 0x124, authMissing: 0x125,
  policy: 0x126, pcr: 0x127, pcrChanged: 0x128, upgrade: 0x12d, tooManyContexts: 0x12e, authUnavailable: 0x12f, reboot: 0x130, unbalanced: 0x131,
  commandSize: 0x142, commandCode: 0x143, authSize: 0x144, authContext: 0x145, nvRange: 0x146, nvSize: 0x147, nvLocked: 0x148, nvAuthorization: 0x149,
  nvUninitialized: 0x14a, nvSpace: 0x14b, nvDefined: 0x14c, badContext: 0x150, cpHash: 0x151, parent: 0x152, needsTest: 0x153, noResult: 0x154, sensitive: 0x155,
  contextGap: 0x901, objectMemory: 0x902, sessionMemory: 0x903, memory: 0x904, sessionHandles: 0x905, objectHandles: 0x906, locality: 0x907, yielded: 0x908,
  canceled: 0x909, testing: 0x90a, referenceH0: 0x910, referenceS0: 0x918, nvRate: 0x920, lockout: 0x921, retry: 0x922, nvUnavailable: 0x923,
} as const;
/** TPM_RC of format 1 (RC_FMT1): the error number without what it concerns. */
export const RC_FORMAT_1 = {
  asymmetric: 0x81, attributes: 0x82, hash: 0x83, value: 0x84, hierarchy: 0x85, keySize: 0x87, mgf: 0x88, mode: 0x89, type: 0x8a, handle: 0x8b, kdf: 0x8c,
  range: 0x8d, authFail: 0x8e, nonce: 0x8f, physicalPresence: 0x90, scheme: 0x92, size: 0x95, symmetric: 0x96, tag: 0x97, selector: 0x98, insufficient: 0x9a,
  signature: 0x9b, key: 0x9c, policyFail: 0x9d, integrity: 0x9f, ticket: 0xa0, reservedBits: 0xa1, badAuth: 0xa2, expired: 0xa3, policyCc: 0xa4, binding: 0xa5,
  curve: 0xa6, eccPoint: 0xa7, firmwareLimited: 0xa8, svnLimited: 0xa9,
} as const;
const REFERENCES = 7;

const references = (name: 'referenceH' | 'referenceS', first: number): [string, number][] => Array.from({ length: REFERENCES }, (_, at) => [`${name}${at}`, first + at]);
const NAMES = new Map<number, string>([
  ...Object.entries(RC), ...Object.entries(RC_FORMAT_1), ...references('referenceH', RC.referenceH0), ...references('referenceS', RC.referenceS0),
].map(([name, code]) => [code, name]));
const COMMAND_NAMES = new Map<number, string>(Object.entries(COMMAND).map(([name, code]) => [code, name]));

const WRONG_AUTH = 'the authValue is wrong, or is not that of this hierarchy, key or index';
const NO_ROOM_FOR_KEYS = 'the TPM has no room for another key: dispose of some, or use the resource manager (/dev/tpmrm0)';
const NO_ROOM_FOR_SESSIONS = 'the TPM has no room for another session: dispose of some, or use the resource manager (/dev/tpmrm0)';
const NOT_LOADED = 'nothing is loaded there: it was flushed, or the TPM was reset; load it again';
const NOT_SUPPORTED = 'this TPM does not have it: see tpm.info.algorithms, tpm.info.commands';
const MALFORMED = 'the command is not what this TPM expects: report it with the TPM\'s manufacturer and firmware';

/** What the reader can do. */
const ADVICE = new Map<number, string>([
  [RC.badTag, 'a TPM 1.2 answers, or something between garbles commands'],
  [RC.initialize, 'the TPM was reset and not started: start the gateway again'],
  [RC.failure, 'the TPM is in failure mode: power the machine off and on; tpm2_gettestresult tells more'],
  [RC.disabled, 'the hierarchy or the command is disabled: enable the TPM in the firmware setup; TPM2_Clear may need tpm2_clearcontrol'],
  [RC.sequence, 'a hash sequence was used for something else'],
  [RC.exclusive, 'another command came into an exclusive audit'],
  [RC.authType, 'this handle cannot authorise this command'], [RC.authMissing, 'the command needs an authorisation that was not given'],
  [RC.policy, 'the NV index does not satisfy the policy\'s condition'], [RC.pcr, 'the PCR cannot be changed from here'],
  [RC.pcrChanged, 'a PCR changed after the policy was checked: restart the policy session'],
  [RC.upgrade, 'the TPM waits for a firmware upgrade to end'], [RC.tooManyContexts, 'the TPM must be reset: restart the machine'],
  [RC.authUnavailable, 'the entity has no authValue or policy that would authorise this: its attributes forbid it'],
  [RC.reboot, 'the TPM wants a restart of the machine'], [RC.unbalanced, 'the key\'s hash is too short for its cipher'],
  [RC.commandSize, MALFORMED], [RC.commandCode, NOT_SUPPORTED], [RC.authSize, MALFORMED], [RC.authContext, 'this command takes no sessions'],
  [RC.nvRange, 'offset and size lie outside of the index'], [RC.nvSize, 'the index is larger than this TPM allows'],
  [RC.nvLocked, 'the index is locked until the next restart, or for ever'], [RC.nvAuthorization, 'the attributes of the index do not let this authority do that'],
  [RC.nvUninitialized, 'the index was never written'],
  [RC.nvSpace, 'the TPM has no NV space left: remove an index that is not used (tpm2_getcap handles-nv-index, tpm2_nvundefine)'],
  [RC.nvDefined, 'the index or persistent handle is in use: remove what is there, or take another'],
  [RC.badContext, 'the saved key is not of this TPM, or from before its reset'], [RC.cpHash, 'the session is bound to another command'],
  [RC.parent, 'that key cannot be a parent: it must be a restricted decryption key'], [RC.needsTest, 'run tpm.info.selfTest first'],
  [RC.noResult, 'the TPM could not do it; the vendor knows why'], [RC.sensitive, 'the wrapped object is damaged'],
  [RC.contextGap, 'a session was out for too long: dispose of sessions that are not used'],
  [RC.objectMemory, NO_ROOM_FOR_KEYS], [RC.objectHandles, NO_ROOM_FOR_KEYS], [RC.memory, NO_ROOM_FOR_KEYS],
  [RC.sessionMemory, NO_ROOM_FOR_SESSIONS], [RC.sessionHandles, NO_ROOM_FOR_SESSIONS],
  [RC.locality, 'only the firmware or the boot loader may do that'], [RC.canceled, 'somebody cancelled the command'],
  [RC.nvRate, 'the TPM limits how often its NV memory is written: wait'],
  [RC.lockout, 'the TPM is locked against guessing: wait, or reset the lockout (tpm2_dictionarylockout --clear-lockout)'],
  [RC.nvUnavailable, 'the NV memory of the TPM cannot be written'],
  [RC_FORMAT_1.asymmetric, NOT_SUPPORTED], [RC_FORMAT_1.hash, NOT_SUPPORTED], [RC_FORMAT_1.symmetric, NOT_SUPPORTED], [RC_FORMAT_1.curve, NOT_SUPPORTED],
  [RC_FORMAT_1.keySize, NOT_SUPPORTED], [RC_FORMAT_1.mgf, NOT_SUPPORTED], [RC_FORMAT_1.mode, NOT_SUPPORTED], [RC_FORMAT_1.kdf, NOT_SUPPORTED],
  [RC_FORMAT_1.scheme, 'the key does not sign or encrypt that way'], [RC_FORMAT_1.attributes, 'the attributes contradict each other, or forbid this use'],
  [RC_FORMAT_1.value, 'the value is out of range, or not what the TPM has: for PolicyPCR, the PCRs hold something else'],
  [RC_FORMAT_1.hierarchy, 'the hierarchy is disabled, or not one that this is for'], [RC_FORMAT_1.type, 'the object is of another kind than this use needs'],
  [RC_FORMAT_1.handle, 'nothing is there, or something of another kind'], [RC_FORMAT_1.range, 'the value is outside of the allowed range'],
  [RC_FORMAT_1.authFail, `${WRONG_AUTH}; the failure counts towards the lockout`], [RC_FORMAT_1.badAuth, WRONG_AUTH],
  [RC_FORMAT_1.nonce, 'the session is out of step: start another'], [RC_FORMAT_1.physicalPresence, 'only a person at the machine may do that: see the firmware setup'],
  [RC_FORMAT_1.size, 'a value is too long or too short'], [RC_FORMAT_1.tag, MALFORMED], [RC_FORMAT_1.selector, MALFORMED], [RC_FORMAT_1.insufficient, MALFORMED],
  [RC_FORMAT_1.reservedBits, MALFORMED], [RC_FORMAT_1.signature, 'the signature is not of this key over this digest'],
  [RC_FORMAT_1.key, 'the key\'s fields do not fit this use'],
  [RC_FORMAT_1.policyFail, 'what the session went through is not the policy of the entity, or the entity takes no authValue'],
  [RC_FORMAT_1.integrity, 'the wrapped object or the credential is damaged, or was made for another TPM, parent or key'],
  [RC_FORMAT_1.ticket, 'the ticket is of another TPM, or from before its reset'], [RC_FORMAT_1.expired, 'the policy session took too long: start another'],
  [RC_FORMAT_1.policyCc, 'the policy is for another command'], [RC_FORMAT_1.binding, 'public and private area do not belong together'],
  [RC_FORMAT_1.eccPoint, 'the point is not on the curve'],
  [RC_FORMAT_1.firmwareLimited, 'the key belongs to other firmware of the TPM'], [RC_FORMAT_1.svnLimited, 'the key belongs to a newer security version of the firmware'],
  ...[...references('referenceH', RC.referenceH0), ...references('referenceS', RC.referenceS0)].map(([, code]) => [code, NOT_LOADED] as const),
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
