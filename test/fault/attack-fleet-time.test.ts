/** What may be tried with lists of what is revoked, with certificates and with the time: by brokers, by strangers, and by who stole one owner key or the controller's. */
import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import { LIMITS } from '#runtime/core/limits.ts';
import { OWNER_UPSTREAM, type Owner, type Upstream } from '#runtime/core/fleet.ts';
import { Authority, newIntermediate, newRoot } from '#runtime/controller/authority.ts';
import { judgeBrokerChain } from '#runtime/crypto/brokerChain.ts';
import { pemOf } from '#runtime/crypto/certificate.ts';
import { derOfFile } from '#runtime/crypto/certificatePath.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { thumbprintOf } from '#runtime/crypto/jws.ts';
import { newSeed, signerOfSeed, spkiOfMlDsa65, type Signer } from '#runtime/crypto/mldsa.ts';
import { signRevocation, spkiDigestOf, type RevocationList } from '#runtime/crypto/revocation.ts';
import { parseCertificate } from '#runtime/crypto/x509.ts';
import { CertificateKeeper } from '#runtime/fleet/certificateKeeper.ts';
import { passedBeyondDoubt, ProvableTime } from '#runtime/fleet/provableTime.ts';
import { Revocations } from '#runtime/fleet/revocations.ts';
import { CommandWorld } from '#test/support/commandHarness.ts';
import { MemoryMap } from '#test/support/lightGateway.ts';
import { until } from '#test/support/until.ts';

const DAY_MS = 86_400_000;
const NOW_MS = Date.UTC(2026, 10, 23);
const newSigner = (): Signer => signerOfSeed(newSeed());
const [first, second, stranger] = [newSigner(), newSigner(), newSigner()];
const [root, otherRoot] = [newRoot('fleet', NOW_MS), newRoot('fleet', NOW_MS)];
const rootPem = pemOf(root.certificate);
const intermediate = newIntermediate(root, 'fleet', NOW_MS);
const authority = new Authority(intermediate, rootPem);
const spkiOf = (der: Uint8Array): Uint8Array => parseCertificate(der).spki;
const gateway = newSigner();
const keyOf = ({ privateKey }: Signer): ReturnType<typeof createPublicKey> => createPublicKey(privateKey ?? assert.fail('a Node without ML-DSA'));
const certified = (by: Authority, nowMs: number, signer = gateway): string => pemOf(by.gatewayCertificate(keyOf(signer), 'edge-1', nowMs)) + pemOf(by.intermediate);
const upstream: Upstream = { name: OWNER_UPSTREAM, url: 'mqtts://fleet', ca: rootPem, receiptKey: Buffer.alloc(32, 1), maxBytesPerSecond: 0, certificate: { kind: 'issued', pem: certified(authority, NOW_MS) }, forward: [] };
const owner: Owner = { ownerKeys: [first.publicKey, second.publicKey], words: '', upstream };
const kidOf = ({ publicKey }: Signer): string => thumbprintOf(publicKey);

function listBy(signer: Signer, version: number, what: Partial<RevocationList> = {}): Buffer {
  return signRevocation(signer, { version, issued: NOW_MS / 1_000, authority: spkiDigestOf(spkiOf(root.certificate)), keys: [], authorities: [], receiptKeys: [], ...what });
}
const taking = (...signers: readonly Signer[]): Partial<RevocationList> => ({ keys: signers.map((signer) => ({ kid: kidOf(signer), why: 'a test' })) });
const REFUSED = { code: 'fleet.revocation' };

describe('attacks: what owners take back', () => {
  let store: MemoryMap;
  let held: Revocations;
  let taken: number;
  const restarted = (): Revocations => {
    const again = new Revocations({ store, onTaken: () => { taken += 1; } });
    again.own(owner);
    return again;
  };
  beforeEach(() => {
    [store, taken] = [new MemoryMap(), 0];
    held = restarted();
  });

  it('a list that is not signed by an owner, or was altered, takes nothing back', () => {
    assert.throws(() => { held.take(listBy(stranger, 1, taking(first))); }, REFUSED);
    const bent = Buffer.from(listBy(first, 1, taking(stranger)).toString().replace('a test', 'a tesT'));
    assert.throws(() => { held.take(bent); }, REFUSED);
    assert.deepEqual([held.keys, taken], [[], 0]);
  });

  it('a broker that plays back an older list, also after a restart, gives nothing back', () => {
    const older = listBy(first, 3, taking(stranger));
    held.take(older);
    held.take(listBy(first, 7));
    for (const gate of [held, restarted()]) {
      assert.throws(() => { gate.take(older); }, REFUSED);
      assert.ok(gate.isKeyRevoked(kidOf(stranger)), 'what a newer list leaves out stays revoked');
    }
  });

  it('a stolen owner key that was taken back takes nothing back itself, and orders nothing', () => {
    held.take(listBy(second, 1, taking(first)));
    assert.throws(() => { held.take(listBy(first, Number.MAX_SAFE_INTEGER, taking(second))); }, REFUSED);
    assert.deepEqual([held.isOwnerKeyRevoked(first.publicKey), held.isOwnerKeyRevoked(second.publicKey)], [true, false]);
  });

  it('a stolen owner key that signs the greatest version does not keep the other one from taking it back', () => {
    held.take(listBy(first, Number.MAX_SAFE_INTEGER));
    held.take(listBy(second, 1, taking(first)));
    assert.ok(held.isOwnerKeyRevoked(first.publicKey));
  });

  it('a list that would leave nobody to obey is refused', () => {
    assert.throws(() => { held.take(listBy(first, 1, taking(first, second))); }, REFUSED);
    assert.deepEqual(held.keys, []);
  });

  it('a list for another fleet of the same owners counts nowhere else', () => {
    assert.throws(() => { held.take(listBy(first, 1, { ...taking(second), authority: spkiDigestOf(spkiOf(otherRoot.certificate)) })); }, REFUSED);
  });

  it('nobody but an owner names the next receipt key, and names that lead in a circle end', () => {
    const [before, after, last] = ['01', '02', '03'].map((byte) => byte.repeat(32)) as [string, string, string];
    assert.throws(() => { held.take(listBy(stranger, 1, { receiptKeys: [{ key: before, next: last, why: '' }] })); }, REFUSED);
    held.take(listBy(first, 1, { receiptKeys: [{ key: before, next: after, why: 'lost' }] }));
    held.take(listBy(second, 1, { receiptKeys: [{ key: before, next: last, why: 'late' }] }));
    for (const gate of [held, restarted()]) assert.equal(Buffer.from(gate.receiptKey(upstream.receiptKey)).toString('hex'), after, 'the first word counts');
    held.take(listBy(second, 2, { receiptKeys: [{ key: after, next: before, why: 'a circle' }] }));
    assert.equal(held.receiptKey(upstream.receiptKey).length, 32);
  });

  it('lists that are huge, deep or bent end as refusals', () => {
    for (const text of ['', '[]', '{}', '{"version":1}', '['.repeat(5_000), '\uFFFD', 'x'.repeat(LIMITS.revocationBytesMax + 1)]) assert.throws(() => { held.take(Buffer.from(text)); }, REFUSED, text.slice(0, 20));
    const many = Array.from({ length: LIMITS.revocationsMax + 1 }, (_, at) => ({ kid: at.toString().padStart(43, 'A'), why: '' }));
    assert.throws(() => listBy(first, 1, { keys: many }), REFUSED);
  });

  it('an authority or broker that was taken back is a stranger from then on', () => {
    const broker = authority.brokerIdentity(['fleet'], NOW_MS);
    const chain = derOfFile(Buffer.from(broker.certificate), 2) ?? [];
    const judge = (): string | undefined => judgeBrokerChain({ chain, roots: rootPem, host: 'fleet', provenMicros: 0, isRevoked: (digest) => held.isAuthorityRevoked(digest) });
    assert.equal(judge(), undefined);
    held.take(listBy(first, 1, { authorities: [{ spki: spkiDigestOf(spkiOf(intermediate.certificate)), why: 'server stolen' }] }));
    assert.match(judge() ?? '', /revoked/);
  });
});

describe('attacks: commands by a key that is taken back', () => {
  it('a command under way by a key that was taken back ends there, as failed', async () => {
    const world = new CommandWorld();
    const [begun, stopped] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    world.handlers = { diagnostics: { support: { kind: 'value', value: true }, run: async (_command, signal) => { signal.addEventListener('abort', () => { stopped.resolve(); }); begun.resolve(); await stopped.promise; return {}; } } };
    const commander = world.start();
    const done = new AbortController();
    const following = commander.follow(done.signal);
    world.publish(commander, world.sign());
    await begun.promise;
    world.operators = [];
    commander.operatorsChanged();
    await stopped.promise;
    await until('its end', () => world.reasonOf('diagnostics/1').startsWith('command.operator'));
    assert.deepEqual(world.states('diagnostics/1'), ['command', 'executing', 'failed']);
    done.abort();
    await following;
  });
});

describe('attacks: certificates that a broker delivers', () => {
  let store: MemoryMap;
  let revoked: readonly Uint8Array[];
  let shown: string[];
  let keeper: CertificateKeeper;
  const opened = (identity = gateway): CertificateKeeper => {
    const made = new CertificateKeeper({ store, identity: () => spkiOfMlDsa65(identity.publicKey), provenMicros: () => NOW_MS * 1_000, isRevoked: (digest) => revoked.some((one) => Buffer.from(one).equals(digest)), onTaken: ({ pem }) => { shown.push(pem); } });
    made.renewed(upstream);
    return made;
  };
  beforeEach(() => {
    [store, revoked, shown] = [new MemoryMap(), [], []];
    keeper = opened();
  });
  const refuses = (pem: string, why: RegExp): void => { assert.throws(() => { keeper.take(Buffer.from(pem)); }, (error: Error) => why.test(error.message) && (error as { code?: string }).code === 'fleet.certificate'); };

  it('one around another key, of another authority, of no authority or without its end is not shown', () => {
    refuses(certified(authority, NOW_MS + DAY_MS, stranger), /another key/);
    refuses(certified(new Authority(newIntermediate(otherRoot, 'fleet', NOW_MS), rootPem), NOW_MS + DAY_MS), /does not lead|not signed/);
    refuses(pemOf(authority.gatewayCertificate(keyOf(gateway), 'edge-1', NOW_MS + DAY_MS)), /does not lead/);
    refuses(pemOf(intermediate.certificate), /another key/);
    for (const bent of ['', 'x', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n', certified(authority, NOW_MS + DAY_MS).repeat(LIMITS.certificateChainMax)]) refuses(bent, /./);
    assert.deepEqual(shown, []);
  });

  it('an older one that is played back is not shown, also after a restart', () => {
    const [newer, older] = [certified(authority, NOW_MS + 200 * DAY_MS), certified(authority, NOW_MS + 100 * DAY_MS)];
    keeper.take(Buffer.from(newer));
    for (const gate of [keeper, opened()]) {
      keeper = gate;
      refuses(older, /ends on/);
      assert.equal(gate.endsMs, Math.floor((NOW_MS + 565 * DAY_MS) / 1_000) * 1_000);
    }
    assert.deepEqual(shown, [newer]);
  });

  it('none but the own one is shown around a key that was changed, until one around the new key comes', () => {
    const later = certified(authority, NOW_MS + 300 * DAY_MS);
    keeper.take(Buffer.from(later));
    keeper = opened(stranger);
    assert.deepEqual([keeper.endsMs, keeper.renewed(upstream).certificate], [undefined, { kind: 'own' }], 'the one that was kept is around the key before too');
    refuses(later, /another key/);
    const fresh = certified(authority, NOW_MS + DAY_MS, stranger);
    keeper.take(Buffer.from(fresh));
    keeper = opened(stranger);
    assert.deepEqual([shown, keeper.renewed(upstream).certificate], [[later, fresh], { kind: 'issued', pem: fresh }]);
  });

  it('one of an intermediate that was taken back is not shown, and gives way to any other', () => {
    revoked = [sha256(spkiOf(intermediate.certificate))];
    refuses(certified(authority, NOW_MS + 300 * DAY_MS), /revoked/);
    const sooner = certified(new Authority(newIntermediate(root, 'fleet', NOW_MS), rootPem), NOW_MS - DAY_MS);
    keeper.take(Buffer.from(sooner));
    assert.deepEqual(shown, [sooner]);
  });
});

describe('attacks: the time that a gateway believes', () => {
  const YEAR_S = 365 * 86_400;

  it('a sync_time that was held back is not believed where receipts came since', () => {
    const world = new CommandWorld();
    const kept = world.start();
    const command = world.sign({ type: 'sync_time', id: 'held', issued: Math.floor(world.clock.wall / 1_000_000) });
    world.clock.pass(YEAR_S);
    world.receiptMicros = world.clock.wall;
    world.publish(kept, command);
    assert.match(world.reasonOf('sync_time/held'), /^command\.expired/);
    assert.equal(kept.time.ahead, 0);
  });

  it('neither a wrong clock of a gateway nor a controller that lives decades ahead makes a broker expire', () => {
    const chain = derOfFile(Buffer.from(authority.brokerIdentity(['fleet'], NOW_MS).certificate), 2) ?? [];
    const judge = (ownMs: number, receiptMs: number): string | undefined => judgeBrokerChain({ chain, roots: rootPem, host: 'fleet', provenMicros: passedBeyondDoubt({ now: ownMs * 1_000, signed: 0 }, receiptMs * 1_000) });
    const [y1970, y2060] = [0, Date.UTC(2060, 0)];
    assert.deepEqual([judge(y2060, NOW_MS), judge(NOW_MS, y2060), judge(y1970, y2060), judge(y2060, 0)], [undefined, undefined, undefined, undefined]);
    assert.match(judge(y2060, y2060) ?? '', /expired/, 'what both say counts');
  });

  it('a time that an owner signed once is a floor that no clock and no restart goes below', () => {
    const clock = { wall: NOW_MS * 1_000, wallMicros: () => clock.wall, monoMicros: () => 0 };
    const time = new ProvableTime(clock, 0);
    time.tell(clock.wall);
    clock.wall = 0;
    assert.equal(time.nowMicros(), NOW_MS * 1_000);
    time.tell(1_000_000);
    assert.equal(new ProvableTime(clock, 0, time.kept).nowMicros(), NOW_MS * 1_000);
  });
});
