import assert from 'node:assert/strict';
import { VENDOR_ROOTS, vendorOf } from '#runtime/verify/vendorRoots.ts';

/** Whose site is believed to publish whose roots. GlobalSign runs STMicroelectronics' authorities. */
const SITES: Readonly<Record<string, RegExp>> = {
  AMD: /\.amd\.com$/, IFX: /\.infineon\.com$/, INTC: /\.intel\.com$/, MSFT: /\.microsoft\.com$/, NSG: /\.nsing\.com\.sg$/, NTC: /\.nuvoton\.com$/, NTZ: /\.nationz\.com\.cn$/,
  STM: /\.(?:globalsign|st)\.com$/,
};

describe('TPM makers\' roots', () => {
  it('are told apart by whole SHA-256 digests, come from their makers\' sites, and say where they were looked up', () => {
    for (const { vendor, certificate, key, url, seenIn } of VENDOR_ROOTS) {
      assert.match(certificate, /^[0-9a-f]{64}$/);
      assert.match(key, /^[0-9a-f]{64}$/);
      assert.match(new URL(url).hostname, SITES[vendor] ?? /^$/, url);
      assert.ok(seenIn.length > 0);
    }
    assert.equal(new Set(VENDOR_ROOTS.map(({ certificate }) => certificate)).size, VENDOR_ROOTS.length);
    assert.equal(new Set(VENDOR_ROOTS.map(({ url }) => url)).size, VENDOR_ROOTS.length);
  });

  it('are anchors by fingerprint only', () => {
    const [first] = VENDOR_ROOTS;
    assert.ok(first);
    const fingerprint = Buffer.from(first.certificate, 'hex');
    assert.deepEqual(vendorOf(fingerprint), { name: 'AMD', manufacturers: ['AMD'] });
    fingerprint.writeUInt8(fingerprint.readUInt8(31) ^ 1, 31);
    assert.equal(vendorOf(fingerprint), undefined);
    assert.equal(vendorOf(Buffer.from(first.key, 'hex')), undefined);
  });
});
