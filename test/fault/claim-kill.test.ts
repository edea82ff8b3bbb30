/** kill -9 at every step of a claim that the gateway's disk shows: afterwards it is wholly owned or wholly free, and both sides say the same. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, watch, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodeClaimCode, type ClaimCode } from '#provisioning/claim/code.ts';
import { signOrder } from '#provisioning/claim/handOver.ts';
import { dialTo } from '#provisioning/claim/lan/dial.ts';
import { giveOrder } from '#provisioning/claim/order.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { Operator } from '#test/support/claimOperator.ts';
import { Gateway, logLines, tenzro } from '#test/support/gateway.ts';
import { requirePeer } from '#test/support/peers.ts';
import { Program } from '#test/support/process.ts';
import { temporaryTpm } from '#test/support/swtpm.ts';
import { tempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

/** After the proof: the draft of the record (made, filled, renamed), the codes that go. */
const EVENTS = 7;
const COMMAND = join(import.meta.dirname, '../../runtime/cli/tenzro.js');
const NETWORKS = 'run/NetworkManager/system-connections';
/** A machine on which a gateway was killed in the middle of a trial: the network that it tried lies beside one of somebody else. */
const CUT_OFF = `
set -e
mount -t tmpfs tmpfs /run && mkdir -p "/$1" && touch "/$1/tenzro-trial.nmconnection" "/$1/home.nmconnection"
exec "$2" "$3" run --no-scenario
`;

describe('a gateway that is killed in the middle of its claim', function () {
  this.timeout(120_000);

  it('belongs to its owner or to nobody, its chain says so once, and the next claim works', async function () {
    await using tpm = await temporaryTpm(this);
    using dir = tempDir('claim-kill');
    const [dataDir, configFile] = [join(dir.path, 'data'), join(dir.path, 'tenzro.yaml')];
    const folder = join(dataDir, 'claim');
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    writeFileSync(configFile, `attest: { intervalMs: 1000, tpm: { mode: socket, path: '${tpm.address}' } }\nclaim: { host: 127.0.0.1 }\nsystem: { enabled: false }\ninfer: { enabled: false }\n`);
    const start = (): Promise<Gateway> => Gateway.start({ dataDir, configFile });
    const portOf = async (gateway: Gateway): Promise<number> => (await gateway.until('claims to be taken', ({ claim }) => claim.port !== null, 20_000)).claim.port ?? 0;
    const codeFor = async (gateway: Gateway): Promise<ClaimCode> => {
      await gateway.until('nobody to own it', ({ chain, claim }) => chain.blocks > 0 && (claim.state === 'unclaimed' || claim.state === 'waiting'), 20_000);
      const { stdout, output } = await tenzro(dataDir, ['claim', 'show', '--json'], { configFile });
      assert.notEqual(stdout, '', output);
      const code = decodeClaimCode((JSON.parse(stdout) as { readonly code: string }).code);
      await gateway.until('that code to wait', ({ claim }) => claim.discriminators.includes(code.discriminator));
      return code;
    };
    const outcomes = new Set<string>();
    let gateway = await start();
    try {
      for (let struck = 1; struck <= EVENTS; struck++) {
        using operator = new Operator();
        const code = await codeFor(gateway);
        const port = await portOf(gateway);
        const killed = Promise.withResolvers<void>();
        const watching = new AbortController();
        operator.look = async () => {
          let events = 0;
          watch(folder, { signal: watching.signal }, () => {
            events += 1;
            if (events !== struck) return;
            process.kill(gateway.pid, 'SIGKILL');
            gateway.exited().then(() => { killed.resolve(); }, killed.reject);
          });
        };
        const first = await operator.claim(code, port);
        watching.abort();
        assert.notEqual(first.kind, 'failed', `event ${struck}`);
        if (first.kind === 'unknown') await killed.promise;
        else await gateway.kill();
        gateway = await start();
        const asked = await operator.ask(await portOf(gateway));
        const { claim } = await gateway.until('a settled state', ({ claim: { state }, fleet }) => (state === 'owned') === (fleet.owner !== null) && state !== 'unready', 20_000);
        assert.equal(asked.kind, claim.state === 'owned' ? 'owned' : 'failed', `event ${struck}`);
        outcomes.add(asked.kind);
        const id = `hex:${toHex(operator.record.claimId)}`;
        const said = (await logLines(dataDir, ['--kind', 'claim'])).map(({ body }) => body as { readonly state: string; readonly claimId: string }).filter(({ claimId }) => claimId === id);
        assert.deepEqual(said.map(({ state }) => state), asked.kind === 'owned' ? ['owned'] : [], `event ${struck}`);
        if (asked.kind === 'owned') {
          const { claimId, signingKey } = operator.record;
          const order = (generation: number): ReturnType<typeof signOrder> => signOrder({ verb: 'release', claimId, device: sha256(signingKey), generation, ownerKeys: undefined }, operator.owners[0]);
          assert.equal((await giveOrder({ dial: dialTo('127.0.0.1', await portOf(gateway)), claim: operator.record, order }, AbortSignal.timeout(10_000))).standing, 'released');
        }
      }
    } finally {
      await gateway[Symbol.asyncDispose]();
    }
    assert.deepEqual(outcomes, new Set(['failed', 'owned']), 'kills fell before the commit point and after it');
  });

  it('takes back the network that it tried when it was killed, and nobody else\'s', async function () {
    requirePeer(this, 'unshare');
    using dir = tempDir('claim-trial');
    const configFile = join(dir.path, 'tenzro.yaml');
    writeFileSync(configFile, 'attest: { tpm: { mode: none } }\nclaim: { host: 127.0.0.1 }\nsystem: { enabled: false }\ninfer: { enabled: false }\n');
    const env = { ...process.env, TENZRO_DATA: join(dir.path, 'data'), TENZRO_MQTT_PORT: '0', TENZRO_CONFIG: configFile };
    const asRoot = process.geteuid?.() === 0 ? [] : ['--user', '--map-root-user'];
    await using gateway = new Program('unshare', [...asRoot, '--mount', '--propagation', 'private', 'sh', '-c', CUT_OFF, 'sh', NETWORKS, process.execPath, COMMAND], { env });
    await until('the network on trial to go', () => {
      const names = readdirSync(`/proc/${gateway.pid}/root/${NETWORKS}`);
      return names.length === 1 && names[0] === 'home.nmconnection';
    }, { timeoutMs: 20_000, hopeless: () => (gateway.running ? undefined : gateway.output) });
  });
});
