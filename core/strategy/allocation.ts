/**
 * Spectral allocation: a round's budget of directions is spread over the layers by the size of their singular
 * values, so that together they keep as much of ΔW as so many directions can (Eckart and Young, over all layers).
 */
import type { RunConfig } from '../config/run-config.ts';

/**
 * Ranks that keep the `budget` largest singular values of all layers. Every layer has at least rank 1 as long as the
 * budget reaches: a layer without factors does not train, its ΔW stays zero, and it could never earn a direction
 * again. Equal sizes go to the layer whose name comes first, by UTF-16 code units. Directions beyond the sizes given
 * count as of size 0, so the ranks add up to min(budget, Σ limits) exactly.
 *
 * The budget counts directions, not values: one of a wide layer costs more bytes than one of a narrow layer.
 * @param sizesByModule singular values of each layer's ΔW, at least as many as its limit where it has them
 * @param budget total number of directions
 * @param limits the highest rank of each layer
 * @throws RangeError when a layer has no limit, or a size, limit or the budget is not a number of its kind
 */
export function spectralRanks(
  sizesByModule: ReadonlyMap<string, readonly number[]>,
  budget: number,
  limits: ReadonlyMap<string, number>,
): Map<string, number> {
  requireCount('the budget', budget);
  const modules = [...sizesByModule.keys()].sort();
  const directions: Direction[] = [];
  modules.forEach((module, order) => {
    const limit = limits.get(module);
    if (limit === undefined) throw new RangeError(`the layer "${module}" has no limit`);
    requireCount(`the limit of the layer "${module}"`, limit);
    const sizes = largestFirst(module, sizesByModule.get(module)!);
    for (let k = 0; k < limit; k++) directions.push({ module, order, isFirst: k === 0, size: sizes[k] ?? 0 });
  });
  directions.sort((x, y) => Number(y.isFirst) - Number(x.isFirst) || y.size - x.size || x.order - y.order);
  const ranks = new Map(modules.map((module) => [module, 0]));
  for (const { module } of directions.slice(0, budget)) ranks.set(module, ranks.get(module)! + 1);
  return ranks;
}

/** A layer may get this many times r_max where ranks follow the spectrum; more is hardly ever asked for. */
const spectralCap = 4;

/**
 * The highest rank that a layer may get, unless its matrix is smaller.
 * @param wanted what it would have if ranks were spread evenly: a rank pattern may give a layer more
 */
export const spectralLimit = ({ rMax }: Pick<RunConfig, 'rMax'>, wanted: number): number =>
  Math.max(spectralCap * rMax, wanted);

/**
 * As {@link spectralRanks}, with as many directions as `wanted` has in all; `wanted` itself where nothing was learnt yet, so
 * that no layer stands out.
 */
export function spectralRanksFor(
  sizesByModule: ReadonlyMap<string, readonly number[]>,
  wanted: ReadonlyMap<string, number>,
  limits: ReadonlyMap<string, number>,
): ReadonlyMap<string, number> {
  const nothing = [...sizesByModule.values()].every((sizes) => !sizes.some((size) => size > 0));
  const budget = [...wanted.values()].reduce((sum, rank) => sum + rank, 0);
  return nothing ? wanted : spectralRanks(sizesByModule, budget, limits);
}

interface Direction {
  module: string;
  order: number;
  isFirst: boolean;
  size: number;
}

function largestFirst(module: string, sizes: readonly number[]): number[] {
  const bad = sizes.find((size) => !(Number.isFinite(size) && size >= 0));
  if (bad !== undefined) throw new RangeError(`a singular value of the layer "${module}" is ${bad}`);
  return [...sizes].sort((x, y) => y - x);
}

function requireCount(what: string, value: number): void {
  if (!(Number.isInteger(value) && value >= 0))
    throw new RangeError(`${what} is ${value}, not a whole number`);
}
