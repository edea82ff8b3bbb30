/** Draws a claim code as QR (ISO/IEC 18004): for a terminal and as a PNG file. The only file that imports `qr`. */
import { crc32, deflateSync } from 'node:zlib';
import { encodeQR } from 'qr';

/** ISO/IEC 18004 §9.1: the white margin that a reader needs, in modules. */
export const QUIET_MODULES = 4;

/** `qr` draws none without. */
const LEAST_BORDER = 1;

/** A square of modules, true where dark, without its margin. */
export type Modules = readonly (readonly boolean[])[];

/** At level M, in the smallest version: a quarter of a label may be scratched and it still reads. */
export function modulesOf(code: string): Modules {
  return encodeQR(code, 'raw', { ecc: 'medium', border: LEAST_BORDER }).slice(LEAST_BORDER, -LEAST_BORDER).map((row) => row.slice(LEAST_BORDER, -LEAST_BORDER));
}

/** `colour`: black on white whatever the terminal looks like; else by the terminal's own colours, which `dark` says. */
export type TerminalLook = 'colour' | 'dark' | 'light';

/** xterm's palette: 16 is black and 231 white in every theme. Consoles with fewer colours take the nearest. */
const BLACK_ON_WHITE = '\u001b[38;5;16m\u001b[48;5;231m';
const RESET = '\u001b[0m';

/** Lines of half blocks, two rows of modules to a line, margin included. */
export function terminalLines(modules: Modules, look: TerminalLook): readonly string[] {
  const at = margined(modules);
  const span = modules.length + 2 * QUIET_MODULES;
  const isInk = (x: number, y: number): boolean => at(x, y) !== (look === 'dark'); // below the last row, where rows are odd, it is margin too
  const lines: string[] = [];
  for (let y = 0; y < span; y += 2) {
    let line = '';
    for (let x = 0; x < span; x++) line += BLOCK[isInk(x, y) ? 1 : 0][isInk(x, y + 1) ? 1 : 0];
    lines.push(look === 'colour' ? `${BLACK_ON_WHITE}${line}${RESET}` : line);
  }
  return lines;
}

/** By upper, then by lower half. */
const BLOCK = [[' ', '▄'], ['▀', '█']] as const;

/** Whether a module is dark, with coordinates that begin in the margin. */
function margined(modules: Modules): (x: number, y: number) => boolean {
  return (x, y) => modules[y - QUIET_MODULES]?.[x - QUIET_MODULES] ?? false;
}

const PNG_SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
/** PNG (third edition) §11.2.1: one bit, greyscale; then compression, filter and interlace methods. */
const PNG_KIND = [1, 0, 0, 0, 0] as const;

/** Greyscale of one bit, margin included. `scale`: pixels a module, a whole number. */
export function pngOf(modules: Modules, scale: number): Buffer {
  const at = margined(modules);
  const span = (modules.length + 2 * QUIET_MODULES) * scale;
  const rowBytes = 1 + Math.ceil(span / 8);
  const raw = Buffer.alloc(rowBytes * span, 0xff);
  for (let y = 0; y < span; y++) {
    raw[y * rowBytes] = 0; // no filter
    for (let x = 0; x < span; x++) {
      const byte = y * rowBytes + 1 + (x >> 3);
      if (at(Math.floor(x / scale), Math.floor(y / scale))) raw[byte] = (raw[byte] ?? 0) & ~(0x80 >> (x & 7));
    }
  }
  const header = Buffer.alloc(8 + PNG_KIND.length);
  header.writeUInt32BE(span, 0);
  header.writeUInt32BE(span, 4);
  header.set(PNG_KIND, 8);
  return Buffer.concat([PNG_SIGNATURE, chunk('IHDR', header), chunk('IDAT', deflateSync(raw)), chunk('IEND', Buffer.alloc(0))]);
}

/** PNG §5.3: length, type, data, CRC over type and data. */
function chunk(type: string, data: Buffer): Buffer {
  const named = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const [length, crc] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  crc.writeUInt32BE(crc32(named));
  return Buffer.concat([length, named, crc]);
}
