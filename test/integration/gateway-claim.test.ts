/** A gateway's process and an operator's, over TCP: one is claimed by the other, keeps it over kills and restarts, and is released again. */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodeClaimCode, type ClaimCode } from '#provisioning/claim/code.ts';
import { signOrder, type OwnerOrder } from '#provisioning/claim/handOver.ts';
import { dialTo } from '#provisioning/claim/lan/dial.ts';
import { browseClaims } from '#provisioning/claim/lan/discovery.ts';
import { giveOrder } from '#provisioning/claim/order.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { thumbprintOf } from '#runtime/crypto/jws.ts';
import { Operator } from '#test/support/claimOperator.ts';
import { Gateway, logLines, tenzro } from '#test/support/gateway.ts';
import { temporaryTpm, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

describe('claiming a gateway over TCP', function () {
  this.timeout(60_000);
  let dir: TempDir;
  let tpm: TemporaryTpm;
  let gateway: Gateway;
  const dataDir = (): string => join(dir.path, 'data');
  const configFile = (): string => join(dir.path, 'tenzro.yaml');
  const start = async (): Promise<void> => { gateway = await Gateway.start({ dataDir: dataDir(), configFile: configFile() }); };
  const port = async (): Promise<number> => (await gateway.until('claims to be taken', ({ claim }) => claim.port !== null)).claim.port ?? 0;
  async function shownCode(...flags: readonly string[]): Promise<ClaimCode> {
    const { stdout, code, output } = await tenzro(dataDir(), ['claim', 'show', '--json', ...flags], { configFile: configFile() });
    assert.equal(code, 0, output);
    const held = decodeClaimCode((JSON.parse(stdout) as { readonly code: string }).code);
    await gateway.until('that code to wait', ({ claim }) => claim.discriminators.includes(held.discriminator));
    return held;
  }
  const claimEntries = async (): Promise<readonly Record<string, unknown>[]> => (await logLines(dataDir(), ['--kind', 'claim'])).map(({ body }) => body as Record<string, unknown>);
  const order = async (operator: Operator, by: 0 | 1, change: Pick<OwnerOrder, 'verb' | 'ownerKeys'>): Promise<string> => {
    const { claimId, signingKey } = operator.record;
    const { standing } = await giveOrder({ dial: dialTo('127.0.0.1', await port()), claim: operator.record, order: (generation) => signOrder({ claimId, device: sha256(signingKey), generation, ...change }, operator.owners[by]) }, AbortSignal.timeout(10_000));
    return standing;
  };

  beforeEach(async function () {
    tpm = await temporaryTpm(this);
    dir = tempDir('gateway-claim');
    writeFileSync(configFile(), `attest: { intervalMs: 1000, tpm: { mode: socket, path: '${tpm.address}' } }\nclaim: { host: 127.0.0.1 }\nsystem: { enabled: false }\ninfer: { enabled: false }\n`);
    await start();
    await gateway.until('its first block', ({ chain, claim }) => chain.blocks > 0 && claim.state === 'unclaimed', 20_000);
  });
  afterEach(async () => {
    await gateway[Symbol.asyncDispose]();
    await tpm[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  it('nothing listens until a code waits; then it is found by its number, claimed, and stays claimed over a kill', async () => {
    using operator = new Operator();
    assert.equal((await gateway.status())?.claim.port, null);
    const code = await shownCode();
    const found = Promise.withResolvers<number>();
    const done = new AbortController();
    void browseClaims({ scope: 'loopback', onPlace: (place) => { if (place.discriminators.includes(code.discriminator)) found.resolve(place.port); } }, done.signal);
    const place = await found.promise;
    done.abort();
    assert.equal(place, await port());
    operator.look = async () => { assert.equal((await gateway.until('the words', ({ claim }) => claim.words !== null)).claim.words, operator.words); };
    assert.deepEqual(await operator.claim(code, place), { kind: 'owned' });
    const { claim, fleet } = await gateway.until('the owner to be settled', (status) => status.fleet.owner !== null);
    assert.deepEqual([claim.state, claim.claimId, claim.words, claim.generation, claim.discriminators], ['owned', toHex(operator.record.claimId), operator.words, 1, []]);
    assert.deepEqual(fleet.owner?.keys, operator.owners.map(({ publicKey }) => thumbprintOf(publicKey)));
    assert.deepEqual(fleet.upstreams.map(({ name, broker }) => [name, broker]), [['owner', 'mqtts://127.0.0.1:1']]);
    assert.ok(!existsSync(join(dataDir(), 'claim', 'shown.cbor')), 'the code is gone');
    await gateway.kill();
    await start();
    await gateway.until('its owner to be known again', (status) => status.fleet.owner !== null && status.claim.state === 'owned', 20_000);
    assert.deepEqual(await operator.ask(await port()), { kind: 'owned' });
    const entries = await claimEntries();
    assert.deepEqual(entries.map(({ state, claimId, words, handOver, fleetCa }) => [state, claimId, words, typeof handOver, fleetCa]), [['owned', `hex:${toHex(operator.record.claimId)}`, operator.words, 'string', `hex:${toHex(sha256(operator.fleetCa))}`]]);
    assert.equal((await logLines(dataDir(), ['--kind', 'enrolment'])).length, 1, 'the enroller\'s word is in the chain');
  });

  it('an owner rotates its keys and releases the gateway; a new owner needs a new code', async () => {
    using operator = new Operator();
    using second = new Operator();
    const code = await shownCode('--printed');
    assert.deepEqual(await operator.claim(code, await port()), { kind: 'owned' });
    assert.deepEqual(await second.claim(code, await port()).then((outcome) => (outcome.kind === 'failed' ? outcome.code : outcome.kind)), 'claim.claimed');
    assert.equal(await order(operator, 1, { verb: 'rotate', ownerKeys: second.owners.map(({ publicKey }) => publicKey) }), 'rotated');
    await gateway.until('the new keys to count', ({ fleet }) => fleet.owner?.keys[0] === thumbprintOf(second.owners[0].publicKey));
    second.records.push(operator.record);
    assert.equal(await order(second, 0, { verb: 'release', ownerKeys: undefined }), 'released');
    await gateway.until('nobody to own it', ({ fleet, claim }) => fleet.owner === null && claim.state === 'unclaimed' && claim.port === null);
    assert.deepEqual((await claimEntries()).map(({ state }) => state).filter((state) => state !== 'failed'), ['owned', 'rotated', 'released']); // who came second is an entry too
    assert.deepEqual(await second.claim(await shownCode(), await port()), { kind: 'owned' });
  });
});
