/** Width and height of a PNG or JPEG image from its header, so that nobody's memory is filled before they are judged. Pure. */
export interface ImageSize {
  readonly width: number;
  readonly height: number;
}

/** Undefined where the bytes are neither, or end too early. */
export function sizeOfImage(bytes: Uint8Array): ImageSize | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    if (view.getUint32(0) === PNG_START) return view.getUint32(12) === PNG_IHDR ? { width: view.getUint32(16), height: view.getUint32(20) } : undefined;
    return view.getUint16(0) === JPEG_START ? sizeOfJpeg(view) : undefined;
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** PNG (third edition) §5.2: the first half of the signature; §11.2.1: the type of the first chunk. */
const PNG_START = 0x89504e47;
const PNG_IHDR = 0x49484452;
/** ITU-T T.81 table B.1: start of image. */
const JPEG_START = 0xffd8;

/** Steps from segment to segment up to the start of a frame (ITU-T T.81 §B.2.2). Each step goes forward. Throws RangeError at the end of the bytes. */
function sizeOfJpeg(view: DataView): ImageSize | undefined {
  for (let at = 2; ;) {
    if (view.getUint8(at) !== 0xff) return undefined;
    const marker = view.getUint8(at + 1);
    if (marker === 0xff) at += 1; // fill byte, §B.1.1.2
    else if (isStartOfFrame(marker)) return { height: view.getUint16(at + 5), width: view.getUint16(at + 7) };
    else at += 2 + Math.max(view.getUint16(at + 2), 2);
  }
}

/** SOF0 to SOF15 but DHT (C4), JPG (C8) and DAC (CC). */
const isStartOfFrame = (marker: number): boolean => marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
