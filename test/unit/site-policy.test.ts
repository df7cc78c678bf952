/** The rules of a site: each protects, none goes missing, and nobody but people at the site changes them. */
import { describe, expect, test } from 'vitest';
import { defaultRunConfig, type RunConfig, runConfigSchema } from '../../core/config/run-config.ts';
import { settingAt } from '../../core/config/setting.ts';
import {
  defaultSitePolicy,
  imageLimitsOf,
  type PolicyRule,
  policyRuleList,
  type SitePolicy,
  sitePolicySchema,
  weakenedRules,
} from '../../core/config/site-policy.ts';
import {
  type BaseFacts,
  isProtected,
  laterRules,
  policyRefused,
  refusalsOf,
} from '../../core/policy/check-policy.ts';
import { type Contract, contractOf } from '../../core/policy/contract.ts';
import { hashJson } from '../../core/shared/hash.ts';
import { openPolicy } from '../../core/simulation/policies.ts';
import {
  currentPolicy,
  establishPolicy,
  msUntilQuiet,
  publishedPolicy,
  quietUntil,
  setPolicy,
} from '../../core/site/policy.ts';
import { openSqlite } from '../../core/store/sqlite.ts';
import { siteToCoordinator } from '../../core/transport/messages.ts';
import { askedBy } from '../fixtures/manifests.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';
import { openTestStore } from '../fixtures/store.ts';

const base = shapeOnlyBase();
const { training } = defaultRunConfig({ baseId: '', baseSha256: '', classes: [] });
const rules = Object.keys(sitePolicySchema.shape) as PolicyRule[];

function contractFor(change: Partial<RunConfig> = {}): Contract {
  const start = { baseId: base.id, baseSha256: base.sha256, classes: ['a', 'b'], quorum: 3 };
  return contractOf(runConfigSchema.parse(defaultRunConfig({ ...start, ...change })), base, askedBy);
}

/** By rule: from less to more protection. */
const strengths: { [Rule in PolicyRule]: [weak: SitePolicy[Rule], strong: SitePolicy[Rule]] } = {
  minSubjects: [5, 6],
  minSubjectsPerClass: [3, 4],
  minProtectedSubjectsPerClass: [1, 2],
  minContributors: [3, 4],
  minSmallCell: [5, 6],
  minSteps: [8, 9],
  minBatchSize: [4, 5],
  requireClipping: [false, true],
  maxRounds: [1000, 10],
  evaluations: ['each-round', 'end'],
  allowBaseWeights: [true, false],
  noise: ['optional', 'at-site'],
  minNoise: [0.5, 1],
  secureAggregation: ['optional', 'required'],
  purposes: [['federated-training', 'other'], ['federated-training']],
  baseModels: [[], ['ab'.repeat(32)]],
  allowLeakyBases: [true, false],
  quietHours: ['', '07:00-19:00'],
  keepCropsDays: [30, 0],
  maxDaysWithoutConsent: [0, 90],
  twoPersonApproval: [false, true],
  twoPersonErasure: [false, true],
  minFacePixels: [40, 90],
  minSharpness: [0, 0.1],
  maxBlackShare: [1, 0.5],
  maxWhiteShare: [1, 0.5],
  maxRoll: [90, 30],
  maxYaw: [90, 30],
  maxPitch: [90, 30],
};

describe('a change of policy', () => {
  test.each(rules)('is a weaker one where %s protects less, and not where it protects more', (rule) => {
    const [weak, strong] = strengths[rule].map((value) => ({ ...defaultSitePolicy, [rule]: value })) as [
      SitePolicy,
      SitePolicy,
    ];

    expect(weakenedRules(strong, weak)).toEqual([rule]);
    expect(weakenedRules(weak, strong)).toEqual([]);
    expect(weakenedRules(strong, strong)).toEqual([]);
  });

  test.each<[string, Partial<SitePolicy>, Partial<SitePolicy>]>([
    ['other purposes', { purposes: ['a'] }, { purposes: ['b'] }],
    ['another base model', { baseModels: ['ab'.repeat(32)] }, { baseModels: ['cd'.repeat(32)] }],
    ['all base models', { baseModels: ['ab'.repeat(32)] }, { baseModels: [] }],
    ['other quiet hours', { quietHours: '07:00-19:00' }, { quietHours: '08:00-19:00' }],
    ['evaluations at all', { evaluations: 'none' }, { evaluations: 'end' }],
  ])('to %s is a weaker one, too', (_what, before, after) => {
    expect(weakenedRules({ ...defaultSitePolicy, ...before }, { ...defaultSitePolicy, ...after })).toEqual(
      Object.keys(before),
    );
  });
});

test('every rule has its words, and the defaults are those that the issue asks for', () => {
  expect(policyRuleList.map(({ path }) => path).sort()).toEqual([...rules].sort());
  for (const { label, help, group } of policyRuleList) {
    expect(label).toMatch(/^[A-Z].*[^.]$/);
    expect(help).toMatch(/^[A-Z].*\.$/);
    expect(group).toMatch(/^[A-Z]/);
  }
  expect(defaultSitePolicy).toMatchObject({
    ...{ minSubjects: 5, minSubjectsPerClass: 3, minProtectedSubjectsPerClass: 1, minContributors: 3 },
    ...{ minSmallCell: 5, minSteps: 8, minBatchSize: 4, requireClipping: true, allowBaseWeights: false },
  });
  expect(settingAt(defaultSitePolicy as never, 'minSubjects')).toBe(5);
});

const privacy = { at: 'site', clipNorm: 1, noiseMultiplier: 1, delta: 1e-5 } as const;

interface Example {
  policy?: Partial<SitePolicy>;
  run?: Partial<RunConfig>;
  base?: BaseFacts | null;
}

/** By rule: a run that it refuses, and one that it allows. */
const examples: Partial<Record<PolicyRule, { refused: Example[]; allowed: Example[]; says: RegExp }>> = {
  minContributors: {
    refused: [
      { run: { quorum: 2 } },
      { run: { quorum: 5, robust: { rule: 'multi-krum', byzantine: 1 }, weighting: 'equal' } },
    ],
    allowed: [{ run: { quorum: 3 } }],
    says: /at least 3 contributing sites; this run is content with 2/,
  },
  minSmallCell: {
    refused: [{ run: { smallCell: 4 } }],
    allowed: [{ run: { smallCell: 5 } }],
    says: /below 5/,
  },
  minBatchSize: {
    refused: [
      { run: { training: { ...training, batchSize: 3 } } },
      { run: { training: { ...training, batchSize: 1 } } },
    ],
    allowed: [{ run: { training: { ...training, batchSize: 4 } } }],
    says: /at least 4 images per step/,
  },
  requireClipping: {
    refused: [{ run: { training: { ...training, clipNorm: 0 } } }],
    allowed: [
      { run: { training: { ...training, clipNorm: 10 } } },
      { run: { training: { ...training, clipNorm: 0 } }, policy: { requireClipping: false } },
    ],
    says: /turns clipping off/,
  },
  maxRounds: {
    refused: [{ run: { rounds: 11 }, policy: { maxRounds: 10 } }],
    allowed: [{ run: { rounds: 10 }, policy: { maxRounds: 10 } }],
    says: /at most 10 rounds; this run has 11/,
  },
  allowBaseWeights: {
    refused: [
      { run: { strategy: 'fedavg-full' } },
      { run: { strategy: 'fedprox-full' } },
      { run: { initiatingMode: 'full' } },
      { run: { initiatingMode: 'last-k' } },
    ],
    allowed: [
      {},
      { run: { strategy: 'head-only' } },
      { run: { initiatingMode: 'full', initiatingRounds: 0 } },
      { run: { strategy: 'fedavg-full' }, policy: { allowBaseWeights: true } },
    ],
    says: /weights of the base model/,
  },
  noise: {
    refused: [
      { policy: { noise: 'at-site' } },
      { policy: { noise: 'at-site' }, run: { privacy: { ...privacy, at: 'coordinator' } } },
      { policy: { noise: 'at-site' }, run: { privacy: { ...privacy, noiseMultiplier: 0.4 } } },
    ],
    allowed: [{ policy: { noise: 'at-site' }, run: { privacy } }],
    says: /noise added at this site/,
  },
  secureAggregation: {
    refused: [{ policy: { secureAggregation: 'required' } }],
    allowed: [{ policy: { secureAggregation: 'optional' } }],
    says: /secure aggregation/,
  },
  purposes: {
    refused: [{ run: { purpose: 'drug-company-study' } }, { policy: { purposes: [] } }],
    allowed: [{ run: { purpose: 'rare' }, policy: { purposes: ['rare', 'common'] } }],
    says: /"drug-company-study"/,
  },
  baseModels: {
    refused: [{ policy: { baseModels: ['cd'.repeat(32)] } }],
    allowed: [{ policy: { baseModels: [base.sha256] } }],
    says: /does not list the base model "shape-only"/,
  },
  allowLeakyBases: {
    refused: [{ base: { hardlyCompresses: true } }],
    allowed: [
      { base: { hardlyCompresses: false } },
      { base: null },
      { base: { hardlyCompresses: true }, policy: { allowLeakyBases: true } },
    ],
    says: /hardly compresses/,
  },
};
/** They change what the site does, but refuse no run. */
const refuseNothing: PolicyRule[] = [
  'evaluations',
  'minNoise',
  'twoPersonApproval',
  'twoPersonErasure',
  'keepCropsDays',
  'maxDaysWithoutConsent',
];

describe('a contract is held against every rule', () => {
  const refusalsFor = ({ policy, run, base: facts = { hardlyCompresses: false } }: Example) =>
    refusalsOf(contractFor(run), { ...defaultSitePolicy, ...policy }, facts);

  test('of the policy: now, at import, or when a round begins', () => {
    const atImport = Object.keys(imageLimitsOf(defaultSitePolicy));
    expect([...Object.keys(examples), ...atImport, ...laterRules, ...refuseNothing].sort()).toEqual(
      [...rules].sort(),
    );
  });

  test.each(Object.entries(examples))('%s', (rule, { refused, allowed, says }) => {
    for (const example of refused)
      expect(
        refusalsFor(example).map((refusal) => refusal.rule),
        JSON.stringify(example),
      ).toEqual([rule]);
    for (const example of allowed) expect(refusalsFor(example), JSON.stringify(example)).toEqual([]);
    expect(refusalsFor(refused[0]!)[0]!.sentence).toMatch(says);
    expect(refusalsFor(refused[0]!)[0]!.sentence).toMatch(/^The policy of this site .*[^.]\.$/);
  });

  test('and the first fault is named, with the number of others', () => {
    const all = refusalsFor({ run: { quorum: 1, smallCell: 1, training: { ...training, batchSize: 1 } } });

    expect(policyRefused(all)).toMatchObject({
      code: 'POLICY_REFUSED',
      message: expect.stringMatching(/this run is content with 1 \(and 2 more rules of it\)\.$/),
    });
    expect(policyRefused(all.slice(0, 1)).message).toMatch(/content with 1\.$/);
  });

  test('noise counts as protection at the site, and only enough of it', () => {
    const counts = (value: RunConfig['privacy']) => isProtected({ privacy: value }, defaultSitePolicy);

    expect(counts(privacy)).toBe(true);
    expect(counts({ ...privacy, noiseMultiplier: 0.5 })).toBe(true);
    expect(counts({ ...privacy, noiseMultiplier: 0.49 })).toBe(false);
    expect(counts({ ...privacy, at: 'coordinator' })).toBe(false);
    expect(counts(null)).toBe(false);
  });

  test('the open policy of experiments refuses nothing of this', () => {
    for (const { refused } of Object.values(examples))
      for (const { run } of refused)
        if (run !== undefined && run.purpose === undefined)
          expect(refusalsOf(contractFor(run), openPolicy, null)).toEqual([]);
  });
});

describe('the policy that holds', () => {
  test('is the default of the version that the site began with, and each change of it is in the audit trail', () => {
    using opened = openTestStore();
    const { store } = opened;
    establishPolicy(store);
    establishPolicy(store);
    const first = currentPolicy(store);

    const weakened = setPolicy(
      store,
      { ...defaultSitePolicy, minSubjects: 3, maxRounds: 50 },
      'data manager',
    );

    expect(first).toMatchObject({ version: 1, policy: defaultSitePolicy, setBy: 'anneal' });
    expect(weakened).toEqual(['minSubjects']);
    expect(currentPolicy(store)).toMatchObject({
      version: 2,
      setBy: 'data manager',
      policy: { minSubjects: 3, maxRounds: 50, minSteps: 8 },
    });
    const [newest, oldest] = store.audit
      .page({ limit: 10 })
      .filter(({ action }) => action === 'site-policy-set');
    expect(newest).toMatchObject({
      actor: 'data manager',
      details: { version: 2, changes: { minSubjects: 3, maxRounds: 50 }, weakened: ['minSubjects'] },
    });
    expect(Object.keys((newest!.details as { changes: object }).changes)).toHaveLength(2);
    expect(oldest).toMatchObject({ details: { version: 1, changes: defaultSitePolicy } });
    expect(store.sitePolicies.list().map(({ version }) => version)).toEqual([2, 1]);
  });

  test('is not set when it has a rule that is out of range, or that nobody knows', () => {
    using opened = openTestStore();

    expect(() => setPolicy(opened.store, { ...defaultSitePolicy, minSubjects: 0 }, 'x')).toThrow();
    expect(() => setPolicy(opened.store, { ...defaultSitePolicy, more: 1 } as SitePolicy, 'x')).toThrow();
    expect(opened.store.sitePolicies.newest()).toBeNull();
  });

  /** As another program, or an update of the app, would write. */
  function tamper(file: string, sql: string): void {
    const db = openSqlite(file);
    db.run(sql, { policy: JSON.stringify(weaker), sha256: hashJson(weaker) });
    db.close();
  }

  const weaker = { ...defaultSitePolicy, minSubjects: 1 };
  test.each([
    ['its rules were changed', 'UPDATE site_policies SET policy = @policy WHERE @sha256 IS NOT NULL'],
    ['its rules and their hash were changed', 'UPDATE site_policies SET policy = @policy, sha256 = @sha256'],
    [
      'a version was added that no person set',
      "INSERT INTO site_policies (version, policy, sha256, actor, created_at) VALUES (3, @policy, @sha256, 'x', '2026-01-01')",
    ],
    [
      'the newest version was taken away',
      'DELETE FROM site_policies WHERE version = 2 AND @policy != @sha256',
    ],
    ['all versions were taken away', 'DELETE FROM site_policies WHERE @policy != @sha256'],
  ])('holds no more when %s outside of Anneal', (_what, sql) => {
    using opened = openTestStore();
    setPolicy(opened.store, defaultSitePolicy, 'anneal');
    setPolicy(opened.store, { ...defaultSitePolicy, minSubjects: 9 }, 'manager');
    expect(currentPolicy(opened.store).policy.minSubjects).toBe(9);

    tamper(opened.file, sql);
    // As at the next start.
    establishPolicy(opened.store);

    expect(() => currentPolicy(opened.store)).toThrow(expect.objectContaining({ code: 'POLICY_CHANGED' }));
    expect(publishedPolicy(opened.store)).toBeNull();
    // A person can say again what holds.
    setPolicy(opened.store, { ...defaultSitePolicy, minSubjects: 7 }, 'manager');
    expect(currentPolicy(opened.store).policy.minSubjects).toBe(7);
  });

  /** As a version with other rules left it. */
  function leave(policy: object): ReturnType<typeof openTestStore> {
    const opened = openTestStore();
    const sha256 = hashJson(policy);
    const { version } = opened.store.sitePolicies.append({ policy, sha256, actor: 'manager' } as never);
    opened.store.audit.append({
      ...{ actor: 'manager', action: 'site-policy-set' },
      details: { version, sha256, changes: policy, weakened: [] } as never,
    });
    return opened;
  }

  test('with a rule that this version does not know, holds no more: what it forbids is not known', () => {
    using opened = leave({ ...defaultSitePolicy, maxTemperature: 30 });

    expect(() => currentPolicy(opened.store)).toThrow(/rules that this version of Anneal does not know/);
  });

  test('without a rule of this version has its default, and the others as they were set', () => {
    const { minSteps: _missing, ...older } = { ...defaultSitePolicy, minSubjects: 40 };
    using opened = leave(older);

    expect(currentPolicy(opened.store).policy).toEqual({ ...defaultSitePolicy, minSubjects: 40 });
  });

  test('reaches the coordinator without the rules that it does not know', () => {
    const hello = {
      name: 'clinic',
      version: '9',
      baseIds: [],
      policy: { ...defaultSitePolicy, newer: true },
    };

    expect(siteToCoordinator.hello.parse(hello).policy).toEqual(defaultSitePolicy);
    expect(siteToCoordinator.hello.parse({ name: 'clinic', version: '9', baseIds: [] }).policy).toBeNull();
  });
});

describe('quiet hours', () => {
  const until = (quietHours: string, clock: string) =>
    quietUntil({ ...defaultSitePolicy, quietHours }, new Date(`2026-11-22T${clock}:00+09:00`), 'Asia/Tokyo');

  test.each([
    ['07:00-19:00', '06:59', null],
    ['07:00-19:00', '07:00', '19:00'],
    ['07:00-19:00', '18:59', '19:00'],
    ['07:00-19:00', '19:00', null],
    ['22:00-06:00', '23:30', '06:00'],
    ['22:00-06:00', '05:59', '06:00'],
    ['22:00-06:00', '06:00', null],
    ['', '12:00', null],
  ])('of %s at %s last until %s', (hours, clock, end) => {
    expect(until(hours, clock)).toBe(end);
  });

  test.each([
    ['07:00-19:00', '06:59', 1],
    ['07:00-19:00', '07:00', 24 * 60],
    ['22:00-06:00', '21:00', 60],
    ['', '12:00', null],
  ])('of %s begin after %s in %s minutes', (quietHours, clock, minutes) => {
    const ms = msUntilQuiet(
      { ...defaultSitePolicy, quietHours },
      new Date(`2026-11-22T${clock}:00+09:00`),
      'Asia/Tokyo',
    );

    expect(ms === null ? null : ms / 60_000).toBe(minutes);
  });

  test.each(['7-19', '07:00-24:00', '07:00', '07:60-08:00', '07:00-19:00 '])('are not written %j', (text) => {
    expect(sitePolicySchema.safeParse({ quietHours: text }).success).toBe(false);
  });
});
