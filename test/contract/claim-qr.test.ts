/** Codes drawn here are read by others (zbar, behind poppler and libjpeg), codes drawn by others (libqrencode) are read here, also from bad photos. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { requirePeer } from '#test/support/peers.ts';
import { photoOf, type Shot } from '#test/support/qrPhoto.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { TRANSPORTS, claimKeyDigest, decodeClaimCode, encodeClaimCode, newClaimCode } from '#provisioning/claim/code.ts';
import { sizeOfImage } from '#provisioning/claim/imageSize.ts';
import { labelSheet } from '#provisioning/claim/labels.ts';
import { readQrCodes } from '#provisioning/claim/photo.ts';
import { QUIET_MODULES, modulesOf, pngOf, terminalLines, type Modules } from '#provisioning/claim/qr.ts';

const keyDigest = claimKeyDigest({ signingKey: sha256(Buffer.from('signing')), ak: sha256(Buffer.from('ak')) });
const DOTS_PER_INCH = 300;
const newCode = (): string => encodeClaimCode(newClaimCode(keyDigest, TRANSPORTS));
/** ISO/IEC 18004 §6.3.1: 17 modules and four a version. */
const versionOf = (modules: Modules): number => (modules.length - 17) / 4;

describe('claim code as QR', () => {
  const code = newCode();
  const modules = modulesOf(code);
  let dir: TempDir;
  before(() => { dir = tempDir('qr'); });
  after(() => { dir[Symbol.dispose](); });

  const zbar = (context: Mocha.Context, file: string): readonly string[] =>
    execFileSync(requirePeer(context, 'zbarimg'), ['--nodbus', '--quiet', '--raw', '-Sdisable', '-Sqrcode.enable', file], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trimEnd().split('\n');
  const jpegOf = (context: Mocha.Context, shot: Shot, flags: readonly string[] = []): Buffer => execFileSync(requirePeer(context, 'cjpeg'), ['-quality', '70', ...flags], { input: photoOf(modules, shot), maxBuffer: 2 ** 26 });

  it('is of version 4 at level M', () => {
    assert.equal(versionOf(modules), 4);
    assert.ok(Array.from({ length: 20 }, () => versionOf(modulesOf(newCode()))).every((version) => version <= 4));
  });

  it('as PNG is read by zbar and by ourselves', async function () {
    for (const scale of [2, 3, 8]) {
      const png = pngOf(modules, scale);
      assert.deepEqual(sizeOfImage(png), { width: 41 * scale, height: 41 * scale });
      writeFileSync(join(dir.path, 'code.png'), png);
      assert.deepEqual(zbar(this, join(dir.path, 'code.png')), [code]);
      assert.deepEqual(await readQrCodes(png), [code]);
    }
  });

  it('drawn by libqrencode is read here', async function () {
    const file = join(dir.path, 'theirs.png');
    execFileSync(requirePeer(this, 'qrencode'), ['-l', 'M', '-s', '6', '-o', file, code]);
    assert.deepEqual(await readQrCodes(readFileSync(file)), [code]);
  });

  it('in a terminal is read by zbar, on dark and on light ground, with its margin', function () {
    for (const look of ['colour', 'light', 'dark'] as const) {
      const lines = terminalLines(modules, look);
      const seen = screenshot(lines.map((line) => line.replaceAll(/\u001b\[[\d;]*m/g, '')), look === 'dark');
      assert.equal(seen.length, modules.length + 2 * QUIET_MODULES);
      assert.ok(seen.every((row, y) => row.every((isDark, x) => isDark === (modules[y - QUIET_MODULES]?.[x - QUIET_MODULES] ?? false))), look);
      assert.equal(lines.every((line) => line.startsWith('\u001b[38;5;16m\u001b[48;5;231m') && line.endsWith('\u001b[0m')), look === 'colour');
      writeFileSync(join(dir.path, 'screen.png'), pngOf(seen, 4));
      assert.deepEqual(zbar(this, join(dir.path, 'screen.png')), [code]);
    }
  });

  it('on a sheet of labels is read by zbar from every label of every page', function () {
    const labels = Array.from({ length: 23 }, (_, at) => ({ code: newCode(), name: `hall (${at}) \\ 語` }));
    writeFileSync(join(dir.path, 'labels.pdf'), labelSheet(labels));
    const rows = [...Array.from({ length: 7 }, (_, row) => ({ page: 1, row })), { page: 2, row: 0 }].flatMap(({ page, row }) => {
      const [top, height] = [15.15 + row * 38.1, 38.1].map((millimetres) => Math.round((millimetres / 25.4) * DOTS_PER_INCH));
      const pixels = ['-r', DOTS_PER_INCH, '-f', page, '-l', page, '-x', 0, '-W', 9999, '-y', top, '-H', height].map(String);
      execFileSync(requirePeer(this, 'pdftoppm'), [...pixels, '-gray', '-singlefile', join(dir.path, 'labels.pdf'), join(dir.path, 'row')], { stdio: 'pipe' });
      return zbar(this, join(dir.path, 'row.pgm'));
    });
    assert.deepEqual(rows.toSorted(), labels.map((label) => label.code).toSorted());
  }).timeout(20_000);

  const shots: Readonly<Record<string, Shot>> = {
    'turned a little': { degrees: 11 }, 'turned by half a right angle': { degrees: 45 }, 'upside down': { degrees: 183 }, 'from afar': { scale: 3.2, degrees: 20 }, 'close': { scale: 15, degrees: 5 },
    'noisy': { noise: 70, degrees: 17 }, 'faint': { ink: 105, paper: 150, degrees: 28 }, 'faint, noisy and blurred': { ink: 90, paper: 150, noise: 14, blur: 2, degrees: 33 }, 'tilted': { tilt: 0.35, degrees: 12 },
    'in light from one side': { ink: 80, paper: 160, slope: 180, degrees: 8 }, 'light on dark': { ink: 235, paper: 20, degrees: 6 },
  };
  for (const [how, shot] of Object.entries(shots)) {
    it(`reads a photo that is ${how}`, async function () {
      assert.deepEqual(await readQrCodes(jpegOf(this, shot)), [code]);
      assert.equal(encodeClaimCode(decodeClaimCode((await readQrCodes(jpegOf(this, shot, ['-progressive'])))[0] ?? '')), code);
    });
  }

  it('reads no code where there is none', async () => {
    assert.deepEqual(await readQrCodes(pngOf([[false]], 50)), []);
  });

  it('refuses what is no image, is cut, or claims to be huge', async function () {
    const jpeg = jpegOf(this, {});
    const huge = Buffer.from(pngOf(modules, 2));
    huge.writeUInt32BE(60_000, 16);
    huge.writeUInt32BE(60_000, 20);
    const hugeJpeg = Buffer.concat([Buffer.from([0xff, 0xd8, 0xff, 0xc0, 0, 17, 8, 0xff, 0xff, 0xff, 0xff]), Buffer.alloc(32)]);
    const bad = [Buffer.alloc(0), Buffer.from('GIF89a'), huge, hugeJpeg, jpeg.subarray(0, 20), Buffer.concat([Buffer.from([0xff, 0xd8]), Buffer.alloc(64, 0xff)]), Buffer.concat([huge.subarray(0, 8), Buffer.alloc(40)])];
    for (const image of bad) await assert.rejects(readQrCodes(image), { code: 'claim.image' });
  });

  it('takes damaged images without harm: a typed refusal, nothing, or the code', async function () {
    const images = [pngOf(modules, 4), jpegOf(this, { width: 300, height: 300, scale: 5 })];
    for (const image of images) {
      for (let at = 20; at < image.length; at += Math.ceil(image.length / 25)) {
        const damaged = Buffer.from(image);
        damaged[at] = (damaged[at] ?? 0) ^ 0xff;
        for (const bytes of [damaged, image.subarray(0, at)]) {
          const found = await readQrCodes(bytes).catch((error: unknown) => {
            assert.ok(error instanceof Error && 'code' in error && error.code === 'claim.image', String(error));
            return [];
          });
          assert.ok(found.length === 0 || found[0] === code);
        }
      }
    }
  }).timeout(20_000);
});

/** What half blocks look like: rows of pixels, true where dark. `onDark`: the terminal's ground is dark and its ink light. */
function screenshot(lines: readonly string[], onDark: boolean): boolean[][] {
  const rows = lines.flatMap((line) => [['▀', '█'], ['▄', '█']].map((inked) => line.split('').map((block) => inked.includes(block) !== onDark)));
  return rows.slice(0, lines[0]?.length);
}
