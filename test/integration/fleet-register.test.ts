import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { toHex } from '#runtime/core/bytes.ts';
import type { FleetLink } from '#runtime/core/ports.ts';
import { callController } from '#runtime/controller/apiClient.ts';
import { openHouse, receiptKeyOf } from '#runtime/controller/house.ts';
import { clientCertificate, clientKey } from '#runtime/crypto/clientIdentity.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { chainIdOf } from '#runtime/ledger/block.ts';
import { decodeAnswer, type Answer } from '#runtime/ledger/receipt.ts';
import { packShipment } from '#runtime/ledger/shipment.ts';
import { Hub } from '#runtime/link/hub.ts';
import { openLink } from '#runtime/link/mqttLink.ts';
import { tenzro } from '#test/support/gateway.ts';
import { softChain, type MemoryChain } from '#test/support/memoryChain.ts';
import { Program } from '#test/support/process.ts';
import { silentLog } from '#test/support/sealHarness.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const COMMAND = join(import.meta.dirname, '..', '..', 'runtime', 'cli', 'tenzro.js');

describe('a fleet\'s register, as its users run it', function () {
  this.timeout(60_000);
  let dir: TempDir;
  let home: string;
  let serving: Program;
  let port: string;
  const fleet = (...args: readonly string[]) => tenzro(dir.path, ['fleet', ...args]);

  beforeEach(async () => {
    dir = tempDir('fleet-register');
    home = join(dir.path, 'fleet');
    const secret = ['--passphrase-file', join(dir.path, 'passphrase')];
    writeFileSync(join(dir.path, 'passphrase'), 'correct horse battery\n', { mode: 0o600 });
    const made = await fleet('init', '--dir', home, '--name', 'test', '--host', 'localhost', ...secret, '--json');
    assert.equal(made.code, 0, made.output);
    writeFileSync(join(home, 'policy.yaml'), 'version: 1\naccept: [software]\n');
    serving = new Program(process.execPath, [COMMAND, 'fleet', 'serve', '--dir', home, '--listen', '127.0.0.1:0', ...secret, '--json']);
    await until('the controller', () => serving.stdout.includes('"receiptKey"'), { timeoutMs: 20_000, hopeless: () => (serving.running ? undefined : serving.output) });
    port = /mqtts:\/\/[^"]*:(\d+)/.exec(serving.stdout)?.[1] ?? assert.fail(serving.stdout);
  });
  afterEach(async () => { await serving[Symbol.asyncDispose](); dir[Symbol.dispose](); });

  async function claim(signer: Signer): Promise<void> {
    const key = Buffer.from(signer.publicKey).toString('base64');
    await callController(home, 'gateways.begin', { name: 'workshop', claimId: 'ab12', signingKey: key, ownerKeys: [key, key], who: 'an owner' });
    await callController(home, 'gateways.claimed', { name: 'workshop', claimId: 'ab12', who: 'an owner' });
  }

  function connect(signer: Signer, answers: Answer[]): FleetLink {
    const user = { filters: ['te/workshop/chain/+/receipt'], receive: (_: string, payload: Uint8Array) => { answers.push(decodeAnswer(payload)); } };
    return openLink({ url: `mqtts://localhost:${port}`, ca: readFileSync(join(home, 'ca.pem'), 'utf8'), clientId: 'te-workshop', identity: { cert: clientCertificate(signer, 'workshop'), key: clientKey(signer) }, hub: new Hub([user], silentLog) });
  }

  const shipmentOf = (chain: MemoryChain): Promise<Buffer> => packShipment({ chainId: chainIdOf(chain.block(0).payload), first: 0, leaves: chain.entries.map((entry) => ({ entry })), blocks: chain.blocks });

  it('takes a claimed gateway by its key, cuts it off in the middle when it is revoked, and can show what it did', async () => {
    const { chain, sealer: { signer } } = softChain(2, 3);
    const answers: Answer[] = [];
    await using stranger = connect(signer, answers);
    await until('a refusal', () => /Not authorized/i.test(stranger.fault));
    await claim(signer);
    await using link = connect(signer, answers);
    assert.equal(await link.ready(AbortSignal.timeout(20_000)), true);
    await link.publish(`te/workshop/chain/${toHex(chainIdOf(chain.block(0).payload))}/up`, await shipmentOf(chain), { retain: false });
    await until('a receipt', () => answers.some(({ receipt, nextBlock }) => receipt !== undefined && nextBlock === 2));
    const listed = await fleet('ls', '--dir', home, '--json');
    const [member] = JSON.parse(listed.stdout) as readonly { readonly state: string; readonly level: string; readonly meetsPolicy: boolean }[];
    assert.deepEqual([listed.code, member?.state, member?.level, member?.meetsPolicy], [0, 'claimed', 'software', true]);

    const revoked = await fleet('revoke', 'workshop', '--why', 'stolen', '--dir', home);
    assert.equal(revoked.code, 0, revoked.output);
    await until('the gateway to be cut off', () => !link.isReady);
    await until('it to stay out', () => /Not authorized/i.test(link.fault), { timeoutMs: 20_000 });
    assert.match((await fleet('show', 'workshop', '--dir', home)).output, /state +revoked/);

    const verified = await fleet('acts', '--dir', home, '--verify');
    assert.equal(verified.code, 0, verified.output);
    const { stdout: text } = await fleet('acts', '--dir', home, '--export');
    const file = join(dir.path, 'acts.txt');
    writeFileSync(file, text.replace(/.(?=.{40}\n$)/, (character) => (character === 'A' ? 'B' : 'A')));
    const broken = await fleet('acts', '--file', file, '--verify', '--json');
    assert.deepEqual([broken.code, (JSON.parse(broken.stdout) as { readonly broken: { readonly index: number } | null }).broken?.index], [1, text.trim().split('\n').length - 2]);
    assert.match((await fleet('acts', '--dir', home)).stdout, /gateway\.revoked +workshop {2}by local:\w+: stolen/);
    assert.equal((await fleet('forget', 'workshop', '--dir', home)).code, 0);
    assert.match((await fleet('ls', '--dir', home)).stdout, /^workshop +unclaimed/);
  });

  it('renews its authority while nobody serves, also with a root that was carried elsewhere, and remembers that', async () => {
    const secret = ['--passphrase-file', join(dir.path, 'passphrase')];
    const before = readFileSync(join(home, 'server.key'), 'latin1');
    const busy = await fleet('renew', '--dir', home, ...secret);
    assert.match(busy.output, /controller\.running/);
    assert.equal(readFileSync(join(home, 'server.key'), 'latin1'), before);
    assert.equal(await serving.end('SIGTERM'), 0);
    renameSync(join(home, 'root.key'), join(dir.path, 'carried.key'));
    assert.match((await fleet('renew', '--dir', home, ...secret)).output, /controller\.key/);
    const [old, receiptKey] = await openHouse(home, Buffer.from('correct horse battery')).then(({ authority, signer }) => [authority.intermediate, receiptKeyOf(signer)] as const);
    const renewed = await fleet('renew', '--dir', home, '--root', join(dir.path, 'carried.key'), ...secret);
    assert.equal(renewed.code, 0, renewed.output);
    const house = await openHouse(home, Buffer.from('correct horse battery'));
    assert.equal(receiptKeyOf(house.signer), receiptKey);
    assert.notDeepEqual(house.authority.intermediate, old);
    assert.ok(new X509Certificate(house.authority.intermediate).verify(new X509Certificate(readFileSync(join(home, 'ca.pem'))).publicKey));
    assert.match((await fleet('acts', '--dir', home)).stdout, /authority\.renewed +test {2}by local:/);
    assert.equal((await fleet('acts', '--dir', home, '--verify')).code, 0);
  });
});
