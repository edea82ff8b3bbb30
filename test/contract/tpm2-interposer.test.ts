/** Somebody on the bus between us and the TPM, who flips bits, replays and reorders: under a salted session nothing of that is ever believed. */
import assert from 'node:assert/strict';
import { HANDLE } from '#drivers/tpm2/constants.ts';
import type { LoadedKey } from '#drivers/tpm2/keys.ts';
import type { SessionUse } from '#drivers/tpm2/session.ts';
import { sealedData, srkP256 } from '#drivers/tpm2/templates.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { socketTransport } from '#drivers/tpm2/transport.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { mutate } from '#test/support/mutate.ts';
import { randomOf } from '#test/support/random.ts';
import { temporaryTpm, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tpmProxy, type Fault, type TpmProxy } from '#test/support/tpmProxy.ts';

const SIGNAL = new AbortController().signal;
const SEED = Math.floor(Math.random() * 1_000_000_000);
const ROUNDS = 120;
/** A cut answer is waited for until then. */
const TIMEOUT_MS = 40;
const SECRET = Buffer.from('what the bus must never show');

describe(`tpm2: an interposer on the bus, seed ${SEED}`, function () {
  this.timeout(60_000);
  const random = randomOf(SEED);
  let emulator: TemporaryTpm;
  let proxy: TpmProxy;
  let tpm: Tpm;
  let srk: LoadedKey;
  /** What the bus has carried from the TPM. */
  let seen: Buffer[];

  beforeEach(async function () {
    emulator = await temporaryTpm(this, { bare: true });
    proxy = await tpmProxy(emulator.address);
    tpm = new Tpm(socketTransport(proxy.address), { timeoutMs: TIMEOUT_MS });
    await tpm.startup(SIGNAL);
    srk = await tpm.keys.createPrimary(HANDLE.owner, srkP256(), SIGNAL);
    seen = [];
  });
  afterEach(async () => {
    await tpm?.[Symbol.asyncDispose]();
    await proxy?.[Symbol.asyncDispose]();
    await emulator?.[Symbol.asyncDispose]();
  });

  const spoilt = (alter: (response: Buffer) => Buffer): Fault => ({ kind: 'alter', alter: (response) => { seen.push(Buffer.from(response)); return alter(response); } });
  const passed = spoilt((response) => response);

  /** A secret out of the TPM under a fresh salted session, while `fault` happens to its last command. */
  async function unsealUnder(fault: Fault, use: SessionUse): Promise<Buffer> {
    await using session = await tpm.sessions.startHmac({ salt: srk }, SIGNAL);
    const wrapped = await tpm.keys.create(srk, sealedData(), { data: SECRET }, SIGNAL, session.use({ encryptCommand: true }));
    await using object = await tpm.keys.load(srk, wrapped, SIGNAL);
    proxy.faults.push(fault);
    return await tpm.keys.unseal(object, SIGNAL, session.use(use));
  }

  async function isNeverBelieved(fault: Fault): Promise<void> {
    try {
      assert.deepEqual(await unsealUnder(fault, { encryptResponse: true }), SECRET);
    } catch (error) {
      assert.ok(error instanceof TenzroError && error.code.startsWith('tpm.'), String(error));
    }
    proxy.faults.length = 0;
    assert.deepEqual(await unsealUnder(passed, { encryptResponse: true }), SECRET, 'the driver is of no use afterwards');
  }

  it('who flips, cuts, stretches and rewrites answers is found out', async () => {
    for (let round = 0; round < ROUNDS / 5; round++) await isNeverBelieved(spoilt((response) => mutate([response], SEED + round)));
  });

  it('who replays an earlier answer is found out', async () => {
    await unsealUnder(passed, { encryptResponse: true });
    for (let round = 0; round < 10; round++) {
      const earlier = seen[random(seen.length)] ?? Buffer.alloc(0);
      await assert.rejects(unsealUnder({ kind: 'answer', response: earlier }, { encryptResponse: true }), { code: 'tpm.hmac' });
      proxy.faults.length = 0;
    }
  });

  it('who swaps the answers of two commands is found out', async () => {
    await using session = await tpm.sessions.startHmac({ salt: srk }, SIGNAL);
    let held: Buffer = Buffer.alloc(0);
    proxy.faults.push({ kind: 'alter', alter: (response) => { held = response; return response; } });
    const first = await tpm.info.getRandom(32, SIGNAL, session.use({ encryptResponse: true }));
    proxy.faults.push({ kind: 'alter', alter: () => held });
    await assert.rejects(tpm.info.getRandom(32, SIGNAL, session.use({ encryptResponse: true })), { code: 'tpm.hmac' });
    await assert.rejects(tpm.info.getRandom(32, SIGNAL, session.use({ encryptResponse: true })), { code: 'tpm.session_lost' });
    assert.equal(first.length, 32);
  });

  it('who only listens sees neither the secret that goes in nor the one that comes out', async () => {
    proxy.faults.push(...Array.from({ length: 12 }, () => passed));
    await unsealUnder(passed, { encryptResponse: true });
    assert.ok(seen.length >= 4);
    assert.ok(seen.every((bytes) => !bytes.includes(SECRET)));
    assert.ok(proxy.commands.every((bytes) => !bytes.includes(SECRET)));
    await unsealUnder(passed, {});
    assert.ok(seen.some((bytes) => bytes.includes(SECRET)), 'the control: without encryption the bus shows it');
  });

  it('without a session bent answers end in an error or in a value, and the driver works on', async () => {
    for (let round = 0; round < ROUNDS; round++) {
      proxy.faults.push(spoilt((response) => mutate([response], SEED + round)));
      await tpm.pcr.read([0, 14], SIGNAL).catch((error: unknown) => assert.ok(error instanceof TenzroError && error.code.startsWith('tpm.'), String(error)));
    }
    proxy.faults.length = 0;
    assert.equal((await tpm.pcr.read([0, 14], SIGNAL)).length, 2);
  });
});
