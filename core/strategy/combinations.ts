/**
 * Which settings of a run make no sense together. One table, from which the refusals come; a test holds it against the
 * table in docs/strategy-options.md.
 */
import type { RunConfig } from '../config/run-config.ts';
import { AppError } from '../shared/errors.ts';
import { getStrategy, strategies } from './registry.ts';
import { trimmedCount } from './robust/combine.ts';
import { krumQuorum } from './robust/select.ts';
import type { CombinationRule, RuleSetting, Strategy, StrategyTraits } from './strategy.ts';

/** The strategies for which something holds, in words: "sa-fedlora without freezeA, flexlora". */
function namesWhere(holds: (traits: StrategyTraits, strategy: Strategy) => boolean): string {
  const named = Object.values(strategies).flatMap((strategy) => {
    const [plain, fixed] = [false, true].map((freezeA) => holds(strategy.traits({ freezeA }), strategy));
    if (plain === fixed) return plain ? strategy.name : [];
    return `${strategy.name} ${plain ? 'without' : 'with'} freezeA`;
  });
  return named.join(', ');
}

const traitsOf = (config: RunConfig) => getStrategy(config.strategy).traits(config);
const hasSiteRanks = ({ siteRanks }: RunConfig) => Object.keys(siteRanks).length > 0;

/** Strategies whose result is no mean of the sites' values: products, stacks, or weights that follow from the values. */
const notMeans: RuleSetting = { setting: 'strategy', values: namesWhere(({ linear }) => !linear) };
const isMean = (config: RunConfig) => traitsOf(config).linear;
const averaging = namesWhere(({ linear }, { adaptsLayers }) => linear && adaptsLayers);

const isValuewise = ({ robust }: RunConfig) => robust.rule === 'median' || robust.rule === 'trimmed-mean';
const atCoordinator = ({ privacy }: RunConfig) => privacy?.at === 'coordinator';

const robustRules: readonly CombinationRule[] = [
  {
    option: { setting: 'robust.rule', values: 'median, trimmed-mean' },
    with: notMeans,
    why: 'individual values of the factors do not mean the same at every site, so their median means nothing',
    instead: `Choose the rule "norm-bound" or "multi-krum", or a strategy that averages factors (${averaging}).`,
    refuses: (config) => isValuewise(config) && !isMean(config),
  },
  {
    option: { setting: 'robust.rule', values: 'median, trimmed-mean, multi-krum' },
    with: { setting: 'weighting', values: 'examples' },
    why: 'the rule counts updates, and its promise holds only where each counts the same',
    instead: 'Set "weighting" to "equal", or choose the rule "norm-bound".',
    refuses: ({ robust, weighting }) =>
      robust.rule !== 'mean' && robust.rule !== 'norm-bound' && weighting === 'examples',
  },
  {
    option: { setting: 'robust.rule', values: 'norm-bound' },
    with: { setting: 'weightCap', values: 'null, with weighting examples' },
    why: 'a hostile site could claim any number of images and so decide the result',
    instead: 'Set "weightCap" to 3, for instance, or "weighting" to "equal".',
    refuses: ({ robust, weighting, weightCap }) =>
      robust.rule === 'norm-bound' && weighting === 'examples' && weightCap === null,
  },
  {
    option: { setting: 'robust.rule', values: 'median, norm-bound' },
    with: { setting: 'quorum', values: 'below 3' },
    why: 'with fewer than three sites, no majority shows which one is wrong',
    instead: 'Set "quorum" to 3 or more.',
    refuses: ({ robust, quorum }) => (robust.rule === 'median' || robust.rule === 'norm-bound') && quorum < 3,
  },
  {
    option: { setting: 'robust.share', values: 'below 1 / quorum' },
    with: { setting: 'quorum', values: 'below 1 / robust.share' },
    why: 'with so few updates, a trimmed mean would leave none out',
    instead: 'Raise "quorum" or "robust.share" until their product is 1 or more.',
    refuses: ({ robust, quorum }) =>
      robust.rule === 'trimmed-mean' && trimmedCount(robust.share, quorum) === 0,
  },
  {
    option: { setting: 'robust.byzantine', values: 'f' },
    with: { setting: 'quorum', values: 'below 2 f + 3' },
    why: 'multi-Krum can detect f hostile sites only among 2 f + 3 or more',
    instead: 'Raise "quorum" to 2 f + 3, or lower "robust.byzantine".',
    refuses: ({ robust, quorum }) => robust.rule === 'multi-krum' && quorum < krumQuorum(robust.byzantine),
  },
  {
    option: { setting: 'robust.rule', values: 'multi-krum' },
    with: { setting: 'siteRanks', values: 'any' },
    why: 'an honest site with a low rank lies as far from the others as a hostile one, because of what was cut off',
    instead: 'Remove "siteRanks", or choose the rule "norm-bound".',
    refuses: (config) => config.robust.rule === 'multi-krum' && hasSiteRanks(config),
  },
];

const privacyRules: readonly CombinationRule[] = [
  {
    option: { setting: 'privacy.at', values: 'coordinator' },
    with: notMeans,
    why: 'its result is not a sum of the clipped changes, so the noise would not give the reported ε',
    instead: `Set "privacy.at" to "site", or choose a strategy that averages factors (${averaging}).`,
    refuses: (config) => atCoordinator(config) && !isMean(config),
  },
  {
    option: { setting: 'privacy.at', values: 'coordinator' },
    with: { setting: 'weighting', values: 'examples' },
    why: 'the noise covers changes that count equally; a site that counts more would be protected less',
    instead: 'Set "weighting" to "equal".',
    refuses: (config) => atCoordinator(config) && config.weighting === 'examples',
  },
  {
    option: { setting: 'privacy.at', values: 'coordinator' },
    with: { setting: 'robust.rule', values: 'all but mean' },
    why: 'under a robust rule, one site changes how others count by more than the clipping norm that the noise covers',
    instead: 'Set "privacy.at" to "site", or "robust.rule" to "mean"; clipping bounds every update already.',
    refuses: (config) => atCoordinator(config) && config.robust.rule !== 'mean',
  },
];

const otherRules: readonly CombinationRule[] = [
  {
    option: { setting: 'serverOptimiser.kind', values: 'adam' },
    with: notMeans,
    why: 'moments of individual values mean nothing where factors are decomposed again or padded with zeros in each round',
    instead: 'Choose the server optimiser "momentum" where the strategy allows it, or "none".',
    refuses: (config) => config.serverOptimiser.kind === 'adam' && !isMean(config),
  },
  {
    option: { setting: 'siteRanks', values: 'any' },
    with: { setting: 'strategy', values: namesWhere(({ siteRanks }) => !siteRanks) },
    why: 'this strategy averages tensors of one shape, or has no factors',
    instead: `Choose another strategy (${namesWhere(({ siteRanks }) => siteRanks)}), or remove "siteRanks".`,
    refuses: (config) => hasSiteRanks(config) && !traitsOf(config).siteRanks,
  },
  {
    option: { setting: 'wire.errorFeedback', values: 'true' },
    with: { setting: 'wire.up', values: 'fp32' },
    why: 'nothing is rounded on the way, so there is nothing to feed back',
    instead: 'Set "wire.up" to "fp16" or "int8", or "wire.errorFeedback" to false.',
    refuses: ({ wire }) => wire.errorFeedback && wire.up === 'fp32',
  },
  {
    option: { setting: 'finalLearningRateShare', values: '0' },
    with: { setting: 'rounds', values: '2 or more' },
    why: 'in the last round nothing would train, and no site would have anything to send',
    instead: 'Set "finalLearningRateShare" above 0 (0.01, for instance).',
    refuses: ({ finalLearningRateShare, rounds }) => finalLearningRateShare === 0 && rounds > 1,
  },
  {
    option: { setting: 'headStart', values: 'prototypes' },
    with: { setting: 'localHead', values: 'true' },
    why: 'a classifier that never leaves its site has no common start',
    instead: 'Set "headStart" to "random", or "localHead" to false.',
    refuses: ({ headStart, localHead }) => headStart === 'prototypes' && localHead,
  },
  {
    option: { setting: 'headStart', values: 'prototypes' },
    with: { setting: 'rounds', values: '1' },
    why: 'the only round would make the start of the classifier, and none would train',
    instead: 'Set "rounds" to 2 or more, or "headStart" to "random".',
    refuses: ({ headStart, rounds }) => headStart === 'prototypes' && rounds < 2,
  },
];

const generalRules = [...robustRules, ...privacyRules, ...otherRules];
const ownRules = ({ rules = [] }: Strategy) => rules;

/** All rules; those of single strategies last. */
export const combinationRules: readonly CombinationRule[] = [
  ...generalRules,
  ...Object.values(strategies).flatMap(ownRules),
];

/**
 * Refuses settings that contradict each other. A strategy's own rules are looked at first: they say more.
 * @throws AppError CONFIG_INVALID naming both settings and their values, with what to choose instead
 */
export function refuseCombinations(config: RunConfig): void {
  for (const rule of [...ownRules(getStrategy(config.strategy)), ...generalRules]) {
    if (!rule.refuses(config)) continue;
    const [option, other] = [rule.option.setting, rule.with.setting].map((path) => named(config, path));
    throw new AppError(
      'CONFIG_INVALID',
      `The settings ${option} and ${other} cannot be combined: ${rule.why}.`,
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
  return (typeof value === 'object' && value !== null) || value === undefined
    ? `"${path}"`
    : `"${path}" (${String(value)})`;
}
