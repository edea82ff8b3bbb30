import assert from 'node:assert/strict';
import { chmodSync, existsSync, readFileSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { claimKeyDigest, newClaimCode } from '#provisioning/claim/code.ts';
import { SHOWN_LIFETIME_MS, WaitingCodes, lifetimeMs, shownFrom, type Moment } from '#provisioning/claim/waiting.ts';
import { sha256 } from '#runtime/crypto/hash.ts';

const keyDigest = claimKeyDigest({ signingKey: sha256(Buffer.from('signing')) });
const now: Moment = { boot: 'boot-1', uptimeMs: 5_000_000 };
const later = (milliseconds: number, boot = now.boot): Moment => ({ boot, uptimeMs: now.uptimeMs + milliseconds });
const newCode = () => newClaimCode(keyDigest, ['lan']);

describe('claim codes that wait', () => {
  let dir: TempDir;
  let codes: WaitingCodes;
  const file = (name: string): string => join(dir.path, 'claim', name);
  beforeEach(() => {
    dir = tempDir('claim');
    codes = new WaitingCodes(dir.path);
  });
  afterEach(() => { dir[Symbol.dispose](); });

  it('live ten minutes when shown, by a clock that nobody sets', () => {
    const shown = shownFrom(newCode(), now);
    const lives = [0, 1, SHOWN_LIFETIME_MS - 1, SHOWN_LIFETIME_MS, SHOWN_LIFETIME_MS + 1].map((age) => lifetimeMs(shown, later(age)));
    assert.deepEqual(lives, [600_000, 599_999, 1, 0, 0]);
    assert.equal(lifetimeMs(shown, later(1, 'boot-2')), 0, 'a restart ends it');
    assert.equal(lifetimeMs(shown, later(-4_000_000)), SHOWN_LIFETIME_MS, 'an uptime from a damaged file grants no longer life');
    assert.equal(lifetimeMs({ code: newCode(), until: undefined }, later(1e12, 'boot-9')), Infinity);
  });

  it('are there again for whoever looks, until they are over', async () => {
    const [shown, printed] = [shownFrom(newCode(), now), { code: newCode(), until: undefined }];
    await codes.write(shown);
    await codes.write(printed);
    const found = await codes.usable(keyDigest, later(1));
    assert.deepEqual([found.shown?.code.secret, found.printed?.code.secret].map((secret) => Buffer.from(secret ?? []).toString('hex')), [shown, printed].map(({ code }) => Buffer.from(code.secret).toString('hex')));
    assert.deepEqual(Object.keys(await codes.usable(keyDigest, later(SHOWN_LIFETIME_MS))), ['printed']);
    assert.deepEqual(Object.keys(await codes.usable(keyDigest, later(1, 'boot-2'))), ['printed']);
  });

  it('give way to the next one shown', async () => {
    const [first, second] = [shownFrom(newCode(), now), shownFrom(newCode(), now)];
    await codes.write(first);
    await codes.write(second);
    assert.deepEqual((await codes.usable(keyDigest, now)).shown?.code.discriminator, second.code.discriminator);
  });

  it('are worth nothing for other keys, and after removal', async () => {
    await codes.write(shownFrom(newCode(), now));
    await codes.write({ code: newCode(), until: undefined });
    assert.deepEqual(await codes.usable(claimKeyDigest({ signingKey: sha256(Buffer.from('rotated')) }), now), {});
    await codes.removeAll();
    await codes.removeAll();
    assert.deepEqual(await codes.usable(keyDigest, now), {});
    assert.deepEqual(readdirSync(join(dir.path, 'claim')), []);
  });

  it('are readable by their owner only, and refused where others could have read or put them', async () => {
    await codes.write(shownFrom(newCode(), now));
    assert.deepEqual([statSync(file('shown.cbor')).mode & 0o777, statSync(join(dir.path, 'claim')).mode & 0o777], [0o600, 0o700]);
    assert.equal(existsSync(file('shown.cbor.new')), false);
    chmodSync(file('shown.cbor'), 0o640);
    await assert.rejects(codes.usable(keyDigest, now), { code: 'claim.state' });
    chmodSync(file('shown.cbor'), 0o600);
    symlinkSync(file('shown.cbor'), file('printed.cbor'));
    await assert.rejects(codes.usable(keyDigest, now), { code: 'claim.state' });
  });

  it('with any byte changed, cut or added to, are damaged, and the next one shown mends it', async () => {
    await codes.write(shownFrom(newCode(), now));
    const whole = readFileSync(file('shown.cbor'));
    const damaged = [...whole.keys()].map((at) => Buffer.from(whole.map((byte, place) => (place === at ? byte ^ 1 : byte))));
    for (const bytes of [...damaged, Buffer.alloc(0), whole.subarray(0, -1), Buffer.concat([whole, Buffer.of(0)]), Buffer.alloc(100_000)]) {
      writeFileSync(file('shown.cbor'), bytes);
      await assert.rejects(codes.usable(keyDigest, now), { code: 'claim.state' });
    }
    writeFileSync(file('shown.cbor'), whole);
    writeFileSync(file('printed.cbor'), whole, { mode: 0o600 });
    await assert.rejects(codes.usable(keyDigest, now), { code: 'claim.state' }, 'a shown code does not live longer under the other name');
    await codes.write({ code: newCode(), until: undefined });
    await codes.write(shownFrom(newCode(), now));
    assert.deepEqual(Object.keys(await codes.usable(keyDigest, now)), ['shown', 'printed']);
  });
});
