/** A fleet over the years, as its users run it: wrong clocks, renewed certificates, keys that are taken back, and gateways that were away meanwhile. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '#runtime/core/clock.ts';
import { Gateway, logLines, tenzro } from '#test/support/gateway.ts';
import { compile } from '#test/support/native.ts';
import { makeOwnFleet, type OwnFleet } from '#test/support/ownFleet.ts';
import type { Ran } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const DAY_MS = 86_400_000;

describe('a fleet over the years', function () {
  this.timeout(120_000);
  let dir: TempDir;
  let fleet: OwnFleet;
  let clockStep: string;
  let running: AsyncDisposableStack;
  const at = (name: string): string => join(dir.path, name);
  const cli = async (...args: readonly string[]): Promise<Ran> => tenzro(dir.path, ['fleet', ...args, '--dir', fleet.home, '--passphrase-file', at('passphrase')]);
  const good = async (...args: readonly string[]): Promise<Ran> => {
    const ran = await cli(...args);
    assert.equal(ran.code, 0, ran.output);
    return ran;
  };

  /** `year`: where its clock stands; undefined: where it should. */
  async function start(name: string, year?: number): Promise<Gateway> {
    const configFile = at(`${name}.yaml`);
    writeFileSync(configFile, `node: { name: ${name} }\nattest: { intervalMs: 1000, idleIntervalMs: 1000, tpm: { mode: none } }\nclaim: { host: 127.0.0.1 }\nsystem: { intervalMs: 500 }\ninfer: { enabled: false }\n`);
    const offset = at(`${name}.offset`);
    const nowS = Math.floor(systemClock.wallMicros() / 1_000_000);
    writeFileSync(offset, Buffer.from(BigInt64Array.of(BigInt(year === undefined ? 0 : Date.UTC(year, 5) / 1_000 - nowS)).buffer));
    return Gateway.start({ dataDir: at(name), configFile, env: { LD_PRELOAD: clockStep, CLOCKSTEP_FILE: offset } });
  }

  async function claimed(name: string, year?: number): Promise<Gateway> {
    const gateway = await start(name, year);
    await gateway.until('its first block', ({ chain, claim }) => chain.blocks > 0 && claim.state === 'unclaimed', 30_000);
    const { stdout } = await tenzro(at(name), ['claim', 'show', '--json'], { configFile: at(`${name}.yaml`), env: { LD_PRELOAD: clockStep, CLOCKSTEP_FILE: at(`${name}.offset`) } });
    const { code } = JSON.parse(stdout) as { readonly code: string };
    const { claim: { port } } = await gateway.until('claims to be taken', ({ claim }) => claim.port !== null);
    await good('claim', '--code', code, '--name', name, '--address', `127.0.0.1:${port}`, '--broker', `mqtts://localhost:${fleet.port}`, '--yes');
    return gateway;
  }

  const isNow = (iso: string): boolean => Math.abs(Date.parse(iso) - systemClock.wallMicros() / 1_000) < 60_000;
  const receipted = ({ fleet: { upstreams } }: { readonly fleet: { readonly upstreams: readonly { readonly receipt: unknown }[] } }): boolean => upstreams.length > 0 && upstreams[0]?.receipt !== null;

  before(async () => {
    dir = tempDir('fleet-time');
    clockStep = compile('test/fault/clockstep.c', at('clockstep.so'), ['-shared', '-fPIC', '-ldl']);
    fleet = await makeOwnFleet(dir.path);
  });
  after(() => { dir[Symbol.dispose](); });
  beforeEach(() => { running = new AsyncDisposableStack(); });
  afterEach(() => running.disposeAsync());

  for (const [year, state] of [[1970, 'behind'], [2060, 'ahead']] as const) {
    it(`has a gateway whose clock stands at ${year}: claimed, connected, obedient, also after a restart, and it says so`, async () => {
      running.use(await fleet.start());
      const name = `edge-${year}`;
      const before = running.use(await claimed(name, year));
      const { fleet: { clock } } = await before.until('a receipt', receipted, 20_000);
      assert.equal(clock.state, state);
      assert.ok(isNow(clock.provable) && clock.wall.startsWith(String(year)), JSON.stringify(clock));
      assert.match((await tenzro(at(name), ['status'])).stdout, new RegExp(`clock .*${year}.* is wrong \\(${state}\\)`));
      await good('run', name, 'diagnostics');
      await before.stop();
      const after = running.use(await start(name, year));
      await after.until('the connection', ({ fleet: { upstreams } }) => upstreams[0]?.connected === true, 20_000);
      assert.equal((await after.status())?.fleet.clock.state, state);
      await good('run', name, 'diagnostics');
      await after.stop();
      const [first] = await logLines(at(name), ['--kind', 'claim']);
      assert.ok(first?.time.startsWith(String(year)), 'it records as its clock says: who reads it sees both');
    });
  }

  it('believes a clock that was claimed right and went astray by decades only until an owner says what time it is', async () => {
    running.use(await fleet.start());
    await (await claimed('edge-rtc')).stop();
    const astray = running.use(await start('edge-rtc', 2061));
    await astray.until('the connection', ({ fleet: { upstreams } }) => upstreams[0]?.connected === true, 20_000);
    const refused = await cli('run', 'edge-rtc', 'diagnostics');
    assert.match(refused.output, /command\.expired/);
    await good('run', 'edge-rtc', 'sync_time');
    assert.equal((await astray.status())?.fleet.clock.state, 'ahead');
    await good('run', 'edge-rtc', 'diagnostics');
  });

  it('renews certificates, of its authority too, for a gateway that was away', async () => {
    let controller = running.use(await fleet.start());
    let gateway = await claimed('edge-away');
    const first = Date.parse((await gateway.status())?.fleet.owner?.certificateUntil ?? '');
    assert.ok(Math.abs(first - systemClock.wallMicros() / 1_000 - 365 * DAY_MS) < DAY_MS, 'a year');
    await gateway.until('a receipt', receipted, 20_000);
    await gateway.stop();
    await controller.end('SIGTERM');
    await good('renew');
    controller = running.use(await fleet.start());
    gateway = running.use(await start('edge-away'));
    await gateway.until('another certificate', ({ fleet: { owner } }) => Date.parse(owner?.certificateUntil ?? '') > first, 20_000);
    await gateway.stop();
    gateway = running.use(await start('edge-away'));
    const { fleet: { owner } } = await gateway.until('the connection with it', ({ fleet: { upstreams } }) => upstreams[0]?.connected === true, 20_000);
    assert.ok(Date.parse(owner?.certificateUntil ?? '') > first, 'kept');
    await gateway.stop();
    assert.deepEqual((await logLines(at('edge-away'), ['--kind', 'claim'])).map(({ body }) => (body as { readonly state: string }).state), ['owned', 'certified']);
  });

  it('takes an owner key back on a gateway that is away: it obeys the other one, and remembers it over a restart', async () => {
    running.use(await fleet.start());
    await (await claimed('edge-back')).stop();
    await good('revoke-key', '--public', join(fleet.home, 'owner-1.key.pub'), '--key', join(fleet.home, 'owner-2.key'), '--why', 'laptop stolen');
    assert.match((await cli('run', 'edge-back', 'diagnostics')).output, /command\.operator/, 'the desk knows it at once');
    let gateway = running.use(await start('edge-back'));
    const { fleet: { owner } } = await gateway.until('the list', (status) => status.fleet.owner?.revoked.length === 1, 20_000);
    assert.equal(owner?.revoked[0], owner?.keys[0]);
    await good('run', 'edge-back', 'diagnostics', '--key', join(fleet.home, 'owner-2.key'));
    const { output } = await cli('revoke-key', '--public', join(fleet.home, 'owner-2.key.pub'), '--why', 'revenge');
    assert.match(output, /fleet\.revocation|was revoked itself/);
    await gateway.kill();
    gateway = running.use(await start('edge-back'));
    await gateway.until('the owner', (status) => status.fleet.owner !== null);
    assert.equal((await gateway.status())?.fleet.owner?.revoked.length, 1);
    await gateway.stop();
    assert.ok((await logLines(at('edge-back'), ['--kind', 'claim'])).some(({ body }) => (body as { readonly state: string }).state === 'revoked'));
  });

  it('believes the receipts of no other key than the one that an owner named last', async () => {
    running.use(await fleet.start());
    const gateway = running.use(await claimed('edge-receipts'));
    await gateway.until('a receipt', receipted, 20_000);
    await good('revoke-key', '--receipt-key', fleet.receiptKey, '--next', 'ab'.repeat(32), '--key', join(fleet.home, 'owner-2.key'), '--why', 'the server was stolen');
    const { counters } = await gateway.until('nothing that is receipted', ({ fleet: { upstreams } }) => upstreams[0]?.receipt === null, 20_000);
    await gateway.until('receipts that do not count', (status) => (status.counters['uplink.receipt'] ?? 0) > (counters['uplink.receipt'] ?? 0), 20_000);
    assert.equal((await gateway.status())?.fleet.upstreams[0]?.receipt, null);
  });
});
