/** What the way to a TPM can do to a command: each ends in a typed error, and the driver works on afterwards. */
import assert from 'node:assert/strict';
import { RC } from '#drivers/tpm2/errors.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { deviceTransport, socketTransport } from '#drivers/tpm2/transport.ts';
import { HANDLE } from '#drivers/tpm2/constants.ts';
import { ekEccP256 } from '#drivers/tpm2/templates.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { temporaryTpm, transportTo, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tempDir } from '#test/support/temp.ts';
import { refusal, tpmProxy, type Fault, type TpmProxy } from '#test/support/tpmProxy.ts';

const SIGNAL = new AbortController().signal;

describe('tpm2: faults on the way', () => {
  let emulator: TemporaryTpm;
  let proxy: TpmProxy;
  let tpm: Tpm;

  beforeEach(async function () {
    emulator = await temporaryTpm(this);
    proxy = await tpmProxy(emulator.address);
    tpm = new Tpm(socketTransport(proxy.address), { timeoutMs: 300 });
    await tpm.startup(SIGNAL);
  });
  afterEach(async () => {
    await tpm?.[Symbol.asyncDispose]();
    await proxy?.[Symbol.asyncDispose]();
    await emulator?.[Symbol.asyncDispose]();
  });

  const works = async (): Promise<void> => assert.equal((await tpm.info.getRandom(8, SIGNAL)).length, 8);
  const altered = (alter: (response: Buffer) => Buffer): Fault => ({ kind: 'alter', alter });
  const withSize = (response: Buffer, size: number): Buffer => { response.writeUInt32BE(size, 2); return response; };

  for (const [name, fault, code] of [
    ['a response that is cut short', altered((response) => response.subarray(0, response.length - 3)), 'tpm.timeout'],
    ['a response that is cut short and says so', altered((response) => withSize(response.subarray(0, response.length - 3), response.length - 3)), 'tpm.response'],
    ['a response with bytes behind it', altered((response) => Buffer.concat([response, Buffer.alloc(1)])), 'tpm.response'],
    ['a response whose header counts bytes behind its parameters', altered((response) => withSize(Buffer.concat([response, Buffer.alloc(1)]), response.length + 1)), 'tpm.response'],
    ['a response of an absurd size', altered((response) => withSize(response, 0xffffffff)), 'tpm.response'],
    ['a response of size 0', altered((response) => withSize(response, 0)), 'tpm.response'],
    ['a response with a wrong tag', altered((response) => { response[1] = 0xc4; return response; }), 'tpm.response'],
    ['more bytes than were asked for', altered((response) => { response.writeUInt16BE(7, 10); return withSize(response.subarray(0, 19), 19); }), 'tpm.response'],
    ['the TPM gone in mid-command', { kind: 'disconnect' } as const, 'tpm.connection'],
    ['a TPM that is silent', { kind: 'silence' } as const, 'tpm.timeout'],
    ['a refusal', refusal(RC.failure), 'tpm.refused'],
  ] as const) {
    it(`${name}: ${code}`, async () => {
      proxy.faults.push(fault);
      await assert.rejects(tpm.info.getRandom(8, SIGNAL), { code });
      await works();
    });
  }

  for (const code of [RC.retry, RC.yielded, RC.testing, RC.nvRate]) {
    it(`sends again what was answered with 0x${code.toString(16)}`, async () => {
      const before = proxy.passed();
      proxy.faults.push(refusal(code), refusal(code), refusal(code));
      await works();
      assert.equal(proxy.passed(), before + 1);
    });
  }

  it('gives a TPM up that stays busy', async () => {
    proxy.faults.push(...Array.from({ length: LIMITS.tpmRetriesMax + 1 }, () => refusal(RC.retry)));
    await assert.rejects(tpm.info.getRandom(8, SIGNAL), { code: 'tpm.busy' });
    proxy.faults.length = 0;
    await works();
  });

  it('an altered response under a session is found out', async () => {
    await using key = await tpm.keys.createPrimary(HANDLE.endorsement, ekEccP256(), SIGNAL);
    await using session = await tpm.sessions.startHmac({ salt: key }, SIGNAL);
    const encrypted = { encryptResponse: true };
    assert.equal((await tpm.info.getRandom(8, SIGNAL, session.use(encrypted))).length, 8);
    proxy.faults.push(altered((response) => { response[16] = response.readUInt8(16) ^ 1; return response; })); // the first random byte
    await assert.rejects(tpm.info.getRandom(8, SIGNAL, session.use(encrypted)), { code: 'tpm.hmac' });
    await works();
  });

  it('the calls behind a failing one are carried out', async () => {
    proxy.faults.push({ kind: 'disconnect' });
    const outcomes = await Promise.allSettled([tpm.info.getRandom(8, SIGNAL), tpm.info.getRandom(9, SIGNAL), tpm.info.readClock(SIGNAL)]);
    assert.deepEqual(outcomes.map(({ status }) => status), ['rejected', 'fulfilled', 'fulfilled']);
  });
});

describe('tpm2: a TPM that goes away', () => {
  it('is tpm.connection or tpm.unavailable, and works when it is back', async function () {
    await using emulator = await temporaryTpm(this, { own: true });
    await using tpm = new Tpm(transportTo(emulator.address));
    await tpm.startup(SIGNAL);
    const resets = (await tpm.info.readClock(SIGNAL)).resetCount;
    await emulator.stop();
    await assert.rejects(tpm.info.getRandom(8, SIGNAL), (error: { code?: string }) => error.code === 'tpm.connection' || error.code === 'tpm.unavailable');
    await emulator.restart();
    await tpm.startup(SIGNAL);
    assert.equal((await tpm.info.readClock(SIGNAL)).resetCount, resets + 1);
  });
});

describe('tpm2: no TPM there', () => {
  it('a missing device or socket is tpm.unavailable, a socket nobody listens on too', async () => {
    using dir = tempDir('no-tpm');
    for (const transport of [deviceTransport(`${dir.path}/tpmrm0`), socketTransport(`${dir.path}/tpm.sock`), socketTransport('127.0.0.1:1')]) {
      await using tpm = new Tpm(transport);
      await assert.rejects(tpm.startup(SIGNAL), { code: 'tpm.unavailable' });
    }
  });

  it('something else than a TPM behind the device is tpm.connection or tpm.response, not a hang', async () => {
    for (const path of ['/dev/null', '/dev/full', '/dev/zero']) {
      await using tpm = new Tpm(deviceTransport(path));
      await assert.rejects(tpm.startup(SIGNAL), (error: { code?: string }) => error.code === 'tpm.response' || error.code === 'tpm.connection');
    }
  });
});
