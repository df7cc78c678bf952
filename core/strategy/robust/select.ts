/** Robust rules that judge whole updates by their size or by their distances to one another. */
import { AppError } from '../../shared/errors.ts';
import { plural } from '../../shared/text.ts';
import type { Exclusion } from '../strategy.ts';

/**
 * Norm bound (Sun et al. 2019, arXiv 1911.07963, with the bound taken from the round itself): a change larger than
 * `factor` times the median norm of the round is scaled down to that. With fewer than half of the sites hostile, no
 * site moves the mean by more than `factor` times the largest honest norm. Hostile changes of usual size pass.
 * @param norms L2 norm of each site's change, in the space in which the strategy merges
 */
export function normBound(
  norms: ReadonlyMap<string, number>,
  factor: number,
): { factors: Map<string, number>; exclusions: Exclusion[] } {
  const limit = factor * median([...norms.values()]);
  const factors = new Map<string, number>();
  const exclusions: Exclusion[] = [];
  for (const [siteId, norm] of norms) {
    const bounded = norm > limit ? limit / norm : 1;
    factors.set(siteId, bounded);
    if (bounded === 1) continue;
    const times = (norm / (limit / factor)).toPrecision(3);
    const reason =
      limit === 0
        ? 'The change was left out: most sites changed nothing.'
        : `The change was scaled down: its norm is ${times} times the median, at most ${factor}.`;
    exclusions.push({ siteId, reason });
  }
  return { factors, exclusions };
}

/** Sites needed for multi-Krum to withstand this many hostile ones: 2f + 3. */
export function krumQuorum(byzantine: number): number {
  return 2 * byzantine + 3;
}

/**
 * Multi-Krum (Blanchard et al. 2017, arXiv 1703.02757): a site's score is the sum of squared distances to its
 * n − f − 2 nearest others; the n − f − 2 sites of the lowest scores are kept, as many as resilience is proved for
 * (El Mhamdi et al. 2018, arXiv 1802.07927). Ties are decided by site id, so order does not matter.
 * @param sites ids in the order of the rows of `squaredDistances`, a symmetric n × n matrix
 * @param byzantine f, how many may be hostile
 * @throws AppError QUORUM_NOT_REACHED when n < 2f + 3
 */
export function multiKrum(
  sites: readonly string[],
  squaredDistances: readonly Float64Array[],
  byzantine: number,
): { selected: string[]; exclusions: Exclusion[] } {
  const needed = krumQuorum(byzantine);
  if (sites.length < needed) {
    throw new AppError(
      'QUORUM_NOT_REACHED',
      `Multi-Krum with ${plural(byzantine, 'hostile site')} needs ${plural(needed, 'update')}; ${sites.length} arrived.`,
    );
  }
  const kept = sites.length - byzantine - 2;
  const ranked = sites
    .map((siteId, i) => {
      const others = squaredDistances[i]!.filter((_, j) => j !== i).sort();
      return { siteId, score: others.subarray(0, kept).reduce((sum, value) => sum + value, 0) };
    })
    .sort((x, y) => x.score - y.score || (x.siteId < y.siteId ? -1 : 1));
  const selected = new Set(ranked.slice(0, kept).map(({ siteId }) => siteId));
  const reason = `Left out by multi-Krum: its change is farther from the others than those of the ${plural(kept, 'site')} kept.`;
  return {
    selected: sites.filter((siteId) => selected.has(siteId)),
    exclusions: sites.filter((siteId) => !selected.has(siteId)).map((siteId) => ({ siteId, reason })),
  };
}

/** The middle value; the mean of the two middle ones when their number is even. */
function median(values: readonly number[]): number {
  const sorted = Float64Array.from(values).sort();
  const half = Math.floor(sorted.length / 2);
  if (sorted.length === 0) return 0;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}
