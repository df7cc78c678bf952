/** Settings that make no sense together: each rule has an example, and the docs' table says what the code says. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { defaultRunConfig, type RunConfig, runConfigSchema } from '../../core/config/run-config.ts';
import { strategyNameSchema } from '../../core/config/setting.ts';
import { AppError } from '../../core/shared/errors.ts';
import { combinationRules, refuseCombinations } from '../../core/strategy/combinations.ts';
import type { CombinationRule } from '../../core/strategy/strategy.ts';

function settings(changes: Partial<RunConfig>): RunConfig {
  const start = {
    baseId: 'shape-only',
    baseSha256: 'ab'.repeat(32),
    classes: ['a', 'b'],
    quorum: 9,
    ...changes,
  };
  return runConfigSchema.parse(defaultRunConfig(start));
}

const equal = { weighting: 'equal' } as const;
const privacy = { at: 'coordinator', clipNorm: 1, noiseMultiplier: 1, delta: 1e-5 } as const;
const adam = { kind: 'adam', learningRate: 0.01, beta1: 0.9, beta2: 0.99, epsilon: 1e-3 } as const;
const momentum = { kind: 'momentum', learningRate: 1, beta: 0.9 } as const;
const notMeans = ['sa-fedlora', 'flexlora', 'flora-stack', 'hetlora'] as const;
const means = ['fedavg-lora', 'ffa-lora', 'fedsa-lora', 'fedavg-full', 'fedprox-full', 'head-only'] as const;

type Example = [what: string, changes: Partial<RunConfig>, message: RegExp];
const refused: Example[] = [
  ...notMeans.flatMap((strategy): Example[] => [
    [
      `median and ${strategy}`,
      { ...equal, strategy, robust: { rule: 'median' } },
      /"robust.rule" \(median\)/,
    ],
    [
      `trimmed mean and ${strategy}`,
      { ...equal, strategy, robust: { rule: 'trimmed-mean', share: 0.2 } },
      new RegExp(`"robust.rule" \\(trimmed-mean\\) and "strategy" \\(${strategy}\\)`),
    ],
    [
      `noise of the coordinator and ${strategy}`,
      { ...equal, strategy, privacy },
      /"privacy.at" \(coordinator\)/,
    ],
    [`adam and ${strategy}`, { strategy, serverOptimiser: adam }, /"serverOptimiser.kind" \(adam\)/],
  ]),
  ...means.map(
    (strategy): Example => [
      `ranks by site and ${strategy}`,
      { strategy, siteRanks: { Leeds: 4 } },
      new RegExp(`"siteRanks" and "strategy" \\(${strategy}\\)`),
    ],
  ),
  [
    'a norm bound and weights without a limit that sites claim',
    { robust: { rule: 'norm-bound', factor: 2 }, weightCap: null },
    /"robust.rule" \(norm-bound\) and "weightCap" \(null\)/,
  ],
  [
    'a median and weights that sites claim',
    { strategy: 'fedavg-lora', robust: { rule: 'median' }, weightCap: 3 },
    /"robust.rule" \(median\) and "weighting" \(examples\)/,
  ],
  [
    'a median of two',
    { ...equal, strategy: 'fedavg-lora', quorum: 2, robust: { rule: 'median' } },
    /"quorum" \(2\)/,
  ],
  [
    'a norm bound of two',
    { ...equal, quorum: 2, robust: { rule: 'norm-bound', factor: 2 } },
    /"quorum" \(2\)/,
  ],
  [
    'a trimmed mean that trims nothing',
    { ...equal, strategy: 'fedavg-full', quorum: 4, robust: { rule: 'trimmed-mean', share: 0.2 } },
    /"robust.share" \(0.2\) and "quorum" \(4\)/,
  ],
  [
    'multi-Krum of too few',
    { ...equal, quorum: 6, robust: { rule: 'multi-krum', byzantine: 2 } },
    /"robust.byzantine" \(2\) and "quorum" \(6\)/,
  ],
  [
    'multi-Krum and ranks by site',
    { ...equal, siteRanks: { Leeds: 4 }, robust: { rule: 'multi-krum', byzantine: 1 } },
    /"robust.rule" \(multi-krum\) and "siteRanks"/,
  ],
  [
    'noise of the coordinator and weights by images',
    { strategy: 'ffa-lora', privacy },
    /"privacy.at" \(coordinator\) and "weighting" \(examples\)/,
  ],
  [
    'noise of the coordinator and a robust rule',
    { ...equal, strategy: 'ffa-lora', privacy, robust: { rule: 'median' } },
    /"privacy.at" \(coordinator\) and "robust.rule" \(median\)/,
  ],
  [
    'momentum and flora-stack',
    { strategy: 'flora-stack', serverOptimiser: momentum },
    /"serverOptimiser.kind" \(momentum\) and "strategy" \(flora-stack\)/,
  ],
  [
    'momentum and frozen directions',
    { strategy: 'sa-fedlora', cutOff: 'freeze', serverOptimiser: momentum },
    /"serverOptimiser.kind" \(momentum\) and "cutOff" \(freeze\)/,
  ],
  [
    'a fixed A and frozen directions',
    { freezeA: true, cutOff: 'freeze' },
    /"freezeA" \(true\) and "cutOff" \(freeze\)/,
  ],
  [
    'a fixed A and ranks by site',
    { freezeA: true, siteRanks: { Leeds: 4 } },
    /"freezeA" \(true\) and "siteRanks"/,
  ],
  ...[adam, momentum].map(
    (serverOptimiser): Example => [
      `a fixed A and ${serverOptimiser.kind}`,
      { freezeA: true, serverOptimiser },
      new RegExp(`"serverOptimiser.kind" \\(${serverOptimiser.kind}\\) and "freezeA" \\(true\\)`),
    ],
  ),
  ['a head that alone trains and stays', { strategy: 'head-only', localHead: true }, /"localHead" \(true\)/],
  [
    'error feedback without rounding',
    { wire: { up: 'fp32', down: 'fp16', errorFeedback: true } },
    /"wire.errorFeedback" \(true\) and "wire.up" \(fp32\)/,
  ],
  [
    'an initiating stage of no blocks',
    { initiatingMode: 'last-k', lastK: 0 },
    /"lastK" \(0\) and "initiatingMode" \(last-k\)/,
  ],
  [
    'a last round without a learning rate',
    { finalLearningRateShare: 0, rounds: 2 },
    /"finalLearningRateShare" \(0\) and "rounds" \(2\)/,
  ],
  [
    'class means of a head that stays at its site',
    { headStart: 'prototypes', localHead: true },
    /"headStart" \(prototypes\) and "localHead" \(true\)/,
  ],
  [
    'class means, and no round that trains',
    { headStart: 'prototypes', rounds: 1 },
    /"headStart" \(prototypes\) and "rounds" \(1\)/,
  ],
  ['fedprox-full without its pull', { strategy: 'fedprox-full', proximal: 0 }, /"proximal" \(0\)/],
];

const errorOf = (changes: Partial<RunConfig>): AppError | null => {
  try {
    refuseCombinations(settings(changes));
    return null;
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
};

it.each(refused)('refuses %s', (_what, changes, message) => {
  const error = errorOf(changes);
  expect(error?.code).toBe('CONFIG_INVALID');
  expect(error?.message).toMatch(message);
  expect(error?.message).toMatch(/cannot be combined: .+\.$/);
  expect(combinationRules.map((rule) => rule.instead)).toContain(error?.action);
});

describe('what does go together is let through', () => {
  const allowed: [string, Partial<RunConfig>][] = [
    ...strategyNameSchema.options.flatMap((strategy): [string, Partial<RunConfig>][] => [
      [`${strategy} as it is`, { strategy }],
      [`${strategy}, noise of the sites`, { strategy, privacy: { ...privacy, at: 'site' } }],
      [
        `${strategy}, noise of the sites, norm bound`,
        { ...equal, strategy, robust: { rule: 'norm-bound', factor: 2 } },
      ],
      [`${strategy}, multi-Krum`, { ...equal, strategy, robust: { rule: 'multi-krum', byzantine: 3 } }],
      [
        `${strategy}, int8 with error feedback`,
        { strategy, wire: { up: 'int8', down: 'int8', errorFeedback: true } },
      ],
      [`${strategy}, client sampling`, { strategy, participation: 0.5 }],
    ]),
    ...means.flatMap((strategy): [string, Partial<RunConfig>][] => [
      [`${strategy}, noise of the coordinator`, { ...equal, strategy, privacy }],
      [`${strategy}, median`, { ...equal, strategy, robust: { rule: 'median' } }],
      [`${strategy}, adam`, { strategy, serverOptimiser: adam }],
      [`${strategy}, momentum`, { strategy, serverOptimiser: momentum }],
    ]),
    ...notMeans.map((strategy): [string, Partial<RunConfig>] => [
      `${strategy}, ranks by site`,
      { strategy, siteRanks: { Leeds: 4 } },
    ]),
    ['sa-fedlora with A fixed, noise of the coordinator', { ...equal, freezeA: true, privacy }],
    ['sa-fedlora with A fixed, median', { ...equal, freezeA: true, robust: { rule: 'median' } }],
    [
      'sa-fedlora with A fixed, trimmed mean',
      { ...equal, freezeA: true, robust: { rule: 'trimmed-mean', share: 0.2 } },
    ],
    // Another strategy passes the setting over.
    ['flexlora with A fixed, momentum', { strategy: 'flexlora', freezeA: true, serverOptimiser: momentum }],
    ['sa-fedlora, momentum', { serverOptimiser: momentum }],
    ['a norm bound, weights with a limit', { robust: { rule: 'norm-bound', factor: 2 }, weightCap: 3 }],
    ['a norm bound, equal weights', { ...equal, robust: { rule: 'norm-bound', factor: 2 } }],
    ['sa-fedlora, local head', { localHead: true }],
  ];

  it.each(allowed)('%s', (_what, changes) => {
    expect(errorOf(changes)).toBeNull();
  });
});

it('every rule of the table refuses some example', () => {
  for (const rule of combinationRules) {
    expect(refused.some(([, changes]) => rule.refuses(settings(changes)))).toBe(true);
  }
});

it('the table of docs/strategy-options.md is that of the code', () => {
  const cell = ({ setting, values }: CombinationRule['with']) => `\`${setting}\`: ${values}`;
  const lines = combinationRules.map(
    (rule) => `| ${cell(rule.option)} | ${cell(rule.with)} | ${rule.why} | ${rule.instead} |`,
  );
  const docs = readFileSync(new URL('../../docs/strategy-options.md', import.meta.url), 'utf8');
  const table = /<!-- combinations -->\n([\s\S]*?)\n<!-- end -->/.exec(docs)?.[1] ?? '';
  expect(table.split('\n').slice(2)).toEqual(lines);
});
