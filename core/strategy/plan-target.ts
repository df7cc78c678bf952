/** Which settings send so much less than full averaging: answers by counting, see plan.ts. */
import { maxRank } from '../config/lora-settings.ts';
import { preparingRounds, type RunConfig } from '../config/run-config.ts';
import type { BaseModel } from '../models/base-model.ts';
import { countSent } from './plan.ts';
import { getStrategy, yardsticks } from './registry.ts';

export interface ReachedTarget {
  /** What differs from the settings that were asked about. */
  readonly changes: Partial<RunConfig>;
  /** 1 − parameters sent / those of `fedavg-full` for the same rounds and sites. */
  readonly parameterReduction: number;
}

export interface TargetAnswer {
  /** Of the settings as they are. */
  readonly parameterReduction: number;
  readonly reached: boolean;
  /** The costliest settings of several kinds that still reach the target: what is left to spend on accuracy. */
  readonly limits: readonly ReachedTarget[];
}

const maxRounds = 1000;

/**
 * The costliest settings that still send `target` fewer parameters than `fedavg-full`: the largest rank; for the
 * initiating modes `full` and `last-k` the most initiating rounds; and for `full` with one initiating round the fewest
 * rounds in all. Each changes nothing else but what it must (the mode, a smallest rank above the largest).
 * @param target share 0…1
 * @throws AppError CONFIG_INVALID for settings that contradict each other
 */
export function findLimits(config: RunConfig, base: BaseModel, sites: number, target: number): TargetAnswer {
  const strategy = getStrategy(config.strategy);
  const reductionWith = (changes: Partial<RunConfig>): number => {
    const changed = { ...config, ...changes };
    const whole = { ...changed, strategy: yardsticks.wholeModel.name, siteRanks: {} };
    const full = countSent(whole, base, sites).parameters;
    return 1 - countSent(changed, base, sites).parameters / full;
  };
  const reaches = (changes: Partial<RunConfig>) => reductionWith(changes) >= target;
  const limits: ReachedTarget[] = [];
  const add = (changes: Partial<RunConfig> | null) => {
    if (changes !== null) limits.push({ changes, parameterReduction: reductionWith(changes) });
  };

  const rank = (r: number) => ({ rMax: r, ...(config.rMin > r ? { rMin: r } : {}) });
  if (strategy.adaptsLayers) {
    const highest = largest(1, maxRank, (r) => reaches(rank(r)));
    add(highest === null ? null : rank(highest));
  }
  if (strategy.traits(config).anneals) {
    const most = config.rounds - preparingRounds(config) - config.heatingRounds - config.coolingRounds;
    for (const mode of initiatingModes(config, base)) {
      const withRounds = (initiatingRounds: number) => ({ ...mode, initiatingRounds });
      const rounds = largest(1, most, (count) => reaches(withRounds(count)));
      add(rounds === null ? null : withRounds(rounds));
    }
    const fewest = fewestRounds(config, (rounds) => reaches({ ...oneFullRound, rounds }));
    add(fewest === null ? null : { ...oneFullRound, rounds: fewest });
  }
  const parameterReduction = reductionWith({});
  return { parameterReduction, reached: parameterReduction >= target, limits };
}

const oneFullRound = { initiatingMode: 'full', initiatingRounds: 1 } as const;

/** `full`, and `last-k` with the run's own number of blocks as far as there are more than those. */
function initiatingModes({ lastK }: RunConfig, base: BaseModel): Partial<RunConfig>[] {
  const blocks = new Set(base.layers.map((layer) => layer.block)).size;
  const partly = lastK > 0 && lastK < blocks ? [{ initiatingMode: 'last-k' as const, lastK }] : [];
  return [{ initiatingMode: 'full' as const }, ...partly];
}

/** The largest whole number in the range for which a falling condition holds; null when there is none. */
function largest(from: number, to: number, holds: (value: number) => boolean): number | null {
  if (to < from || !holds(from)) return null;
  let [low, high] = [from, to];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (holds(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** The fewest rounds for which a rising condition holds; null when not even the most do. */
function fewestRounds(config: RunConfig, holds: (rounds: number) => boolean): number | null {
  const least = 1 + preparingRounds(config) + config.heatingRounds + config.coolingRounds;
  if (holds(least)) return least;
  const tooFew = largest(least, maxRounds, (rounds) => !holds(rounds));
  return tooFew === null || tooFew === maxRounds ? null : tooFew + 1;
}
