import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { promisify } from 'node:util';
import type { ListenerSettings } from '#runtime/core/settings.ts';
import { pemOf, selfSignedCertificate } from '#runtime/crypto/certificate.ts';
import { secureClientOptions } from '#runtime/crypto/tls.ts';
import { openTestBroker, type TestBroker } from '#test/support/brokerHarness.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const run = promisify(execFile);

describe('broker: TLS', () => {
  let dir: TempDir;
  before(() => {
    dir = tempDir('broker-tls');
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    writeFileSync(join(dir.path, 'key.pem'), privateKey.export({ format: 'pem', type: 'pkcs8' }), { mode: 0o600 });
    const certificate = selfSignedCertificate({ privateKey, commonName: 'gateway', hosts: ['127.0.0.1'], notBeforeMs: Date.UTC(2020, 0), notAfterMs: Date.UTC(2060, 0) });
    writeFileSync(join(dir.path, 'cert.pem'), pemOf(certificate));
    // what a microcontroller's stack can do, told to the OpenSSL under mosquitto (config(5), SSL_CONF_cmd(3))
    for (const [name, setting] of [['old.cnf', 'MaxProtocol = TLSv1.2'], ['classical.cnf', 'Groups = X25519']] as const) {
      writeFileSync(join(dir.path, name), `openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = limits\n[limits]\n${setting}\n`);
    }
  });
  after(() => dir[Symbol.dispose]());

  const open = (minVersion?: 'TLSv1.2'): Promise<TestBroker> => {
    const tls = { certFile: join(dir.path, 'cert.pem'), keyFile: join(dir.path, 'key.pem'), ...(minVersion ? { minVersion } : {}) };
    const listener: ListenerSettings = { host: '127.0.0.1', port: 0, anonymous: true, tls };
    return openTestBroker({ settings: { listeners: [listener] } });
  };
  const factsOf = (door: TestBroker) => {
    const facts = door.broker.listeners()[1];
    assert.ok(facts);
    return facts;
  };
  const publish = (program: string, { port }: { readonly port: number }, limits: 'old.cnf' | 'classical.cnf') =>
    run(program, ['-h', '127.0.0.1', '-p', String(port), '--cafile', join(dir.path, 'cert.pem'), '-t', 'm/t', '-m', 'x', '-q', '1'], { timeout: 5_000, env: { ...process.env, OPENSSL_CONF: join(dir.path, limits) } });

  it('gives a client that knows it the hybrid group, others X25519, and tells each', async function () {
    const mosquitto = requirePeer(this, 'mosquitto_pub');
    await using door = await open();
    await publish(mosquitto, factsOf(door), 'classical.cnf');
    const socket = connect({ host: '127.0.0.1', port: factsOf(door).port, ca: readFileSync(join(dir.path, 'cert.pem')), ...secureClientOptions() });
    await once(socket, 'secureConnect');
    await until('the second handshake', () => factsOf(door).groups?.['X25519MLKEM768'] === 1);
    socket.destroy();
    assert.deepEqual(factsOf(door).groups, { x25519: 1, X25519MLKEM768: 1 });
    assert.equal(factsOf(door).tlsVersion, 'TLSv1.3');
    assert.deepEqual([door.counters.of('broker.tls.x25519'), door.counters.of('broker.tls.X25519MLKEM768')], [1, 1]);
    assert.deepEqual(door.intake.topics(), ['m/t']);
  });

  it('turns TLS 1.2 away, and counts it', async function () {
    const [mosquitto, openssl] = [requirePeer(this, 'mosquitto_pub'), requirePeer(this, 'openssl')];
    await using door = await open();
    await assert.rejects(publish(mosquitto, factsOf(door), 'old.cnf'));
    const at = ['s_client', '-connect', `127.0.0.1:${factsOf(door).port}`, '-CAfile', join(dir.path, 'cert.pem'), '-brief'];
    await assert.rejects(run(openssl, [...at, '-tls1_2'], { timeout: 5_000 }), /alert protocol version|protocol version/);
    assert.equal(door.counters.of('broker.malformed'), 2);
    assert.deepEqual(factsOf(door).groups, {});
    assert.deepEqual(door.intake.topics(), []);
  });

  it('lets TLS 1.2 in where the listener says so, and says that it is weaker', async function () {
    const mosquitto = requirePeer(this, 'mosquitto_pub');
    await using door = await open('TLSv1.2');
    await publish(mosquitto, factsOf(door), 'old.cnf');
    assert.deepEqual(factsOf(door).groups, { 'TLSv1.2 x25519': 1 });
    assert.equal(factsOf(door).tlsVersion, 'TLSv1.2');
    assert.deepEqual(door.intake.topics(), ['m/t']);
  });

  it('serves another certificate without a restart, and keeps the one before where the new one is none', async () => {
    await using door = await open();
    const port = factsOf(door).port;
    const shown = async (): Promise<string | string[] | undefined> => {
      const socket = connect({ ...secureClientOptions(), host: '127.0.0.1', port, rejectUnauthorized: false });
      await once(socket, 'secureConnect');
      const { subject } = socket.getPeerCertificate();
      socket.destroy();
      return subject.CN;
    };
    const file = join(dir.path, 'cert.pem');
    const before = readFileSync(file);
    assert.equal(await shown(), 'gateway');
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const key = readFileSync(join(dir.path, 'key.pem'));
    try {
      writeFileSync(join(dir.path, 'key.pem'), privateKey.export({ format: 'pem', type: 'pkcs8' }));
      writeFileSync(file, pemOf(selfSignedCertificate({ privateKey, commonName: 'renewed', hosts: [], notBeforeMs: Date.UTC(2020, 0), notAfterMs: Date.UTC(2060, 0) })));
      await door.broker.renewTls();
      assert.equal(await shown(), 'renewed');
      writeFileSync(file, 'none');
      await assert.rejects(door.broker.renewTls(), { code: 'broker.listener' });
      assert.equal(await shown(), 'renewed');
    } finally {
      writeFileSync(file, before);
      writeFileSync(join(dir.path, 'key.pem'), key);
    }
  });
});
