/**
 * The ε that a run has spent. One site's part in the run is protected (see docs/coordinator.md for whom from whom).
 *
 * No credit is taken for client sampling: who trains stands in the manifest, which every site reads, so the draw is no
 * secret. What sampling does give is that a site loses something only in the rounds in which it took part.
 */
import type { RunConfig } from '../config/run-config.ts';
import type { Store } from '../store/store.ts';
import { epsilonOfParticipations } from '../strategy/privacy/accountant.ts';

/**
 * @param releases for each site how often something of it got out with noise on it
 * @returns ε for the run's δ of the site with the most of them; null without privacy, or with clipping alone
 */
export function epsilonOf(
  { privacy }: Pick<RunConfig, 'privacy'>,
  releases: Iterable<number>,
): number | null {
  if (privacy === null || privacy.noiseMultiplier === 0) return null;
  return epsilonOfParticipations(privacy, Math.max(0, ...releases));
}

/**
 * ε up to and with `round`, as the store has it. With noise of the coordinator a site's update gets out with the result
 * of a round that it is part of. With noise of the sites it is the coordinator, too, that is not to learn more: there
 * every update counts that has left a site, also one that was rejected, came too late, or that a second one took the
 * place of because a consent was withdrawn.
 */
export function epsilonSoFar(
  store: Pick<Store, 'roundSites' | 'updateArrivals'>,
  runId: string,
  config: Pick<RunConfig, 'privacy'>,
  round: number,
): number | null {
  if (config.privacy === null) return null;
  const released = new Map<string, Set<string>>();
  const count = (siteId: string, release: string) =>
    released.set(siteId, (released.get(siteId) ?? new Set()).add(release));
  const rows = store.roundSites.listOfRun(runId).filter((row) => row.round <= round);
  if (config.privacy.at === 'coordinator') {
    for (const row of rows) if (row.status === 'received') count(row.siteId, String(row.round));
  } else {
    // Runs that began with an older database have no arrivals of their first rounds.
    for (const row of rows)
      if (row.updateSha256 !== null) count(row.siteId, `${row.round} ${row.updateSha256}`);
    for (const arrival of store.updateArrivals.listOfRun(runId))
      if (arrival.round <= round) count(arrival.siteId, `${arrival.round} ${arrival.sha256}`);
  }
  return epsilonOf(
    config,
    [...released.values()].map(({ size }) => size),
  );
}
