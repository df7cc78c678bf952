/** The policy screen's judgement, without a browser. */
import { expect, test } from 'vitest';
import type { SitePolicyView } from '../../core/api/contract.ts';
import { defaultSitePolicy, policyRuleList } from '../../core/config/site-policy.ts';
import { policyFaults, policyGroups, weakenings } from '../../renderer/api/policy-form.ts';
import { answerSummary, isHopeless } from '../../renderer/format/answers.ts';
import { actionWords, detailWords } from '../../renderer/format/audit-words.ts';

const view: SitePolicyView = {
  ...{ version: 1, policy: defaultSitePolicy, defaults: defaultSitePolicy },
  ...{ setBy: 'site staff', setAt: '2026-11-22T09:00:00.000Z', problem: null },
};

test('every rule has a field, in a group', () => {
  const shown = policyGroups.flatMap(([, rules]) => rules.map(({ path }) => path));

  expect(shown).toEqual(policyRuleList.map(({ path }) => path));
  expect(policyGroups.every(([group]) => typeof group === 'string')).toBe(true);
});

test('what protects less is named with both values; what protects more is not', () => {
  const after = { ...defaultSitePolicy, minSubjects: 10, minContributors: 1, allowBaseWeights: true };

  expect(weakenings(view, after)).toEqual([
    { label: 'Contributing sites', before: '3', after: '1' },
    { label: 'Weights of the base model', before: 'off', after: 'on' },
  ]);
  const listed = { ...view, policy: { ...defaultSitePolicy, baseModels: ['ab'.repeat(32)] } };
  expect(weakenings(listed, defaultSitePolicy)).toEqual([
    { label: 'Base models', before: 'ab'.repeat(32), after: 'any' },
  ]);
});

test('a stored policy that proves nothing is measured by the defaults', () => {
  const policy = { ...defaultSitePolicy, minSubjects: 1 };
  const problem = { code: 'POLICY_CHANGED', message: '', action: '' } as const;

  expect(weakenings({ ...view, policy, problem }, policy)).toEqual([
    { label: 'Subjects in a round', before: '5', after: '1' },
  ]);
});

test('a fault stands at its rule', () => {
  const faults = policyFaults({ ...defaultSitePolicy, quietHours: '7-19', minNoise: 0 });

  expect(Object.keys(faults).sort()).toEqual(['minNoise', 'quietHours']);
  expect(policyFaults(defaultSitePolicy)).toEqual({});
});

test('the planning screen counts who would take part', () => {
  const site = { siteId: 's', siteName: 'North', policy: defaultSitePolicy, refusals: [] };
  const refusing = { ...site, refusals: ['The site policy allows at most 5 rounds; this run has 10.'] };

  expect(answerSummary({ sites: [site, { ...site, policy: null }], quorum: 2 })).toBeNull();
  expect(answerSummary({ sites: [site, site, refusing], quorum: 2 })).toBe('2 of 3 sites would take part.');
  expect(answerSummary({ sites: [site, refusing], quorum: 2 })).toBe(
    'Only 1 of 2 sites would take part, and a round needs 2.',
  );
  // Too few sites, but none refuses: the run waits for others to join.
  expect(isHopeless({ sites: [site], quorum: 2 })).toBe(false);
  expect(isHopeless({ sites: [refusing], quorum: 1 })).toBe(true);
});

test('the audit trail names rules as the policy screen does', () => {
  expect(actionWords('site-policy-set')).toBe('Policy of this site set');
  expect(actionWords('run-approved-within-limits')).toBe('Run approved within limits');
  expect(
    detailWords({ version: 2, changes: { minSubjects: 3, purposes: [] }, weakened: ['minSubjects'] }),
  ).toBe(
    'version 2 · Subjects in a round: 3 · Purposes: none · protects less than before in Subjects in a round',
  );
  expect(detailWords({ version: 1, weakened: [] })).toBe('version 1');
  expect(detailWords({ changes: { ruleOfLater: 7 } })).toBe('rule of later 7');
});
