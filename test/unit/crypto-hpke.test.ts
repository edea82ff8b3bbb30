import assert from 'node:assert/strict';
import { ml_kem768_x25519 as nobleXWing } from '@noble/post-quantum/hybrid.js';
import { AES_256_GCM, CHACHA20_POLY1305, sealAead } from '#runtime/crypto/aead.ts';
import { keySchedule, openContext, openOnce, sealContext, sealOnce, Sequence } from '#runtime/crypto/hpke.ts';
import { exchangeKeyOfSeed, newExchangeSeed } from '#runtime/crypto/xwing.ts';

const bytes = (hex: string): Buffer => Buffer.from(hex, 'hex');
const text = (words: string): Buffer => Buffer.from(words);
const INFO = text('purpose');

/** HPKE base mode with KEM 0x647a, HKDF-SHA256 and ChaCha20-Poly1305: a vector of Go's implementation, as rust-hpke tests against it. */
const GO = {
  info: '34663634363532303666366532303631323034373732363536333639363136653230353537323665',
  eseed: 'a3a869097e0241158eca5dc6c9e695f9e0d2ee5db51c09c435aab69d56509a43d94ff76d7d47cf79ecf75394261236cec024bd849cc782e14f7f0738af83daed',
  seed: 'b3f98b03126a431ccecc62ae0f68e102c2d8e1cc7b21ba85d821d8e31761e0f8',
  secret: 'b90cf181d95351d1091569487caaf6c3434eeb181a2c4c04631980ce139afa67',
  key: '4a4c042267e8ec360c83b2baf0d5e3dcca73a86531cdf67ec41d95bccfe12387',
  nonce: '5ddfaaee10a4dfd0d8e1b49f',
  exporter: '145e4b99cabeaa6f5a380367d140d308746ea25d96f937288f85403b5c4384ae',
  plaintext: '34323635363137353734373932303639373332303734373237353734363832633230373437323735373436383230363236353631373537343739',
  /** The first three; the associated data are "Count-0", "Count-1", "Count-2". */
  ciphertexts: [
    'ac355d192158cd54250e1702be51e9d2eafe5f9292a9f153e02a2323e1ff071a30947836c38c63c986c28ccf05e00d4e5fe066a48ab8d5b39c69d32da80c93dc868daa0f853a6cbdd640',
    '712e40f2971afcfbf899f766c47d815265c1a0f52dba3bd68dfe6d14918f114b1d85f5ed0409a9b6caa370f1ed94b9d564080dd7468f629881db3aee6db91b5479a634ff18b819694d43',
    'f11c81d6a2d45fa589095aecaa499b7af97081376227f7a0970936ee5f034990f88ce1cee9696864419b9770d40c9ecf35a27eb16fa0c039b0039cc3b11ac1cf81ebaf6278467529ab06',
  ],
} as const;

describe('HPKE with X-Wing', () => {
  it("derives the key schedule and opens the messages of another implementation's vector", () => {
    const key = exchangeKeyOfSeed(bytes(GO.seed));
    const { cipherText: enc } = nobleXWing.encapsulate(Uint8Array.from(key.publicKey), Uint8Array.from(bytes(GO.eseed)));
    const secret = key.decapsulate(enc);
    assert.equal(Buffer.from(secret).toString('hex'), GO.secret);
    const schedule = keySchedule(secret, bytes(GO.info), { aead: CHACHA20_POLY1305 });
    assert.deepEqual([schedule.key, schedule.baseNonce, schedule.exporterSecret].map((part) => Buffer.from(part).toString('hex')), [GO.key, GO.nonce, GO.exporter]);
    const context = openContext(enc, key, bytes(GO.info), CHACHA20_POLY1305);
    for (const [i, ciphertext] of GO.ciphertexts.entries()) assert.equal(context.open(bytes(ciphertext), text(`Count-${i}`)).toString('hex'), GO.plaintext);
  });

  it('derives the key schedule of RFC 9180 appendix A.2.1 for its KEM', () => {
    const secret = bytes('0bbe78490412b4bbea4812666f7916932b828bba79942424abb65244930d69a7');
    const info = bytes('4f6465206f6e2061204772656369616e2055726e');
    const { key, baseNonce, exporterSecret } = keySchedule(secret, info, { aead: CHACHA20_POLY1305, kem: 0x0020 });
    assert.equal(Buffer.from(key).toString('hex'), 'ad2744de8e17f4ebba575b3f5f5a8fa1f69c2a07f6e7500bc60ca6e3e3ec1c91');
    assert.equal(Buffer.from(baseNonce).toString('hex'), '5c4d98150661b848853b547f');
    assert.equal(Buffer.from(exporterSecret).toString('hex'), 'a3b010d4994890e2c6968a36f64470d3c824c8f5029942feb11e7a74b2921922');
    assert.ok(secret.every((byte) => byte === 0), 'the shared secret is gone');
  });

  it('opens in order what was sealed, empty messages included', () => {
    const key = exchangeKeyOfSeed(newExchangeSeed());
    const sealing = sealContext(key.publicKey, INFO);
    const messages = ['first', '', 'third'].map(text);
    const sealed = messages.map((message, i) => sealing.seal(message, text(`aad ${i}`)));
    const opening = openContext(sealing.enc, key, INFO);
    for (const [i, ciphertext] of sealed.entries()) assert.ok(opening.open(ciphertext, text(`aad ${i}`)).equals(messages[i] ?? text('?')));
    const once = sealOnce(key.publicKey, INFO, text('alone'));
    assert.equal(openOnce(once.enc, key, INFO, once.ciphertext).toString(), 'alone');
  });

  it('opens nothing that was altered, and goes on with what was not', () => {
    const key = exchangeKeyOfSeed(newExchangeSeed());
    const sealing = sealContext(key.publicKey, INFO);
    const [sealed, next] = [sealing.seal(text('secret'), text('aad')), sealing.seal(text('next'))];
    const refused = { code: 'hpke.open' };
    const opening = openContext(sealing.enc, key, INFO);
    for (let at = 0; at < sealed.length; at++) {
      const altered = Buffer.from(sealed);
      altered.writeUInt8(altered.readUInt8(at) ^ 0x80, at);
      assert.throws(() => opening.open(altered, text('aad')), refused);
    }
    for (const short of [0, 1, 15, sealed.length - 1]) assert.throws(() => opening.open(sealed.subarray(0, short), text('aad')), refused);
    assert.throws(() => opening.open(sealed, text('aae')), refused);
    assert.throws(() => opening.open(next), refused, 'out of order');
    assert.throws(() => openContext(sealing.enc, key, text('other purpose')).open(sealed, text('aad')), refused);
    assert.throws(() => openContext(sealing.enc, exchangeKeyOfSeed(newExchangeSeed()), INFO).open(sealed, text('aad')), refused);
    assert.equal(opening.open(sealed, text('aad')).toString(), 'secret');
    assert.equal(opening.open(next).toString(), 'next');
  });

  it('takes no key and no encapsulation of another length', () => {
    const key = exchangeKeyOfSeed(newExchangeSeed());
    assert.throws(() => sealContext(key.publicKey.subarray(1), INFO), { code: 'hpke.malformed' });
    assert.throws(() => openContext(new Uint8Array(1119), key, INFO), { code: 'hpke.malformed' });
  });

  it('ends before a nonce could come twice', () => {
    const schedule = keySchedule(Buffer.alloc(32, 7), INFO);
    const sequence = new Sequence(schedule, Number.MAX_SAFE_INTEGER - 1);
    const nonces = [new Sequence(schedule), sequence].map((one) => one.next((_, nonce) => Buffer.from(nonce).toString('hex')));
    assert.equal(new Set(nonces).size, 2);
    assert.throws(() => sequence.next(({ key }, nonce) => sealAead(AES_256_GCM, key, nonce, text('x'), text(''))), { code: 'hpke.exhausted' });
  });
});
