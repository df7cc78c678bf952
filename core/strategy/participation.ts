/** Which sites train in a round: client sampling as in federated averaging (McMahan et al., arXiv 1602.05629). */
import type { RunConfig } from '../config/run-config.ts';
import { createRandom, mixSeed } from '../shared/random.ts';

type SamplingConfig = Pick<RunConfig, 'participation' | 'quorum' | 'seed'>;

/**
 * Draws the sites that train in round `round` (0-based): ⌈participation · n⌉ of the n given, uniformly and without
 * replacement, never fewer than the quorum (all, when there are fewer than that), never more than `most`. The same
 * settings, round and sites give the same draw, in whatever order the sites are given.
 * @returns ids in ascending order
 */
export function participantsOf(
  config: SamplingConfig,
  round: number,
  siteIds: readonly string[],
  most = siteIds.length,
): string[] {
  // 0.1 · 30 is 3.0000000000000004 in binary: that must not become four sites.
  const share = Math.ceil(config.participation * siteIds.length - 1e-9);
  return draw(
    mixSeed(config.seed, 'participants', round),
    siteIds,
    Math.min(Math.max(config.quorum, share), most),
  );
}

/**
 * Draws sites that step in for participants who went away or were refused, when the quorum cannot be reached without.
 * @param siteIds those that do not take part yet
 * @param drawnBefore how many sites the round has already: a second call draws anew
 */
export function substitutesOf(
  config: Pick<RunConfig, 'seed'>,
  round: number,
  siteIds: readonly string[],
  { count, drawnBefore }: { count: number; drawnBefore: number },
): string[] {
  return draw(mixSeed(config.seed, 'substitutes', round, drawnBefore), siteIds, count);
}

/** Sites whose updates are in a round's result, at least: multi-Krum leaves some of those that arrived out. */
export function contributorsOf({ quorum, robust }: Pick<RunConfig, 'quorum' | 'robust'>): number {
  return robust.rule === 'multi-krum' ? Math.max(1, quorum - robust.byzantine - 2) : quorum;
}

function draw(seed: number, siteIds: readonly string[], count: number): string[] {
  return createRandom(seed)
    .shuffle([...siteIds].sort())
    .slice(0, count)
    .sort();
}
