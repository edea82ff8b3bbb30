/** Objects, sealed data, policies and credentials made by one side and used by the other: ours and tpm2-tools, on one TPM. */
import assert from 'node:assert/strict';
import { randomBytes, verify } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { permanent, withAuth } from '#drivers/tpm2/command.ts';
import { HANDLE } from '#drivers/tpm2/constants.ts';
import type { WrappedObject } from '#drivers/tpm2/keys.ts';
import { NO_POLICY, policyPcrDigest } from '#drivers/tpm2/policyDigest.ts';
import { password } from '#drivers/tpm2/session.ts';
import { akP256, ekEccP256, ekRsa2048, sealedData, signingP256, srkP256, srkRsa2048 } from '#drivers/tpm2/templates.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { publicKeyOf, verifyAttestSignature } from '#runtime/crypto/tpmEvidence.ts';
import { TpmReader } from '#runtime/crypto/tpmReader.ts';
import { sized } from '#runtime/crypto/tpmSecret.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run } from '#test/support/process.ts';
import { temporaryTpm, transportTo, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const SIGNAL = new AbortController().signal;
const OWNER = permanent(HANDLE.owner);
const PARENT = 0x81000010;
const EK = 0x81010010;
const AK = 0x81010011;
const SECRET = randomBytes(32);
const MESSAGE = Buffer.from('a message');
const PCRS = [0, 7, 14];
/** In front of the two structures of a credential file: a magic and version 1. */
const CREDENTIAL_HEADER = Buffer.from('badcc0de00000001', 'hex');

describe('tpm2: with tpm2-tools', function () {
  this.timeout(20_000);
  let emulator: TemporaryTpm;
  let dir: TempDir;

  before(async function () {
    requirePeer(this, 'tpm2_checkquote');
    emulator = await temporaryTpm(this, { tools: true });
  });
  after(async () => { await emulator?.[Symbol.asyncDispose](); });
  beforeEach(() => { dir = tempDir('tools'); });
  afterEach(() => dir[Symbol.dispose]());

  const path = (name: string): string => join(dir.path, name);
  const write = (name: string, bytes: Uint8Array): string => { writeFileSync(path(name), bytes); return path(name); };
  /** Contents of a TPM2B in a file. */
  const read2b = (name: string): Buffer => new TpmReader(readFileSync(path(name)), name).sized();

  /** One client at a time: the driver leaves before a tool comes. */
  async function withTpm<T>(work: (tpm: Tpm) => Promise<T>): Promise<T> {
    await using tpm = new Tpm(transportTo(emulator.address));
    await tpm.startup(SIGNAL);
    return await work(tpm);
  }
  async function tool(name: string, ...args: string[]): Promise<void> {
    const { code, output } = await run(name, ['-T', emulator.tcti, ...args]);
    assert.equal(code, 0, `${name}: ${output}`);
    for (const leftover of ['-t', '-l']) await run('tpm2_flushcontext', ['-T', emulator.tcti, leftover]); // tpm2_createpolicy leaves its session
  }
  const persisted = (handle: number): string => `0x${handle.toString(16)}`;

  async function persist(hierarchy: number, template: Uint8Array, handle: number): Promise<void> {
    await withTpm(async (tpm) => {
      if ((await tpm.info.handles(handle, SIGNAL))[0] === handle) await tpm.keys.evict(await tpm.keys.readPublic(handle, SIGNAL), OWNER, SIGNAL);
      await using key = await tpm.keys.createPrimary(hierarchy, template, SIGNAL);
      await tpm.keys.persist(key, handle, OWNER, SIGNAL);
    });
  }

  for (const [kind, template] of [['P-256', srkP256], ['RSA', srkRsa2048]] as const) {
    describe(`under a ${kind} storage root key`, () => {
      before(() => persist(HANDLE.owner, template(), PARENT));

      const toTools = (name: string, object: WrappedObject): Promise<void> =>
        tool('tpm2_load', '-C', persisted(PARENT), '-u', write(`${name}.pub`, sized(object.public)), '-r', write(`${name}.priv`, sized(object.private)), '-c', path(`${name}.ctx`));
      const fromTools = (name: string): WrappedObject => ({ public: read2b(`${name}.pub`), private: read2b(`${name}.priv`) });
      const createdByTools = (name: string, ...args: string[]): Promise<void> => tool('tpm2_create', '-C', persisted(PARENT), '-u', path(`${name}.pub`), '-r', path(`${name}.priv`), ...args);

      it('we sign with a key that tpm2_create made', async () => {
        await createdByTools('key', '-G', 'ecc256:ecdsa');
        await withTpm(async (tpm) => {
          await using key = await tpm.keys.load(await tpm.keys.readPublic(PARENT, SIGNAL), fromTools('key'), SIGNAL);
          const signature = await tpm.keys.sign(key, sha256(MESSAGE), SIGNAL);
          assert.ok(verifyAttestSignature(publicKeyOf(key.public.area), MESSAGE, signature));
        });
      });

      it('tpm2_sign signs with a key that we made', async () => {
        const key = await withTpm(async (tpm) => tpm.keys.create(await tpm.keys.readPublic(PARENT, SIGNAL), signingP256(), {}, SIGNAL));
        await toTools('key', key);
        await tool('tpm2_sign', '-c', path('key.ctx'), '-g', 'sha256', '-f', 'plain', '-o', path('signature'), write('message', MESSAGE));
        assert.ok(verify('sha256', MESSAGE, publicKeyOf(key.public), readFileSync(path('signature'))));
      });

      it('we unseal what tpm2_create sealed, with its password', async () => {
        await createdByTools('sealed', '-i', write('secret', SECRET), '-p', 'password');
        await withTpm(async (tpm) => {
          const parent = await tpm.keys.readPublic(PARENT, SIGNAL);
          await using object = await tpm.keys.load(parent, fromTools('sealed'), SIGNAL);
          await using session = await tpm.sessions.startHmac({ salt: parent }, SIGNAL);
          assert.deepEqual(await tpm.keys.unseal(withAuth(object, Buffer.from('password')), SIGNAL, session.use({ encryptResponse: true })), SECRET);
        });
      });

      it('tpm2_unseal unseals what we sealed, with its password', async () => {
        await toTools('sealed', await withTpm(async (tpm) => tpm.keys.create(await tpm.keys.readPublic(PARENT, SIGNAL), sealedData(), { data: SECRET, authValue: Buffer.from('password') }, SIGNAL)));
        await tool('tpm2_unseal', '-c', path('sealed.ctx'), '-p', 'password', '-o', path('opened'));
        assert.deepEqual(readFileSync(path('opened')), SECRET);
      });

      it('tpm2_policypcr satisfies our PCR policy', async () => {
        await toTools('sealed', await withTpm(async (tpm) => {
          const authPolicy = policyPcrDigest(NO_POLICY, await tpm.pcr.read(PCRS, SIGNAL));
          return tpm.keys.create(await tpm.keys.readPublic(PARENT, SIGNAL), sealedData({ authPolicy }), { data: SECRET }, SIGNAL);
        }));
        await tool('tpm2_startauthsession', '--policy-session', '-S', path('session'));
        await tool('tpm2_policypcr', '-S', path('session'), '-l', `sha256:${PCRS.join(',')}`);
        await tool('tpm2_unseal', '-c', path('sealed.ctx'), '-p', `session:${path('session')}`, '-o', path('opened'));
        await tool('tpm2_flushcontext', path('session'));
        assert.deepEqual(readFileSync(path('opened')), SECRET);
      });

      it('we satisfy a PCR policy of tpm2_createpolicy, which is what we compute', async () => {
        await tool('tpm2_createpolicy', '--policy-pcr', '-l', `sha256:${PCRS.join(',')}`, '-L', path('policy'));
        await createdByTools('sealed', '-i', write('secret', SECRET), '-L', path('policy'));
        await withTpm(async (tpm) => {
          assert.equal(toHex(policyPcrDigest(NO_POLICY, await tpm.pcr.read(PCRS, SIGNAL))), toHex(readFileSync(path('policy'))));
          const parent = await tpm.keys.readPublic(PARENT, SIGNAL);
          await using object = await tpm.keys.load(parent, fromTools('sealed'), SIGNAL);
          await using session = await tpm.sessions.startPolicy({ salt: parent }, SIGNAL);
          await tpm.policy.pcr(session, PCRS, SIGNAL);
          assert.deepEqual(await tpm.keys.unseal(object, SIGNAL, session.use({ encryptResponse: true })), SECRET);
        });
      });
    });
  }

  for (const [kind, template] of [['P-256', ekEccP256], ['RSA', ekRsa2048]] as const) {
    describe(`credentials for a ${kind} endorsement key`, () => {
      before(async () => {
        await persist(HANDLE.endorsement, template(), EK);
        await persist(HANDLE.endorsement, akP256(), AK);
      });

      it('we activate what tpm2_makecredential made', async () => {
        const [ekPublic, akName] = await withTpm(async (tpm) => [(await tpm.keys.readPublic(EK, SIGNAL)).public.area, (await tpm.keys.readPublic(AK, SIGNAL)).name]);
        await tool('tpm2_makecredential', '-u', write('ek.pub', sized(ekPublic)), '-s', write('secret', SECRET), '-n', toHex(akName), '-o', path('credential'));
        const reader = new TpmReader(readFileSync(path('credential')), 'credential');
        assert.deepEqual(reader.bytes(8), CREDENTIAL_HEADER);
        const credential = { blob: reader.sized(), secret: reader.sized() };
        await withTpm(async (tpm) => {
          await using session = await tpm.sessions.startPolicy({}, SIGNAL);
          await tpm.policy.secret(session, permanent(HANDLE.endorsement), SIGNAL);
          const [ak, ek] = [await tpm.keys.readPublic(AK, SIGNAL), await tpm.keys.readPublic(EK, SIGNAL)];
          assert.deepEqual(await tpm.keys.activateCredential(ak, ek, credential, SIGNAL, password, session.use()), SECRET);
        });
      });

      it('tpm2_activatecredential opens what our TPM2_MakeCredential made', async () => {
        const { blob, secret } = await withTpm(async (tpm) => {
          const [ak, ek] = [await tpm.keys.readPublic(AK, SIGNAL), await tpm.keys.readPublic(EK, SIGNAL)];
          await using elsewhere = await tpm.keys.loadExternal(ek.public.area, HANDLE.null, SIGNAL);
          return await tpm.keys.makeCredential(elsewhere, SECRET, ak.name, SIGNAL);
        });
        write('credential', Buffer.concat([CREDENTIAL_HEADER, sized(blob), sized(secret)]));
        await tool('tpm2_startauthsession', '--policy-session', '-S', path('session'));
        await tool('tpm2_policysecret', '-S', path('session'), '-c', 'e');
        await tool('tpm2_activatecredential', '-c', persisted(AK), '-C', persisted(EK), '-i', path('credential'), '-o', path('opened'), '-P', `session:${path('session')}`);
        await tool('tpm2_flushcontext', path('session'));
        assert.deepEqual(readFileSync(path('opened')), SECRET);
      });
    });
  }
});
