import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type ConnectionOptions, type Server, type TLSSocket, type TlsOptions } from 'node:tls';
import { pemOf, selfSignedCertificate, spkiPin } from '#runtime/crypto/certificate.ts';
import { mlDsa65PrivateKey, newSeed } from '#runtime/crypto/mldsa.ts';
import { groupOfSession, HYBRID_GROUP, negotiatedGroup, pinnedPeer, pinningServerOptions, secureClientOptions, secureServerOptions } from '#runtime/crypto/tls.ts';

interface Identity { readonly key: string; readonly cert: string; readonly pin: Buffer }

function identityOf(privateKey: KeyObject): Identity {
  const der = selfSignedCertificate({ privateKey, commonName: 'test', hosts: ['127.0.0.1'], notBeforeMs: Date.UTC(2020, 0), notAfterMs: Date.UTC(2060, 0) });
  return { key: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(), cert: pemOf(der), pin: spkiPin(createPublicKey(privateKey)) };
}
const classical = (): Identity => identityOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey);
function postQuantum(): Identity {
  const key = mlDsa65PrivateKey(newSeed());
  assert.ok(key);
  return identityOf(key);
}

async function serve(options: TlsOptions): Promise<{ readonly server: Server; readonly port: number }> {
  const server = createServer(options);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  return { server, port: address.port };
}

/** Both ends of one connection, handshake done. Rejects with what the client saw. */
async function handshake(serverOptions: TlsOptions, clientOptions: ConnectionOptions, look: (server: TLSSocket, client: TLSSocket) => void): Promise<void> {
  const { server, port } = await serve(serverOptions);
  const accepted = once(server, 'secureConnection') as Promise<[TLSSocket]>;
  const client = connect({ host: '127.0.0.1', port, ...clientOptions });
  try {
    const [[socket]] = await Promise.all([accepted, once(client, 'secureConnect')]);
    look(socket, client);
    socket.destroy();
  } finally {
    client.destroy();
    server.close();
  }
}

describe('TLS', () => {
  for (const [name, make] of [['ML-DSA-65', postQuantum], ['P-256', classical]] as const) {
    it(`shakes hands with ${name} certificates on both sides, each end pinning the other's key`, async () => {
      const [gateway, verifier] = [make(), make()];
      await handshake({ ...pinningServerOptions(), key: verifier.key, cert: verifier.cert }, { ...secureClientOptions(), key: gateway.key, cert: gateway.cert, ca: verifier.cert }, (server, client) => {
        assert.equal(server.getProtocol(), 'TLSv1.3');
        assert.deepEqual([negotiatedGroup(server), negotiatedGroup(client)], [HYBRID_GROUP, HYBRID_GROUP]);
        pinnedPeer(server, gateway.pin);
        pinnedPeer(client, verifier.pin);
        assert.throws(() => pinnedPeer(server, verifier.pin), { code: 'tls.certificate' });
      });
    });
  }

  it('tells a client that showed no certificate', async () => {
    const { key, cert, pin } = classical();
    await handshake({ ...pinningServerOptions(), key, cert }, { ...secureClientOptions(), ca: cert }, (server) => {
      assert.throws(() => pinnedPeer(server, pin), { code: 'tls.certificate', message: /no certificate/ });
    });
  });

  it('tells the group at both ends, whatever the client offers, and takes the hybrid from whoever knows it', async () => {
    const { key, cert } = classical();
    const groups: readonly (readonly [string, string])[] = [['X25519', 'x25519'], ['P-256', 'secp256r1'], ['P-384', 'secp384r1'], ['X25519:X25519MLKEM768', HYBRID_GROUP]];
    for (const [ecdhCurve, group] of groups) {
      await handshake({ ...secureServerOptions(), key, cert }, { ca: cert, ecdhCurve }, (server, client) => {
        assert.deepEqual([negotiatedGroup(server), negotiatedGroup(client)], [group, group], ecdhCurve);
      });
    }
  });

  it('speaks TLS 1.2 only where that was asked for', async () => {
    const { key, cert } = classical();
    await assert.rejects(handshake({ ...secureServerOptions(), key, cert }, { ca: cert, maxVersion: 'TLSv1.2' }, () => assert.fail('shook hands')), /protocol version/);
    await handshake({ ...secureServerOptions('TLSv1.2'), key, cert }, { ca: cert, maxVersion: 'TLSv1.2' }, (server) => {
      assert.deepEqual([server.getProtocol(), negotiatedGroup(server)], ['TLSv1.2', 'x25519']);
    });
  });

  it('finds no group in what is no session', () => {
    const field = Buffer.from('b304020211ec', 'hex');
    assert.equal(groupOfSession(Buffer.concat([Buffer.of(0x30, 6), field])), 0x11ec);
    assert.equal(groupOfSession(Buffer.concat([Buffer.of(0x30, 9, 2, 1, 1), field])), 0x11ec);
    for (const bad of ['', '30', '3000', '3006b30402', '3007b304020211ec', '3005b304020211ec', '3080b304020211ec', '3006b306020211ec', '3006b304040211ec', '3008b3060204ffffffff', '308400000006b304020211ec']) {
      assert.equal(groupOfSession(Buffer.from(bad, 'hex')), undefined, bad);
    }
  });
});
