import assert from 'node:assert/strict';
import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tenzro } from '#test/support/gateway.ts';
import { connectClient } from '#test/support/mqttClient.ts';
import { makeOwnFleet, type OwnFleet } from '#test/support/ownFleet.ts';
import type { Ran } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

describe('cli: tenzro fleet serve, status, broker-user', function () {
  this.timeout(60_000);
  let dir: TempDir;
  let fleet: OwnFleet;
  let opened: AsyncDisposableStack;
  const at = (name: string): string => join(dir.path, name);
  const call = (...args: readonly string[]): Promise<Ran> => tenzro(dir.path, ['fleet', ...args, '--dir', fleet.home]);
  before(async () => {
    dir = tempDir('serve');
    fleet = await makeOwnFleet(dir.path);
    writeFileSync(at('password'), 'a good password\n', { mode: 0o600 });
    writeFileSync(at('other'), 'incorrect horse battery\n', { mode: 0o600 });
  });
  after(() => { dir[Symbol.dispose](); });
  beforeEach(() => { opened = new AsyncDisposableStack(); });
  afterEach(() => opened.disposeAsync());

  it('says on one line where it is, ends orderly, and leaves no socket behind', async () => {
    const program = opened.use(await fleet.start());
    assert.equal(program.stdout.trim(), `controller ready on mqtts://localhost:${fleet.port} (its own broker), 0 chains, receipt key ${fleet.receiptKey}`);
    const status = JSON.parse((await call('status', '--json')).stdout) as { readonly receiptKey: string; readonly broker: object };
    assert.equal(status.receiptKey, fleet.receiptKey);
    assert.deepEqual(status.broker, { host: '127.0.0.1', port: fleet.port, tlsVersion: 'TLSv1.3', groups: {}, clients: 0, users: [] });
    const said = (await call('status')).stdout;
    assert.match(said, /^[^\n]+: ready, serves since \d+ s\nbroker   mqtts:\/\/localhost:\d+ \(its own, at 127\.0\.0\.1:\d+\), TLSv1\.3\nclients  0\nfleet    0 gateways, 0 chains/);
    assert.doesNotMatch(said, /[{}]|fault/);
    assert.equal(await program.end('SIGTERM'), 0);
    const offline = await call('status');
    assert.deepEqual([offline.code, /controller\.offline/.test(offline.output)], [2, true]);
  });

  it('serves one folder once, and opens it with its passphrase only', async () => {
    opened.use(await fleet.start());
    const again = await call('serve', '--listen', '127.0.0.1:0', '--passphrase-file', at('passphrase'));
    assert.deepEqual([again.code, /controller\.running/.test(again.output)], [2, true], again.output);
    const wrong = await call('serve', '--listen', '127.0.0.1:0', '--passphrase-file', at('other'));
    assert.deepEqual([wrong.code, /fleet\.key/.test(wrong.output)], [2, true], wrong.output);
    for (const mode of [0o640, 0o604, 0o620]) {
      chmodSync(at('other'), mode);
      const open = await call('serve', '--listen', '127.0.0.1:0', '--passphrase-file', at('other'));
      assert.deepEqual([open.code, /link\.credentials[^]*chmod 600/.test(open.output)], [2, true], open.output);
    }
  });

  it('lets people look on, with a hash of their password in a file of its owner', async () => {
    assert.equal((await call('broker-user', 'anna', '--password-file', at('password'))).code, 0);
    const file = join(fleet.home, 'broker-users.json');
    assert.equal(statSync(file).mode & 0o777, 0o600);
    assert.ok(!readFileSync(file, 'utf8').includes('a good password'));
    opened.use(await fleet.start());
    const anna = opened.use(await connectClient(fleet.port, { protocol: 'mqtts', host: 'localhost', ca: readFileSync(join(fleet.home, 'ca.pem')), username: 'anna', password: 'a good password' }));
    assert.equal((await anna.mqtt.subscribeAsync('te/#', { qos: 1 }))[0]?.qos, 1);
    assert.equal((await call('broker-user', 'anna', '--remove')).code, 0);
    assert.match((await call('broker-user', 'anna', '--remove')).output, /controller\.unknown/);
    assert.match((await call('broker-user', 'a b', '--password-file', at('password'))).output, /cli\.usage/);
  });

  it('says what does not go together', async () => {
    for (const args of [['--listen', '127.0.0.1'], ['--listen', '127.0.0.1:99999'], ['--listen', '127.0.0.1:0', '--broker', 'mqtts://x:8883'], ['--broker', 'http://x'], ['--user', 'x']]) {
      const { code, output } = await call('serve', ...args, '--passphrase-file', at('passphrase'));
      assert.deepEqual([code, /cli\.usage/.test(output)], [2, true], `${args.join(' ')}: ${output}`);
    }
  });
});
