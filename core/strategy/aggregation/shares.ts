/** How much each site counts in a round. */
import type { RunConfig } from '../../config/run-config.ts';
import { AppError } from '../../shared/errors.ts';
import { cappedByMedian } from '../../shared/median-cap.ts';
import { rejected } from '../check-update.ts';
import type { Updates } from '../strategy.ts';
import { UnmergeableUpdate } from '../unmergeable.ts';

/**
 * Share w_k of each site in a round, by its number of training images or all equal; the shares add up to 1. The number
 * is the site's own claim: it counts up to `weightCap` times the median of the round's claims.
 * @throws AppError UPDATE_REJECTED for a number of images that is none; QUORUM_NOT_REACHED without sites
 */
export function sharesOf(
  { weighting, weightCap }: Pick<RunConfig, 'weighting' | 'weightCap'>,
  sites: Updates['sites'],
): Map<string, number> {
  if (sites.length === 0) throw new AppError('QUORUM_NOT_REACHED', 'No update arrived in this round.');
  const claims = sites.map(({ siteId, examples }) => {
    if (!(Number.isFinite(examples) && examples > 0)) {
      throw new UnmergeableUpdate(siteId, rejected('it does not say how many images it was trained on'));
    }
    return weighting === 'equal' ? 1 : examples;
  });
  const weights = cappedByMedian(claims, weightCap);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return new Map(sites.map(({ siteId }, index) => [siteId, weights[index]! / total]));
}

/** The same among the chosen sites only. */
export function sharesAmong(
  shares: ReadonlyMap<string, number>,
  chosen: ReadonlySet<string>,
): Map<string, number> {
  const kept = [...shares].filter(([siteId]) => chosen.has(siteId));
  const total = kept.reduce((sum, [, share]) => sum + share, 0);
  return new Map(kept.map(([siteId, share]) => [siteId, share / total]));
}
