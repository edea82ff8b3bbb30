/** Owner keys are changed by the commands that people type: gateway, register and folder follow, and the first answer is lost on the way. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ClaimStore } from '#provisioning/claim/claimStore.ts';
import { decodeMessage } from '#provisioning/claim/messages.ts';
import { publicKeyIn } from '#runtime/cli/fleet/owner.ts';
import { callController } from '#runtime/controller/apiClient.ts';
import { standBetween } from '#test/support/claimWire.ts';
import { Gateway, tenzro } from '#test/support/gateway.ts';
import { PageShell } from '#test/support/pageShell.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

interface Listed {
  readonly gateways: readonly { readonly name: string; readonly ownerKeys: readonly string[] }[];
}

describe('fleet rotate', function () {
  this.timeout(120_000);

  it('gives gateway, register and folder two other keys, also where the answer was lost; nobody obeys those of before', async function () {
    requirePeer(this, 'swtpm');
    using dir = tempDir('fleet-rotate');
    const [data, fleet] = [join(dir.path, 'gateway'), join(dir.path, 'fleet')];
    writeFileSync(join(dir.path, 'passphrase'), 'correct horse battery staple\n', { mode: 0o600 });
    await using operator = new PageShell(dir.path);
    await using gateway = await Gateway.start({ dataDir: data });
    await operator.type('tenzro fleet init --dir fleet --passphrase-file passphrase\ntenzro fleet serve --dir fleet --listen 127.0.0.1:0 --passphrase-file passphrase > fleet.log 2>&1 &\nuntil tenzro fleet status --dir fleet > status.log 2>&1; do sleep 0.2; done');
    const shown = await until('the code to be shown', async () => {
      const { code, stdout } = await tenzro(data, ['claim', 'show', '--json']);
      return code === 0 ? (JSON.parse(stdout) as { readonly code: string }).code : undefined;
    });
    await operator.type(`tenzro fleet claim --dir fleet --code ${shown} --passphrase-file passphrase --yes`);
    const { claim: { port }, node } = await gateway.until('its owner to be settled', ({ fleet: { owner } }) => owner !== null);
    const store = new ClaimStore(fleet);
    const kept = await store.ownerOf(node);
    let isLost = false;
    await using between = await standBetween(port ?? 0, { cut: (bytes) => {
      const message = decodeMessage(bytes);
      return message.kind === 'standing' && message.standing === 'rotated' && (isLost = true);
    } });
    await store.write({ ...kept, address: `127.0.0.1:${between.port}` });

    await operator.type('for n in 1 2; do tenzro fleet keygen --output new-$n.key --passphrase-file passphrase; done');
    const rotate = 'tenzro fleet rotate --all --dir fleet --key fleet/owner-2.key --to new-1.key new-2.key --passphrase-file passphrase';
    const told = await operator.type(rotate);
    assert.ok(isLost, told);
    assert.match(told, new RegExp(`^${node} +rotated$`, 'm'));
    const { gateways: [entry] } = await callController(fleet, 'gateways.list', {}) as unknown as Listed;
    assert.deepEqual(entry?.ownerKeys, (await gateway.until('the new keys', ({ fleet: { owner } }) => owner?.keys.join() === entry?.ownerKeys.join())).fleet.owner?.keys);
    assert.match(await operator.type('tenzro fleet acts --dir fleet'), /gateway\.rotated/);
    assert.match(await operator.type(rotate), new RegExp(`^${node} +rotated$`, 'm'), 'the same call again changes nothing');
    assert.equal((await gateway.status())?.claim.generation, 2);
    assert.match(await operator.type(`tenzro fleet release ${node} --dir fleet --passphrase-file passphrase || true`), /claim\.order/, 'the key of before');

    const before = ['owner-1', 'owner-2'].map((name) => Buffer.from(publicKeyIn(join(fleet, `${name}.key.pub`))).toString('base64'));
    await callController(fleet, 'gateways.rotated', { name: node, ownerKeys: before }); // as if nobody had told the register
    assert.match(await operator.type(rotate.replace('fleet/owner-2.key', 'new-1.key')), new RegExp(`^${node} +rotated$`, 'm'), 'a new key tells it');
    const { gateways: [again] } = await callController(fleet, 'gateways.list', {}) as unknown as Listed;
    assert.deepEqual(again?.ownerKeys, entry?.ownerKeys);

    const commands = told.split('\n').filter((line) => line.startsWith('  mv '));
    assert.equal(commands.length, 3, told);
    await operator.type(commands.join('\n'));
    assert.match(await operator.type(`tenzro fleet release ${node} --dir fleet --passphrase-file passphrase`), /is released/);
  });
});
