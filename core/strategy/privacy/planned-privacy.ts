/** What the noise of a run will be worth, before it runs; see accountant.ts. */
import type { RunConfig } from '../../config/run-config.ts';
import { drawnShare, epsilonOfParticipations, noiseMultiplierFor } from './accountant.ts';

export interface PlannedPrivacy {
  /** A site that sends one update in each of so many rounds. */
  rounds: number;
  epsilon: number;
}

/**
 * ε of a site that is there in all rounds, and of one that is drawn as often as the average site: both are the same
 * where all sites train in each round. Updates that a site has to send again come on top.
 * @returns null without noise
 */
export function planPrivacy(
  config: RunConfig,
  sites: number,
): { delta: number; always: PlannedPrivacy; average: PlannedPrivacy } | null {
  const { privacy, rounds } = config;
  if (privacy === null || privacy.noiseMultiplier === 0) return null;
  const after = (count: number) => ({ rounds: count, epsilon: epsilonOfParticipations(privacy, count) });
  // 0.3 · 10 rounds must not become four.
  const average = Math.ceil(averageRounds(config, sites) - 1e-9);
  return { delta: privacy.delta, always: after(rounds), average: after(average) };
}

function averageRounds({ participation, quorum, rounds }: RunConfig, sites: number): number {
  return participation < 1 ? rounds * drawnShare({ participation, quorum, sites }) : rounds;
}

/** δ of a question about noise where the settings name none. */
const usualDelta = 1e-5;

/**
 * The smallest noise multiplier with which a site that is there in all rounds spends no more than `epsilon`.
 * @throws AppError CONFIG_INVALID when no noise does
 */
export function noiseFor(
  { privacy, rounds }: Pick<RunConfig, 'privacy' | 'rounds'>,
  epsilon: number,
): { epsilon: number; delta: number; noiseMultiplier: number } {
  const delta = privacy?.delta ?? usualDelta;
  return { epsilon, delta, noiseMultiplier: noiseMultiplierFor({ rounds, delta, epsilon }) };
}
