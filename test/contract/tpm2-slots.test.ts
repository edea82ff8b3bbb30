/** Keys and sessions beyond the places that a bare TPM has, and that none is left behind: against a real emulator without a resource manager. */
import assert from 'node:assert/strict';
import { HANDLE, HANDLE_RANGE } from '#drivers/tpm2/constants.ts';
import type { LoadedKey } from '#drivers/tpm2/keys.ts';
import { akP256, srkP256 } from '#drivers/tpm2/templates.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { publicKeyOf, verifyAttestSignature } from '#runtime/crypto/tpmEvidence.ts';
import { temporaryTpm, transportTo, type TemporaryTpm } from '#test/support/swtpm.ts';

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
});
