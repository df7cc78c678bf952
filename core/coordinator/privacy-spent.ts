/**
 * The ε that a run has spent. One site's part in the run is protected (see docs/coordinator.md for whom from whom).
 *
 * No credit is taken for client sampling: who trains stands in the manifest, which every site reads, so the draw is no
 * secret. What sampling does give is that a site's loss is that of the rounds in which its own update was used.
 */

import { epsilonOfParticipations } from '../strategy/privacy/accountant.ts';
import type { RunConfig } from '../strategy/strategy.ts';

/**
 * @param roundsUsed for each site the number of rounds whose result its update is part of
 * @returns ε for the run's δ of the site with the most of them; null without privacy, or with clipping alone
 */
export function epsilonOf(
  { privacy }: Pick<RunConfig, 'privacy'>,
  roundsUsed: Iterable<number>,
): number | null {
  if (privacy === null || privacy.noiseMultiplier === 0) return null;
  return epsilonOfParticipations(privacy, Math.max(0, ...roundsUsed));
}
