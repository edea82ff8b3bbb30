/** Credential activation against tpm2-tools, both ways: what one side protects, the other side's TPM opens. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { toHex } from '#runtime/core/bytes.ts';
import { makeCredential, type ProtectedCredential } from '#runtime/crypto/credential.ts';
import { parsePublic, type TpmPublic } from '#runtime/crypto/tpmEvidence.ts';
import { TpmReader } from '#runtime/crypto/tpmReader.ts';
import { sized } from '#runtime/crypto/tpmSecret.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run, type Ran } from '#test/support/process.ts';
import { temporaryTpm, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tempDir } from '#test/support/temp.ts';

/** In front of the two structures that tpm2_makecredential writes and tpm2_activatecredential reads: a magic and version 1. */
const TOOLS_HEADER = Buffer.from('badcc0de00000001', 'hex');

describe('credential: against tpm2-tools', function () {
  this.timeout(30_000);
  let emulator: TemporaryTpm;
  before(async function () {
    requirePeer(this, 'tpm2_activatecredential');
    emulator = await temporaryTpm(this, { tools: true });
  });
  after(async () => { await emulator?.[Symbol.asyncDispose](); });

  const tool = (name: string, ...args: string[]): Promise<Ran> => run(name, ['-T', emulator.tcti, ...args]);
  async function must(name: string, ...args: string[]): Promise<void> {
    const { code, output } = await tool(name, ...args);
    assert.equal(code, 0, `${name}: ${output}`);
  }

  /** EK and AK made by the tools; their public areas as TPM2B_PUBLIC. */
  async function keys(folder: string, algorithm: 'rsa' | 'ecc'): Promise<{ readonly ek: TpmPublic; readonly ak: TpmPublic }> {
    const path = (name: string): string => join(folder, name);
    await must('tpm2_createek', '-G', algorithm, '-c', path('ek.ctx'), '-u', path('ek.pub'));
    await must('tpm2_flushcontext', '-t');
    await must('tpm2_createak', '-C', path('ek.ctx'), '-G', 'ecc', '-g', 'sha256', '-s', 'ecdsa', '-c', path('ak.ctx'), '-u', path('ak.pub'), '-n', path('ak.name'));
    await must('tpm2_flushcontext', '-t');
    const read = (name: string): TpmPublic => parsePublic(new TpmReader(readFileSync(path(name)), name).sized());
    return { ek: read('ek.pub'), ak: read('ak.pub') };
  }

  async function activate(folder: string, { blob, secret }: ProtectedCredential): Promise<Buffer | undefined> {
    const path = (name: string): string => join(folder, name);
    writeFileSync(path('credential'), Buffer.concat([TOOLS_HEADER, sized(blob), sized(secret)]));
    await must('tpm2_startauthsession', '--policy-session', '-S', path('session'));
    await must('tpm2_policysecret', '-S', path('session'), '-c', 'e');
    const { code } = await tool('tpm2_activatecredential', '-c', path('ak.ctx'), '-C', path('ek.ctx'), '-i', path('credential'), '-o', path('opened'), '-P', `session:${path('session')}`);
    await must('tpm2_flushcontext', path('session'));
    await must('tpm2_flushcontext', '-t');
    return code === 0 ? readFileSync(path('opened')) : undefined;
  }

  for (const algorithm of ['rsa', 'ecc'] as const) {
    it(`tpm2_activatecredential opens what we protect for an EK of kind ${algorithm}, for the AK that we named and no other`, async () => {
      using dir = tempDir('credential');
      const { ek, ak } = await keys(dir.path, algorithm);
      assert.equal(toHex(ak.name), toHex(readFileSync(join(dir.path, 'ak.name'))));
      const credential = randomBytes(32);
      assert.equal(toHex(await activate(dir.path, makeCredential(ek, ak.name, credential)) ?? Buffer.alloc(0)), toHex(credential));
      const forAnother = Buffer.from(ak.name);
      forAnother.writeUInt8(forAnother.readUInt8(33) ^ 1, 33);
      assert.equal(await activate(dir.path, makeCredential(ek, forAnother, credential)), undefined);
    });
  }
});
