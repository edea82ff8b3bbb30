import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { systemClock } from '#runtime/core/clock.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { BundleLink } from '#runtime/update/link.ts';
import { openRelay } from '#runtime/update/relay.ts';
import { startBundleServer, type BundleServer } from '#test/support/bundleServer.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run } from '#test/support/process.ts';

const NEVER = new AbortController().signal;
const BLOCK = LIMITS.updateBlockBytes;
const QUICK = { retryMs: 2, retryMaxMs: 8, silenceMs: 200, giveUpMs: 800 };
const FILE = randomBytes(40 * BLOCK + 12_345);
const digestOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

async function whole(link: BundleLink): Promise<string> {
  const hash = createHash('sha256');
  for (let index = 0; index * BLOCK < link.sizeBytes; index++) hash.update(await link.block(index, NEVER));
  return hash.digest('hex');
}

describe('update: a bundle over a bad link', () => {
  let server: BundleServer;
  beforeEach(async () => { server = await startBundleServer(FILE); });
  afterEach(async () => { await server[Symbol.asyncDispose](); });
  const open = (): Promise<BundleLink> => BundleLink.open({ url: server.url, clock: systemClock, limits: QUICK }, NEVER);

  it('is whole over a link that drops at every tenth of it, and at less than a block each time', async () => {
    for (const breakAfter of [Math.ceil(FILE.length / 10), 100_003]) {
      server.served.breakAfter = breakAfter;
      using link = await open();
      assert.equal(await whole(link), digestOf(FILE));
      assert.ok(link.receivedBytes < FILE.length * 1.05, `${link.receivedBytes} bytes came: what came stays`);
    }
  });

  it('comes over one connection when nothing breaks, never far ahead of who asks, and in little memory', async () => {
    using link = await open();
    await link.block(0, NEVER);
    assert.equal(await whole(link), digestOf(FILE));
    assert.ok(server.ranges.length <= 3, server.ranges.join(' '));
    using lazy = await open();
    await lazy.block(0, NEVER);
    await lazy.block(1, NEVER);
    assert.ok(lazy.receivedBytes <= (3 + LIMITS.updateBlocksAhead) * BLOCK);
  });

  it('reads the end of a bundle once: who looks and who installs see the same', async () => {
    server.served.etag = undefined;
    using link = await open();
    const last = Math.floor((FILE.length - 1) / BLOCK);
    const seen = Buffer.from(await link.block(last, NEVER));
    server.served.bytes = randomBytes(FILE.length);
    server.cut();
    for (let index = 0; index < last; index++) await link.block(index, NEVER);
    assert.deepEqual(await link.block(last, NEVER), seen);
  });

  it('takes up a link that stalls, and ends over one that is dead', async () => {
    let stalls = 3;
    server.served.first = (request) => request.headers.range !== 'bytes=0-3' && stalls-- > 0;
    using link = await open();
    await link.block(0, NEVER);
    assert.ok(stalls <= 0, 'the answer came after silence');
    server.served.first = () => true;
    server.cut();
    await assert.rejects(link.block(30, NEVER), { code: 'update.source', message: /not a byte for 0\.8 s/ });
    await assert.rejects(link.block(31, NEVER), { code: 'update.source' }, 'and stays dead');
  });

  it('serves ranges to curl, and all of it, whole over breaks', async function () {
    const curl = requirePeer(this, 'curl');
    server.served.breakAfter = 3 * BLOCK + 17;
    using link = await open();
    await using relay = await openRelay(link);
    const ask = async (...args: string[]): Promise<string> => (await run(curl, ['-sS', '--max-time', '20', ...args, relay.url])).stdout;
    assert.equal(await ask('-r', '0-3', '-o', '/dev/null', '-w', '%{http_code} %{size_download} %header{content-range}'), `206 4 bytes 0-3/${FILE.length}`);
    assert.equal(await ask('-r', `${FILE.length}-`, '-o', '/dev/null', '-w', '%{http_code}'), '416');
    assert.match(await ask('-I'), new RegExp(`content-length: ${FILE.length}`, 'i'));
    const { stdout } = await run('sh', ['-c', `${curl} -sS -r -8 ${relay.url} | sha256sum; ${curl} -sS -r 300000-900000 ${relay.url} | sha256sum; ${curl} -sS ${relay.url} | sha256sum; ${curl} -sS -o /dev/null -w '%{http_code}' ${relay.url.replace(/[0-9a-f]{32}/, '0'.repeat(32))}`]);
    assert.deepEqual(stdout.split('\n').map((line) => line.split(' ')[0]), [digestOf(FILE.subarray(-8)), digestOf(FILE.subarray(300_000, 900_001)), digestOf(FILE), '404']);
  });

  it('ends a transfer for who installs when it cannot go on, and does not end it well', async function () {
    const curl = requirePeer(this, 'curl');
    using link = await open();
    await using relay = await openRelay(link);
    server.served.breakAfter = 1_000;
    server.served.first = (_request, response) => { if (link.receivedBytes < 2 * BLOCK) return false; response.writeHead(404).end(); return true; };
    const { code } = await run(curl, ['-sS', '--max-time', '20', '-o', '/dev/null', relay.url]);
    assert.equal(code, 18, 'curl: a partial file');
    assert.equal(link.failure?.code, 'update.source');
  });

  it('takes no file that says it is larger than a bundle, no encoding, and no server without ranges', async () => {
    const answers: readonly Record<string, string>[] = [{ 'content-range': 'bytes 0-3/99999999999' }, { 'content-range': 'bytes 0-3/12', 'content-encoding': 'gzip' }, { 'content-range': 'bytes 4-7/12' }, { 'content-range': 'bytes 0-3/*' }, {}];
    for (const headers of answers) {
      server.served.first = (_request, response) => { response.writeHead(206, headers).end('abcd'); return true; };
      await assert.rejects(open(), { code: 'update.source' });
    }
    server.served.first = (_request, response) => { response.writeHead(200).end('abcd'); return true; };
    await assert.rejects(open(), { code: 'update.source', message: /Range/ });
    server.served.first = (_request, response) => { response.writeHead(503).end(); return true; };
    await assert.rejects(open(), { code: 'update.source', message: /no answer for/ });
  });
});
