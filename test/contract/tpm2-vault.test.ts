import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { permanent } from '#drivers/tpm2/command.ts';
import { bootPolicy } from '#drivers/tpm2/bootPolicy.ts';
import { HANDLE, PERSISTENT } from '#drivers/tpm2/constants.ts';
import { approvalOf } from '#drivers/tpm2/policyDigest.ts';
import { srkRsa2048 } from '#drivers/tpm2/templates.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { openVault } from '#drivers/tpm2/vault.ts';
import { authorityPoint, signAsAuthority } from '#provisioning/identity/authority.ts';
import { hierarchyAuthOf } from '#provisioning/identity/secrets.ts';
import type { Approved, BootState, KeyVault, SealingPolicy } from '#runtime/core/ports.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { NEVER } from '#test/support/sealHarness.ts';
import { temporaryTpm, transportTo, type TemporaryTpm } from '#test/support/swtpm.ts';

const SECRET = Buffer.alloc(32, 7);
const AUTH = hierarchyAuthOf(Buffer.alloc(32, 9));
const PCRS = [0, 7];

describe('TPM vault, on an emulator', () => {
  const owner = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  const policy: SealingPolicy = { authority: authorityPoint(owner), policyRef: sha256(Buffer.from('these keys')) };
  let emulator: TemporaryTpm;
  let tpm: Tpm;
  let vault: KeyVault;
  const connect = (): void => { tpm = new Tpm(transportTo(emulator.address)); vault = openVault(tpm); };
  const approve = (state: BootState, { policyRef } = policy): Approved => ({ state, signature: signAsAuthority(owner, approvalOf(bootPolicy(state), policyRef)) });
  const refused = (name: RegExp) => (error: unknown): boolean => error instanceof Error && name.test(error.message);

  beforeEach(async function () { emulator = await temporaryTpm(this, { own: true }); connect(); });
  afterEach(async () => { await tpm[Symbol.asyncDispose](); await emulator[Symbol.asyncDispose](); });

  it('gives the secret back in the approved state, over resets, and however often what it needs is made', async () => {
    const names = await vault.prepare(NEVER);
    const sealed = await vault.seal(SECRET, policy, names.parent, NEVER);
    const approved = approve(await vault.bootState(PCRS, NEVER));
    assert.deepEqual(await vault.unseal(sealed, policy, approved, names.parent, NEVER), SECRET);
    await tpm[Symbol.asyncDispose]();
    await emulator.restart({ hard: true });
    connect();
    assert.equal(await vault.identify(names, NEVER), 'ours');
    assert.deepEqual(await vault.prepare(NEVER), names);
    assert.deepEqual(await vault.unseal(sealed, policy, approved, names.parent, NEVER), SECRET);
  });

  it('keeps it in another boot state, until that one is approved', async () => {
    const { parent } = await vault.prepare(NEVER);
    const sealed = await vault.seal(SECRET, policy, parent, NEVER);
    const before = approve(await vault.bootState(PCRS, NEVER));
    await tpm.pcr.extend(7, Buffer.alloc(32, 1), NEVER);
    await assert.rejects(vault.unseal(sealed, policy, before, parent, NEVER), refused(/policyAuthorize: value/));
    const now = await vault.bootState(PCRS, NEVER);
    await assert.rejects(vault.unseal(sealed, policy, { ...approve(now), signature: before.signature }, parent, NEVER), refused(/verifySignature: signature/));
    assert.deepEqual(await vault.unseal(sealed, policy, approve(now), parent, NEVER), SECRET);
  });

  it('opens nothing by an approval for other keys, or of another authority', async () => {
    const { parent } = await vault.prepare(NEVER);
    const sealed = await vault.seal(SECRET, policy, parent, NEVER);
    const state = await vault.bootState(PCRS, NEVER);
    const others = { ...policy, policyRef: sha256(Buffer.from('other keys')) };
    await assert.rejects(vault.unseal(sealed, others, approve(state, others), parent, NEVER), refused(/policyFail/));
    const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    const forged = { state, signature: signAsAuthority(stranger, approvalOf(bootPolicy(state), policy.policyRef)) };
    await assert.rejects(vault.unseal(sealed, policy, forged, parent, NEVER), refused(/signature/));
    await assert.rejects(vault.unseal(sealed, { ...policy, authority: authorityPoint(stranger) }, forged, parent, NEVER), refused(/policyFail/));
  });

  it('never opens again what was revoked, though its approval is at hand', async () => {
    const { parent } = await vault.prepare(NEVER);
    const sealed = await vault.seal(SECRET, policy, parent, NEVER);
    const before = approve(await vault.bootState(PCRS, NEVER));
    assert.equal(await vault.revoke(AUTH, parent, NEVER), before.state.revocation + 1n);
    await assert.rejects(vault.unseal(sealed, policy, before, parent, NEVER), refused(/policyNv/));
  });

  it('owns the TPM with secrets of its own, twice if need be, and works on', async () => {
    const { parent } = await vault.prepare(NEVER);
    const sealed = await vault.seal(SECRET, policy, parent, NEVER);
    const approved = approve(await vault.bootState(PCRS, NEVER));
    assert.deepEqual(await vault.ownership(NEVER), { owner: false, endorsement: false, lockout: false });
    await vault.own(AUTH, parent, NEVER);
    await vault.own(AUTH, parent, NEVER);
    assert.deepEqual(await vault.ownership(NEVER), { owner: true, endorsement: true, lockout: true });
    await assert.rejects(tpm.keys.createPrimary(HANDLE.owner, srkRsa2048(), NEVER), refused(/badAuth/));
    assert.deepEqual(await vault.unseal(sealed, policy, approved, parent, NEVER), SECRET);
    await vault.prepare(NEVER);
    await assert.rejects(vault.own(hierarchyAuthOf(Buffer.alloc(32, 1)), parent, NEVER), { code: 'identity.tpm_owned' });
    await assert.rejects(vault.revoke(hierarchyAuthOf(Buffer.alloc(32, 1)), parent, NEVER), { code: 'identity.tpm_owned' });
    await vault.revoke(AUTH, parent, NEVER);
    await tpm.hierarchy.clear(permanent(HANDLE.lockout, AUTH.lockout), NEVER);
    await assert.rejects(vault.unseal(sealed, policy, approved, parent, NEVER), { code: 'identity.tpm_foreign' });
  });

  it('tells a TPM that was cleared, or lost its counter, from another one', async function () {
    const names = await vault.prepare(NEVER);
    await tpm.hierarchy.clear(permanent(HANDLE.lockout), NEVER);
    assert.equal(await vault.identify(names, NEVER), 'cleared');
    await using other = await temporaryTpm(this, { own: true });
    await using another = new Tpm(transportTo(other.address));
    assert.equal(await openVault(another).identify(names, NEVER), 'foreign');
    const again = await vault.prepare(NEVER);
    assert.notDeepEqual(again.parent, names.parent);
    assert.deepEqual(again.attestationKey, names.attestationKey);
  });

  it('leaves a stranger at its handle alone, and says so', async () => {
    await tpm.startup(NEVER);
    const stranger = await tpm.keys.createPrimary(HANDLE.owner, srkRsa2048(), NEVER);
    await tpm.keys.persist(stranger, PERSISTENT.storageKey, permanent(HANDLE.owner), NEVER);
    await assert.rejects(vault.prepare(NEVER), { code: 'identity.handle_taken' });
    assert.deepEqual((await tpm.keys.readPublic(PERSISTENT.storageKey, NEVER)).name, stranger.name);
  });
});
