/** Who knows the access point's passphrase, or has a page open in the browser of somebody who does. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect } from 'node:net';
import { Resolver } from 'node:dns/promises';
import { openNameServer } from '#provisioning/portal/dnsServer.ts';
import { requirePeer } from '#test/support/peers.ts';
import { PortalSite } from '#test/support/portalSite.ts';
import { until } from '#test/support/until.ts';

const FORM = 'name=evil&passphrase=12345678';

/** What comes back until the other side closes, and after how long. */
async function raw(port: number, text: string): Promise<{ readonly text: string; readonly ms: number }> {
  const started = performance.now();
  const socket = connect({ host: '127.0.0.1', port });
  let got = '';
  socket.setEncoding('latin1').on('data', (part: string) => { got += part; }).on('error', () => undefined);
  await once(socket, 'connect');
  socket.write(text);
  await once(socket, 'close');
  return { text: got, ms: performance.now() - started };
}

describe('attack: the page of the access point', function () {
  this.timeout(60_000);
  before(function () { requirePeer(this, 'curl'); });

  it('takes no form that another site lets a visitor send', async () => {
    await using site = await PortalSite.open();
    const token = await site.token();
    for (const body of [FORM, `${FORM}&token=`, `${FORM}&token=${token.slice(1)}`, `${FORM}&token=${token}0`, `${FORM}&token=${'0'.repeat(32)}`]) assert.equal((await site.curl('/join', '-d', body)).status, 403, body);
    for (const type of ['text/plain', 'application/json', 'multipart/form-data; boundary=x']) assert.equal((await site.curl('/join', '-H', `Content-Type: ${type}`, '-d', `${FORM}&token=${token}`)).status, 415, type);
    assert.equal((await site.curl(`/join?${FORM}&token=${token}`)).status, 404);
    await using next = await PortalSite.open();
    assert.equal((await next.curl('/join', '-d', `${FORM}&token=${token}`)).status, 403, 'of an earlier opening');
    assert.deepEqual([site.handed, next.handed], [[], []]);
    assert.ok(site.refused.includes('token') && site.refused.includes('type'));
  });

  it('shows itself under no name but its address', async () => {
    await using site = await PortalSite.open();
    const token = await site.token();
    for (const host of ['evil.example', `evil.example:${site.port}`, `localhost:${site.port}`, '127.0.0.1', `127.0.0.1:${site.port}.evil.example`]) {
      const { status, text } = await site.curl('/', '-H', `Host: ${host}`);
      assert.deepEqual([status, text], [302, ''], host);
      assert.equal((await site.curl('/join', '-H', `Host: ${host}`, '-d', `${FORM}&token=${token}`)).status, 421, host);
    }
    assert.match((await raw(site.port, 'GET / HTTP/1.1\r\n\r\n')).text, /^HTTP\/1\.1 400 |^$/);
    assert.deepEqual(site.handed, []);
  });

  it('bounds what a request may be', async () => {
    await using site = await PortalSite.open();
    const head = `Host: 127.0.0.1:${site.port}\r\n`;
    const token = await site.token();
    assert.equal((await site.curl('/join', '-d', `${FORM}&token=${token}&x=${'x'.repeat(1_024)}`)).status, 413);
    assert.equal((await site.curl('/join', '-H', 'Transfer-Encoding: chunked', '-d', `${FORM}&token=${token}&x=${'x'.repeat(100_000)}`)).status, 413);
    for (const text of [
      `GET / HTTP/1.1\r\n${head}X: ${'x'.repeat(16 * 1_024)}\r\n\r\n`, `GET /${'x'.repeat(16 * 1_024)} HTTP/1.1\r\n${head}\r\n`, `BREW / HTTP/1.1\r\n${head}\r\n`, '\u0000\u0001\u0002\r\n\r\n', 'CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n',
      `POST /join HTTP/1.1\r\n${head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, `GET / HTTP/1.1\r\n${head}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
    ]) assert.doesNotMatch((await raw(site.port, text)).text, /^HTTP\/1\.1 200/);
    for (const method of ['PUT', 'DELETE', 'OPTIONS', 'TRACE']) assert.equal((await site.curl('/', '-X', method)).status, 405, method);
    assert.equal((await site.curl('/../../etc/passwd', '--path-as-is')).status, 404);
    assert.deepEqual(site.handed, []);
    assert.equal((await site.curl('/')).status, 200);
  });

  it('cuts who sends slowly, and is there for others meanwhile', async () => {
    await using site = await PortalSite.open();
    const head = `POST /join HTTP/1.1\r\nHost: 127.0.0.1:${site.port}\r\nContent-Type: application/x-www-form-urlencoded\r\n`;
    const slow = ['GET / HTTP/1.1\r\nX-', head, `${head}Content-Length: 900\r\n\r\nname=`, ...Array.from({ length: 20 }, () => 'G')].map((text) => raw(site.port, text));
    assert.equal((await site.curl('/')).status, 200);
    for (const { ms } of await Promise.all(slow)) assert.ok(ms < 15_000, `${ms} ms`);
    assert.equal((await site.curl('/')).status, 200);
  });

  it('holds a number of connections and of requests, and recovers', async () => {
    await using site = await PortalSite.open();
    const sockets = Array.from({ length: 60 }, () => connect({ host: '127.0.0.1', port: site.port }));
    const closed = Promise.all(sockets.map((socket) => once(socket.on('error', () => undefined), 'close')));
    await until('the page to refuse some', () => sockets.filter(({ destroyed }) => destroyed).length >= 28);
    for (const socket of sockets) socket.destroy();
    await closed;
    await until('the page to answer again', async () => (await site.curl('/')).status === 200);
    const many = await site.curl('/?[1-200]');
    assert.match(many.text, /\n429/);
    assert.ok(site.refused.includes('rate'));
  });

  it('names answer no datagram that is no question, and go on', async () => {
    let refused = 0;
    await using names = await openNameServer({ host: '127.0.0.1', port: 0, refused: () => { refused += 1; } });
    const socket = createSocket('udp4');
    let answers = 0;
    socket.on('message', () => { answers += 1; });
    const bad = [Buffer.alloc(0), Buffer.alloc(12), Buffer.alloc(9_000, 0xff), Buffer.from('123481800001000000000000016100000100 01'.replaceAll(' ', ''), 'hex'), Buffer.from('12340100000100000000000 0c00c00010001'.replaceAll(' ', ''), 'hex')];
    for (const datagram of bad) socket.send(datagram, names.port, '127.0.0.1');
    await until('all of them to be refused', () => refused === bad.length);
    const resolver = new Resolver({ timeout: 2_000, tries: 1 });
    resolver.setServers([`127.0.0.1:${names.port}`]);
    assert.deepEqual(await resolver.resolve4('a.b'), ['127.0.0.1']);
    assert.equal(answers, 0);
    socket.close();
  });
});
