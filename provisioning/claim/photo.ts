/**
 * Reads QR codes from a photo or screenshot, on the operator's side. The only file that imports `zxing-wasm`: ZXing-C++ as WebAssembly, which decodes
 * PNG and JPEG too, so that a hostile picture meets C++ in a sandbox only. Nothing is fetched: the module comes with the package.
 */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { sizeOfImage } from './imageSize.ts';

const PIXELS_MAX = 40_000_000;
/** Longest side of an image that cannot hold more than PIXELS_MAX in a useful shape. */
const SIDE_MAX = 32_768;
const CODES_MAX = 16;
const CLAIM_CODE = /^TZ\d/i;

/** The text of the one claim code on an image (of one kind: a gateway's, unless `kind` says otherwise); other QR codes beside it do not matter. Throws `claim.image`, `claim.no_code`. */
export async function claimCodeOn(image: Uint8Array, kind = CLAIM_CODE): Promise<string> {
  const texts = await readQrCodes(image);
  const [code, ...others] = new Set(texts.filter((text) => kind.test(text)));
  if (code === undefined) throw new TenzroError('claim.no_code', texts.length === 0 ? 'no QR code can be read on the image' : 'the QR code on the image is none of ours');
  if (others.length > 0) throw new TenzroError('claim.no_code', `${others.length + 1} different claim codes are on the image: take a picture of one`);
  return code;
}

/** The texts of all QR codes on a PNG or JPEG image; none where there is none. Throws `claim.image`. */
export async function readQrCodes(image: Uint8Array): Promise<readonly string[]> {
  const size = sizeOfImage(image);
  if (!size) throw new TenzroError('claim.image', 'the file is neither PNG nor JPEG, or its header is damaged');
  const { width, height } = size;
  if (width === 0 || height === 0 || Math.max(width, height) > SIDE_MAX || width * height > PIXELS_MAX) throw new TenzroError('claim.image', `the image has ${width} × ${height} pixels`);
  const { prepareZXingModule, readBarcodes } = await import('zxing-wasm/reader');
  const wasm = await readFile(fileURLToPath(import.meta.resolve('zxing-wasm/reader/zxing_reader.wasm')));
  await prepareZXingModule({ overrides: { wasmBinary: Uint8Array.from(wasm).buffer }, fireImmediately: true });
  try {
    const found = await readBarcodes(image, { formats: ['QRCode'], tryHarder: true, maxNumberOfSymbols: CODES_MAX, textMode: 'Plain' });
    return found.filter(({ isValid }) => isValid).map(({ text }) => text);
  } catch (cause) {
    throw new TenzroError('claim.image', `the image does not decode: ${messageOf(cause)}`, { cause });
  }
}
