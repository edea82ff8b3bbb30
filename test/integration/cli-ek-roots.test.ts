/** `tenzro ek-roots fetch` against a maker's site in miniature. */
import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { ekRootsFetch, type FetchFlags } from '#runtime/cli/ekRoots.ts';
import { Io } from '#runtime/cli/io.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { parsePolicy } from '#runtime/verify/policy.ts';
import type { VendorRoot } from '#runtime/verify/vendorRoots.ts';
import { AUTHORITY, ENDORSEMENT, TpmMaker, type Issued } from '#test/support/ekCertificates.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const sha256Hex = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Keeps what it is told. */
class QuietIo extends Io {
  readonly told: string[] = [];
  override catchSignals(): void { /* those of the test runner stay */ }
  override line(text: string): void { this.told.push(text); }
}

describe('tenzro ek-roots fetch', function () {
  this.timeout(20_000);
  let folder: TempDir;
  let server: Server;
  let site: string;
  let root: Issued;
  let renewed: Issued;
  const pages = new Map<string, Buffer>();

  before(async function () {
    folder = tempDir('ek-roots');
    const maker = new TpmMaker(requirePeer(this, 'openssl'), folder.path);
    server = createServer((request, response) => {
      const page = pages.get(request.url ?? '');
      response.writeHead(page ? 200 : 404).end(page);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    site = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    root = maker.authority({ subject: 'Root' });
    renewed = maker.authority({ subject: 'Root' });
    const intermediate = maker.authority({ issuer: root, extensions: [...AUTHORITY, `authorityInfoAccess = caIssuers;URI:${site}/root.crt`] });
    const ek = maker.endorsement({ issuer: intermediate, extensions: [...ENDORSEMENT, `authorityInfoAccess = caIssuers;URI:${site}/intermediate.crt`] });
    writeFileSync(join(folder.path, 'ek.crt'), ek.der);
    pages.set('/root.crt', root.der).set('/intermediate.crt', Buffer.from(intermediate.pem)).set('/renewed.crt', root.der).set('/text', Buffer.from('sorry')).set('/huge', Buffer.alloc(300_000, 0x30));
  });
  after(async () => {
    server?.closeAllConnections();
    server?.close();
    folder?.[Symbol.dispose]();
  });

  const row = (issued: Issued, path: string): VendorRoot => {
    const spki = new X509Certificate(issued.der).publicKey.export({ format: 'der', type: 'spki' });
    return { vendor: 'IFX', subject: 'CN=Root', seenIn: ['collection'], url: `${site}${path}`, certificate: sha256Hex(issued.der), key: sha256Hex(spki) };
  };
  async function fetched(roots: readonly VendorRoot[], flags: Partial<FetchFlags> = {}): Promise<{ readonly io: QuietIo; readonly pem: string }> {
    const output = join(folder.path, 'out.pem');
    const io = new QuietIo();
    await ekRootsFetch(io, { output, ...flags }, roots);
    return { io, pem: readFileSync(output, 'utf8') };
  }
  const certificatesIn = (pem: string): number => parsePolicy({ version: 1, ekIssuers: pem === '' ? [] : [pem] }).ekIssuers.length;

  it('writes the roots whose fingerprints are known, and the issuers of an EK certificate', async () => {
    const { io, pem } = await fetched([row(root, '/root.crt')], { for: join(folder.path, 'ek.crt') });
    assert.equal(io.exitCode, 0, io.told.join('\n'));
    assert.equal(certificatesIn(pem), 2);
  });

  it('leaves out another certificate than the one that is known, what is none, and what is too large, and says so', async () => {
    const { io, pem } = await fetched([row(root, '/root.crt'), row(renewed, '/renewed.crt'), row(renewed, '/text'), row(renewed, '/huge'), row(renewed, '/gone')]);
    assert.equal(io.exitCode, 1);
    assert.equal(certificatesIn(pem), 1);
    const told = io.told.join('\n');
    for (const why of [/another certificate came, [0-9a-f]{64}: it is left out/, /sends no certificate/, /more than 262144 bytes/, /answers 404/, /1 certificates, 4 could not be had/]) assert.match(told, why);
  });

  it('takes them from a folder too', async () => {
    const place = join(folder.path, 'package', 'deep');
    mkdirSync(place, { recursive: true });
    writeFileSync(join(place, 'root.cer'), root.der);
    writeFileSync(join(place, 'broken.crt'), Buffer.of(0x30, 0x03, 1));
    const { io, pem } = await fetched([row(root, '/gone')], { from: join(folder.path, 'package') });
    assert.equal(io.exitCode, 0, io.told.join('\n'));
    assert.equal(certificatesIn(pem), 1);
  });

  it('knows no roots of an unknown maker', () => assert.rejects(fetched([row(root, '/root.crt')], { vendor: 'acme' }), (error: unknown) => error instanceof TenzroError && error.code === 'cli.usage'));
});
