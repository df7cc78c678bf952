/** What every strategy must keep, whatever its algorithm and its options; run over all of them. */
import { describe, expect, it } from 'vitest';
import type { RunConfig } from '../../core/config/run-config.ts';
import { type StrategyName, strategyNameSchema } from '../../core/config/setting.ts';
import { trainableWeights } from '../../core/engine/training-graph.ts';
import type { ModelState } from '../../core/lora/model-state.ts';
import { decodeModelState, encodeModelState, statesEqual } from '../../core/lora/state-file.ts';
import { createRandom } from '../../core/shared/random.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { checkUpdate } from '../../core/strategy/check-update.ts';
import { refuseCombinations } from '../../core/strategy/combinations.ts';
import { getStrategy, strategies } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import type { AggregateResult, ServerMemory, SiteUpdate } from '../../core/strategy/strategy.ts';
import { randomLayer, shapeOnlyBase } from '../fixtures/random-state.ts';
import {
  aggregateOnce,
  deltas,
  relativeError,
  runSettings,
  trainAs,
  weightedSum,
} from '../fixtures/strategy-rounds.ts';

const base = shapeOnlyBase();
type Variant = Partial<RunConfig> & { strategy: StrategyName };

const plain: [string, Variant][] = [
  ['sa-fedlora', { strategy: 'sa-fedlora' }],
  ['sa-fedlora, spectral and linear', { strategy: 'sa-fedlora', allocation: 'spectral', shape: 'linear' }],
  ['sa-fedlora, cosine with heating', { strategy: 'sa-fedlora', shape: 'cosine', heatingRounds: 1 }],
  ['sa-fedlora that freezes what it cuts', { strategy: 'sa-fedlora', cutOff: 'freeze' }],
  ['sa-fedlora initiating with full', { strategy: 'sa-fedlora', initiatingMode: 'full' }],
  ['sa-fedlora initiating with last-k', { strategy: 'sa-fedlora', initiatingMode: 'last-k', lastK: 1 }],
  ['sa-fedlora with A fixed', { strategy: 'sa-fedlora', freezeA: true }],
  [
    'sa-fedlora with A fixed, initiating with full, spectral',
    { strategy: 'sa-fedlora', freezeA: true, initiatingMode: 'full', allocation: 'spectral' },
  ],
  ['flexlora', { strategy: 'flexlora' }],
  ['hetlora', { strategy: 'hetlora' }],
  ['flora-stack', { strategy: 'flora-stack' }],
  ['fedavg-lora', { strategy: 'fedavg-lora' }],
  ['ffa-lora', { strategy: 'ffa-lora' }],
  ['fedsa-lora', { strategy: 'fedsa-lora' }],
  ['fedavg-full', { strategy: 'fedavg-full' }],
  ['fedprox-full', { strategy: 'fedprox-full' }],
  ['head-only', { strategy: 'head-only' }],
];
const noise = { at: 'coordinator', clipNorm: 1, noiseMultiplier: 0.1, delta: 1e-5 } as const;
const krum = { rule: 'multi-krum', byzantine: 1 } as const;
const adam = { kind: 'adam', learningRate: 0.01, beta1: 0.9, beta2: 0.99, epsilon: 1e-3 } as const;
const momentum = { kind: 'momentum', learningRate: 1, beta: 0.5 } as const;
const withOptions: [string, Variant][] = [
  ['flexlora, equal weights', { strategy: 'flexlora', weighting: 'equal' }],
  ['sa-fedlora, momentum', { strategy: 'sa-fedlora', serverOptimiser: momentum }],
  [
    'sa-fedlora, norm bound',
    { strategy: 'sa-fedlora', robust: { rule: 'norm-bound', factor: 0.9 }, weighting: 'equal', quorum: 3 },
  ],
  ['sa-fedlora, multi-Krum', { strategy: 'sa-fedlora', robust: krum, weighting: 'equal', quorum: 5 }],
  [
    'sa-fedlora, freezing and spectral',
    { strategy: 'sa-fedlora', cutOff: 'freeze', allocation: 'spectral', shape: 'cosine' },
  ],
  ['sa-fedlora, heads at the sites', { strategy: 'sa-fedlora', localHead: true }],
  ['fedavg-lora, FedAdam', { strategy: 'fedavg-lora', serverOptimiser: adam }],
  ['fedavg-lora, momentum', { strategy: 'fedavg-lora', serverOptimiser: momentum }],
  [
    'fedavg-lora, median',
    { strategy: 'fedavg-lora', robust: { rule: 'median' }, weighting: 'equal', quorum: 3 },
  ],
  [
    'fedavg-full, trimmed mean',
    { strategy: 'fedavg-full', robust: { rule: 'trimmed-mean', share: 0.2 }, weighting: 'equal', quorum: 5 },
  ],
  ['ffa-lora, noise', { strategy: 'ffa-lora', privacy: noise, weighting: 'equal' }],
  [
    'sa-fedlora with A fixed, noise',
    { strategy: 'sa-fedlora', freezeA: true, privacy: noise, weighting: 'equal' },
  ],
  [
    'sa-fedlora with A fixed, median',
    { strategy: 'sa-fedlora', freezeA: true, robust: { rule: 'median' }, weighting: 'equal', quorum: 3 },
  ],
  ['fedsa-lora, heads at the sites', { strategy: 'fedsa-lora', localHead: true }],
  [
    'flora-stack, norm bound',
    { strategy: 'flora-stack', robust: { rule: 'norm-bound', factor: 2 }, weighting: 'equal', quorum: 3 },
  ],
  ['head-only, multi-Krum', { strategy: 'head-only', robust: krum, weighting: 'equal', quorum: 5 }],
];
const settings = (changes: Variant) => runSettings(base, changes);

/** Every value that a result has, to compare results that should be the same but for rounding. */
function effectOf({ state, frozenBaseDelta }: Pick<AggregateResult, 'state' | 'frozenBaseDelta'>) {
  const effect = weightedSum([
    [1, deltas(state)],
    [1, deltas(frozenBaseDelta ?? { lora: new Map() })],
  ]);
  for (const [name, tensor] of state.head) effect.set(`head.${name}`, tensor);
  for (const [name, tensor] of [...(frozenBaseDelta?.base ?? []), ...state.base])
    effect.set(`base.${name}`, tensor);
  return effect;
}

it('every strategy of the configuration exists under its own name and is tested here', () => {
  expect(Object.keys(strategies).sort()).toEqual([...strategyNameSchema.options].sort());
  for (const name of strategyNameSchema.options) expect(getStrategy(name).name).toBe(name);
  expect(new Set(plain.map(([, { strategy }]) => strategy)).size).toBe(strategyNameSchema.options.length);
});

describe.each([...plain, ...withOptions])('%s', (_name, changes) => {
  const config = settings(changes);
  const strategy = getStrategy(config.strategy);
  const start = createRunState(config, base);
  const plan = (round: number) => strategy.configureTrain(config, round);
  const fiveSites = (global: ModelState, round: number): SiteUpdate[] =>
    [1, 2, 3, 4, 5].map((site) => ({
      siteId: `site-${site}`,
      examples: 10 * site,
      state: trainAs(config, base, global, round, 10 * round + site),
    }));

  it('is a combination that a run may have', () => {
    expect(() => refuseCombinations(config)).not.toThrow();
  });

  it('plans every round, with ranks that never grow once there are factors', () => {
    let last = Number.POSITIVE_INFINITY;
    for (let round = 0; round < config.rounds; round++) {
      const { round: planned, mode, rank } = plan(round);
      expect(planned).toBe(round);
      expect(rank > 0).toBe(mode === 'lora');
      if (rank > 0) expect(rank).toBeLessThanOrEqual(last);
      if (rank > 0) last = rank;
    }
  });

  it('runs from first to last round, each state fitting the next plan and its file', async () => {
    let global = start;
    let memory: ServerMemory | null = null;
    let budget = Number.POSITIVE_INFINITY;
    for (let round = 0; round < config.rounds; round++) {
      const updates = fiveSites(global, round);
      const trained = trainableWeights(base, plan(round).mode, config.lastK);
      const expected = { base, global, plan: plan(round), trained };
      for (const { state } of updates) {
        expect(() => checkUpdate(state, expected)).not.toThrow();
      }
      const result: AggregateResult = await aggregateOnce(config, base, round, global, updates, { memory });
      const next = plan(Math.min(round + 1, config.rounds - 1));
      const ranks = [...result.state.lora.values()].map((layer) => layer.r);
      if (config.allocation === 'uniform') expect(new Set(ranks).size).toBeLessThanOrEqual(1);
      const sum = ranks.reduce((total, r) => total + r, 0);
      expect(sum).toBe(next.rank * ranks.length);
      if (sum > 0) expect(sum).toBeLessThanOrEqual(budget);
      if (sum > 0) budget = sum;
      expect(result.energyKept).toBeGreaterThan(0);
      expect(result.energyKept).toBeLessThanOrEqual(1);
      expect(result.drift.spread).toBeGreaterThan(0);
      expect(result.drift.share).toBeGreaterThan(0);
      expect(result.drift.share).toBeLessThanOrEqual(1);
      for (const state of [
        result.state,
        ...(result.frozenBaseDelta === null ? [] : [result.frozenBaseDelta]),
      ]) {
        expect(state.baseSha256).toBe(base.sha256);
        expect(state.classes).toEqual(config.classes);
        expect(statesEqual(decodeModelState(encodeModelState(state), 'global'), state)).toBe(true);
      }
      expect(result.state.base.size > 0).toBe(next.mode === 'full' || next.mode === 'last-k');
      global = result.state;
      memory = result.memory;
    }
  });

  it('gives the same for sites in another order', async () => {
    const updates = fiveSites(start, 0);
    const forwards = await aggregateOnce(config, base, 0, start, updates);
    const backwards = await aggregateOnce(config, base, 0, start, [...updates].reverse());
    expect(relativeError(effectOf(backwards), effectOf(forwards))).toBeLessThan(1e-6);
    expect(backwards.drift.share).toBeCloseTo(forwards.drift.share, 9);
    expect(new Set(backwards.exclusions.map((each) => each.siteId))).toEqual(
      new Set(forwards.exclusions.map((each) => each.siteId)),
    );
  });

  it('leaves its inputs alone and gives the same bytes twice', async () => {
    // Round 1 is the last initiating one: after it fresh factors are drawn where there were none.
    const updates = fiveSites(start, 1);
    const before = [start, ...updates.map(({ state }) => state)].map(encodeModelState);
    const results = [
      await aggregateOnce(config, base, 1, start, updates),
      await aggregateOnce(config, base, 1, start, updates),
    ];
    expect([start, ...updates.map(({ state }) => state)].map(encodeModelState)).toEqual(before);
    expect(statesEqual(results[0]!.state, results[1]!.state)).toBe(true);
  });

  it('refuses updates that would spoil the others', async () => {
    const good = fiveSites(start, 0);
    const first = good[0]!.state;
    const bias = floatTensor([3], Float32Array.of(0, Number.NaN, 0));
    const extra = randomLayer('unknown.layer', [4, 4], 1, 1, createRandom(1));
    const bad: Record<string, Partial<SiteUpdate>> = {
      nan: { state: { ...first, head: new Map(first.head).set('bias', bias) } },
      shape: { state: { ...first, head: new Map(first.head).set('bias', floatTensor([4])) } },
      base: { state: { ...first, baseSha256: 'cd'.repeat(32) } },
      classes: { state: { ...first, classes: ['b', 'a', 'c'] } },
      layer: { state: { ...first, lora: new Map(first.lora).set(extra.module, extra) } },
      examples: { examples: 0 },
    };
    for (const [what, fault] of Object.entries(bad)) {
      const updates = [...good.slice(1), { siteId: 'bad', examples: 5, state: first, ...fault }];
      await expect(aggregateOnce(config, base, 0, start, updates), what).rejects.toMatchObject({
        code: 'UPDATE_REJECTED',
      });
    }
  });

  it('refuses to make a state of no updates', async () => {
    await expect(aggregateOnce(config, base, 0, start, [])).rejects.toMatchObject({
      code: 'QUORUM_NOT_REACHED',
    });
  });
});

describe.each(plain)('%s without options', (_name, changes) => {
  const config = settings(changes);
  const start = createRunState(config, base);

  it('gives back the state of a single site, and no drift', async () => {
    const state = trainAs(config, base, start, 0, 4);
    const result = await aggregateOnce(config, base, 0, start, [{ siteId: 'only', examples: 17, state }]);
    // In the first round the rank stays, or factors begin at ΔW = 0.
    expect(relativeError(effectOf(result), effectOf({ state, frozenBaseDelta: null }))).toBeLessThan(1e-5);
    expect(result.energyKept).toBeCloseTo(1, 6);
    expect(result.drift.share).toBeLessThan(1e-9);
    expect(result.exclusions).toEqual([]);
    expect(result.memory).toBeNull();
  });

  it('weighs the head and the base weights by numbers of examples, or alike', async () => {
    const [x, y] = [trainAs(config, base, start, 0, 1), trainAs(config, base, start, 0, 2)];
    const sites = [
      { siteId: 'x', examples: 30, state: x },
      { siteId: 'y', examples: 10, state: y },
    ];
    const byExamples = await aggregateOnce(config, base, 0, start, sites);
    const alike = await aggregateOnce({ ...config, weighting: 'equal' }, base, 0, start, sites);
    for (const part of ['head', 'base'] as const) {
      const mean = (share: number) =>
        weightedSum([
          [share, x[part]],
          [1 - share, y[part]],
        ]);
      expect(relativeError(byExamples.state[part], mean(0.75))).toBeLessThan(1e-6);
      expect(relativeError(alike.state[part], mean(0.5))).toBeLessThan(1e-6);
    }
  });
});
