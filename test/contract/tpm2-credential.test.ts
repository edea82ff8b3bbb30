/** Credential activation against tpm2-tools, both ways: what one side protects, the other side's TPM opens. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { activatorOf } from '#drivers/tpm2/activate.ts';
import { openAnchor } from '#drivers/tpm2/anchor.ts';
import { permanent } from '#drivers/tpm2/command.ts';
import { HANDLE } from '#drivers/tpm2/constants.ts';
import { ekEccP256, ekRsa2048 } from '#drivers/tpm2/templates.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { makeCredential, type ProtectedCredential } from '#runtime/crypto/credential.ts';
import { parsePublic, type TpmPublic } from '#runtime/crypto/tpmEvidence.ts';
import { TpmReader } from '#runtime/crypto/tpmReader.ts';
import { sized } from '#runtime/crypto/tpmSecret.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run, type Ran } from '#test/support/process.ts';
import { temporaryTpm, transportTo, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tempDir } from '#test/support/temp.ts';

const SIGNAL = new AbortController().signal;
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

  for (const [algorithm, template] of [['rsa', ekRsa2048()], ['ecc', ekEccP256()]] as const) {
    it(`we open what tpm2_makecredential protects for an EK of kind ${algorithm}, also under an endorsement authorisation, and nothing else`, async () => {
      using dir = tempDir('credential');
      const path = (name: string): string => join(dir.path, name);
      const credential = randomBytes(32);
      const endorsementAuth = randomBytes(20);
      await using tpm = new Tpm(transportTo(emulator.address));
      const { akPublic } = await openAnchor(tpm, SIGNAL);
      const ekPublic = await ofPrimary(tpm, template);
      const activator = activatorOf(tpm, { ekPublic, akPublic });
      const ak = parsePublic(akPublic);
      writeFileSync(path('ek.pub'), sized(ekPublic));
      writeFileSync(path('plain'), credential);
      const { code, output } = await run('tpm2_makecredential', ['-T', 'none', '-u', path('ek.pub'), '-s', path('plain'), '-n', toHex(ak.name), '-o', path('credential')]);
      assert.equal(code, 0, output);
      const reader = new TpmReader(readFileSync(path('credential')).subarray(TOOLS_HEADER.length), 'credential');
      const [blob, secret] = [reader.sized(), reader.sized()];
      assert.equal(toHex(await activator.activate(blob, secret, SIGNAL)), toHex(credential));

      await refused(activator.activate(blob.fill(1, 5, 6), secret, SIGNAL), 'tpm.refused');
      const forTheEk = makeCredential(parsePublic(ekPublic), parsePublic(ekPublic).name, credential);
      await refused(activator.activate(forTheEk.blob, forTheEk.secret, SIGNAL), 'tpm.refused');
      await refused(activatorOf(tpm, { ekPublic: akPublic, akPublic }).activate(blob, secret, SIGNAL), 'attest.foreign_tpm');

      const ours = makeCredential(parsePublic(ekPublic), ak.name, credential);
      await tpm.hierarchy.changeAuth(permanent(HANDLE.endorsement), endorsementAuth, SIGNAL);
      await refused(activator.activate(ours.blob, ours.secret, SIGNAL), 'tpm.refused');
      assert.equal(toHex(await activatorOf(tpm, { ekPublic, akPublic, endorsementAuth }).activate(ours.blob, ours.secret, SIGNAL)), toHex(credential));
      await tpm.hierarchy.changeAuth(permanent(HANDLE.endorsement, endorsementAuth), new Uint8Array(0), SIGNAL);
    });
  }

  async function ofPrimary(tpm: Tpm, template: Buffer): Promise<Uint8Array> {
    await using key = await tpm.keys.createPrimary(HANDLE.endorsement, template, SIGNAL);
    return key.public.area;
  }
  const refused = (work: Promise<unknown>, code: string): Promise<void> => assert.rejects(work, (error: unknown) => error instanceof TenzroError && error.code === code);
});
