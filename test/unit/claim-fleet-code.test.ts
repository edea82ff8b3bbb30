import assert from 'node:assert/strict';
import { decodeClaimCode } from '#provisioning/claim/code.ts';
import { decodeFleetCode, encodeFleetCode, FLEET_CODE, newFleetCode } from '#provisioning/claim/fleetCode.ts';
import { claimCodeOn } from '#provisioning/claim/photo.ts';
import { modulesOf, pngOf } from '#provisioning/claim/qr.ts';
import { TenzroError } from '#runtime/core/errors.ts';

const CODE = { secret: Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex'), places: [{ host: '192.168.1.20', port: 40_123 }, { host: '127.0.0.1', port: 1 }] };

describe('the code of a fleet', () => {
  it('comes back from text, as people type it, and from a picture', async () => {
    const text = encodeFleetCode(CODE);
    assert.match(text, /^TZF1:[0-9A-Z.-]{20,95}$/);
    for (const typed of [text, text.toLowerCase(), text.replaceAll(/.{5}/g, '$& ')]) assert.deepEqual(decodeFleetCode(typed), { ...CODE, secret: Uint8Array.from(CODE.secret) });
    assert.equal(await claimCodeOn(pngOf(modulesOf(text), 8), FLEET_CODE), text);
    assert.notDeepEqual(newFleetCode(CODE.places).secret, newFleetCode(CODE.places).secret);
  });

  it('and the code of a gateway are never taken for each other', async () => {
    const text = encodeFleetCode(CODE);
    assert.throws(() => decodeClaimCode(text), { code: 'claim.code_malformed' });
    await assert.rejects(claimCodeOn(pngOf(modulesOf(text), 8)), { code: 'claim.no_code' });
  });

  it('is refused with any character exchanged, and a plain Wi-Fi code is none', () => {
    const text = encodeFleetCode(CODE);
    for (let at = 0; at < text.length; at += 1) {
      const other = `${text.slice(0, at)}${text[at] === '7' ? '8' : '7'}${text.slice(at + 1)}`;
      assert.throws(() => decodeFleetCode(other), (error: unknown) => error instanceof TenzroError && error.class === 'input' && !error.message.includes(text.slice(5, 15)));
    }
    assert.throws(() => decodeFleetCode('WIFI:S:workshop;T:WPA;P:secret;;'), { code: 'claim.code_malformed' });
  });
});
