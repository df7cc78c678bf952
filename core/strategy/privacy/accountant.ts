/**
 * What a run's noise is worth: (ε, δ) of a site's participation, by Rényi differential privacy. The unit is a site with
 * all that it sends, against the same site sending no change; not a patient. docs/strategy-options.md says more.
 */
import type { PrivacySettings } from '../../config/round-options.ts';
import type { RunConfig } from '../../config/run-config.ts';
import { AppError } from '../../shared/errors.ts';
import { fixedSizeRenyi, gaussianRenyi, poissonRenyi } from './renyi.ts';

/**
 * Sites drawn anew for each round while nobody who is to be protected from learns which; `rate` is the share. `fixed-size`
 * is a draw of a fixed number without replacement, `poisson` an independent draw for each site.
 */
export interface SecretSampling {
  kind: 'fixed-size' | 'poisson';
  rate: number;
}

export interface SpentPrivacy {
  /** max-divergence bound at δ; infinite without noise, 0 without rounds. */
  epsilon: number;
  /** The order α at which it was found; NaN when ε is 0 or infinite. */
  order: number;
}

export interface NoisyRounds {
  /** z: standard deviation of the noise as a multiple of the clipping norm. */
  noiseMultiplier: number;
  /** Rounds that a site takes part in; with `sampling`, rounds of the run. */
  rounds: number;
  delta: number;
  /** None when absent: then `rounds` must count those in which the site really took part. */
  sampling?: SecretSampling;
}

/** Orders α as Opacus has them: 1.1, 1.2, … 10.9, 12, 13, … 63. */
export const renyiOrders: readonly number[] = [
  ...Array.from({ length: 99 }, (_, k) => 1 + (k + 1) / 10),
  ...Array.from({ length: 52 }, (_, k) => 12 + k),
];

/**
 * ε at δ after a number of rounds with the same noise: Rényi divergences add up over rounds; the conversion is that of
 * Balle et al. 2020 (arXiv 1905.09982, theorem 21; Canonne, Kamath and Steinke 2020), the smallest over all orders:
 *
 *     ε = ε_α + log((α − 1)/α) − (log δ + log α)/(α − 1)
 *
 * @throws AppError CONFIG_INVALID naming a value outside its range
 */
export function privacySpent(settings: NoisyRounds): SpentPrivacy {
  checkRounds(settings);
  const { noiseMultiplier, rounds, delta } = settings;
  if (rounds === 0 || settings.sampling?.rate === 0) return { epsilon: 0, order: Number.NaN };
  let best: SpentPrivacy = { epsilon: Number.POSITIVE_INFINITY, order: Number.NaN };
  if (noiseMultiplier === 0) return best;
  for (const order of renyiOrders) {
    const epsilon = fromRenyi(order, rounds * renyi(order, settings), delta);
    if (epsilon < best.epsilon) best = { epsilon, order };
  }
  return best;
}

/** {@link privacySpent}'s ε alone. */
export function epsilonSpent(settings: NoisyRounds): number {
  return privacySpent(settings).epsilon;
}

/**
 * ε of a run so far, as Anneal reports it: no gain is claimed from drawing sites, because the manifest names a
 * round's participants to all sites and the draw follows from the run's seed.
 * @param participations in how many rounds' results the site is that took part most often
 * @returns ε at the settings' δ; infinite without noise
 */
export function epsilonOfParticipations(
  { noiseMultiplier, delta }: PrivacySettings,
  participations: number,
): number {
  return epsilonSpent({ noiseMultiplier, delta, rounds: participations });
}

/** Share of the sites in a round's draw: at least the quorum, never above 1. */
export function drawnShare(settings: { participation: number; quorum: number; sites: number }): number {
  const { participation, quorum, sites } = settings;
  return Math.min(1, Math.max(Math.ceil(participation * sites - 1e-9), quorum) / sites);
}

/**
 * The smallest noise multiplier, to 0.1 %, with which the rounds cost no more than `epsilon`.
 * @throws AppError CONFIG_INVALID when even a multiplier of 1000 does not do
 */
export function noiseMultiplierFor(
  target: Omit<NoisyRounds, 'noiseMultiplier'> & { epsilon: number },
): number {
  const costs = (noiseMultiplier: number) => epsilonSpent({ ...target, noiseMultiplier });
  let [low, high] = [1e-2, 1000];
  if (!(costs(high) <= target.epsilon)) {
    throw new AppError(
      'CONFIG_INVALID',
      `No noise multiplier up to ${high} gives ε = ${target.epsilon} at δ = ${target.delta}.`,
    );
  }
  while (high / low > 1.001) {
    const middle = Math.sqrt(low * high);
    if (costs(middle) <= target.epsilon) high = middle;
    else low = middle;
  }
  return high;
}

function renyi(order: number, { noiseMultiplier, sampling }: NoisyRounds): number {
  if (sampling === undefined) return gaussianRenyi(order, noiseMultiplier);
  const bound = sampling.kind === 'poisson' ? poissonRenyi : fixedSizeRenyi;
  return bound(order, noiseMultiplier, sampling.rate);
}

function fromRenyi(order: number, divergence: number, delta: number): number {
  const epsilon =
    divergence + Math.log((order - 1) / order) - (Math.log(delta) + Math.log(order)) / (order - 1);
  return Math.max(0, epsilon);
}

function checkRounds({ noiseMultiplier, rounds, delta, sampling }: NoisyRounds): void {
  const wrong = (what: string) => new AppError('CONFIG_INVALID', `${what} to compute ε.`);
  if (!(noiseMultiplier >= 0 && Number.isFinite(noiseMultiplier))) {
    throw wrong('The noise multiplier must be 0 or more');
  }
  if (!(Number.isInteger(rounds) && rounds >= 0)) throw wrong('The number of rounds must be whole');
  if (!(delta > 0 && delta < 1)) throw wrong('δ must lie between 0 and 1');
  if (sampling !== undefined && !(sampling.rate >= 0 && sampling.rate <= 1)) {
    throw wrong('The share of sites drawn must lie between 0 and 1');
  }
}

/** Of a site that sends one update in each of so many rounds. */
export interface PlannedPrivacy {
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
