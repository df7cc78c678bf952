/**
 * Rényi differential privacy of one round, D_α between the round's outcome with and without one site's change, for
 * noise of standard deviation z·C on a sum of changes of norm at most C.
 */

/** log E[…] of the Gaussian mechanism: α / (2 z²). Mironov 2017, arXiv 1702.07476, proposition 7. */
export function gaussianRenyi(order: number, noiseMultiplier: number): number {
  return noiseMultiplier === 0 ? Number.POSITIVE_INFINITY : order / (2 * noiseMultiplier ** 2);
}

/**
 * When each site takes part with probability `rate`, independently of the others, and nobody learns which did
 * (Mironov, Talwar and Zhang 2019, arXiv 1908.10530, section 3.3):
 *
 *     log A_α / (α − 1),   A_α = E_{x ~ N(0, z²)} [ (1 − q + q e^{(2x − 1) / (2z²)})^α ]
 *
 * The expectation is an integral over the real line of an analytic function, which the trapezoidal rule computes to
 * nearly all digits; the code sums A_α − 1, since E[(ratio)] = 1 exactly, so that small rates lose none.
 * @param order α > 1, need not be whole
 */
export function poissonRenyi(order: number, noiseMultiplier: number, rate: number): number {
  if (rate === 0) return 0;
  if (rate === 1 || noiseMultiplier === 0) return gaussianRenyi(order, noiseMultiplier);
  const z = noiseMultiplier;
  const step = z / 16;
  // Beyond 12 standard deviations of either peak (0 and α) nothing is left in float64.
  const from = -12 * z;
  const count = Math.ceil((order + 24 * z) / step);
  const logStep = Math.log(step / (z * Math.sqrt(2 * Math.PI)));
  let excess = 0;
  const large: number[] = [];
  for (let k = 0; k <= count; k++) {
    const x = from + k * step;
    const logDensity = logStep - (x * x) / (2 * z * z);
    const logRatio = logMixture((2 * x - 1) / (2 * z * z), rate);
    const power = order * logRatio;
    // ratio^α − 1 − α (ratio − 1), the second way without overflow.
    if (power > 30) {
      const small = (order - 1) * Math.exp(-power) - order * Math.exp(logRatio - power);
      large.push(logDensity + power + Math.log1p(small));
    } else excess += Math.exp(logDensity) * (Math.expm1(power) - order * Math.expm1(logRatio));
  }
  return logOnePlus(excess, large) / (order - 1);
}

/** log(1 − q + q eˢ). */
function logMixture(s: number, rate: number): number {
  return s > 30 ? s + Math.log(rate + (1 - rate) * Math.exp(-s)) : Math.log1p(rate * Math.expm1(s));
}

/** log(1 + excess + Σ e^large), to nearly all digits of small sums too. */
function logOnePlus(excess: number, large: readonly number[]): number {
  const top = Math.max(0, ...large);
  const sum = large.reduce((total, value) => total + Math.exp(value - top), excess * Math.exp(-top));
  return top === 0 ? Math.log1p(sum) : top + Math.log(sum + Math.exp(-top));
}

/**
 * When a fixed number of sites is drawn without replacement, a share `rate` of all, and nobody learns which (Wang,
 * Balle and Kasiviswanathan 2019, arXiv 1808.00087, theorem 9, for a mechanism without a pure ε):
 *
 *     log(1 + q² C(α,2) min(4 (e^{ε(2)} − 1), 2 e^{ε(2)}) + Σ_{j=3}^{α} 2 q^j C(α,j) e^{(j−1) ε(j)}) / (α − 1)
 *
 * Its proof exchanges one drawn site for another, which moves a sum by up to 2C: ε(j) is that of noise of half the
 * multiplier, 2j / z². A site's change exchanged for none is a special case. Never more than without sampling, and
 * only that where α is not a whole number. The bound is not tight; Poisson's smaller value does not hold here.
 */
export function fixedSizeRenyi(order: number, noiseMultiplier: number, rate: number): number {
  if (rate === 0) return 0;
  const whole = gaussianRenyi(order, noiseMultiplier);
  if (rate === 1 || noiseMultiplier === 0 || !Number.isInteger(order)) return whole;
  const own = (j: number) => gaussianRenyi(j, noiseMultiplier / 2);
  const terms = [
    2 * Math.log(rate) +
      logBinomial(order, 2) +
      Math.min(Math.log(4) + logExpm1(own(2)), Math.log(2) + own(2)),
  ];
  for (let j = 3; j <= order; j++) {
    terms.push(j * Math.log(rate) + logBinomial(order, j) + (j - 1) * own(j) + Math.log(2));
  }
  return Math.min(whole, logOnePlus(0, terms) / (order - 1));
}

/** log(eˣ − 1) for x > 0. */
function logExpm1(x: number): number {
  return x > 30 ? x : Math.log(Math.expm1(x));
}

function logBinomial(n: number, k: number): number {
  let sum = 0;
  for (let i = 1; i <= k; i++) sum += Math.log((n - k + i) / i);
  return sum;
}
