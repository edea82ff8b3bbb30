import assert from 'node:assert/strict';
import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { scannedIn } from '#drivers/network/wpaScan.ts';
import { fieldsOf, HANDED_NAME, withNetworks } from '#drivers/network/wpaConfig.ts';
import { answerTo } from '#provisioning/portal/dns.ts';
import { credentialsOf, readCredentials } from '#provisioning/portal/credentials.ts';
import { nameOf, networkIn, type FoundNetwork } from '#provisioning/portal/form.ts';
import { formPage } from '#provisioning/portal/page.ts';
import { tempDir } from '#test/support/temp.ts';

const FOUND: readonly FoundNetwork[] = [
  { ssid: Buffer.from('hall'), signalDbm: -50, security: 'passphrase' }, { ssid: Buffer.from('guests'), signalDbm: -70, security: 'open' }, { ssid: Buffer.from('office'), signalDbm: -40, security: 'other' },
];
const taken = (fields: Readonly<Record<string, string>>): unknown => {
  const network = networkIn(new URLSearchParams(fields), FOUND);
  return typeof network === 'string' ? 'refused' : { ssid: Buffer.from(network.ssid).toString('latin1'), passphrase: network.passphrase };
};
const hex = (text: string): string => Buffer.from(text).toString('hex');

describe('portal: what a form may hand over', () => {
  it('takes a chosen network, or a typed one, with a passphrase as WPA has it', () => {
    assert.deepEqual(taken({ network: hex('hall'), passphrase: ' a "b\\c; ' }), { ssid: 'hall', passphrase: ' a "b\\c; ' });
    assert.deepEqual(taken({ network: hex('hall'), name: 'yard', passphrase: '12345678' }), { ssid: 'yard', passphrase: '12345678' });
    assert.deepEqual(taken({ network: hex('guests'), passphrase: 'needless one' }), { ssid: 'guests', passphrase: '' });
    assert.deepEqual(taken({ network: '00ff22', passphrase: '' }), { ssid: '\u0000\u00ff"', passphrase: '' });
  });

  it('refuses everything else', () => {
    for (const fields of [
      {}, { network: 'zz' }, { network: hex('hall') }, { network: hex('hall'), passphrase: 'short' }, { network: hex('hall'), passphrase: 'x'.repeat(64) }, { network: hex('hall'), passphrase: 'with\nnewline' },
      { network: hex('hall'), passphrase: 'grüße an alle' }, { network: hex('office'), passphrase: '12345678' }, { name: 'x'.repeat(33), passphrase: '12345678' }, { name: 'ü'.repeat(17) }, { name: 'a\nb' }, { network: '61'.repeat(33) }, { network: '6' },
    ]) assert.equal(taken(fields), 'refused', JSON.stringify(fields));
  });
});

describe('portal: the page', () => {
  const page = formPage({ title: 'Tenzro-ABC234', networks: [{ ssid: Buffer.from('<script>alert("1")</script>'), signalDbm: -50, security: 'open' }, { ssid: Buffer.from([0xff, 0xfe]), signalDbm: -50, security: 'open' }], last: { network: '<b>', reason: '&' }, token: 'abc' });

  it('lets nothing from the air become a part of itself', () => {
    assert.match(page, /&lt;script&gt;alert\(&quot;1&quot;\)&lt;\/script&gt;/);
    assert.doesNotMatch(page, /<script|<b>/);
    assert.match(page, />fffe</);
  });

  it('says before that the access point goes away, works without scripts, and names every field', () => {
    assert.match(page, /this access point is gone/);
    assert.equal([...page.matchAll(/<input(?! type="hidden")/g)].length, [...page.matchAll(/<label/g)].length);
    assert.match(page, /<html lang="en">/);
  });
});

describe('portal: names', () => {
  const query = (name: string, type: number, { kind = 1, flags = 0x0100, count = 1 } = {}): Buffer => {
    const head = Buffer.from([0x12, 0x34, flags >> 8, flags & 0xff, 0, count, 0, 0, 0, 0, 0, 0]);
    const labels = name.split('.').flatMap((label) => [label.length, ...Buffer.from(label)]);
    return Buffer.concat([head, Buffer.from([...labels, 0, 0, type, 0, kind])]);
  };
  const OURS = Uint8Array.of(192, 168, 73, 1);

  it('answers a question for an address with ours, and others with no data', () => {
    const asked = query('connectivitycheck.gstatic.com', 1);
    assert.equal(answerTo(asked, OURS)?.toString('hex'), `123485000001000100000000${asked.subarray(12).toString('hex')}c00c00010001000000050004c0a84901`);
    for (const type of [28, 65, 15, 255]) assert.equal(answerTo(query('a.b', type), OURS)?.readUInt16BE(6), 0);
    assert.equal(answerTo(query('a.b', 1, { kind: 3 }), OURS)?.readUInt16BE(6), 0);
  });

  it('answers nothing else', () => {
    const good = query('a.b', 1);
    for (let length = 0; length < good.length; length += 1) assert.equal(answerTo(good.subarray(0, length), OURS), undefined, `${length} bytes`);
    const pointer = Buffer.from(good);
    pointer[12] = 0xc0;
    const endless = Buffer.concat([good.subarray(0, 12), ...Array.from({ length: 200 }, () => Buffer.from([1, 0x61]))]);
    for (const bad of [pointer, endless, query('a.b', 1, { flags: 0x8100 }), query('a.b', 1, { flags: 0x2800 }), query('a.b', 1, { count: 2 }), query('a.b', 1, { count: 0 }), Buffer.concat([good, Buffer.alloc(600)])]) assert.equal(answerTo(bad, OURS), undefined);
  });
});

describe('portal: name and passphrase of the access point', () => {
  it('are made once for each card, and nobody else reads them', async () => {
    using one = tempDir('portal');
    using other = tempDir('portal');
    assert.equal(await readCredentials(one.path), undefined);
    const made = await credentialsOf(one.path);
    assert.match(made.ssid, /^Tenzro-[A-Z2-9]{6}$/);
    assert.match(made.passphrase, /^[a-z2-9]{4}-[a-z2-9]{4}-[a-z2-9]{4}$/);
    assert.deepEqual(await credentialsOf(one.path), made);
    assert.notEqual((await credentialsOf(other.path)).passphrase, made.passphrase);
    assert.equal(statSync(join(one.path, 'portal/access-point.json')).mode & 0o777, 0o600);
  });

  it('are refused where others could have read them, or where they are none', async () => {
    using dir = tempDir('portal');
    await credentialsOf(dir.path);
    const file = join(dir.path, 'portal/access-point.json');
    const text = readFileSync(file, 'utf8');
    for (const bad of ['', '{', '{"ssid":"Tenzro-ABC234"}', text.replace('-', '"'), 'x'.repeat(300)]) {
      writeFileSync(file, bad);
      await assert.rejects(credentialsOf(dir.path), { code: 'portal.state' });
    }
    writeFileSync(file, text);
    chmodSync(file, 0o644);
    await assert.rejects(credentialsOf(dir.path), { code: 'portal.state' });
  });
});

describe('portal: the air, and the file', () => {
  it('reads wpa_cli\'s list: each name once, the strongest first, hidden and torn lines left out', () => {
    const mac = '02:00:00:00:01:0';
    const text = [
      'bssid / frequency / signal level / flags / ssid', `${mac}1\t2412\t-60\t[WPA2-PSK+SAE-CCMP][SAE-H2E][ESS]\thall`, `${mac}2\t2437\t-40\t[WPA2-PSK-CCMP][ESS]\thall`, `${mac}3\t2412\t-70\t[ESS]\t`,
      `${mac}4\t2412\t-70\t[ESS]\t\\x00\\x00`, `${mac}5\t2412\t-30\t[ESS]\t\\x00\\xff\\"\\\\\\n\\xc3\\xbc #`, `${mac}6\t2412\t-80\t[WPA2-EAP-CCMP][ESS]\toffice`, `${mac}7\t2412\t-81\t[WEP][ESS]\told`, `${mac}8\tx\t-1\t[ESS]\tbad`, `${mac}9\t2412\t-1\t[ESS]\t${'x'.repeat(33)}`, '',
    ].join('\n');
    assert.deepEqual(scannedIn(text).map(({ ssid, signalDbm, security }) => [Buffer.from(ssid).toString('latin1'), signalDbm, security]), [
      ['\u0000\u00ff"\\\n\u00c3\u00bc #', -30, 'open'], ['hall', -40, 'passphrase'], ['office', -80, 'other'], ['old', -81, 'other'],
    ]);
    assert.equal(scannedIn(Array.from({ length: 500 }, (_, at) => `${mac}1\t2412\t-50\t[ESS]\tn${at}`).join('\n')).length, 64);
  });

  it('keeps what was handed over in the place of the one before, beside an owner\'s and those of the boot partition', () => {
    const file = 'country=DE\nnetwork={\n\tid_str="tenzro-owner-0"\n}\nnetwork={\n\tid_str="boot-1"\n}\n';
    const handed = (ssid: string): string => withNetworks(file, [fieldsOf({ ssid: Buffer.from(ssid), passphrase: '' }, { name: `${HANDED_NAME}1`, priority: 60, hasSae: false })], HANDED_NAME);
    assert.ok(handed('a').startsWith(file));
    assert.equal(withNetworks(handed('a'), [], HANDED_NAME), file);
    assert.match(withNetworks(handed('a'), []), /portal-1/, 'a release leaves it');
    assert.equal(nameOf(Buffer.from('Grüße')), 'Grüße');
  });
});
