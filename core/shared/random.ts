/** Seeded randomness: the same seed gives the same numbers on every machine. */
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';

export interface Random {
  /** uniform in [0, 1) */
  uniform(): number;
  /** uniform integer in [0, limit) */
  integer(limit: number): number;
  /** standard normal */
  normal(): number;
  /** Gamma(shape, 1); Marsaglia and Tsang 2000 */
  gamma(shape: number): number;
  /** a point of the simplex from a symmetric Dirichlet(alpha) */
  dirichlet(alpha: number, size: number): number[];
  /** a new array in random order (Fisher-Yates) */
  shuffle<T>(items: readonly T[]): T[];
}

/** Mixes parts (seed, round, site name, …) into one 32-bit seed; FNV-1a over their text. */
export function mixSeed(...parts: readonly (string | number)[]): number {
  let hash = 0x811c9dc5;
  for (const char of parts.join('\u0000')) {
    hash ^= char.codePointAt(0)!;
    hash = Math.imul(hash, 0x01000193);
  }
  return hash | 0;
}

export function createRandom(seed: number): Random {
  const generator = xoroshiro128plus(seed);
  const uint32 = () => generator.next() >>> 0;
  const random: Random = {
    uniform: () => (uint32() * 0x200000 + (uint32() >>> 11)) / 2 ** 53,
    integer: (limit) => Math.floor(random.uniform() * limit),
    normal: () => Math.sqrt(-2 * Math.log(1 - random.uniform())) * Math.cos(2 * Math.PI * random.uniform()),
    gamma(shape) {
      if (shape < 1) return random.gamma(shape + 1) * (1 - random.uniform()) ** (1 / shape);
      const d = shape - 1 / 3;
      const c = 1 / Math.sqrt(9 * d);
      for (;;) {
        const x = random.normal();
        const v = (1 + c * x) ** 3;
        if (v > 0 && Math.log(1 - random.uniform()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v;
      }
    },
    dirichlet(alpha, size) {
      const draws = Array.from({ length: size }, () => random.gamma(alpha));
      const total = draws.reduce((sum, draw) => sum + draw, 0) || 1;
      return draws.map((draw) => draw / total);
    },
    shuffle(items) {
      const copy = [...items];
      for (let i = copy.length - 1; i > 0; i--) {
        const j = random.integer(i + 1);
        [copy[i], copy[j]] = [copy[j]!, copy[i]!];
      }
      return copy;
    },
  };
  return random;
}
