import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { judgeBrokerChain } from '#runtime/crypto/brokerChain.ts';
import { issueCertificate, pemOf, rootCertificate, selfSignedCertificate, type Issuer, type Purpose } from '#runtime/crypto/certificate.ts';

const DAY_MS = 86_400_000;
const NOW_MS = Date.UTC(2026, 10, 23);
const newKey = (): KeyObject => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;

function newRoot(commonName: string): Issuer {
  const privateKey = newKey();
  return { privateKey, certificate: rootCertificate({ privateKey, commonName, pathLength: 1, notBeforeMs: NOW_MS, notAfterMs: NOW_MS + 7_300 * DAY_MS }) };
}

function issued(by: Issuer, commonName: string, purpose: Purpose, days: number): Issuer {
  const privateKey = newKey();
  return { privateKey, certificate: issueCertificate(by, { publicKey: createPublicKey(privateKey), commonName, purpose, notBeforeMs: NOW_MS, notAfterMs: NOW_MS + days * DAY_MS }) };
}

describe('crypto: a broker\'s chain of certificates', () => {
  const root = newRoot('fleet root');
  const intermediate = issued(root, 'fleet intermediate', { kind: 'authority', pathLength: 0 }, 3_650);
  const broker = issued(intermediate, 'broker', { kind: 'server', hosts: ['fleet.example.org', '192.0.2.7'] }, 90);
  const whole = { chain: [broker.certificate, intermediate.certificate, root.certificate], roots: pemOf(root.certificate), host: 'fleet.example.org', provenMicros: 0 };
  const at = (days: number): number => (NOW_MS + days * DAY_MS) * 1_000;

  it('holds by name and by address, with or without the root in it', () => {
    for (const host of ['fleet.example.org', '192.0.2.7']) assert.equal(judgeBrokerChain({ ...whole, host }), undefined);
    assert.equal(judgeBrokerChain({ ...whole, chain: whole.chain.slice(0, 2), roots: [pemOf(newRoot('another').certificate), whole.roots] }), undefined);
  });

  it('asks no clock of the gateway: only what the fleet proved makes it expired, with a day of tolerance', () => {
    for (const days of [-20_000, 0, 89, 90.9]) assert.equal(judgeBrokerChain({ ...whole, provenMicros: at(days) }), undefined, `${days} days`);
    assert.match(judgeBrokerChain({ ...whole, provenMicros: at(91.1) }) ?? '', /'CN=broker' expired/);
    const old = issued(issued(root, 'old intermediate', { kind: 'authority', pathLength: 0 }, 10), 'broker', { kind: 'server', hosts: ['fleet.example.org'] }, 90);
    assert.match(judgeBrokerChain({ ...whole, chain: [old.certificate] }) ?? '', /does not lead/);
  });

  it('refuses strangers, other names, other purposes and broken ways', () => {
    const stranger = newRoot('fleet root');
    const refused = (change: Partial<typeof whole>, why: RegExp): void => { assert.match(judgeBrokerChain({ ...whole, ...change }) ?? '', why); };
    refused({ roots: pemOf(stranger.certificate), chain: whole.chain.slice(0, 2) }, /not signed by|does not lead/);
    refused({ host: 'evil.example.org' }, /not for evil/);
    refused({ host: '192.0.2.8' }, /not for 192/);
    refused({ chain: [broker.certificate] }, /does not lead/);
    refused({ chain: [] }, /no certificate/);
    refused({ roots: '' }, /does not lead/);
    refused({ chain: [Buffer.from('garbage')] }, /cannot be read/);
    refused({ chain: [broker.certificate.subarray(0, 80)] }, /cannot be read/);
    const gateway = issued(intermediate, 'fleet.example.org', { kind: 'client' }, 90);
    refused({ chain: [gateway.certificate, intermediate.certificate] }, /not for servers/);
    const bent = Buffer.from(broker.certificate);
    bent[bent.length - 1] = (bent.at(-1) ?? 0) ^ 1;
    refused({ chain: [bent, intermediate.certificate] }, /not signed by|cannot be read/);
  });

  it('takes a broker\'s own certificate that was pinned itself', () => {
    const privateKey = newKey();
    const own = selfSignedCertificate({ privateKey, commonName: 'broker', hosts: ['localhost'], notBeforeMs: NOW_MS, notAfterMs: NOW_MS + DAY_MS });
    assert.equal(judgeBrokerChain({ chain: [own], roots: pemOf(own), host: 'localhost', provenMicros: 0 }), undefined);
    assert.match(judgeBrokerChain({ chain: [own], roots: pemOf(own), host: 'localhost', provenMicros: at(3) }) ?? '', /expired/);
  });
});
