/** What a TPM tells about itself, against a real emulator. */
import assert from 'node:assert/strict';
import { CAPABILITY, COMMAND, HANDLE, HANDLE_RANGE, PROPERTY } from '#drivers/tpm2/constants.ts';
import { permanent } from '#drivers/tpm2/command.ts';
import { TpmWriter } from '#drivers/tpm2/codec.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import type { Transport } from '#drivers/tpm2/transport.ts';
import { NV_ATTRIBUTE, TPM_ALG } from '#runtime/crypto/tpmEvidence.ts';
import { temporaryTpm, transportTo, type TemporaryTpm } from '#test/support/swtpm.ts';

const SIGNAL = new AbortController().signal;

describe('tpm2: information', () => {
  let emulator: TemporaryTpm;
  let tpm: Tpm;

  before(async function () {
    emulator = await temporaryTpm(this, { own: true });
    tpm = new Tpm(transportTo(emulator.address));
    await tpm.startup(SIGNAL);
  });
  after(async () => {
    await tpm?.[Symbol.asyncDispose]();
    await emulator?.[Symbol.asyncDispose]();
  });

  it('lists algorithms, commands and PCR banks', async () => {
    const algorithms = await tpm.info.algorithms(SIGNAL);
    for (const algorithm of [TPM_ALG.rsa, TPM_ALG.sha256, TPM_ALG.ecdsa, TPM_ALG.ecc, TPM_ALG.aes, TPM_ALG.cfb, TPM_ALG.keyedHash]) assert.ok(algorithms.has(algorithm));
    const commands = await tpm.info.commands(SIGNAL);
    for (const code of Object.values(COMMAND)) assert.ok(commands.includes(code), `0x${code.toString(16)}`);
    assert.deepEqual((await tpm.info.pcrBanks(SIGNAL)).find(({ hash }) => hash === TPM_ALG.sha256)?.pcrs, Array.from({ length: 24 }, (_, pcr) => pcr));
  });

  it('lists more handles than one response holds, and only those of the range', async () => {
    const owner = permanent(HANDLE.owner);
    const { ownerRead, ownerWrite } = NV_ATTRIBUTE;
    const wanted = Array.from({ length: 70 }, (_, at) => 0x01800200 + at);
    for (const index of wanted) await tpm.nv.define({ index, attributes: ownerRead | ownerWrite, sizeBytes: 1 }, owner, SIGNAL);
    assert.deepEqual(await tpm.info.handles(0x01800200, SIGNAL), wanted);
    assert.deepEqual(await tpm.info.handles(HANDLE_RANGE.transient, SIGNAL), []);
    assert.deepEqual([...(await tpm.info.properties(PROPERTY.manufacturer, PROPERTY.manufacturer, SIGNAL)).keys()], [PROPERTY.manufacturer]);
  });

  it('tests itself, and takes entropy', async () => {
    await tpm.info.selfTest({ full: true }, SIGNAL);
    assert.equal((await tpm.info.testResult(SIGNAL)).code, 0);
    await tpm.info.stirRandom(Buffer.from('entropy'), SIGNAL);
  });

  it('a list that never ends is tpm.response', async () => {
    const sameAgain = new TpmWriter().u16(0x8001).u32(27).u32(0).u8(1).u32(CAPABILITY.handles).u32(1).u32(HANDLE_RANGE.nvIndex).done();
    const liar: Transport = { transact: async () => Buffer.from(sameAgain), [Symbol.asyncDispose]: async () => undefined };
    await using lied = new Tpm(liar);
    await assert.rejects(lied.info.handles(HANDLE_RANGE.nvIndex, SIGNAL), { code: 'tpm.response' });
  });
});
