/** Keys and sessions beyond the places that a bare TPM has, and that none is left behind: against a real emulator without a resource manager. */
import assert from 'node:assert/strict';
import { HANDLE, HANDLE_RANGE } from '#drivers/tpm2/constants.ts';
import { RC } from '#drivers/tpm2/errors.ts';
import type { LoadedKey } from '#drivers/tpm2/keys.ts';
import { akP256, sealedData, srkP256 } from '#drivers/tpm2/templates.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { socketTransport } from '#drivers/tpm2/transport.ts';
import { publicKeyOf, verifyAttestSignature } from '#runtime/crypto/tpmEvidence.ts';
import { temporaryTpm, transportTo, type TemporaryTpm } from '#test/support/swtpm.ts';
import { refusal, tpmProxy, type TpmProxy } from '#test/support/tpmProxy.ts';
import { until } from '#test/support/until.ts';

const SIGNAL = new AbortController().signal;
const H = Buffer.alloc(32, 7);

describe('tpm2: places', () => {
  let emulator: TemporaryTpm;
  let tpm: Tpm;

  beforeEach(async function () {
    emulator = await temporaryTpm(this);
    tpm = new Tpm(transportTo(emulator.address));
    await tpm.startup(SIGNAL);
  });
  afterEach(async () => {
    await tpm?.[Symbol.asyncDispose]();
    await emulator?.[Symbol.asyncDispose]();
  });

  const loaded = async (): Promise<number[]> => (await Promise.all([HANDLE_RANGE.transient, HANDLE_RANGE.loadedSession, HANDLE_RANGE.savedSession].map((first) => tpm.info.handles(first, SIGNAL)))).flat();

  it('serves more keys than the TPM holds, in any order, and leaves none', async () => {
    {
      await using stack = new AsyncDisposableStack();
      const keys: LoadedKey[] = [];
      for (let made = 0; made < 6; made += 1) keys.push(stack.use(await tpm.keys.createPrimary(HANDLE.endorsement, akP256(), SIGNAL)));
      for (const ak of [...keys, ...keys.toReversed()]) {
        const { attest, signature } = await tpm.attest.quote(ak, H, [0], SIGNAL);
        assert.ok(verifyAttestSignature(publicKeyOf(ak.public.area), attest, signature));
      }
      assert.equal((await loaded()).length, 3);
    }
    assert.deepEqual(await loaded(), []);
  });

  it('serves more sessions than the TPM holds, and leaves none', async () => {
    {
      await using srk = await tpm.keys.createPrimary(HANDLE.owner, srkP256(), SIGNAL);
      await using stack = new AsyncDisposableStack();
      const sessions = [];
      for (let started = 0; started < 7; started += 1) sessions.push(stack.use(await tpm.sessions.startHmac({ salt: srk }, SIGNAL)));
      for (const session of [...sessions, ...sessions.toReversed()]) assert.equal((await tpm.info.getRandom(16, SIGNAL, session.use({ encryptResponse: true }))).length, 16);
    }
    assert.deepEqual(await loaded(), []);
  });

  it('makes room by flushing what an earlier client left', async () => {
    for (let keys = 0; keys < 3; keys += 1) await tpm.keys.createPrimary(HANDLE.endorsement, akP256(), SIGNAL);
    await using later = new Tpm(transportTo(emulator.address));
    await tpm[Symbol.asyncDispose]();
    await using ak = await later.keys.createPrimary(HANDLE.endorsement, akP256(), SIGNAL);
    assert.equal((await later.info.handles(HANDLE_RANGE.transient, SIGNAL)).length, 1);
    await later.attest.quote(ak, H, [0], SIGNAL);
  });

  it('keeps a session that idles while others come and go', async () => {
    await using srk = await tpm.keys.createPrimary(HANDLE.owner, srkP256(), SIGNAL);
    await using idle = await tpm.sessions.startHmac({ salt: srk }, SIGNAL);
    await using stack = new AsyncDisposableStack();
    const busy = [];
    for (let started = 0; started < 4; started += 1) busy.push(stack.use(await tpm.sessions.startHmac({ salt: srk }, SIGNAL)));
    for (let rounds = 0; rounds < 80; rounds += 1) for (const session of busy) await tpm.info.getRandom(8, SIGNAL, session.use({ encryptResponse: true }));
    assert.equal((await tpm.info.getRandom(8, SIGNAL, idle.use({ encryptResponse: true }))).length, 8);
  });

  it('serves concurrent callers whose keys and sessions exceed the places', async () => {
    await using srk = await tpm.keys.createPrimary(HANDLE.owner, srkP256(), SIGNAL);
    const caller = async (secret: Buffer): Promise<void> => {
      for (let rounds = 0; rounds < 5; rounds += 1) {
        await using session = await tpm.sessions.startHmac({ salt: srk }, SIGNAL);
        await using reader = await tpm.sessions.startHmac({ salt: srk }, SIGNAL);
        const wrapped = await tpm.keys.create(srk, sealedData(), { data: secret }, SIGNAL, session.use({ encryptCommand: true }));
        await using object = await tpm.keys.load(srk, wrapped, SIGNAL, session.use());
        assert.deepEqual(await tpm.keys.unseal(object, SIGNAL, session.use(), reader.use({ encryptResponse: true })), secret);
      }
    };
    await Promise.all(['one', 'two', 'three', 'four'].map((name) => caller(Buffer.from(name))));
  });

  it('flushes what a closed driver still held', async () => {
    await tpm.keys.createPrimary(HANDLE.endorsement, akP256(), SIGNAL);
    await tpm.sessions.startHmac({}, SIGNAL);
    await tpm[Symbol.asyncDispose]();
    await assert.rejects(tpm.startup(SIGNAL), { code: 'tpm.usage' });
    tpm = new Tpm(transportTo(emulator.address));
    assert.deepEqual(await loaded(), []);
  });

  it('a key that was disposed of, or flushed by hand, is tpm.key_lost', async () => {
    const disposed = await tpm.keys.createPrimary(HANDLE.endorsement, akP256(), SIGNAL);
    await disposed[Symbol.asyncDispose]();
    await using flushed = await tpm.keys.createPrimary(HANDLE.endorsement, akP256(), SIGNAL);
    await tpm.flushContext(flushed.handle, SIGNAL);
    await using other = await tpm.keys.createPrimary(HANDLE.owner, srkP256(), SIGNAL);
    for (const key of [disposed, flushed]) await assert.rejects(tpm.attest.quote(key, H, [0], SIGNAL), { code: 'tpm.key_lost' });
    await disposed[Symbol.asyncDispose]();
    assert.deepEqual(await loaded(), [other.handle]);
  });
});

describe('tpm2: places, when something goes wrong', () => {
  let emulator: TemporaryTpm;
  let proxy: TpmProxy;
  let tpm: Tpm;
  let holdMs = 0;

  beforeEach(async function () {
    emulator = await temporaryTpm(this, { bare: true });
    holdMs = 0;
    proxy = await tpmProxy(emulator.address, { holdMs: () => holdMs });
    tpm = new Tpm(socketTransport(proxy.address));
    await tpm.startup(SIGNAL);
  });
  afterEach(async () => {
    await tpm?.[Symbol.asyncDispose]();
    await proxy?.[Symbol.asyncDispose]();
    await emulator?.[Symbol.asyncDispose]();
  });

  const loaded = async (): Promise<number[]> => (await Promise.all([HANDLE_RANGE.transient, HANDLE_RANGE.loadedSession].map((first) => tpm.info.handles(first, SIGNAL)))).flat();
  const make = (signal: AbortSignal): Promise<LoadedKey> => tpm.keys.createPrimary(HANDLE.endorsement, akP256(), signal);

  it('an aborted call whose command was carried out all the same leaves nothing', async () => {
    holdMs = 30;
    const given = new AbortController();
    const made = [make(given.signal), tpm.sessions.startHmac({}, given.signal)];
    const outcomes = Promise.allSettled(made);
    await until('the TPM to have the command', () => proxy.passed() === 2);
    given.abort();
    assert.deepEqual((await outcomes).map(({ status }) => status), ['rejected', 'rejected']);
    holdMs = 0;
    assert.deepEqual(await loaded(), []);
  });

  it('a command whose answer did not come leaves nothing', async () => {
    await using before = await make(SIGNAL);
    proxy.faults.push({ kind: 'disconnect' });
    await assert.rejects(make(SIGNAL), { code: 'tpm.connection' });
    assert.deepEqual(await loaded(), [before.handle]);
    const session = await tpm.sessions.startHmac({}, SIGNAL);
    proxy.faults.push({ kind: 'disconnect' });
    await session[Symbol.asyncDispose]();
    assert.deepEqual(await loaded(), [before.handle]);
  });

  it('a key whose answer was altered is flushed', async () => {
    await using srk = await tpm.keys.createPrimary(HANDLE.owner, srkP256(), SIGNAL);
    await using session = await tpm.sessions.startHmac({ salt: srk }, SIGNAL);
    const alter = (response: Buffer): Buffer => { response[response.length - 1] = response.readUInt8(response.length - 1) ^ 1; return response; };
    proxy.faults.push({ kind: 'alter', alter });
    await assert.rejects(tpm.keys.createPrimary(HANDLE.endorsement, akP256(), SIGNAL, session.use()), { code: 'tpm.hmac' });
    await assert.rejects(tpm.keys.createPrimary(HANDLE.endorsement, akP256(), SIGNAL, session.use()), { code: 'tpm.session_lost' });
    assert.deepEqual(await loaded(), [srk.handle, session.handle]);
  });

  it('a session whose answer did not come is lost, one that was refused goes on', async () => {
    await using srk = await tpm.keys.createPrimary(HANDLE.owner, srkP256(), SIGNAL);
    await using session = await tpm.sessions.startHmac({ salt: srk }, SIGNAL);
    const random = (): Promise<Buffer> => tpm.info.getRandom(8, SIGNAL, session.use({ encryptResponse: true }));
    proxy.faults.push(refusal(RC.nvUnavailable));
    await assert.rejects(random(), { base: RC.nvUnavailable });
    await random();
    proxy.faults.push({ kind: 'disconnect' });
    await assert.rejects(random(), { code: 'tpm.connection' });
    await assert.rejects(random(), { code: 'tpm.session_lost' });
  });

  it('after a reset a key of before is never mistaken for the one that now lies there', async () => {
    await using before = await make(SIGNAL);
    await emulator.restart();
    await tpm.startup(SIGNAL).catch(() => tpm.startup(SIGNAL)); // the first may still meet the old connection
    await using after = await tpm.keys.createPrimary(HANDLE.owner, srkP256(), SIGNAL);
    assert.equal(after.handle, before.handle);
    await assert.rejects(tpm.attest.quote(before, H, [0], SIGNAL), { code: 'tpm.key_lost' });
    await before[Symbol.asyncDispose]();
    assert.deepEqual(await loaded(), [after.handle]);
  });

  it('a TPM that was reset in mid-command is started, and then cleaned up', async () => {
    proxy.faults.push({ kind: 'disconnect' });
    await assert.rejects(make(SIGNAL), { code: 'tpm.connection' });
    const before = proxy.passed();
    proxy.faults.push(refusal(RC.initialize)); // to the question what is loaded
    await tpm.startup(SIGNAL);
    assert.equal(proxy.passed(), before + 1, 'the TPM got its startup');
    assert.deepEqual(await loaded(), []);
  });

  it('a TPM that has no room even so says what to do', async () => {
    proxy.faults.push(refusal(RC.objectMemory), refusal(RC.objectMemory));
    const answer = make(SIGNAL);
    await assert.rejects(answer, { code: 'tpm.refused', base: RC.objectMemory, message: /dispose of some/ });
  });
});
