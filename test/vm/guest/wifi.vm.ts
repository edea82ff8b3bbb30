/** Both network services over radios that the kernel simulates (mac80211_hwsim), against hostapd: no real radio is in this. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { joinFirst } from '#drivers/network/join.ts';
import { MachineWifi } from '#drivers/network/machineWifi.ts';
import type { WifiNetwork } from '#drivers/network/wifi.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { Program } from '#test/support/process.ts';
import { until } from '#test/support/until.ts';
import { Air, NETWORKS, PORT, reaches, type AirNetwork } from './air.ts';
import { NetworkManagerService, WpaSupplicantService, type Service } from './networkServices.ts';

const VICTIM = join(import.meta.dirname, '..', '..', 'support', 'wifiVictim.ts');
/** A trial's 30 s, and what emulation takes on top. */
const REFUSED_MS = 60_000;
const BACK_MS = 90_000;
const never = (): AbortSignal => AbortSignal.timeout(300_000);
const wrong = (network: AirNetwork): WifiNetwork => ({ ...network, passphrase: 'another one, and wrong' });

describe('Wi-Fi over simulated radios (mac80211_hwsim)', function () {
  this.timeout(300_000);
  let air: Air;
  before(async () => { air = await Air.open(); });
  after(async () => { await air[Symbol.asyncDispose](); });

  for (const service of [new WpaSupplicantService(), new NetworkManagerService()]) suite(service);

  function suite(service: Service): void {
    describe(service.name, () => {
      let wifi: MachineWifi;
      const on = (network: AirNetwork): Promise<unknown> => until(`the network at ${network.host}`, () => reaches(network), { timeoutMs: BACK_MS, hopeless: () => service.hopeless() });
      const outcome = (networks: readonly WifiNetwork[], { host }: AirNetwork): Promise<string> => joinFirst(wifi, networks, { host, port: PORT }, never()).then(() => 'up', (error: unknown) => (error instanceof TenzroError ? error.code : String(error)));

      before(async () => {
        await service.start();
        wifi = new MachineWifi();
        await on(NETWORKS.old);
        assert.equal(await wifi.whyNot(never()), undefined);
      });
      afterEach(async function () {
        if (this.currentTest?.state === 'failed') process.stdout.write(`${service.said}\n── hostapd\n${air.said.slice(-4_000)}\n`);
        await wifi.remove(never());
        await on(NETWORKS.old);
      });
      after(async () => { await service.stop('SIGTERM'); });

      it('comes up with any SSID and passphrase, is kept over a power cut, and is gone after removal', async () => {
        const before = service.files();
        assert.equal(await outcome([NETWORKS.awkward], NETWORKS.awkward), 'up');
        assert.deepEqual(service.files(), before, 'on trial only');
        await wifi.keep([NETWORKS.awkward], never());
        await on(NETWORKS.awkward);
        await service.powerCut();
        await on(NETWORKS.awkward);
        await wifi.keep([NETWORKS.awkward], never());
        assert.ok(await reaches(NETWORKS.awkward), 'what is kept already is not disturbed');
        await wifi.remove(never());
        await on(NETWORKS.old);
        assert.deepEqual(service.files(), before);
      });

      it('comes up with WPA3 (SAE), and without any security', async () => {
        assert.equal(await outcome([NETWORKS.wpa3], NETWORKS.wpa3), 'up');
        assert.equal(await outcome([NETWORKS.open], NETWORKS.open), 'up');
      });

      it('refuses a wrong passphrase in time, and takes the next network', async () => {
        const started = performance.now();
        assert.equal(await outcome([wrong(NETWORKS.awkward)], NETWORKS.awkward), 'claim.apply');
        assert.ok(performance.now() - started < REFUSED_MS, `${performance.now() - started} ms`);
        await on(NETWORKS.old);
        assert.equal(await outcome([wrong(NETWORKS.awkward), NETWORKS.awkward], NETWORKS.awkward), 'up');
      });

      it('gives up a network that is not here, and has the one before', async () => {
        assert.equal(await outcome([{ ssid: Buffer.from('nowhere'), passphrase: 'none at all' }], NETWORKS.awkward), 'claim.apply');
        await on(NETWORKS.old);
      });

      it('gives up a network that does not lead to the place', async () => {
        assert.equal(await outcome([NETWORKS.awkward], { ...NETWORKS.old, host: '10.2.0.9' }), 'claim.apply');
        await on(NETWORKS.old);
      });

      for (const [name, when] of [['while it begins', 'trying'], ['when it is up', 'up']] as const) {
        it(`killed -9 on trial, ${name}: the next start has the network before`, async () => {
          const before = service.files();
          await using victim = new Program(process.execPath, [VICTIM, NETWORKS.awkward.ssid.toString('hex'), NETWORKS.awkward.passphrase]);
          await until(when, () => victim.stdout.includes(`${when}\n`), { timeoutMs: BACK_MS, hopeless: () => (victim.running ? undefined : victim.output) });
          if (when === 'trying') await until('the network on trial', () => service.isOnTrial(), { timeoutMs: BACK_MS });
          await victim.end('SIGKILL');
          await wifi.remove(never()); // as each start of a gateway without an owner does
          await on(NETWORKS.old);
          assert.deepEqual(service.files(), before);
        });
      }

      it('power cut on trial: the network before comes up, without any gateway', async () => {
        assert.equal(await outcome([NETWORKS.awkward], NETWORKS.awkward), 'up');
        await service.powerCut();
        await on(NETWORKS.old);
      });
    });
  }
});
