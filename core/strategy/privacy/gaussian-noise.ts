/** Sources of standard normal numbers for the Gaussian mechanism. */

/** A seeded `Random` is one, too, for the simulation and tests; who knows the seed can take its noise away again. */
export interface GaussianSource {
  /** A draw from N(0, 1), float64. */
  normal(): number;
}

const batch = 4096;

/**
 * Normal numbers from the operating system's cryptographic generator, by Box and Muller from uniforms of 53 bits; no
 * value lies beyond 8.6 standard deviations. As with any noise in floating point, the last bits of a noisy value may
 * tell more than the theory allows (Mironov 2012, "On significance of the least significant bits"); values are
 * rounded to float32 afterwards, which does not cure that.
 */
export function createCryptographicNoise(): GaussianSource {
  const words = new Uint32Array(2 * batch);
  let next = words.length;
  let spare: number | null = null;

  function uniform(): number {
    if (next >= words.length) {
      globalThis.crypto.getRandomValues(words);
      next = 0;
    }
    const high = words[next++]!;
    const low = words[next++]! >>> 11;
    return (high * 0x200000 + low) / 2 ** 53;
  }

  return {
    normal() {
      if (spare !== null) {
        const value = spare;
        spare = null;
        return value;
      }
      const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
      const angle = 2 * Math.PI * uniform();
      spare = radius * Math.sin(angle);
      return radius * Math.cos(angle);
    },
  };
}
