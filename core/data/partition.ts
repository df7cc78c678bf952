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
  checkCount(sites, 'sites');
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

/**
 * Spreads items evenly: every site gets the same share of every label, as far as whole items go, and sizes differ by
 * one at most.
 * @param labels label of each item
 * @returns site index of each item, in [0, sites)
 */
export function evenPartition(labels: readonly string[], options: { sites: number; seed: number }): number[] {
  const { sites, seed } = options;
  checkCount(sites, 'sites');
  const random = createRandom(seed);
  const siteOf = new Array<number>(labels.length).fill(0);
  // Labels are dealt one after the other without starting again at the first site.
  const order = random.shuffle(Array.from({ length: sites }, (_, site) => site));
  let next = 0;
  for (const label of [...new Set(labels)].sort()) {
    const items = labels.flatMap((other, index) => (other === label ? [index] : []));
    for (const item of random.shuffle(items)) siteOf[item] = order[next++ % sites]!;
  }
  return siteOf;
}

/**
 * Sorts items by label, cuts them into `sites` · `shardsPerSite` runs of equal length and deals each site so many of
 * them by chance: with few shards a site has few labels (McMahan et al. 2017, arXiv 1602.05629).
 * @param labels label of each item
 * @returns site index of each item, in [0, sites)
 * @throws RangeError when there are fewer items than shards
 */
export function shardsPartition(
  labels: readonly string[],
  options: { sites: number; shardsPerSite: number; seed: number },
): number[] {
  const { sites, shardsPerSite, seed } = options;
  checkCount(sites, 'sites');
  checkCount(shardsPerSite, 'shardsPerSite');
  const shards = sites * shardsPerSite;
  if (labels.length < shards) throw new RangeError('there are fewer items than shards');
  const random = createRandom(seed);
  const shuffled = random.shuffle(labels.map((label, index) => ({ label, index })));
  const sorted = shuffled.sort((a, b) => (a.label < b.label ? -1 : a.label > b.label ? 1 : 0));
  const dealt = random.shuffle(Array.from({ length: shards }, (_, shard) => shard));
  const siteOfShard = new Array<number>(shards);
  dealt.forEach((shard, position) => {
    siteOfShard[shard] = position % sites;
  });
  const siteOf = new Array<number>(labels.length);
  sorted.forEach(({ index }, position) => {
    siteOf[index] = siteOfShard[Math.floor((position * shards) / labels.length)]!;
  });
  return siteOf;
}

/**
 * One site for each value, by the order of the values.
 * @returns the values that are the sites, and the site index of each item
 */
export function columnPartition(values: readonly string[]): { sites: string[]; siteOf: number[] } {
  const sites = [...new Set(values)].sort();
  const indexOf = new Map(sites.map((value, index) => [value, index]));
  return { sites, siteOf: values.map((value) => indexOf.get(value)!) };
}

function checkCount(value: number, name: string): void {
  if (!Number.isInteger(value) || value < 1) throw new RangeError(`${name} must be a positive integer`);
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
