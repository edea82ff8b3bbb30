/**
 * Attacks between processor and TPM: an interposer that reads, alters, replays, swallows and redirects what passes, and another TPM that answers in place of
 * ours. Each name says what stops it, or that nothing here does; the test asserts exactly that. Table: docs/security.md.
 */
import assert from 'node:assert/strict';
import { openAnchor } from '#drivers/tpm2/anchor.ts';
import { bootPolicy } from '#drivers/tpm2/bootPolicy.ts';
import { permanent } from '#drivers/tpm2/command.ts';
import { COMMAND, COUNTER_INDEX, HANDLE } from '#drivers/tpm2/constants.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import type { Transport } from '#drivers/tpm2/transport.ts';
import { openVault } from '#drivers/tpm2/vault.ts';
import { IdentityFiles } from '#provisioning/identity/files.ts';
import { IdentityKeeper } from '#provisioning/identity/keeper.ts';
import type { BlockInfo } from '#runtime/attest/sealer.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { NV_ATTRIBUTE } from '#runtime/crypto/tpmEvidence.ts';
import { decodeBlock } from '#runtime/ledger/block.ts';
import { decodeEvidence } from '#runtime/ledger/evidence.ts';
import { buildHeadProof } from '#runtime/ledger/proofBuilder.ts';
import { parsePolicy } from '#runtime/verify/policy.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { mutate } from '#test/support/mutate.ts';
import { randomOf } from '#test/support/random.ts';
import { EMULATED, proofOf, seal } from '#test/support/rollback.ts';
import { NEVER, openSealing, type Sealing } from '#test/support/sealHarness.ts';
import { temporaryTpm, transportTo, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { honest, tpmProxy, type Meddle, type TpmProxy } from '#test/support/tpmProxy.ts';

const SEED = Math.floor(Math.random() * 1_000_000_000);
const ROUNDS = 40;
const TIMEOUT_MS = 5_000;
/** An answer that was cut is waited for until then. */
const CUT_TIMEOUT_MS = 300;
/** One exchange in so many is spoilt. */
const SPOILT = 10;
/** In front of the parameters of a command or answer: tag, size, code. */
const HEADER = 10;

const codeOf = (command: Buffer): number => command.readUInt32BE(6);
const only = (code: number, meddle: Meddle): Meddle => (command, ask) => (codeOf(command) === code ? meddle(command, ask) : ask(command));

describe(`attack: on the bus, seed ${SEED}`, function () {
  this.timeout(60_000);
  let dir: TempDir;
  let emulator: TemporaryTpm;
  let proxy: TpmProxy;
  let meddle: Meddle;
  /** The TPM is asked again only after a wait: here it is over at once. */
  let lateMicros: number;
  const clock = { wallMicros: () => systemClock.wallMicros() + lateMicros, monoMicros: () => systemClock.monoMicros() + lateMicros };

  beforeEach(async function () {
    dir = tempDir('attack-bus');
    meddle = honest;
    lateMicros = 0;
    emulator = await temporaryTpm(this, { own: true });
    proxy = await tpmProxy(emulator.address, { meddle: (command, ask) => meddle(command, ask) });
  });
  afterEach(async () => {
    await proxy?.[Symbol.asyncDispose]();
    await emulator?.[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  async function sealing<T>(work: (sealing: Sealing) => Promise<T>, { address = proxy.address, timeoutMs = TIMEOUT_MS } = {}): Promise<T> {
    await using tpm = new Tpm(transportTo(address), { timeoutMs });
    await using opened = await openSealing(dir.path, address, { clock, openAnchor: { kind: 'value', value: (signal) => openAnchor(tpm, signal) } });
    return await work(opened);
  }
  const waitOver = (): void => { lateMicros += LIMITS.anchorRetryDelayMaxMs * 1_000; };
  const reasonOf = ({ evidence }: BlockInfo): string => (evidence.kind === 'none' ? evidence.reason : assert.fail('the block is attested'));

  /** A good block, one under `attack`, and a good one again. Resolves with why the one in the middle has no evidence; every block verifies. */
  async function attestedAround(attack: Meddle, counter = false): Promise<string> {
    return sealing(async (opened) => {
      assert.equal((await seal(opened)).evidence.kind, 'value');
      meddle = attack;
      const info = await seal(opened, { counter });
      meddle = honest;
      waitOver();
      assert.equal((await seal(opened)).evidence.kind, 'value', 'the attack is over, and evidence is back');
      allVerify(opened);
      return reasonOf(info);
    });
  }

  function allVerify({ reader }: Sealing): { readonly attested: number; readonly without: number } {
    let [attested, without] = [0, 0];
    for (let sequence = 1; sequence < reader.blockCount(); sequence++) {
      const evidence = decodeEvidence(reader.block(sequence).evidence);
      if (evidence.kind === 'none') assert.match(evidence.reason, /^(?:tpm|attest)\./);
      if (evidence.kind === 'none') without += 1;
      else attested += 1;
      const { outcome, checks } = verifyBundle(buildHeadProof(reader, sequence), EMULATED);
      assert.equal(outcome, 'verified', `block ${sequence}: ${JSON.stringify(checks.filter(({ result }) => result === 'fail'))}`);
    }
    return { attested, without };
  }

  it('bus tampering at random, answers flipped and replayed, commands bent, swallowed and doubled: tpm.statement and tpm.response keep every lie out of the blocks', async () => {
    const random = randomOf(SEED);
    const past = new Map<number, Buffer[]>();
    let spoilt = 0;
    const flipped = (bytes: Buffer): Buffer => {
      const copy = Buffer.from(bytes);
      if (copy.length > HEADER) copy.writeUInt8(copy.readUInt8(HEADER + random(copy.length - HEADER)) ^ (1 << random(8)), HEADER + random(copy.length - HEADER));
      return copy;
    };
    const vandal: Meddle = async (command, ask) => {
      const answers = past.get(codeOf(command)) ?? [];
      past.set(codeOf(command), answers);
      const attack = random(SPOILT);
      if (attack === 0) {
        spoilt += 1;
        const earlier = answers[random(Math.max(1, answers.length))];
        switch (random(5)) {
          case 0: return flipped(await ask(command));
          case 1: return mutate([await ask(command)], SEED + spoilt);
          case 2: return earlier ?? ask(command); // the TPM never sees the command
          case 3: return ask(flipped(command));
          default: await ask(command); return ask(command);
        }
      }
      const answer = await ask(command);
      answers.push(answer);
      return answer;
    };
    const { attested, without } = await sealing(async (opened) => {
      await seal(opened);
      meddle = vandal;
      for (let round = 0; round < ROUNDS; round++) {
        await seal(opened, { counter: random(2) === 0 });
        waitOver();
      }
      meddle = honest;
      await seal(opened);
      return allVerify(opened);
    }, { timeoutMs: CUT_TIMEOUT_MS });
    assert.ok(spoilt > 0 && attested >= 2, `${spoilt} spoilt exchanges, ${attested} blocks attested, ${without} not`);
  });

  it('bus tampering, an earlier quote replayed: refused by the challenge in it, tpm.statement', async () => {
    let earlier: Buffer | undefined;
    meddle = only(COMMAND.quote, async (command, ask) => (earlier = await ask(command)));
    assert.match(await attestedAround(only(COMMAND.quote, async (command, ask) => earlier ?? ask(command))), /^tpm\.statement: .*about something else/);
  });

  it('bus tampering, the quote asked for other PCRs: refused by its signed selection, tpm.statement', async () => {
    const selectFewer = (command: Buffer): Buffer => { const bent = Buffer.from(command); bent.writeUInt8(0, bent.length - 3); return bent; };
    assert.match(await attestedAround(only(COMMAND.quote, (command, ask) => ask(selectFewer(command)))), /^tpm\.statement: .*other PCRs/);
  });

  it('bus tampering, the values of PCRs rewritten on their way: refused by the quoted digest, tpm.busy', async () => {
    const bend = (answer: Buffer): Buffer => { const bent = Buffer.from(answer); bent.writeUInt8(bent.readUInt8(bent.length - 1) ^ 1, bent.length - 1); return bent; };
    assert.match(await attestedAround(only(COMMAND.pcrRead, async (command, ask) => bend(await ask(command)))), /^tpm\.busy: .*the answers are altered/);
  });

  it('bus tampering, every extension of PCR 14 swallowed: refused by the quoted PCR 14, tpm.busy', async () => {
    let done: Buffer | undefined;
    meddle = only(COMMAND.pcrExtend, async (command, ask) => (done = await ask(command)));
    assert.match(await attestedAround(only(COMMAND.pcrExtend, async (command, ask) => done ?? ask(command))), /^tpm\.busy: .*PCR 14/);
  });

  it('bus tampering, every increment of the NV counter swallowed: refused by the next certification, tpm.statement', async () => {
    let done: Buffer | undefined;
    await sealing(async (opened) => {
      meddle = only(COMMAND.nvIncrement, async (command, ask) => (done ??= await ask(command)));
      await seal(opened);
      const infos = [await seal(opened, { counter: true }), await seal(opened, { counter: true })];
      assert.match(infos.map((info) => (info.evidence.kind === 'none' ? info.evidence.reason : '')).join('\n'), /tpm\.statement: the NV counter still says/);
      meddle = honest;
      waitOver();
      assert.equal((await seal(opened, { counter: true })).evidence.kind, 'value');
      allVerify(opened);
    });
  });

  it('bus tampering, another counter certified in place of ours: refused by its name, tpm.statement', async () => {
    const other = COUNTER_INDEX + 0x100;
    {
      await using tpm = new Tpm(transportTo(emulator.address));
      await tpm.startup(NEVER);
      const { ownerWrite, authWrite, ownerRead, authRead, noDa } = NV_ATTRIBUTE;
      const counter = await tpm.nv.define({ index: other, type: 'counter', attributes: ownerWrite | authWrite | ownerRead | authRead | noDa }, permanent(HANDLE.owner), NEVER);
      await tpm.nv.increment(counter, NEVER);
    }
    const redirect = (command: Buffer): Buffer => {
      const bent = Buffer.from(command);
      for (const at of [HEADER + 4, HEADER + 8]) bent.writeUInt32BE(other, at); // whoever authorises, and the index: after the key
      return bent;
    };
    assert.match(await attestedAround(only(COMMAND.nvCertify, (command, ask) => ask(redirect(command))), true), /^tpm\.statement: .*something else than the counter/);
  });

  it('bus tampering while keys are sealed and opened: encrypted salted sessions show nothing, tpm.hmac lets no other keys through', async () => {
    await using tpm = new Tpm(transportTo(proxy.address), { timeoutMs: CUT_TIMEOUT_MS });
    const keeper = (): IdentityKeeper => new IdentityKeeper({
      files: new IdentityFiles(dir.path), vault: { kind: 'value', value: openVault(tpm) }, ownsTpm: false, node: 'attacked', pcrs: [0, 7], policyOf: bootPolicy, chainHasBegun: () => false, clock: systemClock,
    });
    const seen: Buffer[] = [];
    meddle = async (command, ask) => { const answer = await ask(command); seen.push(Buffer.from(command), Buffer.from(answer)); return answer; };
    const key = toHex((await keeper().keys(NEVER)).signer.publicKey);
    await keeper().withSecrets(async ({ signingSeed, exchangeSeed, tpmSecret }) => {
      assert.equal(toHex(signerOfSeed(signingSeed).publicKey), key);
      for (const secret of [signingSeed, exchangeSeed, tpmSecret]) assert.ok(seen.every((bytes) => !bytes.includes(secret)));
    }, NEVER);
    const random = randomOf(SEED);
    for (let round = 0; round < ROUNDS; round++) {
      const at = random(24);
      let exchange = 0;
      meddle = async (command, ask) => (exchange++ === at ? mutate([await ask(command)], SEED + round) : ask(command));
      try {
        assert.equal(toHex((await keeper().keys(NEVER)).signer.publicKey), key);
      } catch (error) {
        assert.ok(error instanceof TenzroError && /^(?:tpm|identity)\./.test(error.code), String(error));
      }
    }
    meddle = honest;
    assert.equal(toHex((await keeper().keys(NEVER)).signer.publicKey), key);
  });

  describe('with another genuine TPM at hand', () => {
    let other: TemporaryTpm;
    let relay: Transport;
    beforeEach(async function () {
      other = await temporaryTpm(this, { own: true });
      for (const { address } of [emulator, other]) {
        await using tpm = new Tpm(transportTo(address));
        await openVault(tpm).prepare(NEVER); // keys and counter at the same handles in both
      }
      relay = transportTo(other.address);
    });
    afterEach(async () => {
      await relay?.[Symbol.asyncDispose]();
      await other?.[Symbol.asyncDispose]();
    });

    it('relay to another genuine TPM, whose quotes stand in for ours: refused by the attestation key of the genesis, tpm.statement', async () => {
      assert.match(await attestedAround(only(COMMAND.quote, (command) => relay.transact(command, NEVER))), /^tpm\.statement: .*did not sign/);
    });

    it('relay to another genuine TPM for a whole run: refused by the attestation key of the genesis, attest.foreign_tpm', async () => {
      await sealing((opened) => seal(opened));
      meddle = (command) => relay.transact(command, NEVER);
      assert.match(reasonOf(await sealing((opened) => seal(opened))), /^attest\.foreign_tpm/);
    });

    it('relay of every command to the genuine TPM elsewhere, since the first start: nothing here stops it; slow answers prove nothing', async () => {
      await using far = await tpmProxy(other.address, { holdMs: () => 5 });
      await sealing(async (opened) => {
        const info = await seal(opened);
        assert.equal(info.evidence.kind, 'value');
        const { identity } = decodeBlock(opened.reader.block(0).payload);
        const digest = (area: Uint8Array | undefined): string => toHex(sha256(area ?? assert.fail('no key')));
        const policy = parsePolicy({ version: 1, enrolled: [{ ek: digest(identity?.ekPublic), ak: digest(identity?.akPublic) }] });
        const { outcome, trust } = verifyBundle(proofOf(opened, info), policy);
        assert.deepEqual([outcome, trust.level], ['verified', 'enrolled'], 'a proof says which TPM, and not in which room it stands');
      }, { address: far.address });
    });
  });
});
