/**
 * In-place radix-2 FFT (Cooley–Tukey, decimation in time), forward sign −. `re.length` must be a power of two and equal `im.length`.
 * Unnormalised: an inverse is the same call with `re` and `im` exchanged, divided by the length.
 */
export function fft(re: Float64Array, im: Float64Array): void {
  const n = re.length;
  if (n !== im.length || n < 2 || (n & (n - 1)) !== 0) throw new RangeError(`fft needs two arrays of one power-of-two length, not ${n} and ${im.length}`);
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) { swap(re, i, j); swap(im, i, j); }
  }
  for (let size = 2; size <= n; size <<= 1) {
    const half = size >> 1;
    const angle = (-2 * Math.PI) / size;
    for (let k = 0; k < half; k++) {
      const cos = Math.cos(angle * k);
      const sin = Math.sin(angle * k);
      for (let a = k; a < n; a += size) butterfly(re, im, a, a + half, cos, sin);
    }
  }
}

function butterfly(re: Float64Array, im: Float64Array, a: number, b: number, cos: number, sin: number): void {
  const real = (re[b] ?? 0) * cos - (im[b] ?? 0) * sin;
  const imaginary = (re[b] ?? 0) * sin + (im[b] ?? 0) * cos;
  re[b] = (re[a] ?? 0) - real;
  im[b] = (im[a] ?? 0) - imaginary;
  re[a] = (re[a] ?? 0) + real;
  im[a] = (im[a] ?? 0) + imaginary;
}

function swap(values: Float64Array, i: number, j: number): void {
  const kept = values[i] ?? 0;
  values[i] = values[j] ?? 0;
  values[j] = kept;
}
