/** What the gateway starts beside itself has nothing of it open. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Gateway } from '#test/support/gateway.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const childrenOf = (pid: number): readonly string[] => readdirSync(`/proc/${pid}/task`).flatMap((task) => readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter((child) => child !== ''));
const openIn = (pid: string | number): readonly string[] => readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
  try {
    return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
  } catch {
    return []; // closed meanwhile
  }
});

describe('gateway: its children', function () {
  this.timeout(60_000);

  it('the simulated microcontrollers have no file of the data directory open', async () => {
    using dir = tempDir('gateway-children');
    const dataDir = join(dir.path, 'data');
    const configFile = join(dir.path, 'tenzro.yaml');
    writeFileSync(configFile, 'attest: { tpm: { mode: none } }\ninfer: { enabled: false }\nsystem: { enabled: false }\n');
    await using gateway = await Gateway.start({ dataDir, configFile, args: ['--scenario', 'workshop'] });
    await gateway.until('what they publish', ({ broker: { clients }, chain: { entries } }) => clients > 0 && entries > 5, 30_000);
    const [player, ...others] = await until('a child', () => { const children = childrenOf(gateway.pid); return children.length > 0 ? children : undefined; });
    assert.deepEqual(others, []);
    assert.ok(openIn(gateway.pid).some((path) => path.startsWith(dataDir)), 'the gateway has');
    assert.deepEqual(openIn(player ?? '').filter((path) => path.startsWith(dataDir)), []);
  });

  it('the TPM emulator has nothing of the data directory open but its own folder', async function () {
    requirePeer(this, 'swtpm');
    using dir = tempDir('gateway-emulator');
    const dataDir = join(dir.path, 'data');
    const configFile = join(dir.path, 'tenzro.yaml');
    writeFileSync(configFile, 'attest: { tpm: { mode: emulated } }\ninfer: { enabled: false }\nsystem: { enabled: false }\n');
    await using gateway = await Gateway.start({ dataDir, configFile });
    await gateway.until('a block', ({ chain: { blocks } }) => blocks > 0, 30_000);
    const [emulator, ...others] = childrenOf(gateway.pid);
    assert.deepEqual(others, []);
    const open = openIn(emulator ?? '').filter((path) => path.startsWith(dataDir));
    assert.ok(open.length > 0, 'it runs on its state');
    assert.deepEqual(open.filter((path) => !path.startsWith(join(dataDir, 'swtpm'))), []);
  });
});
