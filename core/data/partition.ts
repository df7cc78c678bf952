/** Uneven splits of data over sites, as hospitals have them. */
import { createRandom, type Random } from '../shared/random.ts';

export interface PartitionOptions {
  sites: number;
  /** Concentration of the Dirichlet distribution: small is uneven, large is even. */
  alpha: number;
  seed: number;
  /** Every site gets at least this many items, as far as there are enough; default 1. */
  minPerSite?: number | undefined;
  /** Every site gets about the same number of items, and only the mix of labels differs; default false. */
  equalSizes?: boolean | undefined;
}

/**
 * Spreads items over sites by label: the shares of each label follow a symmetric Dirichlet(alpha) draw
 * (Hsu, Qi and Brown 2019, arXiv 1909.06335). Pass one item per subject to keep a subject at one site.
 * @param labels label of each item
 * @returns site index of each item, in [0, sites)
 */
export function dirichletPartition(labels: readonly string[], options: PartitionOptions): number[] {
  const { sites, alpha, seed } = options;
  if (!Number.isInteger(sites) || sites < 1) throw new RangeError('sites must be a positive integer');
  if (!(alpha > 0)) throw new RangeError('alpha must be positive');
  const random = createRandom(seed);
  const siteOf = new Array<number>(labels.length).fill(0);
  for (const label of [...new Set(labels)].sort()) {
    const items = labels.flatMap((other, index) => (other === label ? [index] : []));
    const counts = largestRemainder(random.dirichlet(alpha, sites), items.length);
    const shuffled = random.shuffle(items);
    let next = 0;
    counts.forEach((count, site) => {
      for (const item of shuffled.slice(next, next + count)) siteOf[item] = site;
      next += count;
    });
  }
  const fair = Math.floor(labels.length / sites);
  const floor = options.equalSizes ? fair : Math.min(options.minPerSite ?? 1, fair);
  fillSmallSites(siteOf, labels, sites, floor, random);
  return siteOf;
}

/** Whole numbers with the given proportions and sum. */
export function largestRemainder(shares: readonly number[], total: number): number[] {
  const sum = shares.reduce((a, b) => a + b, 0) || 1;
  const exact = shares.map((share) => (share / sum) * total);
  const counts = exact.map(Math.floor);
  const missing = total - counts.reduce((a, b) => a + b, 0);
  const byRemainder = exact
    .map((value, index) => ({ index, remainder: value - Math.floor(value) }))
    .sort((a, b) => b.remainder - a.remainder || a.index - b.index);
  for (const { index } of byRemainder.slice(0, missing)) counts[index]! += 1;
  return counts;
}

// Moves items from the largest site to those below the floor, out of the label it has most of.
function fillSmallSites(
  siteOf: number[],
  labels: readonly string[],
  sites: number,
  floor: number,
  random: Random,
): void {
  const sizes = new Array<number>(sites).fill(0);
  for (const site of siteOf) sizes[site]! += 1;
  for (let site = 0; site < sites; site++) {
    while (sizes[site]! < floor) {
      const largest = sizes.indexOf(Math.max(...sizes));
      const items = siteOf.flatMap((owner, index) => (owner === largest ? [index] : []));
      const byLabel = Map.groupBy(items, (item) => labels[item]!);
      const most = [...byLabel.values()].sort((a, b) => b.length - a.length)[0]!;
      siteOf[most[random.integer(most.length)]!] = site;
      sizes[largest]! -= 1;
      sizes[site]! += 1;
    }
  }
}
