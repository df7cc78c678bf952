/** The rules of a site's policy as words of a command: `minSubjects=3`. */

import { formatSetting, type Setting } from '../config/setting.ts';
import { type PolicyRule, policyRuleList, type SitePolicy, sitePolicySchema } from '../config/site-policy.ts';
import { AppError } from '../shared/errors.ts';
import { formatTable } from './format.ts';

const ruleOf = (name: string) => policyRuleList.find(({ path }) => path === name);

function readValue({ kind }: Setting, text: string): unknown {
  if (kind === 'integer' || kind === 'number') return text.trim() === '' ? Number.NaN : Number(text);
  if (kind === 'switch') return text === 'on' ? true : text === 'off' ? false : text;
  if (kind === 'list')
    return text
      .split(',')
      .map((word) => word.trim())
      .filter((word) => word !== '');
  return text;
}

/**
 * @param words `rule=value`; lists are separated by commas, switches are `on` and `off`
 * @throws AppError CONFIG_INVALID naming the rule
 */
export function withRules(policy: SitePolicy, words: readonly string[]): SitePolicy {
  const changes = words.map((word) => {
    const at = word.indexOf('=');
    const rule = ruleOf(at < 0 ? word : word.slice(0, at));
    if (rule === undefined || at < 0)
      throw new AppError('CONFIG_INVALID', `There is no rule "${at < 0 ? word : word.slice(0, at)}".`, {
        action: 'Write rule=value; "anneal site policy show" lists the rules.',
      });
    return [rule.path, readValue(rule, word.slice(at + 1))] as const;
  });
  const parsed = sitePolicySchema.safeParse({ ...policy, ...Object.fromEntries(changes) });
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new AppError('CONFIG_INVALID', `The rule "${issue!.path.join('.')}" is invalid: ${issue!.message}.`);
}

export const labelOfRule = (rule: PolicyRule): string => ruleOf(rule)?.label ?? rule;

export const formatPolicy = (policy: SitePolicy, defaults: SitePolicy): string =>
  formatTable(
    ['rule', 'value', 'default', 'what it is'],
    policyRuleList.map((rule) => {
      const own = policy[rule.path as PolicyRule];
      const preset = defaults[rule.path as PolicyRule];
      return [rule.path, formatSetting(rule, own), formatSetting(rule, preset), rule.label];
    }),
  );
