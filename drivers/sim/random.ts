/** Seeded randomness, so that a scenario and a training set can be made again bit for bit. */
export interface Random {
  /** Uniform in [0, 1). */
  uniform(): number;
  /** Normal, mean 0, standard deviation 1. */
  normal(): number;
}

/** Mulberry32 (Tommy Ettinger, public domain): 32 bits of state, plenty for a simulation and for nothing that must be secret. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  let spare: number | undefined;
  const uniform = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  /** Box–Muller gives two at a time: the second is kept. */
  const normal = (): number => {
    if (spare !== undefined) {
      const kept = spare;
      spare = undefined;
      return kept;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
    const angle = 2 * Math.PI * uniform();
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
  return { uniform, normal };
}

/** A value that wanders around `mean` with the given standard deviation and time constant (Ornstein–Uhlenbeck, exact for any step). */
export function wandering(random: Random, mean: number, deviation: number, timeConstantS: number): (stepS: number) => number {
  let value = mean + deviation * random.normal();
  return (stepS) => {
    const keep = Math.exp(-stepS / timeConstantS);
    value = mean + (value - mean) * keep + deviation * Math.sqrt(1 - keep * keep) * random.normal();
    return value;
  };
}
