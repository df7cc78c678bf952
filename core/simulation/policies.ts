/** Site policies that an experiment can name, or spell out rule by rule. */
import { z } from 'zod';
import { defaultSitePolicy, type SitePolicy, sitePolicySchema } from '../config/site-policy.ts';

/**
 * Nothing leaves the machine of the researcher, and data sets of faces rarely have many people in a class: no rule
 * refuses anything. Also what the demo on own images goes on with when the default would refuse them.
 */
export const openPolicy: SitePolicy = sitePolicySchema.parse({
  minSubjects: 1,
  minSubjectsPerClass: 1,
  minContributors: 1,
  minSmallCell: 1,
  minSteps: 1,
  minBatchSize: 1,
  requireClipping: false,
  maxRounds: 1000,
  allowBaseWeights: true,
  allowLeakyBases: true,
});

export const namedPolicies = { default: defaultSitePolicy, open: openPolicy } as const;
const policyName = z.enum(['default', 'open']);

/** `policy: open`, or rules that differ from the default. */
export const experimentPolicySchema = z.union([
  policyName.transform((name): SitePolicy => namedPolicies[name]),
  sitePolicySchema,
]);
