import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { TenzroError } from '#runtime/core/errors.ts';
import { parseDocumentText } from '#runtime/config/document.ts';
import { DEFAULT_POLICY, parsePolicy } from '#runtime/verify/policy.ts';

const refuses = (value: unknown, pattern: RegExp): void =>
  assert.throws(() => parsePolicy(value), (error: unknown) => error instanceof TenzroError && error.code === 'policy.invalid' && pattern.test(error.message));

describe('verification policy', () => {
  it('accepts proven hardware only, unless told otherwise', () => {
    assert.deepEqual(DEFAULT_POLICY.accept, ['dtpm', 'enrolled']);
    assert.deepEqual(parsePolicy({ version: 1 }), DEFAULT_POLICY);
  });

  it('refuses what it does not know, and names it', () => {
    refuses({ version: 2 }, /version must be 1/);
    refuses({}, /version must be 1/);
    refuses(null, /must be a map/);
    refuses({ version: 1, acept: [] }, /unknown key 'acept'; known are version, accept/);
    refuses({ version: 1, accept: ['hardware'] }, /'hardware' is none of dtpm, enrolled, emulated, software/);
    refuses({ version: 1, accept: 'software' }, /accept must be a list/);
    refuses({ version: 1, enrolled: ['ab'.repeat(32)] }, /enrolled\[0\] must be a map/);
    refuses({ version: 1, enrolled: [{ ek: 'AB'.repeat(32), ak: 'ab'.repeat(32) }] }, /enrolled\[0\]\.ek must be 64 lower-case/);
    refuses({ version: 1, device: 12 }, /device must be 64/);
    refuses({ version: 1, maxLinks: -1 }, /maxLinks/);
    refuses({ version: 1, leaseSeconds: 1 }, /leaseSeconds must be a whole number from 2 to/);
    refuses({ version: 1, clockSkewSeconds: '5' }, /clockSkewSeconds/);
    refuses({ version: 1, ekRoots: ['-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----'] }, /ekRoots\[0\] is not a certificate/);
  });

  it('ships an example that allows emulated TPMs and nothing weaker', () => {
    const text = readFileSync(join(import.meta.dirname, '../../docs/policies/allow-emulated.yaml'), 'utf8');
    assert.deepEqual(parsePolicy(parseDocumentText(text).value).accept, ['dtpm', 'enrolled', 'emulated']);
  });
});
