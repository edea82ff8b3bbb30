/** Photos of a code, as a phone takes them: turned, small, blurred, tilted, noisy, in bad light. PGM (netpbm), which `cjpeg` makes a JPEG of. */
import type { Modules } from '#provisioning/claim/qr.ts';
import { randomOf } from './random.ts';

export interface Shot {
  readonly width?: number;
  readonly height?: number;
  /** Pixels a module in the middle of the picture. */
  readonly scale?: number;
  readonly degrees?: number;
  /** Grey of ink and paper, 0 to 255. */
  readonly ink?: number;
  readonly paper?: number;
  /** Largest deviation of a pixel, a whole number. */
  readonly noise?: number;
  /** Pixels. */
  readonly blur?: number;
  /** How much nearer the lower edge is than the upper one, as a fraction. */
  readonly tilt?: number;
  /** How much lighter the right edge is than the left one. */
  readonly slope?: number;
}

const MARGIN = 4;
const BLUR_STEPS = 3;

/** `modules` without a margin. */
export function photoOf(modules: Modules, { width = 900, height = 700, scale = 10, degrees = 0, ink = 0, paper = 255, noise = 0, blur = 0, tilt = 0, slope = 0 }: Shot): Buffer {
  const random = randomOf(7);
  const [cos, sin] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
  const side = modules.length + 2 * MARGIN;
  const greyAt = (x: number, y: number): number => {
    const depth = 1 + (tilt * (y - height / 2)) / height;
    const [right, down] = [((x - width / 2) * depth) / scale, ((y - height / 2) * depth) / scale];
    const [column, row] = [Math.floor(cos * right + sin * down + side / 2), Math.floor(cos * down - sin * right + side / 2)];
    if (column < 0 || row < 0 || column >= side || row >= side) return (ink + paper) / 2; // the table it lies on
    return modules[row - MARGIN]?.[column - MARGIN] === true ? ink : paper;
  };
  const pixels = Buffer.alloc(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const grey = blur === 0 ? greyAt(x, y) : blurred(greyAt, x, y, blur);
      pixels[y * width + x] = Math.max(0, Math.min(255, Math.round(grey + random(2 * noise + 1) - noise + slope * (x / width - 0.5))));
    }
  }
  return Buffer.concat([Buffer.from(`P5\n${width} ${height}\n255\n`), pixels]);
}

function blurred(greyAt: (x: number, y: number) => number, x: number, y: number, blur: number): number {
  let sum = 0;
  for (let step = 0; step < BLUR_STEPS * BLUR_STEPS; step++) sum += greyAt(x + ((step % BLUR_STEPS) - 1) * blur, y + (Math.floor(step / BLUR_STEPS) - 1) * blur);
  return sum / (BLUR_STEPS * BLUR_STEPS);
}
