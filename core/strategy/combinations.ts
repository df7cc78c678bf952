/**
 * Which settings of a run make no sense together. One table, from which the refusals come; a test holds it against the
 * table in docs/strategy-options.md.
 */

import type { RunConfig } from '../config/run-config.ts';
import type { StrategyName } from '../config/setting.ts';
import { AppError } from '../shared/errors.ts';
import { fixesA } from './fixed-factor.ts';
import { trimmedCount } from './robust/combine.ts';
import { sumsProducts } from './robust/distances.ts';
import { krumQuorum } from './robust/select.ts';

/** A setting by its path in {@link RunConfig}, and its values that the rule is about, in words. */
interface RuleSetting {
  setting: string;
  values: string;
}

export interface CombinationRule {
  /** The option. */
  option: RuleSetting;
  /** What it does not go with. */
  with: RuleSetting;
  /** Goes on from "do not go together: …". */
  why: string;
  /** What to choose instead. */
  instead: string;
  refuses(config: RunConfig): boolean;
}

const oneOf = (...names: StrategyName[]) => ({
  setting: 'strategy',
  values: names.join(', '),
});
/** Strategies whose result is no mean of the sites' values: products, stacks, or weights that follow from the values. */
const notMeans: RuleSetting = {
  setting: 'strategy',
  values: 'sa-fedlora (unless freezeA), flexlora, flora-stack, hetlora',
};
const isMean = (config: RunConfig) => !sumsProducts(config) && config.strategy !== 'hetlora';

/** Strategies in which sites may have ranks of their own. */
const takesSiteRanks = ({ strategy }: RunConfig) =>
  ['hetlora', 'flexlora', 'flora-stack', 'sa-fedlora'].includes(strategy);

const isValuewise = ({ robust }: RunConfig) => robust.rule === 'median' || robust.rule === 'trimmed-mean';
const atCoordinator = ({ privacy }: RunConfig) => privacy?.at === 'coordinator';

const robustRules: readonly CombinationRule[] = [
  {
    option: { setting: 'robust.rule', values: 'median, trimmed-mean' },
    with: notMeans,
    why: 'single values of the factors have no meaning that all sites share, so that a middle value among them has none',
    instead:
      'Choose the rule "norm-bound" or "multi-krum", the strategy "ffa-lora" or "fedavg-lora", or "freezeA" with sa-fedlora.',
    refuses: (config) => isValuewise(config) && !isMean(config),
  },
  {
    option: { setting: 'robust.rule', values: 'all but mean' },
    with: { setting: 'weighting', values: 'examples' },
    why: 'a hostile site could claim any number of images and so decide the result',
    instead: 'Set "weighting" to "equal".',
    refuses: ({ robust, weighting }) => robust.rule !== 'mean' && weighting === 'examples',
  },
  {
    option: { setting: 'robust.rule', values: 'median, norm-bound' },
    with: { setting: 'quorum', values: 'below 3' },
    why: 'among fewer than three sites no majority tells which one is wrong',
    instead: 'Set "quorum" to 3 or more.',
    refuses: ({ robust, quorum }) => (robust.rule === 'median' || robust.rule === 'norm-bound') && quorum < 3,
  },
  {
    option: { setting: 'robust.share', values: 'below 1 / quorum' },
    with: { setting: 'quorum', values: 'below 1 / robust.share' },
    why: 'of so few updates a trimmed mean would leave out none',
    instead: 'Raise "quorum" or "robust.share", so that their product is 1 or more.',
    refuses: ({ robust, quorum }) =>
      robust.rule === 'trimmed-mean' && trimmedCount(robust.share, quorum) === 0,
  },
  {
    option: { setting: 'robust.byzantine', values: 'f' },
    with: { setting: 'quorum', values: 'below 2 f + 3' },
    why: 'multi-Krum can tell f hostile sites only among 2 f + 3 or more',
    instead: 'Raise "quorum" to 2 f + 3, or lower "robust.byzantine".',
    refuses: ({ robust, quorum }) => robust.rule === 'multi-krum' && quorum < krumQuorum(robust.byzantine),
  },
  {
    option: { setting: 'robust.rule', values: 'multi-krum' },
    with: { setting: 'siteRanks', values: 'any' },
    why: 'an honest site of a low rank lies as far from the others as a hostile one, by what was cut off',
    instead: 'Remove "siteRanks", or choose the rule "norm-bound".',
    refuses: ({ robust, siteRanks }) => robust.rule === 'multi-krum' && Object.keys(siteRanks).length > 0,
  },
];

const privacyRules: readonly CombinationRule[] = [
  {
    option: { setting: 'privacy.at', values: 'coordinator' },
    with: notMeans,
    why: 'its result is no sum of the changes that were clipped, so that the noise would not be worth the ε reported',
    instead:
      'Set "privacy.at" to "site", or choose the strategy "ffa-lora" or "fedavg-lora", or "freezeA" with sa-fedlora.',
    refuses: (config) => atCoordinator(config) && !isMean(config),
  },
  {
    option: { setting: 'privacy.at', values: 'coordinator' },
    with: { setting: 'weighting', values: 'examples' },
    why: 'the noise covers changes that all count alike; a site that counts more would be protected less',
    instead: 'Set "weighting" to "equal".',
    refuses: (config) => atCoordinator(config) && config.weighting === 'examples',
  },
  {
    option: { setting: 'privacy.at', values: 'coordinator' },
    with: { setting: 'robust.rule', values: 'all but mean' },
    why: 'under a robust rule one site changes how others count, by more than the clipping norm that the noise covers',
    instead: 'Set "privacy.at" to "site", or "robust.rule" to "mean"; clipping bounds every update already.',
    refuses: (config) => atCoordinator(config) && config.robust.rule !== 'mean',
  },
];

const otherRules: readonly CombinationRule[] = [
  {
    option: { setting: 'serverOptimiser.kind', values: 'adam' },
    with: notMeans,
    why: 'moments of single values mean nothing where factors are decomposed anew or padded with zeros in each round',
    instead: 'Choose the server optimiser "momentum" (not with flora-stack) or "none".',
    refuses: (config) => config.serverOptimiser.kind === 'adam' && !isMean(config),
  },
  {
    option: { setting: 'serverOptimiser.kind', values: 'momentum' },
    with: oneOf('flora-stack'),
    why: "each round's stack becomes part of the model and new factors begin, so that there is nothing to carry on",
    instead: 'Choose the server optimiser "none", or the strategy "flexlora".',
    refuses: ({ serverOptimiser, strategy }) =>
      serverOptimiser.kind === 'momentum' && strategy === 'flora-stack',
  },
  {
    option: { setting: 'serverOptimiser.kind', values: 'momentum' },
    with: { setting: 'cutOff', values: 'freeze' },
    why: 'the momentum would see frozen directions as a change of the model and push it back',
    instead: 'Choose the server optimiser "none", or set "cutOff" to "drop".',
    refuses: ({ serverOptimiser, strategy, cutOff }) =>
      serverOptimiser.kind === 'momentum' && strategy === 'sa-fedlora' && cutOff === 'freeze',
  },
  {
    option: { setting: 'freezeA', values: 'true' },
    with: { setting: 'cutOff', values: 'freeze' },
    why: 'what is frozen would need factors A of its own, which do not travel',
    instead: 'Set "cutOff" to "drop", or "freezeA" to false.',
    refuses: (config) => fixesA(config) && config.cutOff === 'freeze',
  },
  {
    option: { setting: 'freezeA', values: 'true' },
    with: { setting: 'siteRanks', values: 'any' },
    why: 'the mean is taken of factors B of one shape',
    instead: 'Remove "siteRanks", or set "freezeA" to false.',
    refuses: (config) => fixesA(config) && Object.keys(config.siteRanks).length > 0,
  },
  {
    option: { setting: 'serverOptimiser.kind', values: 'momentum, adam' },
    with: { setting: 'freezeA', values: 'true' },
    why: 'moments of single values lose their meaning whenever the factors rotate, as they do when the rank falls',
    instead: 'Choose the server optimiser "none", or set "freezeA" to false.',
    refuses: (config) => fixesA(config) && config.serverOptimiser.kind !== 'none',
  },
  {
    option: { setting: 'localHead', values: 'true' },
    with: oneOf('head-only'),
    why: 'then nothing would travel at all',
    instead: 'Set "localHead" to false, or choose a strategy that trains more than the head.',
    refuses: ({ localHead, strategy }) => localHead && strategy === 'head-only',
  },
  {
    option: { setting: 'siteRanks', values: 'any' },
    with: oneOf('fedavg-lora', 'ffa-lora', 'fedsa-lora', 'fedavg-full', 'fedprox-full', 'head-only'),
    why: 'this strategy averages tensors of one shape, or has no factors',
    instead:
      'Choose the strategy "hetlora", "flexlora", "flora-stack" or "sa-fedlora", or remove "siteRanks".',
    refuses: (config) => Object.keys(config.siteRanks).length > 0 && !takesSiteRanks(config),
  },
  {
    option: { setting: 'wire.errorFeedback', values: 'true' },
    with: { setting: 'wire.up', values: 'fp32' },
    why: 'nothing is rounded on the way that could be fed back',
    instead: 'Set "wire.up" to "fp16" or "int8", or "wire.errorFeedback" to false.',
    refuses: ({ wire }) => wire.errorFeedback && wire.up === 'fp32',
  },
  {
    option: { setting: 'lastK', values: '0' },
    with: { setting: 'initiatingMode', values: 'last-k' },
    why: 'no block would train, and the sites would have nothing to send in the initiating stage',
    instead: 'Set "lastK" to 1 or more, or choose another "initiatingMode".',
    refuses: ({ strategy, initiatingMode, initiatingRounds, lastK }) =>
      strategy === 'sa-fedlora' && initiatingMode === 'last-k' && initiatingRounds > 0 && lastK === 0,
  },
  {
    option: { setting: 'proximal', values: '0' },
    with: oneOf('fedprox-full'),
    why: 'without its pull this strategy is fedavg-full',
    instead: 'Set "proximal" above 0 (0.01, for instance), or choose the strategy "fedavg-full".',
    refuses: ({ proximal, strategy }) => proximal === 0 && strategy === 'fedprox-full',
  },
];

/** All rules, in the order in which they are looked at. */
export const combinationRules: readonly CombinationRule[] = [...robustRules, ...privacyRules, ...otherRules];

/**
 * Refuses settings that contradict each other.
 * @throws AppError CONFIG_INVALID naming both settings and their values, with what to choose instead
 */
export function refuseCombinations(config: RunConfig): void {
  for (const rule of combinationRules) {
    if (!rule.refuses(config)) continue;
    const [option, other] = [rule.option.setting, rule.with.setting].map((path) => named(config, path));
    throw new AppError(
      'CONFIG_INVALID',
      `The settings ${option} and ${other} do not go together: ${rule.why}.`,
      {
        action: rule.instead,
      },
    );
  }
}

/** `"robust.rule" (median)`; tables of values are named only. */
function named(config: RunConfig, path: string): string {
  const value = path
    .split('.')
    .reduce<unknown>((found, key) => (found as Record<string, unknown> | null)?.[key], config);
  return typeof value === 'object' || value === undefined ? `"${path}"` : `"${path}" (${String(value)})`;
}
