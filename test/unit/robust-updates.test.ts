/** Norm bound and multi-Krum: sizes of whole updates and distances between them, and what hostile sites cannot do. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { StrategyName } from '../../core/config/setting.ts';
import type { LoraLayer, ModelState } from '../../core/lora/model-state.ts';
import { createRandom, type Random } from '../../core/shared/random.ts';
import { type FloatTensor, floatTensor } from '../../core/shared/tensor.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import {
  mergedChangeNorm,
  scaleMergedChange,
  squaredDistances,
} from '../../core/strategy/robust/distances.ts';
import { krumQuorum, multiKrum, normBound } from '../../core/strategy/robust/select.ts';
import { deltaWeight } from '../fixtures/delta-weight.ts';
import { randomLayer, randomTensor } from '../fixtures/random-state.ts';

function stateOf(layers: readonly LoraLayer[], head: FloatTensor): ModelState {
  return {
    baseSha256: 'ab'.repeat(32),
    classes: ['a', 'b'],
    lora: new Map(layers.map((layer) => [layer.module, layer])),
    head: new Map([['weight', head]]),
    base: new Map(),
  };
}

function randomUpdate(random: Random, r = 3, scale = 2): ModelState {
  const layers = [
    randomLayer('q', [9, 7], r, scale, random),
    randomLayer('conv', [6, 4, 3, 3], r, scale, random),
  ];
  return stateOf(layers, randomTensor([2, 5], random));
}

const travels = (strategy: StrategyName) =>
  ({
    plan: { sends: 'both' },
    config: { localHead: false, strategy, freezeA: false },
    merges: getStrategy(strategy).traits({ freezeA: false }).merges,
  }) as const;

/** ΔW of all layers and the head as one list, written out. */
const dense = (state: ModelState) =>
  [...state.lora.values()]
    .flatMap((layer) => [...deltaWeight(layer).data])
    .concat([...state.head.get('weight')!.data]);
const squaredLength = (values: readonly number[]) => values.reduce((sum, value) => sum + value * value, 0);
const minus = (x: readonly number[], y: readonly number[]) => x.map((value, i) => value - y[i]!);

describe('distances between updates', () => {
  it('of products are those of the dense matrices, for any ranks and scales', async () => {
    const random = createRandom(1);
    const states = [randomUpdate(random, 3), randomUpdate(random, 1), randomUpdate(random, 5, 0.5)];

    const matrix = await squaredDistances(states, travels('sa-fedlora'));

    for (const [i, x] of states.entries()) {
      for (const [j, y] of states.entries()) {
        expect(matrix[i]![j]!).toBeCloseTo(squaredLength(minus(dense(x), dense(y))), 3);
      }
    }
  });

  it('of factors are value by value, lower ranks padded with zeros', async () => {
    const random = createRandom(2);
    const layer = randomLayer('q', [4, 3], 2, 1, random);
    const head = floatTensor([1]);
    const small = {
      ...layer,
      r: 1,
      a: floatTensor([1, 3], layer.a.data.slice(0, 3)),
      b: floatTensor(
        [4, 1],
        layer.b.data.filter((_, i) => i % 2 === 0),
      ),
    };

    const [[, distance] = []] = (
      await squaredDistances([stateOf([layer], head), stateOf([small], head)], travels('hetlora'))
    ).map((line) => [...line]);

    const cut = [...layer.a.data.slice(3), ...layer.b.data.filter((_, i) => i % 2 === 1)];
    expect(distance).toBeCloseTo(squaredLength(cut), 5);
  });

  it('sees factors that hide behind the same ΔW only where factors are averaged', async () => {
    const honest = randomUpdate(createRandom(3));
    const blown = new Map(
      [...honest.lora].map(([module, layer]) => [
        module,
        {
          ...layer,
          a: floatTensor(
            layer.a.dims,
            layer.a.data.map((value) => 1024 * value),
          ),
          b: floatTensor(
            layer.b.dims,
            layer.b.data.map((value) => value / 1024),
          ),
        },
      ]),
    );
    const states = [honest, { ...honest, lora: blown }];
    expect((await squaredDistances(states, travels('sa-fedlora')))[0]![1]).toBeLessThan(1e-6);
    expect((await squaredDistances(states, travels('fedavg-lora')))[0]![1]).toBeGreaterThan(1e4);
  });
});

describe('the change in the space of the merge', () => {
  it.each(['flexlora', 'fedavg-lora'] as const)('%s: scaled by a factor, so is its norm', (strategy) => {
    const random = createRandom(4);
    const [start, state] = [randomUpdate(random), randomUpdate(random)];
    const options = travels(strategy);
    const norm = mergedChangeNorm(state, start, options);

    const scaled = scaleMergedChange(state, start, 0.3, options);

    expect(mergedChangeNorm(scaled, start, options)).toBeCloseTo(0.3 * norm, 4);
    if (strategy === 'flexlora') {
      expect(norm).toBeCloseTo(Math.sqrt(squaredLength(minus(dense(state), dense(start)))), 3);
      const expected = dense(start).map((value, i) => value + 0.3 * (dense(state)[i]! - value));
      dense(scaled).forEach((value, i) => {
        expect(value).toBeCloseTo(expected[i]!, 4);
      });
    }
  });

  it('adds no rank for a start that changes nothing', () => {
    const random = createRandom(5);
    const state = randomUpdate(random, 3);
    const start = {
      ...state,
      lora: new Map([...state.lora].map(([m, layer]) => [m, { ...layer, b: floatTensor(layer.b.dims) }])),
    };
    const scaled = scaleMergedChange(state, start, 0.5, travels('flora-stack'));
    expect(scaled.lora.get('q')!.r).toBe(3);
    expect(mergedChangeNorm(scaled, start, travels('flora-stack'))).toBeCloseTo(
      0.5 * mergedChangeNorm(state, start, travels('flora-stack')),
      4,
    );
  });
});

describe('norm bound', () => {
  it('scales what is larger than so many median norms, and says so', () => {
    const norms = new Map([
      ['x', 1],
      ['y', 2],
      ['z', 50],
    ]);
    const { factors, exclusions } = normBound(norms, 2);
    expect([...factors]).toEqual([
      ['x', 1],
      ['y', 1],
      ['z', 4 / 50],
    ]);
    expect(exclusions).toEqual([
      { siteId: 'z', reason: 'The change was scaled down: its norm is 25.0 times the median, at most 2.' },
    ]);
  });

  it('lets no minority past the factor times the largest honest norm', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0.01, max: 10, noNaN: true }), { minLength: 2, maxLength: 8 }),
        fc.array(fc.double({ min: 0, max: 1e9, noNaN: true }), { maxLength: 7 }),
        fc.double({ min: 0.5, max: 4, noNaN: true }),
        (good, hostile, factor) => {
          const kept = hostile.slice(0, good.length - 1);
          const norms = new Map([...good, ...kept].map((norm, i) => [String(i), norm]));
          const { factors } = normBound(norms, factor);
          for (const [siteId, norm] of norms) {
            expect(norm * factors.get(siteId)!).toBeLessThanOrEqual(factor * Math.max(...good) * (1 + 1e-12));
          }
        },
      ),
    );
  });

  it('leaves out what moved when most sites did not', () => {
    const norms = new Map([
      ['x', 0],
      ['y', 0],
      ['z', 5],
    ]);
    expect(normBound(norms, 2).factors.get('z')).toBe(0);
  });
});

describe('multi-Krum', () => {
  /** Good sites near one another, f hostile ones far away: together, or each elsewhere. */
  const federation = fc
    .record({ byzantine: fc.integer({ min: 1, max: 3 }), more: fc.integer({ min: 0, max: 4 }) })
    .chain(({ byzantine, more }) =>
      fc.record({
        byzantine: fc.constant(byzantine),
        together: fc.boolean(),
        far: fc.double({ min: 50, max: 1e6, noNaN: true }),
        seed: fc.integer(),
        good: fc.constant(byzantine + 3 + more),
      }),
    );

  function points({ byzantine, together, far, seed, good }: FederationOf<typeof federation>): ModelState[] {
    const random = createRandom(seed);
    const point = (offset: number) => {
      const values = Float32Array.from({ length: 6 }, () => random.normal() + offset);
      return stateOf([], floatTensor([6], values));
    };
    const outlier = (i: number) => point(together ? far : far * (i + 1) * (i % 2 === 0 ? 1 : -1));
    return [
      ...Array.from({ length: byzantine }, (_, i) => outlier(i)),
      ...Array.from({ length: good }, () => point(0)),
    ];
  }

  it('never keeps a far outlier, also when outliers agree, and keeps n − f − 2', async () => {
    await fc.assert(
      fc.asyncProperty(federation, async (drawn) => {
        const states = points(drawn);
        const ids = states.map((_, i) => (i < drawn.byzantine ? `bad ${i}` : `good ${i}`));
        const matrix = await squaredDistances(states, travels('fedavg-full'));
        const { selected, exclusions } = multiKrum(ids, matrix, drawn.byzantine);
        expect(selected.filter((id) => id.startsWith('bad'))).toEqual([]);
        expect(selected).toHaveLength(states.length - drawn.byzantine - 2);
        expect([...selected, ...exclusions.map(({ siteId }) => siteId)].sort()).toEqual([...ids].sort());
      }),
      { numRuns: 60 },
    );
  });

  it('chooses the same sites in any order, and after a shift of all', async () => {
    await fc.assert(
      fc.asyncProperty(federation, async (drawn) => {
        const states = points(drawn);
        const ids = states.map((_, i) => `site ${i}`);
        const choose = async (order: readonly number[], shift = 0) => {
          const chosen = order.map((i) => {
            const { data } = states[i]!.head.get('weight')!;
            return stateOf(
              [],
              floatTensor(
                [6],
                data.map((value) => value + shift),
              ),
            );
          });
          const matrix = await squaredDistances(chosen, travels('fedavg-full'));
          return multiKrum(
            order.map((i) => ids[i]!),
            matrix,
            drawn.byzantine,
          ).selected.sort();
        };
        const inOrder = states.map((_, i) => i);
        const expected = await choose(inOrder);
        expect(await choose(createRandom(drawn.seed).shuffle(inOrder))).toEqual(expected);
        // A power of two: float32 keeps the differences of nearby values.
        if (drawn.far < 100) expect(await choose(inOrder, 64)).toEqual(expected);
      }),
      { numRuns: 30 },
    );
  });

  it('decides ties by site id', () => {
    const zeros = Array.from({ length: 5 }, () => new Float64Array(5));
    expect(multiKrum(['e', 'b', 'd', 'a', 'c'], zeros, 1).selected).toEqual(['b', 'a']);
  });

  it('refuses to choose among too few', () => {
    expect(krumQuorum(2)).toBe(7);
    const zeros = Array.from({ length: 4 }, () => new Float64Array(4));
    expect(() => multiKrum(['a', 'b', 'c', 'd'], zeros, 1)).toThrow(/needs 5 updates; 4 arrived/);
  });
});

type FederationOf<T> = T extends fc.Arbitrary<infer V> ? V : never;
