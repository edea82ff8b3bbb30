import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer, type Server } from 'node:tls';
import { judgeBrokerChain } from '#runtime/crypto/brokerChain.ts';
import { pemOf, selfSignedCertificate } from '#runtime/crypto/certificate.ts';
import { Hub } from '#runtime/link/hub.ts';
import { openLink } from '#runtime/link/mqttLink.ts';
import { silentLog } from '#test/support/sealHarness.ts';
import { until } from '#test/support/until.ts';

/** MQTT 3.1.1 §3.2: CONNACK, no session, accepted. */
const CONNACK = Buffer.of(0x20, 2, 0, 0);
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const DAY_MS = 86_400_000;

describe('link: a broker whose certificates we judge ourselves', () => {
  let server: Server;
  let received: Buffer[];
  let connections: number;

  async function listen(hosts: readonly string[], notAfterMs: number): Promise<string> {
    const pem = pemOf(selfSignedCertificate({ privateKey, commonName: 'broker', hosts, notBeforeMs: 0, notAfterMs }));
    [received, connections] = [[], 0];
    server = createServer({ key: privateKey.export({ format: 'pem', type: 'pkcs8' }), cert: pem }, (socket) => {
      socket.on('data', (bytes: Buffer) => { received.push(bytes); socket.write(CONNACK); });
      socket.on('error', () => undefined); // it hangs up: that is the test
    });
    server.on('connection', () => { connections++; });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return pem;
  }
  afterEach(() => { server.close(); });

  const open = (ca: string, provenMicros: number) => openLink({
    url: `mqtts://127.0.0.1:${(server.address() as AddressInfo).port}`, ca, clientId: 'judged', user: 'edge-1', password: 'a secret password', hub: new Hub([], silentLog),
    judge: (chain, host) => judgeBrokerChain({ chain, roots: ca, host, provenMicros }),
  });

  it('connects where the wall clock calls the certificate expired, and the fleet proved no later time', async () => {
    const pem = await listen(['127.0.0.1'], 30 * DAY_MS); // of 1970: every clock of today is decades ahead
    await using link = open(pem, 0);
    assert.equal(await link.ready(AbortSignal.timeout(10_000)), true);
    assert.ok(Buffer.concat(received).includes('a secret password'));
  });

  it('tells a stranger nothing, not even a name', async () => {
    const pem = await listen(['127.0.0.1'], 30 * DAY_MS);
    await using link = open(pem, 40 * DAY_MS * 1_000);
    await until('a refusal', () => /expired/.test(link.fault));
    assert.deepEqual([link.isReady, received.length], [false, 0]);
    await until('another try', () => connections > 1, { timeoutMs: 10_000 });
    assert.equal(received.length, 0);
  });
});
