/** Policies: each digest that we compute offline is what a real TPM's trial session computes, and a policy session that goes that way authorises. */
import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { TpmWriter } from '#drivers/tpm2/codec.ts';
import { permanent, withAuth } from '#drivers/tpm2/command.ts';
import { COMMAND, COMPARISON, HANDLE } from '#drivers/tpm2/constants.ts';
import { RC, RC_FORMAT_1 } from '#drivers/tpm2/errors.ts';
import type { LoadedKey } from '#drivers/tpm2/keys.ts';
import {
  approvalOf, NO_POLICY, pcrDigest, policyAuthorizeDigest, policyAuthValueDigest, policyCommandCodeDigest, policyNvDigest, policyOrDigest, policyPcrDigest, policySecretDigest,
} from '#drivers/tpm2/policyDigest.ts';
import type { PolicySession } from '#drivers/tpm2/session.ts';
import { externalP256, sealedData, srkP256 } from '#drivers/tpm2/templates.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { ecdsaSignature, NV_ATTRIBUTE, parsePublic, TPM_ALG } from '#runtime/crypto/tpmEvidence.ts';
import { temporaryTpm, transportTo, type TemporaryTpm } from '#test/support/swtpm.ts';

const SIGNAL = new AbortController().signal;
const SECRET = Buffer.from('a seed of thirty-two bytes, say.');
const H = sha256(Buffer.from('a measurement'));
const OWNER = permanent(HANDLE.owner);

describe('tpm2: policies', () => {
  let emulator: TemporaryTpm;
  let tpm: Tpm;
  let srk: LoadedKey;

  before(async function () {
    emulator = await temporaryTpm(this);
    tpm = new Tpm(transportTo(emulator.address));
    await tpm.startup(SIGNAL);
    srk = await tpm.keys.createPrimary(HANDLE.owner, srkP256(), SIGNAL);
  });
  after(async () => {
    await tpm?.[Symbol.asyncDispose]();
    await emulator?.[Symbol.asyncDispose]();
  });

  async function trial(steps: (session: PolicySession) => Promise<void>): Promise<string> {
    await using session = await tpm.sessions.startTrial(SIGNAL);
    await steps(session);
    return toHex(await tpm.policy.digest(session, SIGNAL));
  }

  /** Seals under the policy, and unseals by the steps, in a session that is salted and encrypts. */
  async function unsealedBy(authPolicy: Uint8Array, steps: (session: PolicySession) => Promise<void>, authValue?: Uint8Array): Promise<Buffer> {
    const sealed = await tpm.keys.create(srk, sealedData({ authPolicy }), { data: SECRET, ...(authValue ? { authValue } : {}) }, SIGNAL);
    await using object = await tpm.keys.load(srk, sealed, SIGNAL);
    await using session = await tpm.sessions.startPolicy({ salt: srk }, SIGNAL);
    await steps(session);
    return await tpm.keys.unseal(authValue ? withAuth(object, authValue) : object, SIGNAL, session.use({ encryptResponse: true }));
  }

  /** The three ways to a policy agree; gives its digest. */
  async function agrees(offline: Uint8Array, steps: (session: PolicySession) => Promise<void>, authValue?: Uint8Array): Promise<void> {
    assert.equal(await trial(steps), toHex(offline));
    assert.deepEqual(await unsealedBy(offline, steps, authValue), SECRET);
  }

  it('PolicyPCR: these PCRs hold these values, and no others', async () => {
    const values = await tpm.pcr.read([7, 0, 16], SIGNAL);
    const policy = policyPcrDigest(NO_POLICY, values);
    await agrees(policy, (session) => tpm.policy.pcr(session, [0, 7, 16], SIGNAL, pcrDigest(values)));
    await agrees(policy, (session) => tpm.policy.pcr(session, [0, 7, 16], SIGNAL));
    await tpm.pcr.extend(16, H, SIGNAL);
    await assert.rejects(unsealedBy(policy, (session) => tpm.policy.pcr(session, [0, 7, 16], SIGNAL)), { base: RC_FORMAT_1.policyFail });
    await assert.rejects(unsealedBy(policy, (session) => tpm.policy.pcr(session, [0, 7, 16], SIGNAL, pcrDigest(values))), { base: RC_FORMAT_1.value });
    await tpm.pcr.reset(16, SIGNAL);
    assert.deepEqual(await unsealedBy(policy, (session) => tpm.policy.pcr(session, [0, 7, 16], SIGNAL)), SECRET);
  });

  it('PolicyPCR: a PCR that changes between the check and the use is found out', async () => {
    const policy = policyPcrDigest(NO_POLICY, await tpm.pcr.read([9], SIGNAL));
    await assert.rejects(unsealedBy(policy, async (session) => {
      await tpm.policy.pcr(session, [9], SIGNAL);
      await tpm.pcr.extend(9, H, SIGNAL); // 16 would not do: a debug PCR does not count as changed
    }), { base: RC.pcrChanged });
  });

  it('PolicyNV: a counter has not passed a value', async () => {
    const defined = await tpm.nv.defineCounter(0x01800001, OWNER, SIGNAL);
    await tpm.nv.increment(defined, SIGNAL);
    const counter = await tpm.nv.readPublic(0x01800001, SIGNAL);
    const operand = new TpmWriter().u64(await tpm.nv.readCounter(counter, SIGNAL)).done();
    const condition = { operand, comparison: COMPARISON.unsignedLessOrEqual };
    const policy = policyNvDigest(NO_POLICY, counter.name, condition);
    await agrees(policy, (session) => tpm.policy.nv(session, counter, condition, SIGNAL));
    await tpm.nv.increment(counter, SIGNAL);
    await assert.rejects(unsealedBy(policy, (session) => tpm.policy.nv(session, counter, condition, SIGNAL)), { base: RC.policy });
    await tpm.nv.undefine(counter, OWNER, SIGNAL);
  });

  it('PolicyNV reads part of an index', async () => {
    const { authRead, authWrite } = NV_ATTRIBUTE;
    await tpm.nv.write(await tpm.nv.define({ index: 0x01800002, attributes: authRead | authWrite, sizeBytes: 8 }, OWNER, SIGNAL), 0, Buffer.from('abcdefgh'), SIGNAL);
    const index = await tpm.nv.readPublic(0x01800002, SIGNAL);
    const condition = { operand: Buffer.from('cd'), offset: 2, comparison: COMPARISON.equal };
    await agrees(policyNvDigest(NO_POLICY, index.name, condition), (session) => tpm.policy.nv(session, index, condition, SIGNAL));
  });

  it('PolicySecret: whoever knows the authValue of a hierarchy', async () => {
    const endorsement = permanent(HANDLE.endorsement);
    await agrees(policySecretDigest(NO_POLICY, endorsement.name), (session) => tpm.policy.secret(session, endorsement, SIGNAL));
    assert.equal(toHex(policySecretDigest(NO_POLICY, endorsement.name)), '837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa', 'as the EK templates say');
  });

  it('PolicyAuthorize: what the holder of a key approved, and an update that it approves later', async () => {
    const authority = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const publicArea = externalP256(authority.publicKey);
    const keyName = parsePublic(publicArea).name;
    const policyRef = Buffer.from('a gateway');
    const approve = (policy: Uint8Array): Buffer => ecdsaSignature(sign('sha256', approvalOf(policy, policyRef), { key: authority.privateKey, dsaEncoding: 'ieee-p1363' }));
    const through = (approvedPolicy: Uint8Array, signature: Uint8Array) => async (session: PolicySession): Promise<void> => {
      await tpm.policy.pcr(session, [16], SIGNAL);
      await using key = await tpm.keys.loadExternal(publicArea, HANDLE.owner, SIGNAL);
      const ticket = await tpm.keys.verifySignature(key, sha256(approvalOf(approvedPolicy, policyRef)), signature, SIGNAL);
      await tpm.policy.authorize(session, { approvedPolicy, policyRef, keyName, ticket }, SIGNAL);
    };
    const policy = policyAuthorizeDigest(keyName, policyRef);
    const current = policyPcrDigest(NO_POLICY, await tpm.pcr.read([16], SIGNAL));
    await agrees(policy, through(current, approve(current)));
    await assert.rejects(unsealedBy(policy, through(current, approve(sha256(current)))), { base: RC_FORMAT_1.signature });

    await tpm.pcr.extend(16, H, SIGNAL);
    await assert.rejects(unsealedBy(policy, through(current, approve(current))), { base: RC_FORMAT_1.value });
    const updated = policyPcrDigest(NO_POLICY, await tpm.pcr.read([16], SIGNAL));
    assert.deepEqual(await unsealedBy(policy, through(updated, approve(updated))), SECRET);
    await tpm.pcr.reset(16, SIGNAL);
  });

  it('PolicyOR and PolicyCommandCode: one of several ways, for one command', async () => {
    const toUnseal = policyCommandCodeDigest(NO_POLICY, COMMAND.unseal);
    const bySecret = policySecretDigest(NO_POLICY, OWNER.name);
    const either = policyOrDigest([toUnseal, bySecret]);
    await agrees(either, async (session) => {
      await tpm.policy.commandCode(session, COMMAND.unseal, SIGNAL);
      await tpm.policy.or(session, [toUnseal, bySecret], SIGNAL);
    });
    await agrees(either, async (session) => {
      await tpm.policy.secret(session, OWNER, SIGNAL);
      await tpm.policy.or(session, [toUnseal, bySecret], SIGNAL);
    });
    const toCertify = policyCommandCodeDigest(NO_POLICY, COMMAND.certify);
    await assert.rejects(unsealedBy(toCertify, (session) => tpm.policy.commandCode(session, COMMAND.certify, SIGNAL)), { base: RC_FORMAT_1.policyCc });
  });

  it('PolicyAuthValue and PolicyPassword: one digest, the authValue in the HMAC or in clear', async () => {
    const authValue = Buffer.from('open, sesame');
    const policy = policyAuthValueDigest(NO_POLICY);
    await agrees(policy, (session) => tpm.policy.authValue(session, SIGNAL), authValue);
    await agrees(policy, (session) => tpm.policy.password(session, SIGNAL), authValue);
    await assert.rejects(unsealedBy(policy, async () => undefined, authValue), { base: RC_FORMAT_1.policyFail });
    const sealed = await tpm.keys.create(srk, sealedData({ authPolicy: policy }), { data: SECRET, authValue }, SIGNAL);
    await using object = await tpm.keys.load(srk, sealed, SIGNAL);
    for (const demand of ['authValue', 'password'] as const) {
      await using session = await tpm.sessions.startPolicy({ salt: srk }, SIGNAL);
      await tpm.policy[demand](session, SIGNAL);
      await assert.rejects(tpm.keys.unseal(withAuth(object, Buffer.from('open, barley')), SIGNAL, session.use()), { code: 'tpm.refused' });
      assert.deepEqual(await tpm.keys.unseal(withAuth(object, authValue), SIGNAL, session.use()), SECRET, 'a refusal leaves the session as it was');
    }
  });

  it('a use or a restart empties the session, and the same one can go the way again', async () => {
    const policy = policySecretDigest(NO_POLICY, OWNER.name);
    const sealed = await tpm.keys.create(srk, sealedData({ authPolicy: policy }), { data: SECRET }, SIGNAL);
    await using object = await tpm.keys.load(srk, sealed, SIGNAL);
    await using session = await tpm.sessions.startPolicy({}, SIGNAL);
    for (let uses = 0; uses < 2; uses += 1) {
      await tpm.policy.secret(session, OWNER, SIGNAL);
      assert.deepEqual(await tpm.keys.unseal(object, SIGNAL, session.use()), SECRET);
      assert.deepEqual(await tpm.policy.digest(session, SIGNAL), Buffer.alloc(32));
    }
    await tpm.policy.secret(session, OWNER, SIGNAL);
    await tpm.policy.restart(session, SIGNAL);
    await assert.rejects(tpm.keys.unseal(object, SIGNAL, session.use()), { base: RC_FORMAT_1.policyFail });
  });

  it('a trial session authorises nothing', async () => {
    await using session = await tpm.sessions.startTrial(SIGNAL);
    assert.throws(() => session.use(), { code: 'tpm.usage' });
  });

  it('signatures of ours are those of TPM2_Sign', async () => {
    assert.equal(TPM_ALG.ecdsa, 0x18);
    assert.equal(toHex(ecdsaSignature(Buffer.alloc(64, 1))), `0018000b0020${'01'.repeat(32)}0020${'01'.repeat(32)}`);
  });
});
