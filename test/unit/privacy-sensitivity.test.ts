/** What the noise of a coordinator relies on: no site moves a round's result by more than the clipping norm / sites. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RunConfig } from '../../core/config/run-config.ts';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import type { StrategyName } from '../../core/config/setting.ts';
import { createOnnxRuntimeProducts } from '../../core/engine/onnxruntime/matrix-products.ts';
import { trainableWeights } from '../../core/engine/training-graph.ts';
import { type ModelState, withTensors } from '../../core/lora/model-state.ts';
import { createRandom } from '../../core/shared/random.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { changeNorm } from '../../core/strategy/privacy/change.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import { sentTensors } from '../../core/strategy/what-travels.ts';
import { shapeOnlyBase, trainedState } from '../fixtures/random-state.ts';

const base = shapeOnlyBase();
const strategies: readonly StrategyName[] = [
  'fedavg-lora',
  'ffa-lora',
  'fedsa-lora',
  'fedavg-full',
  'fedprox-full',
  'head-only',
];

function settings(strategy: StrategyName, clipNorm: number, noiseMultiplier: number): RunConfig {
  return defaultRunConfig({
    baseId: base.id,
    baseSha256: base.sha256,
    classes: ['a', 'b', 'c'],
    strategy,
    rMax: 3,
    weighting: 'equal',
    privacy: { at: 'coordinator', clipNorm, noiseMultiplier, delta: 1e-5 },
  });
}

/** The state that every site starts from: as the run's first one, but base weights already there where they train. */
function startOfRound(config: RunConfig): ModelState {
  const start = createRunState(config, base);
  const { mode } = getStrategy(config.strategy).configureTrain(config, 0);
  if (mode !== 'full') return start;
  return {
    ...start,
    base: new Map(trainableWeights(base, mode, 0).map((name) => [name, base.weights.get(name)!])),
  };
}

/** A site's result, `size` times as far from the start as training in the fixtures goes, in what travels. */
function siteState(config: RunConfig, start: ModelState, seed: number, size: number): ModelState {
  const plan = getStrategy(config.strategy).configureTrain(config, 0);
  const trained = trainedState(start, seed, { base, baseNames: [...start.base.keys()] });
  const before = sentTensors(start, { plan, config });
  const moved = [...sentTensors(trained, { plan, config })].map(([name, { dims, data }]) => {
    const own = before.get(name)!.data;
    return [
      name,
      floatTensor(
        dims,
        data.map((value, i) => own[i]! + size * (value - own[i]!)),
      ),
    ] as const;
  });
  return withTensors({ ...start, base: trained.base }, new Map(moved));
}

async function aggregate(
  config: RunConfig,
  start: ModelState,
  states: readonly ModelState[],
  noise: { normal(): number },
): Promise<ModelState> {
  const strategy = getStrategy(config.strategy);
  const plan = strategy.configureTrain(config, 0);
  const { state } = await strategy.aggregateTrain({
    config,
    plan,
    next: strategy.configureTrain(config, 1),
    global: start,
    updates: {
      // Numbers of images as far apart as can be: they must not matter.
      sites: states.map((_, i) => ({ siteId: String(i), examples: 10 ** i })),
      read: async (siteId) => states[Number(siteId)]!,
    },
    memory: null,
    base,
    noise,
    products: createOnnxRuntimeProducts(),
  });
  return state;
}

const silence = { normal: () => 0 };

describe.each(strategies)('%s', (strategy) => {
  it('one site, however far it goes, moves the result by at most C / n', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer(),
        fc.integer({ min: 2, max: 4 }),
        fc.constantFrom(0.01, 1, 1000),
        fc.constantFrom(0.05, 2),
        async (seed, sites, size, clipNorm) => {
          const config = settings(strategy, clipNorm, 1);
          const start = startOfRound(config);
          const plan = getStrategy(strategy).configureTrain(config, 0);
          const states = Array.from({ length: sites }, (_, i) =>
            siteState(config, start, seed + i, i === 0 ? size : 1),
          );

          const withSite = await aggregate(config, start, states, silence);
          const without = await aggregate(config, start, [start, ...states.slice(1)], silence);

          const moved = changeNorm(withSite, without, { plan, config });
          const own = changeNorm(states[0]!, start, { plan, config });
          expect(moved).toBeLessThanOrEqual((clipNorm / sites) * (1 + 1e-4) + 1e-5);
          // And it does count: by all of its change up to the norm.
          expect(moved).toBeGreaterThanOrEqual((Math.min(own, clipNorm) / sites) * (1 - 1e-2) - 1e-5);
        },
      ),
      { numRuns: 8 },
    );
  });

  it('the noise on the result is z · C / n in each value that travels', async () => {
    const [clipNorm, noiseMultiplier, sites] = [0.5, 3, 3];
    const config = settings(strategy, clipNorm, noiseMultiplier);
    const start = startOfRound(config);
    const travels = { plan: getStrategy(strategy).configureTrain(config, 0), config };
    const states = Array.from({ length: sites }, (_, i) => siteState(config, start, i, 1));

    const plain = await aggregate(config, start, states, silence);
    const noisy = await aggregate(config, start, states, createRandom(9));

    const values = [...sentTensors(noisy, travels)].flatMap(([name, { data }]) => {
      const own = sentTensors(plain, travels).get(name)!.data;
      return [...data].map((value, i) => value - own[i]!);
    });
    const deviation = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
    const expected = (noiseMultiplier * clipNorm) / sites;
    expect(Math.abs(deviation / expected - 1)).toBeLessThan(4.5 / Math.sqrt(2 * values.length));
    expect(values.every((value) => value !== 0)).toBe(true);
  });
});
