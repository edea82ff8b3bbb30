/** Where an EK's certificates come from: the TPM's memory, filled as makers fill it, or a file. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readCertificateFile, readEkChain, readEndorsement } from '#drivers/tpm2/ek.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { socketTransport } from '#drivers/tpm2/transport.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { publicKeyOf } from '#runtime/crypto/tpmEvidence.ts';
import { TpmMaker, type Issued } from '#test/support/ekCertificates.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run } from '#test/support/process.ts';
import { temporaryTpm, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const SIGNAL = new AbortController().signal;

describe('tpm2: certificates of the endorsement key', function () {
  this.timeout(30_000);
  let emulator: TemporaryTpm;
  let folder: TempDir;
  let maker: TpmMaker;
  let issuers: readonly Issued[];

  before(async function () {
    folder = tempDir('endorsement');
    maker = new TpmMaker(requirePeer(this, 'openssl'), folder.path);
    requirePeer(this, 'tpm2_activatecredential');
    emulator = await temporaryTpm(this, { tools: true });
    const root = maker.authority();
    issuers = [root, maker.authority({ issuer: root })];
  });
  after(async () => {
    await emulator?.[Symbol.asyncDispose]();
    folder?.[Symbol.dispose]();
  });

  async function withTpm<T>(work: (tpm: Tpm) => Promise<T>): Promise<T> {
    await using tpm = new Tpm(socketTransport(emulator.address));
    return await work(tpm);
  }
  async function write(index: string, bytes: Uint8Array): Promise<void> {
    const path = join(folder.path, index);
    writeFileSync(path, bytes);
    for (const args of [['tpm2_nvdefine', index, '-C', 'p', '-s', String(bytes.length), '-a', 'ppwrite|ppread|ownerread|authread|platformcreate|no_da'], ['tpm2_nvwrite', index, '-C', 'p', '-i', path]] as const) {
      const [name, ...rest] = args;
      const { code, output } = await run(name, ['-T', emulator.tcti, ...rest]);
      assert.equal(code, 0, `${name}: ${output}`);
    }
  }
  const refused = (error: unknown): boolean => error instanceof TenzroError && error.code === 'attest.ek_certificate';

  it('are none in a TPM that nobody provisioned', async () => {
    assert.deepEqual(await withTpm((tpm) => readEkChain(tpm, SIGNAL)), []);
  });

  it('of issuers are read over several indices, with padding between and behind them, up to what is no certificate', async () => {
    const [root, intermediate] = issuers;
    assert.ok(root && intermediate);
    const whole = Buffer.concat([intermediate.der, Buffer.alloc(5), root.der, Buffer.alloc(40, 0xff)]);
    await write('0x01c00100', whole.subarray(0, 700));
    await write('0x01c00101', Buffer.concat([whole.subarray(700), Buffer.from('not a certificate')]));
    const read = await withTpm((tpm) => readEkChain(tpm, SIGNAL));
    assert.deepEqual(read.map((der) => Buffer.from(der).equals(intermediate.der) || Buffer.from(der).equals(root.der)), [true, true]);
  });

  it('from the TPM go into the endorsement together: the EK\'s, and its issuers\' beside it', async () => {
    const { der } = maker.endorsement();
    await write('0x01c0000a', Buffer.concat([der, Buffer.alloc(100, 0xff)]));
    const { ekPublic, ekCertificate, ekChain } = await withTpm((tpm) => readEndorsement(tpm, SIGNAL));
    assert.equal(publicKeyOf(ekPublic).asymmetricKeyType, 'ec');
    assert.ok(ekCertificate && Buffer.from(ekCertificate).equals(der));
    assert.equal(ekChain?.length, 2);
  });

  it('from a file are taken for this TPM only, whatever it holds', async () => {
    const { pem } = maker.endorsement();
    const path = join(folder.path, 'ek.pem');
    writeFileSync(path, pem + issuers.map((issuer) => issuer.pem).join(''));
    const certificates = readCertificateFile(path);
    assert.equal(certificates.length, 3);
    await assert.rejects(withTpm((tpm) => readEndorsement(tpm, SIGNAL, { certificates })), refused);
    await assert.rejects(withTpm((tpm) => readEndorsement(tpm, SIGNAL, { certificates: [maker.authority({ key: 'p384' }).der] })), refused);
  });

  it('in a file that cannot be read, or holds none, are named', () => {
    assert.deepEqual(readCertificateFile(''), []);
    assert.throws(() => readCertificateFile(join(folder.path, 'nowhere')), refused);
    writeFileSync(join(folder.path, 'text'), 'no certificate');
    assert.throws(() => readCertificateFile(join(folder.path, 'text')), refused);
    writeFileSync(join(folder.path, 'cut'), (issuers[0]?.der ?? Buffer.alloc(0)).subarray(0, 100));
    assert.throws(() => readCertificateFile(join(folder.path, 'cut')), refused);
  });
});
