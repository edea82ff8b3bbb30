/** Who may do what: authValues as passwords and in HMACs, hierarchies with passwords, lockout, and parameters that are encrypted on the way. */
import assert from 'node:assert/strict';
import { permanent, withAuth, type Entity } from '#drivers/tpm2/command.ts';
import { COMMAND, HANDLE } from '#drivers/tpm2/constants.ts';
import { RC, RC_FORMAT_1 } from '#drivers/tpm2/errors.ts';
import type { LoadedKey } from '#drivers/tpm2/keys.ts';
import { password, type Authorization, type Session } from '#drivers/tpm2/session.ts';
import { akP256, ekEccP256, sealedData, signingP256, srkP256 } from '#drivers/tpm2/templates.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import type { Transport } from '#drivers/tpm2/transport.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { NV_ATTRIBUTE, parseAttest, publicKeyOf, verifyAttestSignature } from '#runtime/crypto/tpmEvidence.ts';
import { temporaryTpm, transportTo, type TemporaryTpm } from '#test/support/swtpm.ts';

const SIGNAL = new AbortController().signal;
const SECRET = Buffer.from('something that nobody may see on the bus');
const AUTH = Buffer.from('a password for the test');
const H = sha256(Buffer.from('a block'));

/** Keeps what passes over the bus. */
class Tapped implements Transport {
  readonly passed: Buffer[] = [];
  readonly #to: Transport;
  constructor(to: Transport) { this.#to = to; }
  async transact(command: Buffer, signal: AbortSignal): Promise<Buffer> {
    const response = await this.#to.transact(command, signal);
    this.passed.push(command, response);
    return response;
  }
  shows(bytes: Buffer): boolean { return this.passed.some((message) => message.includes(bytes)); }
  [Symbol.asyncDispose](): PromiseLike<void> { return this.#to[Symbol.asyncDispose](); }
}

describe('tpm2: authorisation', () => {
  let emulator: TemporaryTpm;
  let bus: Tapped;
  let tpm: Tpm;
  let srk: LoadedKey;

  beforeEach(async function () {
    emulator = await temporaryTpm(this, { own: true });
    bus = new Tapped(transportTo(emulator.address));
    tpm = new Tpm(bus);
    await tpm.startup(SIGNAL);
    srk = await tpm.keys.createPrimary(HANDLE.owner, srkP256(), SIGNAL);
  });
  afterEach(async () => {
    await tpm?.[Symbol.asyncDispose]();
    await emulator?.[Symbol.asyncDispose]();
  });

  const secretly = { encryptCommand: true, encryptResponse: true };
  const receiving = { encryptResponse: true };
  const salted = (): Promise<Session> => tpm.sessions.startHmac({ salt: srk }, SIGNAL);

  it('an authValue goes as a password or into the HMAC, and a wrong one is refused', async () => {
    const sealed = await tpm.keys.create(srk, sealedData(), { data: SECRET, authValue: AUTH }, SIGNAL);
    await using object = await tpm.keys.load(srk, sealed, SIGNAL);
    await using session = await salted();
    await using unsalted = await tpm.sessions.startHmac({}, SIGNAL);
    const known = withAuth(object, AUTH);
    for (const by of [password, session.use(), unsalted.use(), session.use()]) assert.deepEqual(await tpm.keys.unseal(known, SIGNAL, by), SECRET);
    for (const by of [password, session.use(), unsalted.use()]) await assert.rejects(tpm.keys.unseal(object, SIGNAL, by), { base: RC_FORMAT_1.badAuth });
    assert.deepEqual(await tpm.keys.unseal(known, SIGNAL, session.use()), SECRET, 'a refusal leaves the session as it was');
    assert.deepEqual(await tpm.keys.unseal(withAuth(object, Buffer.concat([AUTH, Buffer.alloc(4)])), SIGNAL, session.use()), SECRET, 'trailing zeros do not count');
  });

  it('a salted session shows neither secret nor authValue on the bus', async () => {
    await using session = await salted();
    const sealed = await tpm.keys.create(srk, sealedData(), { data: SECRET, authValue: AUTH }, SIGNAL, session.use(secretly));
    await using object = await tpm.keys.load(srk, sealed, SIGNAL, session.use());
    assert.deepEqual(await tpm.keys.unseal(withAuth(object, AUTH), SIGNAL, session.use({ encryptResponse: true })), SECRET);
    assert.ok(!bus.shows(SECRET) && !bus.shows(AUTH));
    assert.deepEqual(await tpm.keys.unseal(withAuth(object, AUTH), SIGNAL), SECRET);
    assert.ok(bus.shows(SECRET) && bus.shows(AUTH), 'a password does');
  });

  it('one session authorises while another encrypts, or two do, one each way', async () => {
    await using one = await salted();
    await using two = await salted();
    await using three = await salted();
    const sealed = await tpm.keys.create(srk, sealedData(), { data: SECRET, authValue: AUTH }, SIGNAL, one.use(), two.use({ encryptCommand: true }), three.use({ encryptResponse: true }));
    await using object = await tpm.keys.load(srk, sealed, SIGNAL, password, two.use(secretly));
    const known = withAuth(object, AUTH);
    for (const authorizations of [
      [one.use(), two.use({ encryptResponse: true })], [password, two.use({ encryptResponse: true })], [one.use({ encryptResponse: true })],
    ] as readonly (readonly Authorization[])[]) assert.deepEqual(await tpm.keys.unseal(known, SIGNAL, ...authorizations), SECRET);
    const random = await tpm.info.getRandom(24, SIGNAL, two.use({ encryptResponse: true }));
    assert.equal(random.length, 24);
    assert.ok(!bus.shows(random));
  });

  it('two entities of one command take one authorisation each', async () => {
    const ak = await tpm.keys.createPrimary(HANDLE.endorsement, akP256(), SIGNAL);
    const wrapped = await tpm.keys.create(srk, signingP256(), { authValue: AUTH }, SIGNAL);
    await using key = withAuth(await tpm.keys.load(srk, wrapped, SIGNAL), AUTH);
    await using one = await salted();
    await using two = await salted();
    for (const authorizations of [[], [one.use()], [one.use(), two.use({ encryptCommand: true })], [password, two.use(secretly)]]) {
      const { attest, signature } = await tpm.attest.certify(key, ak, H, SIGNAL, ...authorizations);
      assert.ok(verifyAttestSignature(publicKeyOf(ak.public.area), attest, signature));
      const { attested, extraData } = parseAttest(attest);
      assert.ok(attested.kind === 'object');
      assert.deepEqual([toHex(attested.name), toHex(extraData)], [toHex(key.name), toHex(H)]);
    }
    const digest = sha256(SECRET);
    const signature = await tpm.keys.sign(key, digest, SIGNAL, one.use());
    assert.ok(verifyAttestSignature(publicKeyOf(key.public.area), SECRET, signature));
    await tpm.keys.verifySignature(key, digest, signature, SIGNAL);
    await assert.rejects(tpm.keys.verifySignature(key, H, signature, SIGNAL), { base: RC_FORMAT_1.signature });
  });

  it('a hierarchy gets a password and another one, by HMAC sessions that encrypt it, and TPM2_Clear takes it away', async () => {
    await using session = await salted();
    const owner = permanent(HANDLE.owner);
    const endorsed = await tpm.keys.createPrimary(HANDLE.endorsement, ekEccP256(), SIGNAL);
    await tpm.hierarchy.changeAuth(owner, AUTH, SIGNAL, session.use({ encryptCommand: true }));
    await assert.rejects(tpm.keys.createPrimary(owner, srkP256(), SIGNAL), { base: RC_FORMAT_1.badAuth });
    const known = permanent(HANDLE.owner, AUTH);
    for (const by of [password, session.use()]) await (await tpm.keys.createPrimary(known, srkP256(), SIGNAL, by))[Symbol.asyncDispose]();
    const other = Buffer.from('another');
    await tpm.hierarchy.changeAuth(known, other, SIGNAL, session.use({ encryptCommand: true }));
    await tpm.hierarchy.changeAuth(permanent(HANDLE.lockout), AUTH, SIGNAL, session.use({ encryptCommand: true }));
    assert.ok(!bus.shows(other));
    await using byEk = await tpm.sessions.startHmac({ salt: endorsed }, SIGNAL);
    await tpm.hierarchy.clear(permanent(HANDLE.lockout, AUTH), SIGNAL, byEk.use());
    await (await tpm.keys.createPrimary(owner, srkP256(), SIGNAL))[Symbol.asyncDispose]();
    await tpm.hierarchy.resetLockout(permanent(HANDLE.lockout), SIGNAL, byEk.use());
  });

  it('wrong guesses lock the TPM, and lockout forgives', async () => {
    const lockout = permanent(HANDLE.lockout);
    await tpm.hierarchy.setLockout(lockout, { maxTries: 2, recoveryS: 1_000, lockoutRecoveryS: 1_000 }, SIGNAL);
    const sealed = await tpm.keys.create(srk, sealedData({ limitGuesses: true }), { data: SECRET, authValue: AUTH }, SIGNAL);
    await using object = await tpm.keys.load(srk, sealed, SIGNAL);
    const guess = (): Promise<Buffer> => tpm.keys.unseal(withAuth(object, Buffer.from('guess')), SIGNAL);
    await assert.rejects(guess(), { base: RC_FORMAT_1.authFail });
    await assert.rejects(guess(), { base: RC_FORMAT_1.authFail });
    await assert.rejects(tpm.keys.unseal(withAuth(object, AUTH), SIGNAL), { base: RC.lockout, message: /locked against guessing/ });
    await tpm.hierarchy.resetLockout(lockout, SIGNAL);
    assert.deepEqual(await tpm.keys.unseal(withAuth(object, AUTH), SIGNAL), SECRET);
  });

  it('an NV index has its own authValue, or obeys the owner', async () => {
    const { authRead, authWrite, ownerRead, ownerWrite, noDa } = NV_ATTRIBUTE;
    const owner = permanent(HANDLE.owner);
    await using session = await salted();
    const defined = await tpm.nv.define({ index: 0x01800010, attributes: authRead | authWrite | noDa, sizeBytes: SECRET.length, authValue: AUTH }, owner, SIGNAL, session.use({ encryptCommand: true }));
    await tpm.nv.write(defined, 0, SECRET, SIGNAL, session.use({ encryptCommand: true }));
    const index = await tpm.nv.readPublic(0x01800010, SIGNAL);
    await assert.rejects(tpm.nv.read(index, 0, SECRET.length, SIGNAL), { base: RC_FORMAT_1.badAuth });
    assert.deepEqual(await tpm.nv.read(withAuth(index, AUTH), 0, SECRET.length, SIGNAL, session.use({ encryptResponse: true })), SECRET);
    assert.ok(!bus.shows(SECRET) && !bus.shows(AUTH));
    await tpm.nv.undefine(index, owner, SIGNAL, session.use());

    const owned = await tpm.nv.define({ index: 0x01800011, attributes: ownerRead | ownerWrite, type: 'extend' }, owner, SIGNAL);
    await tpm.nv.extend(owned, H, SIGNAL, session.use());
    const extended = await tpm.nv.readPublic(0x01800011, SIGNAL);
    assert.equal(toHex(await tpm.nv.readAll(extended, SIGNAL)), toHex(sha256(Buffer.alloc(32), H)));
  });

  it('a caller who asks for what cannot be gets tpm.usage, and nothing is sent', async () => {
    await using one = await salted();
    await using two = await salted();
    await using unsalted = await tpm.sessions.startHmac({}, SIGNAL);
    const before = bus.passed.length;
    const random = (...authorizations: Authorization[]): Promise<Buffer> => tpm.info.getRandom(8, SIGNAL, ...authorizations);
    await assert.rejects(random(one.use(), one.use()), { code: 'tpm.usage' });
    await assert.rejects(random(one.use(receiving), two.use(receiving)), { code: 'tpm.usage' });
    await assert.rejects(random(one.use()), { code: 'tpm.usage' });
    await assert.rejects(random(password), { code: 'tpm.usage' });
    await assert.rejects(random(one.use(receiving), two.use(), unsalted.use(), password), { code: 'tpm.usage' });
    assert.throws(() => unsalted.use(secretly), { code: 'tpm.usage' });
    await two[Symbol.asyncDispose]();
    await assert.rejects(random(two.use(receiving)), { code: 'tpm.session_lost' });
    const persistent: Entity = permanent(HANDLE.owner);
    await assert.rejects(async () => tpm.keys.persist(srk, 0x80000000, persistent, SIGNAL), { code: 'tpm.usage' });
    assert.equal(bus.passed.slice(before).filter((message) => message.readUInt32BE(6) === COMMAND.getRandom).length, 0);
    assert.equal((await random(one.use(receiving))).length, 8);
  });
});
