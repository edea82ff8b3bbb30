import assert from 'node:assert/strict';
import { systemClock, type Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LEASE_BODY, type Cbor, type Draft } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import { EnrolmentRecord } from '#runtime/lease/enrolment.ts';
import { LeaseKeeper, type TrustMessage } from '#runtime/lease/keeper.ts';
import { parsePolicy } from '#runtime/verify/policy.ts';
import { silentLog, TestCounters } from '#test/support/sealHarness.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';
import { openTestVerifier, SOFTWARE_POLICY, testGateway, type TestGateway, type TestVerifier } from '#test/support/verifierHarness.ts';

interface Kept extends AsyncDisposable {
  readonly keeper: LeaseKeeper;
  readonly told: readonly TrustMessage[];
  readonly recorded: readonly ReadonlyMap<number, Cbor>[];
}

describe('lease keeper', () => {
  let dir: TempDir;
  let verifier: TestVerifier;
  beforeEach(async () => {
    dir = tempDir('lease');
    verifier = await openTestVerifier(dir.path);
  });
  afterEach(async () => {
    await verifier[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  async function keep(gateway: TestGateway, clock: Clock = systemClock): Promise<Kept> {
    const stack = new AsyncDisposableStack();
    const store = stack.use(await openKeyValueStore(`${dir.path}/keep`));
    const [told, recorded]: [TrustMessage[], ReadonlyMap<number, Cbor>[]] = [[], []];
    const ports = { clock, counters: new TestCounters(), log: silentLog };
    const writer = { append: (draft: Draft) => Promise.resolve(recorded.push(draft.body as ReadonlyMap<number, Cbor>) - 1) };
    const entry = (): never => { throw new TenzroError('ledger.no_entry', 'no entries here'); };
    const enrolment = new EnrolmentRecord({ ...ports, enrollee: { kind: 'none', reason: 'no TPM' }, verifierKey: verifier.key, store, entry, writer });
    const keeper = new LeaseKeeper({
      ...ports, url: verifier.url, verifierKey: verifier.key, device: 'workshop', client: gateway.client, enrolment, writer, announce: (message) => told.push(message),
      signer: () => Promise.resolve(gateway.sealer.signer), chainId: () => gateway.chainId, freshBundle: (nonce, { from }) => Promise.resolve(gateway.answer(nonce, from)),
    });
    const stop = new AbortController();
    const following = keeper.follow(stop.signal);
    stack.defer(async () => {
      stop.abort();
      await following;
    });
    return { keeper, told, recorded, [Symbol.asyncDispose]: () => stack.disposeAsync() };
  }

  const standing = async ({ keeper }: Kept, lease: string): Promise<void> => { await until(`a lease that is ${lease}`, () => keeper.status().lease === lease, { timeoutMs: 8_000 }); };

  it('holds a lease, tells it, names it in blocks, and renews it before it ends', async () => {
    await using kept = await keep(testGateway(verifier));
    await standing(kept, 'held');
    const { lease, support } = kept.keeper.context();
    assert.ok(lease.kind === 'value');
    const statement = kept.recorded[support.lease ?? -1]?.get(LEASE_BODY.statement);
    assert.ok(statement instanceof Uint8Array);
    assert.deepEqual(Buffer.from(lease.value), sha256(statement));
    assert.deepEqual(kept.told.map((message) => message.lease), ['none', 'held']);
    assert.equal(kept.keeper.status().keyExchange, 'X25519MLKEM768');
    await until('a second lease', () => kept.recorded.length === 2);
    assert.ok(!kept.told.some((message) => message.lease === 'lapsed'));
  }).timeout(10_000);

  it('lapses when the verifier is gone, in its time and not later, also when the wall clock is set back', async () => {
    let wallOffset = 0;
    const clock: Clock = { wallMicros: () => systemClock.wallMicros() + wallOffset, monoMicros: () => systemClock.monoMicros() };
    await using kept = await keep(testGateway(verifier), clock);
    await standing(kept, 'held');
    const heldMicros = clock.monoMicros();
    wallOffset = -3_600_000_000;
    await verifier[Symbol.asyncDispose]();
    await standing(kept, 'lapsed');
    assert.ok(clock.monoMicros() - heldMicros < (SOFTWARE_POLICY.leaseSeconds + 0.5) * 1e6);
    const { lease } = kept.keeper.context();
    assert.match(lease.kind === 'none' ? lease.reason : '', /^lapsed: .*lease\.unreachable/);
    await until('the entry that says so', () => kept.recorded.some((body) => body.get(LEASE_BODY.state) === 'lapsed'));
    assert.deepEqual([kept.told.at(-1)?.lease, kept.told.at(-1)?.level], ['lapsed', 'none']);
    verifier = await openTestVerifier(dir.path);
  }).timeout(10_000);

  it('loses its lease at a refusal, with the verifier\'s reasons, and gets one again when the policy lets it', async () => {
    await using kept = await keep(testGateway(verifier));
    await standing(kept, 'held');
    verifier.policy = parsePolicy({ version: 1, accept: ['dtpm'], leaseSeconds: 2 });
    await standing(kept, 'refused');
    const { lease } = kept.keeper.context();
    assert.match(lease.kind === 'none' ? lease.reason : '', /^refused: trust\.policy: the trust level is 'software'.*lease\.refused/);
    verifier.policy = SOFTWARE_POLICY;
    await standing(kept, 'held');
    assert.deepEqual([...new Set(kept.told.map((message) => message.lease))], ['none', 'held', 'refused']);
  }).timeout(15_000);

  it('is refused when the verifier knows a later block than there is: an older state was restored', async () => {
    const ahead = testGateway(verifier);
    for (let i = 0; i < 3; i++) await ahead.appraise();
    await using kept = await keep(testGateway(verifier));
    await standing(kept, 'refused');
    const { lease } = kept.keeper.context();
    assert.match(lease.kind === 'none' ? lease.reason : '', /^refused: appraise\.sequence: block 2 comes no later than block 4, which was appraised before: the chain went back/);
  }).timeout(10_000);
});
