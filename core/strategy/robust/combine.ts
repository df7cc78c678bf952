/**
 * Merging value by value so that some wrong or hostile values do not decide: the median and the trimmed mean (Yin et
 * al. 2018, arXiv 1803.01498). Every site counts alike.
 */
import type { RobustSettings } from '../../config/round-options.ts';
import { type FloatTensor, floatTensor, sameDims } from '../../shared/tensor.ts';
import { rejected } from '../check-update.ts';

export type ValuewiseRule = Extract<RobustSettings, { rule: 'median' | 'trimmed-mean' }>;

/** How many of the largest and of the smallest values of `sites` a trimmed mean leaves out, each. */
export function trimmedCount(share: number, sites: number): number {
  // 0.29 · 100 is 28.999999999999996 in binary.
  return Math.floor(share * sites + 1e-9);
}

/**
 * Coordinate-wise median (the mean of the two middle values when their number is even) or trimmed mean of one tensor
 * over all sites. As long as fewer than half of the values of a coordinate (median), or at most the trimmed number
 * (trimmed mean), are arbitrary, the result lies within the range of the others. The order does not matter.
 * @param tensors one for each site, of one shape, finite
 * @throws AppError UPDATE_REJECTED when shapes differ
 */
export function combineRobustly(rule: ValuewiseRule, tensors: readonly FloatTensor[]): FloatTensor {
  const first = tensors[0];
  if (first === undefined) throw new RangeError('nothing to combine');
  if (tensors.some(({ dims }) => !sameDims(dims, first.dims))) {
    throw rejected(`a tensor differs in shape from [${first.dims.join(', ')}] of another site`);
  }
  const count = tensors.length;
  const cut = rule.rule === 'median' ? Math.floor((count - 1) / 2) : trimmedCount(rule.share, count);
  const values = new Float64Array(count);
  const result = new Float32Array(first.data.length);
  for (let i = 0; i < result.length; i++) {
    for (let k = 0; k < count; k++) values[k] = tensors[k]!.data[i]!;
    values.sort();
    let sum = 0;
    for (let k = cut; k < count - cut; k++) sum += values[k]!;
    result[i] = sum / (count - 2 * cut);
  }
  return floatTensor(first.dims, result);
}

/**
 * {@link combineRobustly} for each of the named tensors.
 * @throws AppError UPDATE_REJECTED when names or shapes differ between sites
 */
export function combineAllRobustly(
  rule: ValuewiseRule,
  sites: readonly ReadonlyMap<string, FloatTensor>[],
): Map<string, FloatTensor> {
  const names = [...(sites[0]?.keys() ?? [])];
  if (sites.some((tensors) => tensors.size !== names.length)) {
    throw rejected('its tensors differ from those of other sites');
  }
  return new Map(
    names.map((name) => {
      const tensors = sites.map((site) => {
        const tensor = site.get(name);
        if (tensor === undefined) throw rejected(`"${name}" is missing`);
        return tensor;
      });
      return [name, combineRobustly(rule, tensors)];
    }),
  );
}
