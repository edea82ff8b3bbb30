/** Page and names of the access point, asked by real programs. */
import assert from 'node:assert/strict';
import { Resolver } from 'node:dns/promises';
import { openNameServer } from '#provisioning/portal/dnsServer.ts';
import { requirePeer } from '#test/support/peers.ts';
import { IN_REACH, PortalSite } from '#test/support/portalSite.ts';

const hex = (at: number): string => Buffer.from(IN_REACH[at]?.ssid ?? []).toString('hex');

describe('portal: the page, by curl', function () {
  this.timeout(30_000);
  before(function () { requirePeer(this, 'curl'); });

  it('shows what is in reach and what happened last, and hands over what is chosen', async () => {
    await using site = await PortalSite.open({ last: { network: 'yard', reason: 'a network did not come up' } });
    assert.equal(site.seenMs, undefined);
    const { status, text } = await site.curl('/', '-i');
    assert.equal(status, 200);
    for (const part of ['hall 3', 'Gäste &quot;West&quot; &lt;1&gt;', 'ff0022', 'yard did not work', 'a network did not come up']) assert.ok(text.includes(part), part);
    for (const header of [/^cache-control: no-store\r$/im, /^content-security-policy: default-src 'none'; style-src 'sha256-/im, /^x-frame-options: DENY\r$/im]) assert.match(text, header);
    assert.doesNotMatch(text, /access-control-allow/i);
    assert.notEqual(site.seenMs, undefined);

    const taken = await site.curl('/join', '--data-urlencode', `token=${await site.token()}`, '--data-urlencode', `network=${hex(0)}`, '--data-urlencode', 'name=', '--data-urlencode', 'passphrase=a "b" & c=d');
    assert.equal(taken.status, 200);
    assert.match(taken.text, /Trying hall 3/);
    assert.doesNotMatch(taken.text, /&quot;b&quot;|c=d/, 'no secret comes back');
    assert.deepEqual(site.handed, [{ ssid: Buffer.from('hall 3'), passphrase: 'a "b" & c=d' }]);
  });

  it('says what has to be corrected, and takes one network at a time', async () => {
    await using site = await PortalSite.open({ takes: false });
    const token = await site.token();
    const short = await site.curl('/join', '-d', `token=${token}&network=${hex(0)}&passphrase=short`);
    assert.deepEqual([short.status, site.handed.length, /role="alert">A passphrase has 8 to 63/.test(short.text), short.text.includes('short')], [422, 0, true, false]);
    assert.equal((await site.curl('/join', '-d', `token=${token}&name=yard&passphrase=`)).status, 409);
  });

  it('leads phones that look for a way out of the network to itself', async () => {
    await using site = await PortalSite.open();
    for (const path of ['/generate_204', '/hotspot-detect.html', '/connecttest.txt']) {
      const { status, text } = await site.curl(path, '-i', '-H', 'Host: connectivitycheck.gstatic.com');
      assert.equal(status, 302);
      assert.ok(text.includes(`location: ${site.url}/\r`), text);
    }
  });
});

describe('portal: names, by a real resolver', () => {
  it('has one address for every name, and nothing else', async () => {
    let refused = 0;
    await using names = await openNameServer({ host: '127.0.0.1', port: 0, refused: () => { refused += 1; } });
    const resolver = new Resolver({ timeout: 2_000, tries: 1 });
    resolver.setServers([`127.0.0.1:${names.port}`]);
    assert.deepEqual(await resolver.resolve4('connectivitycheck.gstatic.com', { ttl: true }), [{ address: '127.0.0.1', ttl: 5 }]);
    await assert.rejects(resolver.resolve6('www.example.org'), { code: 'ENODATA' });
    await assert.rejects(resolver.resolveTxt('www.example.org'), { code: 'ENODATA' });
    assert.equal(refused, 0);
  });
});
