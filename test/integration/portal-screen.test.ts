/** What the screen of a card shows while its access point is open: the one place where its passphrase stands. */
import assert from 'node:assert/strict';
import { credentialsOf } from '#provisioning/portal/credentials.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { openControl } from '#runtime/observe/control.ts';
import type { GatewayStatus, PortalStatus } from '#runtime/observe/status.ts';
import { tenzro } from '#test/support/gateway.ts';
import { tempDir } from '#test/support/temp.ts';

const statusWith = (portal: PortalStatus): GatewayStatus => ({
  ready: true, node: 'n', version: '0', pid: process.pid, uptimeMs: 0, dataDir: '/d', chain: { id: null, entries: 0, blocks: 0, attestedEntries: 0, lastBlockAt: null }, trust: { level: 'none', reason: 'r' }, anchor: null, blocksSealed: 0, update: null,
  identity: { state: 'unasked', code: null, detail: null, hint: null, protection: null, unprotected: null, authority: null, signingKeyDigest: null, createdAt: null, tpmOwned: null, request: null },
  claim: { state: 'unclaimed', port: null, discriminators: [], words: null, claimId: null, generation: 0, code: null, detail: null }, portal, lease: null, fleet: { upstreams: [], commands: [], owner: null, clock: { state: 'unrefuted', wall: '', provable: '' } },
  broker: { listeners: [], clients: 0 }, models: [], health: { ok: true, stalled: [] }, board: [], counters: {},
});
const CLOSED: PortalStatus = { state: 'off', url: null, last: null, code: null, detail: null };

describe('portal: the screen', function () {
  this.timeout(60_000);

  it('shows name, passphrase and address of an open access point, what did not work, and nothing of a closed one', async () => {
    using dir = tempDir('portal-screen');
    const own = await credentialsOf(dir.path);
    let portal: PortalStatus = { ...CLOSED, state: 'open', url: 'http://192.168.73.1/', last: { network: 'hall\u001b[2J', reason: 'wrong passphrase' } };
    await using _ = await openControl({ dataDir: dir.path, status: () => statusWith(portal), freshBundle: () => Promise.reject(new TenzroError('attest.too_many_challenges', 'not in this test')) });
    const shown = async (...words: readonly string[]): Promise<string> => (await tenzro(dir.path, words)).output;
    const open = await shown('board', 'screen', '--once');
    for (const part of [`Wi-Fi ${own.ssid}`, `passphrase ${own.passphrase}`, 'then http://192.168.73.1/', 'hall\\u001b[2J did not work: wrong passphrase']) assert.ok(open.includes(part), `${part} is not in ${open}`);
    const told = await shown('status');
    assert.match(told, /portal +the access point is open, with a page at http:\/\/192\.168\.73\.1\//);
    assert.ok(!told.includes(own.passphrase));
    portal = CLOSED;
    assert.ok(!(await shown('board', 'screen', '--once')).includes(own.passphrase));
  });
});
