/** Codes of the TCG TPM 2.0 Library (revision 1.59), Part 2 section beside each table. Algorithms and attributes stand in runtime/crypto/tpmEvidence.ts. */

/** TPM_CC, §6.5.2. */
export const COMMAND = {
  evictControl: 0x120, nvUndefineSpace: 0x122, clear: 0x126, hierarchyChangeAuth: 0x129, nvDefineSpace: 0x12a, createPrimary: 0x131, nvIncrement: 0x134,
  nvExtend: 0x136, nvWrite: 0x137, dictionaryAttackLockReset: 0x139, dictionaryAttackParameters: 0x13a, pcrReset: 0x13d, selfTest: 0x143, startup: 0x144,
  shutdown: 0x145, stirRandom: 0x146, activateCredential: 0x147, certify: 0x148, policyNv: 0x149, nvRead: 0x14e, policySecret: 0x151, create: 0x153,
  load: 0x157, quote: 0x158, sign: 0x15d, unseal: 0x15e, contextLoad: 0x161, contextSave: 0x162, flushContext: 0x165, loadExternal: 0x167, makeCredential: 0x168,
  nvReadPublic: 0x169, policyAuthorize: 0x16a, policyAuthValue: 0x16b, policyCommandCode: 0x16c, policyOr: 0x171, readPublic: 0x173, startAuthSession: 0x176,
  verifySignature: 0x177, getCapability: 0x17a, getRandom: 0x17b, getTestResult: 0x17c, pcrRead: 0x17e, policyPcr: 0x17f, policyRestart: 0x180,
  readClock: 0x181, pcrExtend: 0x182, nvCertify: 0x184, policyGetDigest: 0x189, policyPassword: 0x18c,
} as const;
export type CommandCode = (typeof COMMAND)[keyof typeof COMMAND];

/** TPM_RH, §7.4. */
export const HANDLE = { owner: 0x40000001, null: 0x40000007, password: 0x40000009, lockout: 0x4000000a, endorsement: 0x4000000b, platform: 0x4000000c } as const;
/** First handle of a TPM_HT, §7.2 and §7.5. */
export const HANDLE_RANGE = { pcr: 0x00000000, nvIndex: 0x01000000, loadedSession: 0x02000000, savedSession: 0x03000000, transient: 0x80000000, persistent: 0x81000000 } as const;

/** TPM_ST, §6.9: command and response tags, and those of tickets. */
export const TAG = { noSessions: 0x8001, sessions: 0x8002, verified: 0x8022, hashCheck: 0x8024 } as const;

/** TPM_SU §6.10, TPM_SE §6.11, TPM_CAP §6.12. */
export const STARTUP_CLEAR = 0x0000;
export const SESSION_TYPE = { hmac: 0x00, policy: 0x01, trial: 0x03 } as const;
export const CAPABILITY = { algorithms: 0x0, handles: 0x1, commands: 0x2, pcrs: 0x5, properties: 0x6, eccCurves: 0x8 } as const;
/** TPM_EO, §6.8: how TPM2_PolicyNV compares the index (A) with the operand (B). */
export const COMPARISON = {
  equal: 0x0000, notEqual: 0x0001, signedGreater: 0x0002, unsignedGreater: 0x0003, signedLess: 0x0004, unsignedLess: 0x0005, signedGreaterOrEqual: 0x0006,
  unsignedGreaterOrEqual: 0x0007, signedLessOrEqual: 0x0008, unsignedLessOrEqual: 0x0009, bitsSet: 0x000a, bitsClear: 0x000b,
} as const;
export type Comparison = (typeof COMPARISON)[keyof typeof COMPARISON];
/** TPM_PT, §6.13: fixed properties, and of the variable ones `permanent`, a TPMA_PERMANENT (§8.6). */
export const PROPERTY = { manufacturer: 0x105, vendorString1: 0x106, vendorString4: 0x109, firmwareVersion1: 0x10b, firmwareVersion2: 0x10c, permanent: 0x200 } as const;

/** TPMA_SESSION, §8.4. `decrypt`: the first command parameter is encrypted; `encrypt`: the first response parameter is. */
export const SESSION_ATTRIBUTE = { continueSession: 0x01, decrypt: 0x20, encrypt: 0x40 } as const;

/** Tag, size and code in front of every command and response: Part 1 §18. */
export const HEADER_BYTES = 10;

/** What one entry of a quote may select: PCRs 0–23 in three bytes (PTP: PCR_SELECT_MIN). */
export const PCR_SELECT_BYTES = 3;

/**
 * SHA-256 PCRs that our quotes cover: the firmware's and boot loader's measurements (0–7), the kernel's file measurements (10) and the one that
 * folds our blocks (14). 14 cannot be reset by the operating system; 16 and 23 can.
 */
export const QUOTED_PCRS = [0, 1, 2, 3, 4, 5, 6, 7, 10, 14] as const;
export const BLOCK_PCR = 14;

/** Our NV counter, in the range that the TCG Registry of Reserved TPM 2.0 Handles leaves to the owner (0x01800000–0x01BFFFFF). */
export const COUNTER_INDEX = 0x01805445;
export const COUNTER_BYTES = 8;
/** How often keys of this machine were revoked: a second counter, which only the owner increments. */
export const REVOCATION_INDEX = 0x01805446;

/**
 * Where our persistent keys lie, in the ranges that the TCG Registry of Reserved TPM 2.0 Handles (§2.3) gives to primary keys of the owner
 * (0x81000000–0x8100FFFF) and of the endorsement hierarchy (0x81010000–0x8101FFFF).
 */
export const PERSISTENT = { storageKey: 0x81005445, attestationKey: 0x81015445, endorsementKey: 0x81015446 } as const;

/** EK certificates: TCG EK Credential Profile for TPM 2.0 §2.2.1.4, low range. */
export const EK_CERTIFICATE_INDEX = { rsa2048: 0x01c00002, eccP256: 0x01c0000a } as const;
/** Where the same profile keeps the certificates of the EK certificates' issuers. */
export const EK_CHAIN_INDEX = { first: 0x01c00100, last: 0x01c001ff } as const;
