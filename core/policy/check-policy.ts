/**
 * Holds a contract against a site's policy: at the site before anything is asked of a person, and at the coordinator
 * while it plans, by what the sites published. One function, so that both come to the same answer.
 */
import type { RunConfig } from '../config/run-config.ts';
import type { PolicyRule, SitePolicy } from '../config/site-policy.ts';
import { AppError } from '../shared/errors.ts';
import { plural } from '../shared/text.ts';
import type { Contract } from './contract.ts';

export interface PolicyRefusal {
  rule: PolicyRule;
  /** "The site policy asks for …; this run …." */
  sentence: string;
}

/** What a site knows of the base model beside the contract; null at the coordinator, which cannot know. */
export interface BaseFacts {
  /** Whether a photograph can be rebuilt from what it computes. */
  hardlyCompresses: boolean;
}

/** Whether what leaves is protected by more than the mixture of images. */
export function isProtected({ privacy }: Pick<RunConfig, 'privacy'>, policy: SitePolicy): boolean {
  return privacy !== null && privacy.at === 'site' && privacy.noiseMultiplier >= policy.minNoise;
}

const whenARoundBegins = 'when a round begins';
const atImport = 'at import';

type Check = (contract: Contract, policy: SitePolicy, base: BaseFacts | null) => string | null;

/**
 * Every rule of the policy; those about the site's own images are looked at when a round begins
 * (cohort-rules.ts), and those about their quality at import (core/data/image-limits.ts).
 */
const checks: Record<PolicyRule, Check | typeof whenARoundBegins | typeof atImport> = {
  minSubjects: whenARoundBegins,
  minSubjectsPerClass: whenARoundBegins,
  minProtectedSubjectsPerClass: whenARoundBegins,
  minSteps: whenARoundBegins,
  quietHours: whenARoundBegins,
  minFacePixels: atImport,
  minSharpness: atImport,
  maxBlackShare: atImport,
  maxWhiteShare: atImport,
  maxRoll: atImport,
  maxYaw: atImport,
  maxPitch: atImport,
  minContributors: ({ minContributors }, policy) =>
    minContributors >= policy.minContributors
      ? null
      : `asks for at least ${plural(policy.minContributors, 'contributing site')}; this run is content with ${minContributors}`,
  minSmallCell: ({ settings }, policy) =>
    settings.smallCell >= policy.minSmallCell
      ? null
      : `lets no count below ${policy.minSmallCell} leave; this run asks for counts from ${settings.smallCell} on`,
  minBatchSize: ({ settings: { training } }, policy) =>
    training.batchSize >= policy.minBatchSize
      ? null
      : `asks for at least ${plural(policy.minBatchSize, 'image')} per step; this run trains with ${training.batchSize}`,
  requireClipping: ({ settings: { training } }, policy) =>
    !policy.requireClipping || training.clipNorm > 0
      ? null
      : 'asks for clipped gradients; this run turns clipping off',
  maxRounds: ({ settings }, policy) =>
    settings.rounds <= policy.maxRounds
      ? null
      : `allows at most ${plural(policy.maxRounds, 'round')}; this run has ${settings.rounds}`,
  // About what the site keeps, not about runs (core/rights).
  keepCropsDays: () => null,
  maxDaysWithoutConsent: () => null,
  // A site that does not evaluate takes part all the same: it answers with nothing.
  evaluations: () => null,
  allowBaseWeights: ({ leaves }, policy) =>
    policy.allowBaseWeights || leaves.rounds.every(({ mode }) => mode !== 'full' && mode !== 'last-k')
      ? null
      : 'lets no weights of the base model leave; this run asks for them',
  noise: ({ settings }, policy) =>
    policy.noise === 'optional' || isProtected(settings, policy)
      ? null
      : `asks for noise added at this site, at least ${policy.minNoise} times the clipping norm; this run does not add it`,
  // Decides only what counts as protection.
  minNoise: () => null,
  // About who answers, not about what is asked.
  twoPersonApproval: () => null,
  twoPersonErasure: () => null,
  secureAggregation: (_contract, policy) =>
    policy.secureAggregation === 'optional'
      ? null
      : 'asks for secure aggregation, which this version of Anneal does not have',
  purposes: ({ settings }, policy) =>
    policy.purposes.includes(settings.purpose)
      ? null
      : `allows the ${policy.purposes.length === 1 ? 'purpose' : 'purposes'} ${quoted(policy.purposes)}; this run is for "${settings.purpose}"`,
  baseModels: ({ baseModel }, policy) =>
    policy.baseModels.length === 0 || policy.baseModels.includes(baseModel.sha256)
      ? null
      : `does not list the base model "${baseModel.name}"`,
  allowLeakyBases: ({ baseModel }, policy, base) =>
    policy.allowLeakyBases || base === null || !base.hardlyCompresses
      ? null
      : `allows no network that hardly compresses: a photograph can be rebuilt from what "${baseModel.name}" computes`,
};

const quoted = (words: readonly string[]) =>
  words.length === 0 ? 'none' : words.map((word) => `"${word}"`).join(', ');

/** Rules that {@link refusalsOf} cannot judge, because they are about a site's own images and hours. */
export const laterRules = (Object.keys(checks) as PolicyRule[]).filter(
  (rule) => checks[rule] === whenARoundBegins,
);

/** @returns nothing when the policy allows all that the contract asks for */
export function refusalsOf(contract: Contract, policy: SitePolicy, base: BaseFacts | null): PolicyRefusal[] {
  return (Object.keys(checks) as PolicyRule[]).flatMap((rule) => {
    const check = checks[rule];
    const fault = typeof check === 'string' ? null : check(contract, policy, base);
    return fault === null ? [] : [{ rule, sentence: `The policy of this site ${fault}.` }];
  });
}

/** POLICY_REFUSED with one sentence: the first refusal, and how many more there are. */
export function policyRefused(refusals: readonly PolicyRefusal[]): AppError {
  const [first, ...others] = refusals;
  const more = others.length === 0 ? '' : ` (and ${plural(others.length, 'more rule')} of it)`;
  return new AppError('POLICY_REFUSED', `${first!.sentence.replace(/\.$/, '')}${more}.`);
}
