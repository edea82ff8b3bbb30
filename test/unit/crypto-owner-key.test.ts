import assert from 'node:assert/strict';
import { TenzroError } from '#runtime/core/errors.ts';
import { decryptOwnerKey, encryptOwnerKey } from '#runtime/crypto/ownerKey.ts';

const PASSPHRASE = Buffer.from('correct horse battery');

describe('crypto: owner keys at rest', function () {
  this.timeout(20_000);
  const seed = Buffer.alloc(32, 9);
  const pem = encryptOwnerKey(seed, PASSPHRASE);
  const refuses = (text: string, passphrase: Uint8Array = PASSPHRASE): void => {
    assert.throws(() => decryptOwnerKey(text, passphrase), (error) => error instanceof TenzroError && error.code === 'fleet.key');
  };
  /** The file with one byte changed. */
  const altered = (at: number, value: (byte: number) => number): string => {
    const lines = pem.trim().split('\n');
    const bytes = Buffer.from(lines.slice(1, -1).join(''), 'base64');
    bytes[at] = value(bytes[at] ?? 0);
    return `${lines[0] ?? ''}\n${bytes.toString('base64')}\n${lines.at(-1) ?? ''}\n`;
  };

  it('opens with its passphrase, and never looks the same twice', () => {
    assert.deepEqual(decryptOwnerKey(pem, PASSPHRASE), seed);
    assert.ok(!pem.includes(seed.toString('base64').slice(0, 20)));
    assert.notEqual(encryptOwnerKey(seed, PASSPHRASE), pem);
  });

  it('refuses another passphrase, altered bytes, and other files', () => {
    refuses(pem, Buffer.from('correct horse batterz'));
    refuses(altered(10, (byte) => byte ^ 1));
    refuses(altered(40, (byte) => byte ^ 1));
    refuses(pem.replaceAll('OWNER', 'OTHER'));
    refuses(pem.slice(0, 100));
    refuses('');
  });

  it('refuses a file that asks for more memory than a key may take, before it takes any', () => {
    refuses(altered(1, () => 40));
    refuses(altered(2, () => 255));
    refuses(altered(3, () => 0));
  });
});
