/** `tenzro identity rotate` on claimed gateways, as their people run it: their fleet knows the keys that follow before they are there. */
import assert from 'node:assert/strict';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { callController } from '#runtime/controller/apiClient.ts';
import { Gateway, logLines, tenzro } from '#test/support/gateway.ts';
import { makeOwnFleet, type OwnFleet } from '#test/support/ownFleet.ts';
import type { Program, Ran } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const NAME = 'edge-1';

interface Registered {
  readonly name: string;
  readonly identityKey: string;
  readonly state: string;
  readonly chains: readonly string[];
}

describe('a claimed gateway whose keys are changed', function () {
  this.timeout(180_000);
  let dir: TempDir;
  let stack: AsyncDisposableStack;
  let fleet: OwnFleet;
  let controller: Program;
  let gateway: Gateway;
  const at = (name: string): string => join(dir.path, name);

  beforeEach(async () => {
    stack = new AsyncDisposableStack();
    dir = stack.use(tempDir('gateway-rotate'));
    mkdirSync(at('data'), { mode: 0o700 });
    fleet = await makeOwnFleet(dir.path);
    controller = stack.use(await fleet.start());
    writeFileSync(at('gateway.yaml'), `node: { name: ${NAME} }\nattest: { intervalMs: 1000, idleIntervalMs: 1000, tpm: { mode: none } }\nclaim: { host: 127.0.0.1 }\nsystem: { intervalMs: 500 }\ninfer: { enabled: false }\n`);
    gateway = await start();
    await claim();
  });
  afterEach(() => stack.disposeAsync());

  const own = (...args: readonly string[]): Promise<Ran> => tenzro(at('data'), args, { configFile: at('gateway.yaml') });
  const fleetCall = async (...args: readonly string[]): Promise<string> => {
    const { code, stdout, output } = await tenzro(dir.path, ['fleet', ...args, '--dir', fleet.home]);
    assert.equal(code, 0, output);
    return stdout;
  };
  const signed = (...args: readonly string[]): Promise<string> => fleetCall(...args, '--passphrase-file', at('passphrase'));
  const start = async (): Promise<Gateway> => stack.use(await Gateway.start({ dataDir: at('data'), configFile: at('gateway.yaml') }));
  const receipted = (): ReturnType<Gateway['until']> => gateway.until('a receipt of its fleet', ({ fleet: { upstreams: [owner] } }) => owner?.connected === true && owner.receipt !== null && owner.fault === null, 40_000);
  const registered = async (): Promise<Registered> => {
    const { gateways } = await callController(fleet.home, 'gateways.list', {});
    return (gateways as unknown as readonly Registered[]).find(({ name }) => name === NAME) ?? assert.fail('not in the register');
  };
  const keyDigest = async (): Promise<string | null | undefined> => (await gateway.status())?.identity.signingKeyDigest;

  async function claim(): Promise<void> {
    await gateway.until("nobody's gateway", ({ chain, claim: { state } }) => chain.blocks > 0 && state === 'unclaimed', 30_000);
    const { code } = JSON.parse((await own('claim', 'show', '--json')).stdout) as { readonly code: string };
    const { claim: { port } } = await gateway.until('claims to be taken', ({ claim: { port: open, discriminators } }) => open !== null && discriminators.length > 0);
    await signed('claim', '--code', code, '--name', NAME, '--address', `127.0.0.1:${port}`, '--broker', `mqtts://localhost:${fleet.port}`, '--yes');
    await receipted();
  }

  it('comes back by itself with its new keys, obeys its owner as before, and gets a certificate around them', async () => {
    const before = await registered();
    await gateway.stop();
    const rotated = await own('identity', 'rotate');
    assert.equal(rotated.code, 0, rotated.output);
    gateway = await start();
    await receipted();
    const after = await registered();
    assert.equal(after.identityKey, await keyDigest());
    assert.notEqual(after.identityKey, before.identityKey);
    assert.deepEqual([after.chains.length, after.chains[0]], [2, before.chains[0]]);
    assert.match(await fleetCall('acts'), /gateway\.announced[^]*gateway\.successor/);
    await controller.end('SIGTERM');
    controller = stack.use(await fleet.start()); // it looks at certificates when it starts, and then hourly
    const { fleet: { owner } } = await gateway.until('a certificate of its fleet', (status) => (status.fleet.owner?.certificateUntil ?? null) !== null, 40_000);
    assert.ok(Date.parse(owner?.certificateUntil ?? '') > Date.now());
    await gateway.kill();
    gateway = await start();
    await receipted();
    assert.notEqual((await gateway.status())?.fleet.owner?.certificateUntil, null, 'and shows it after its next start');
    await signed('run', NAME, 'release');
    await until('the release in the register', async () => (await registered()).state === 'released'); // by a receipted block
    await claim(); // its chain of now, by its key of now
    assert.equal((await registered()).identityKey, await keyDigest());
  });

  it('keeps its keys while the fleet is away, and is a stranger to it, in its own words, only where people wanted that', async () => {
    const before = await keyDigest();
    await gateway.stop();
    await controller.end('SIGTERM');
    const refused = await own('identity', 'rotate');
    assert.equal(refused.code, 2, refused.output);
    assert.match(refused.output, /owner at mqtts:\/\/localhost:\d+ has not receipted[^]*identity\.unheard[^]*--alone/);
    assert.deepEqual((await logLines(at('data'), ['--kind', 'epoch'])).length, 0, 'no successor was named');
    controller = stack.use(await fleet.start());
    gateway = await start();
    await receipted();
    assert.equal(await keyDigest(), before);
    await gateway.stop();
    assert.equal((await own('identity', 'rotate', '--alone')).code, 0);
    gateway = await start();
    await gateway.until('to be turned away', ({ chain, fleet: { upstreams: [owner] } }) => chain.blocks > 1 && owner?.connected === false && /authori[sz]ed/i.test(owner.fault ?? ''), 40_000);
    assert.equal((await registered()).chains.length, 1);
    await gateway.stop();
    await fleetCall('revoke', NAME, '--why', 'other keys');
    await fleetCall('forget', NAME);
    renameSync(join(at('data'), 'claim', 'owner.cbor'), at('owner.cbor'));
    gateway = await start();
    await claim();
    assert.equal((await registered()).identityKey, await keyDigest());
  });
});
