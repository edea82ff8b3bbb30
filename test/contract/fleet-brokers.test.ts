import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import type { GatewayStatus } from '#runtime/observe/status.ts';
import { FleetStage, KINDS } from '#test/support/fleetStage.ts';
import type { Gateway } from '#test/support/gateway.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

/** IANA registry "TLS Supported Groups". */
const GROUPS: Readonly<Record<number, string>> = { 0x001d: 'x25519', 0x11ec: 'X25519MLKEM768' };
const TLS_1_3 = 0x0304;
const NAMES = ['edge-1', 'edge-2'] as const;

/** The same story over each broker that docs/operate/brokers.md names as tested, configured as it says there. */
for (const kind of KINDS) {
  describe(`a fleet over ${kind}`, function () {
    this.timeout(60_000);
    let dir: TempDir;
    let stage: FleetStage;
    const gateways: Gateway[] = [];

    before(async function () {
      requirePeer(this, 'mosquitto_sub');
      requirePeer(this, 'curl');
      dir = tempDir('fleet-brokers');
      stage = await FleetStage.open(this, kind, dir.path);
      gateways.push(...await Promise.all(NAMES.map((name) => stage.gateway(name))));
    });
    after(async () => {
      await stage[Symbol.asyncDispose]();
      dir[Symbol.dispose]();
    });

    const receiptedBeyond = (entries: number) => ({ fleet: { upstreams: [uplink] } }: GatewayStatus): boolean => (uplink?.receipt?.treeSize ?? 0) > entries;
    const receipts = async (entries = 0): Promise<readonly GatewayStatus[]> => Promise.all(gateways.map((gateway) => gateway.until('a receipt', receiptedBeyond(entries), 30_000)));

    it('takes chains to their receipts over TLS 1.3, and says which key exchange went over the wire', async () => {
      const said = (await receipts()).map(({ fleet: { upstreams: [uplink] } }) => uplink?.keyExchange);
      const { hellos } = stage.relay;
      assert.ok(hellos.length >= NAMES.length && hellos.every(({ version }) => version === TLS_1_3), JSON.stringify(hellos));
      const heard = hellos.map(({ group }) => GROUPS[group]);
      assert.deepEqual(said, NAMES.map(() => heard[0]));
      assert.equal(new Set(heard).size, 1);
      if (kind === 'its own broker') assert.equal(heard[0], 'X25519MLKEM768');
      await until('the list to say so', async () => {
        const { stdout } = await stage.call('ls');
        return NAMES.every((name) => new RegExp(`^${name} .* up over ${heard[0]}$`, 'm').test(stdout));
      });
    });

    it('runs commands: of fleet run, and one that was written by hand', async () => {
      const ran = await stage.signing('run', 'edge-1', 'diagnostics');
      assert.equal(ran.code, 0, ran.output);
      assert.equal((JSON.parse(ran.stdout) as { node: string }).node, 'edge-1');
      const watcher = stage.watch(`te/+/${MAIN_ENTITY}/cmd/#`);
      await until('mosquitto_sub to be there', () => watcher.stdout.includes('/cmd/diagnostics {'));
      const command = await stage.signByHand('edge-1', { status: 'init', type: 'sync_time', id: 'by-hand', note: 'asked by the night shift', te: { origin: 'a keyboard' } } as const);
      const handed = await stage.handIn(command);
      assert.ok(handed.code === 0 && !handed.output.includes('error'), handed.output);
      const end = await until('its end', () => watcher.stdout.split('\n').find((line) => line.startsWith(`te/edge-1/${MAIN_ENTITY}/cmd/sync_time/by-hand {`) && line.includes('"status":"successful"')));
      const { note, te } = JSON.parse(end.slice(end.indexOf(' ') + 1)) as JsonObject;
      assert.deepEqual({ note, te }, { note: 'asked by the night shift', te: { origin: 'a keyboard' } });
      await watcher.end('SIGTERM');
    });

    it('goes on after kill -9 of the broker', async () => {
      const before = Math.max(...(await receipts()).map(({ chain }) => chain.entries));
      await stage.killBroker();
      await receipts(before);
      await until('the fleet to know that they are there', async () => {
        const { stdout } = await stage.call('ls', '--json');
        return (JSON.parse(stdout) as readonly { readonly link: { readonly status: string } | null }[]).every(({ link }) => link?.status === 'up');
      }, { timeoutMs: 20_000 });
      const late = stage.watch();
      const retained = NAMES.flatMap((name) => [`te/${name}/status {"status":"up"`, `te/${name}/${MAIN_ENTITY}/cmd/diagnostics {`, `te/${name}/${MAIN_ENTITY}/twin/config {`]);
      await until('who comes late to see everything', () => retained.every((line) => late.stdout.includes(line)));
      await late.end('SIGTERM');
      const ran = await stage.signing('run', 'edge-2', 'sync_time');
      assert.equal(ran.code, 0, ran.output);
    });

    it('sets a configuration, which comes back confirmed', async () => {
      const shown = JSON.parse((await stage.call('twin', 'edge-1', '--json')).stdout) as { readonly reported: { readonly value: JsonObject } };
      writeFileSync(stage.path('value.json'), JSON.stringify({ ...shown.reported.value, log: { level: 'debug' } }));
      const set = await stage.signing('twin', 'edge-1', '--set', stage.path('value.json'), '--confirm', '60s');
      assert.equal(set.code, 0, set.output);
      assert.match(set.stdout, /^version 1 confirmed$/m);
    });

    it('rolls a command out in two stages', async () => {
      writeFileSync(stage.path('rollout.yaml'), [
        'version: 1', 'rollout:', '  id: look', '  group: all', '  command: { type: diagnostics, ttlSeconds: 30 }', '  stages: [{ name: canary, count: 1, soakSeconds: 1 }, { percent: 100 }]',
        "  healthy: \"health.status = 'up'\"", '  failures: { percent: 0 }', '',
      ].join('\n'));
      writeFileSync(stage.inHome('groups.yaml'), "version: 1\ngroups:\n  all: { where: \"health.status = 'up'\" }\n");
      const { code, stdout, output } = await stage.signing('rollout', 'start', stage.path('rollout.yaml'));
      assert.equal(code, 0, output);
      assert.match(stdout, /completed\nchanged {4}2 of 2/);
    });

    if (kind === 'its own broker') {
      it('takes openssl s_client over X25519, and nobody over TLS 1.2', async function () {
        const openssl = requirePeer(this, 'openssl');
        const ask = (...args: readonly string[]) => run('/bin/sh', ['-c', 'exec "$@" </dev/null', 'sh', openssl, 's_client', '-connect', `localhost:${stage.relay.port}`, '-CAfile', stage.caFile, '-verify_return_error', ...args]);
        assert.match((await ask('-groups', 'X25519')).output, /Server Temp Key: X25519[^]*New, TLSv1\.3/);
        assert.deepEqual(stage.relay.hellos.at(-1), { version: TLS_1_3, group: 0x001d });
        const { length } = stage.relay.hellos;
        assert.match((await ask('-tls1_2')).output, /alert protocol version/);
        assert.equal(stage.relay.hellos.length, length, 'it said no hello');
      });
    }
  });
}
