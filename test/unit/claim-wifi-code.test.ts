import assert from 'node:assert/strict';
import { decodeWifiCode } from '#provisioning/claim/wifiCode.ts';

const read = (text: string): readonly [string, string] => {
  const { ssid, passphrase } = decodeWifiCode(text);
  return [Buffer.from(ssid).toString(), passphrase];
};

describe('claim: WIFI codes', () => {
  it('are read as phones read them: any order, escapes, quotes, open networks', () => {
    assert.deepEqual(read('WIFI:T:WPA;S:mynetwork;P:mypassword;;'), ['mynetwork', 'mypassword']);
    assert.deepEqual(read('WIFI:S:mynetwork;P:mypassword;T:WPA;H:false;;'), ['mynetwork', 'mypassword']);
    assert.deepEqual(read(String.raw`WIFI:S:\"foo\;bar\\baz\";T:WPA;P:a\:b\,c\;d\\e;;`), [String.raw`"foo;bar\baz"`, String.raw`a:b,c;d\e`]);
    assert.deepEqual(read('WIFI:T:WPA;S:"ABCD";P:"12345678";;'), ['ABCD', '12345678']);
    assert.deepEqual(read('wifi:T:SAE;S:Halle 3 für alle;P:correct horse;'), ['Halle 3 für alle', 'correct horse']);
    for (const open of ['WIFI:S:guests;;', 'WIFI:T:nopass;S:guests;P:ignored;;', 'WIFI:T:;S:guests;;']) assert.deepEqual(read(open), ['guests', ''], open);
  });

  it('that are none, or of networks that gateways do not join, are refused without a word of them', () => {
    const secret = 'hunter2hunter2';
    const malformed = ['WIFI:', 'WIFI:;;', `WIFI:T:WPA;P:${secret};;`, `WIFI:T:WPA;S:a;P:short;;`, `WIFI:S:a;S:b;P:${secret};;`, `WIFI:T:WPA;S:a;P:${secret}`, `WIFI:T:WPA;S:a;P:${secret};;more`, `WIFI:T:WPA;S:${'x'.repeat(33)};P:${secret};;`, `WIFI:T:WPA;S:a;P:${secret.repeat(50)};;`, 'TZ1:ABC'];
    for (const text of malformed) assert.throws(() => decodeWifiCode(text), ({ code, message }: Error & { code: string }) => code === 'claim.code_malformed' && !message.includes(secret), text);
    for (const text of [`WIFI:T:WEP;S:a;P:${secret};;`, `WIFI:T:WPA2-EAP;S:a;E:PWD;I:me;P:${secret};;`, `WIFI:T:WPA;S:a;H:true;P:${secret};;`]) assert.throws(() => decodeWifiCode(text), { code: 'claim.apply' }, text);
  });
});
