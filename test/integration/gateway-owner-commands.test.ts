/** Who claimed a gateway commands it: at once, with either key, and no longer than it is theirs. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodeClaimCode } from '#provisioning/claim/code.ts';
import { signOrder, type OwnerOrder } from '#provisioning/claim/handOver.ts';
import { dialTo } from '#provisioning/claim/lan/dial.ts';
import { giveOrder } from '#provisioning/claim/order.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { thumbprintOf } from '#runtime/crypto/jws.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { signCommand } from '#runtime/fleet/message.ts';
import { Operator } from '#test/support/claimOperator.ts';
import { NODE_NAME, Requester } from '#test/support/commandGateway.ts';
import { Gateway, tenzro } from '#test/support/gateway.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

describe('gateway: commands of its owner', function () {
  this.timeout(60_000);
  let dir: TempDir;
  const at = (name: string): string => join(dir.path, name);

  before(function () {
    requirePeer(this, 'mosquitto_pub');
    dir = tempDir('owner-commands');
    writeFileSync(at('tenzro.yaml'), `node: { name: ${NODE_NAME} }\nattest: { intervalMs: 1000, tpm: { mode: none } }\nclaim: { host: 127.0.0.1 }\nsystem: { enabled: false }\ninfer: { enabled: false }\n`);
  });
  after(() => { dir[Symbol.dispose](); });

  it('count with both keys from the claim on, after a rotation with the new keys only, and not after the release', async () => {
    using operator = new Operator();
    using next = new Operator();
    await using gateway = await Gateway.start({ dataDir: at('data'), configFile: at('tenzro.yaml') });
    await gateway.until('its first block', ({ chain, claim }) => chain.blocks > 0 && claim.state === 'unclaimed', 20_000);
    const requester = await Requester.of(gateway);
    const command = async (signer: Signer, id: string, waitSeconds?: number): Promise<void> => {
      const issued = Math.floor(systemClock.wallMicros() / 1_000_000);
      const claims = { gateway: NODE_NAME, target: MAIN_ENTITY, type: 'diagnostics', id, issued, ttlSeconds: 60, isDryRun: true, parameters: {}, ...(waitSeconds === undefined ? {} : { notBefore: issued + waitSeconds }) };
      writeFileSync(at('command.json'), JSON.stringify(signCommand(signer, claims)));
      await requester.publish('diagnostics', id, at('command.json'));
    };
    const answerTo = async (signer: Signer, id: string): Promise<string> => {
      await command(signer, id);
      const { status, reason } = await requester.ended('diagnostics', id);
      return typeof reason === 'string' ? reason.slice(0, reason.indexOf(':')) : String(status);
    };
    const order = async (by: Operator, change: Pick<OwnerOrder, 'verb' | 'ownerKeys'>, port: number): Promise<void> => {
      const { claimId, signingKey } = operator.record;
      await giveOrder({ dial: dialTo('127.0.0.1', port), claim: operator.record, order: (generation) => signOrder({ claimId, device: sha256(signingKey), generation, ...change }, by.owners[0]) }, AbortSignal.timeout(10_000));
    };
    assert.equal(await answerTo(operator.owners[0], 'early'), 'command.no_operators');
    const { stdout } = await tenzro(at('data'), ['claim', 'show', '--json'], { configFile: at('tenzro.yaml') });
    const code = decodeClaimCode((JSON.parse(stdout) as { readonly code: string }).code);
    const { claim: { port } } = await gateway.until('claims to be taken', ({ claim }) => claim.port !== null && claim.discriminators.includes(code.discriminator));
    assert.deepEqual(await operator.claim(code, port ?? 0), { kind: 'owned' });
    await gateway.until('the owner', ({ fleet }) => fleet.owner !== null);
    assert.deepEqual([await answerTo(operator.owners[0], 'a'), await answerTo(operator.owners[1], 'b'), await answerTo(next.owners[0], 'c')], ['successful', 'successful', 'command.operator']);
    await until('what it can do', async () => (await requester.capabilities()).includes('release'));
    await order(operator, { verb: 'rotate', ownerKeys: next.owners.map(({ publicKey }) => publicKey) }, port ?? 0);
    await gateway.until('the new keys', ({ fleet }) => fleet.owner?.keys[0] === thumbprintOf(next.owners[0].publicKey));
    assert.deepEqual([await answerTo(operator.owners[0], 'd'), await answerTo(next.owners[1], 'e')], ['command.operator', 'successful']);
    await command(next.owners[0], 'later', 50);
    await gateway.until('a command that waits', ({ fleet }) => fleet.commands.some(({ id, state }) => id === 'later' && state === 'scheduled'));
    await order(next, { verb: 'release', ownerKeys: undefined }, port ?? 0);
    await gateway.until('nobody', ({ fleet }) => fleet.owner === null && fleet.upstreams.length === 0);
    assert.match(String((await requester.ended('diagnostics', 'later')).reason), /^command\.operator: /, 'it does not wait for the same owner');
    assert.equal(await answerTo(next.owners[0], 'f'), 'command.no_operators');
    await until('nothing that it can do', async () => (await requester.capabilities()).length === 0);
  });
});
