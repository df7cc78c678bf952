/** The rules of a site's policy in a form: what is wrong with them, and which protect less than before. */
import type { SitePolicyView } from '../../core/api/contract.ts';
import type { Setting } from '../../core/config/setting.ts';
import {
  type PolicyRule,
  policyRuleList,
  type SitePolicy,
  sitePolicySchema,
  weakenedRules,
} from '../../core/config/site-policy.ts';
import { ruleValue } from '../format/policy-words.ts';

export const policyGroups = [...Map.groupBy(policyRuleList, ({ group }) => group)];

export const ruleOf = ({ path }: Setting): PolicyRule => path as PolicyRule;

export const sameValue = (one: unknown, other: unknown): boolean =>
  JSON.stringify(one) === JSON.stringify(other);

/** By rule, for its field. */
export function policyFaults(policy: SitePolicy): Partial<Record<PolicyRule, string>> {
  const { error } = sitePolicySchema.safeParse(policy);
  const faults = (error?.issues ?? []).map(({ path, message }) => [path[0], `${message}.`]);
  return Object.fromEntries(faults);
}

export interface Weakening {
  label: string;
  before: string;
  after: string;
}

/** What a person is asked about once more. A policy that does not hold says nothing, so the defaults are the measure. */
export function weakenings({ policy, defaults, problem }: SitePolicyView, after: SitePolicy): Weakening[] {
  const before = problem === null ? policy : defaults;
  const weaker = new Set(weakenedRules(before, after));
  return policyRuleList
    .filter((rule) => weaker.has(ruleOf(rule)))
    .map((rule) => ({
      label: rule.label,
      before: ruleValue(rule, before[ruleOf(rule)]),
      after: ruleValue(rule, after[ruleOf(rule)]),
    }));
}
