/** Properties of exact aggregation, against the dense computation that it does without. */
import fc from 'fast-check';
import { Matrix, SVD } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import type { RunConfig } from '../../core/config/run-config.ts';
import { createOnnxRuntimeProducts } from '../../core/engine/onnxruntime/matrix-products.ts';
import type { ModelState } from '../../core/lora/model-state.ts';
import { elementCount, type FloatTensor } from '../../core/shared/tensor.ts';
import { createProductSums } from '../../core/strategy/aggregation/product-sums.ts';
import { createTensorMean } from '../../core/strategy/aggregation/tensor-mean.ts';
import type { AggregateResult } from '../../core/strategy/strategy.ts';
import { deltaWeight } from '../fixtures/delta-weight.ts';
import { denseMean, type RandomRound, randomRounds } from '../fixtures/random-rounds.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';
import {
  aggregateOnce,
  deltas,
  relativeError,
  roundOf,
  runSettings,
  squaredNorm,
} from '../fixtures/strategy-rounds.ts';

const products = createOnnxRuntimeProducts();

const base = shapeOnlyBase();
const runs = { numRuns: 60 };

/** Aggregates a random round and cuts to `rank`. */
function aggregate(
  { global, sites }: RandomRound,
  rank: number,
  changes: Partial<RunConfig> = {},
): Promise<AggregateResult> {
  const config = runSettings(base, { strategy: 'flexlora', rMax: Math.max(2, rank), rMin: 1, ...changes });
  const { next } = roundOf(config, base, 0, global, sites);
  return aggregateOnce(config, base, 0, global, sites, { next: { ...next, rank } });
}

/** Singular values of a dense ΔW, from large to small. */
function singularValues({ dims, data }: FloatTensor): number[] {
  const [rows = 1, ...rest] = dims;
  return new SVD(Matrix.from1DArray(rows, elementCount(rest), Array.from(data)), { autoTranspose: true })
    .diagonal;
}

const sumOfSquares = (values: readonly number[]) => values.reduce((sum, value) => sum + value * value, 0);
const ranksOf = ({ lora }: Pick<ModelState, 'lora'>) => [...lora.values()].map((layer) => layer.r);
const total = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);

describe('exact aggregation', () => {
  it('equals the dense weighted sum for any ranks, weights and scales', async () => {
    await fc.assert(
      fc.asyncProperty(randomRounds({ mixed: true }), async (round) => {
        const { state, energyKept } = await aggregate(round, 100);
        expect(relativeError(deltas(state), denseMean(round))).toBeLessThan(1e-5);
        expect(energyKept).toBeCloseTo(1, 5);
      }),
      runs,
    );
  });

  it('cuts to the best approximation of a rank, layer by layer, and says what is kept', async () => {
    await fc.assert(
      fc.asyncProperty(randomRounds({ mixed: true }), fc.integer({ min: 1, max: 5 }), async (round, rank) => {
        const { state, energyKept } = await aggregate(round, rank);
        const dense = denseMean(round);
        let [kept, whole] = [0, 0];
        for (const [module, tensor] of dense) {
          const sizes = singularValues(tensor);
          const layer = state.lora.get(module)!;
          const lost =
            relativeError(new Map([[module, deltaWeight(layer)]]), new Map([[module, tensor]])) ** 2;
          // Eckart and Young: what no matrix of this rank can do without.
          const least = sumOfSquares(sizes.slice(rank)) / sumOfSquares(sizes);
          expect(lost).toBeLessThan(least + 1e-6);
          expect(layer.r).toBe(Math.min(rank, sizes.length));
          kept += sumOfSquares(sizes.slice(0, rank));
          whole += sumOfSquares(sizes);
        }
        expect(energyKept).toBeCloseTo(kept / whole, 5);
      }),
      runs,
    );
  });

  it.each(['uniform', 'spectral'] as const)(
    'loses nothing below the rank that a layer had when what is cut off freezes (%s)',
    async (allocation) => {
      await fc.assert(
        fc.asyncProperty(
          randomRounds({ mixed: true }),
          fc.integer({ min: 1, max: 5 }),
          async (round, rank) => {
            const changes = { strategy: 'sa-fedlora', rMax: 6, allocation } as const;
            const dropping = await aggregate(round, rank, changes);
            const freezing = await aggregate(round, rank, { ...changes, cutOff: 'freeze' });
            // What trains on is the same; the rest lies under it.
            expect(relativeError(deltas(freezing.state), deltas(dropping.state))).toBeLessThan(1e-6);
            expect(dropping.frozenBaseDelta).toBeNull();
            const under = freezing.frozenBaseDelta ?? { lora: new Map() };
            let [kept, whole] = [0, 0];
            for (const [module, tensor] of denseMean(round)) {
              const [own, frozen] = [freezing.state.lora.get(module)!, under.lora.get(module)];
              const held = Math.max(own.r, round.global.lora.get(module)!.r);
              expect(own.r + (frozen?.r ?? 0)).toBe(held);
              const sizes = singularValues(tensor);
              const parts = [own, ...(frozen === undefined ? [] : [frozen])];
              const sum = mixture(
                ...parts.map((layer): [number, Map<string, FloatTensor>] => [
                  1,
                  new Map([[module, deltaWeight(layer)]]),
                ]),
              );
              const least = sumOfSquares(sizes.slice(held)) / sumOfSquares(sizes);
              expect(relativeError(sum, new Map([[module, tensor]])) ** 2).toBeLessThan(least + 1e-6);
              kept += sumOfSquares(sizes.slice(0, held));
              whole += sumOfSquares(sizes);
            }
            expect(freezing.energyKept).toBeCloseTo(kept / whole, 5);
          },
        ),
        runs,
      );
    },
  );

  it('keeps the largest singular values over all layers within the same budget when it is spectral', async () => {
    await fc.assert(
      fc.asyncProperty(randomRounds({ mixed: true }), fc.integer({ min: 1, max: 5 }), async (round, rank) => {
        const spectral = { strategy: 'sa-fedlora', allocation: 'spectral', rMax: 6 } as const;
        const [uniform, found] = [await aggregate(round, rank), await aggregate(round, rank, spectral)];
        expect(total(ranksOf(found.state))).toBe(total(ranksOf(uniform.state)));
        // Each layer has one direction at least; the rest of the budget goes to the largest.
        const spectra = [...denseMean(round).values()].map(singularValues);
        const firsts = spectra.map((sizes) => sizes[0]!);
        const others = spectra.flatMap((sizes) => sizes.slice(1)).sort((x, y) => y - x);
        const free = total(ranksOf(uniform.state)) - firsts.length;
        const best = sumOfSquares([...firsts, ...others.slice(0, free)]) / sumOfSquares(spectra.flat());
        expect(found.energyKept).toBeCloseTo(best, 5);
        expect(found.energyKept).toBeGreaterThan(uniform.energyKept - 1e-6);
      }),
      runs,
    );
  });

  it('never gets less by being spectral where a rank pattern gives one layer far more than the others', async () => {
    await fc.assert(
      fc.asyncProperty(randomRounds({ mixed: false }), async (round) => {
        const pattern = { strategy: 'sa-fedlora', rMax: 1, rankPattern: { 'layer.0': 8 } } as const;
        const uniform = await aggregate(round, 1, pattern);
        const spectral = await aggregate(round, 1, { ...pattern, allocation: 'spectral' });
        expect(total(ranksOf(spectral.state))).toBe(total(ranksOf(uniform.state)));
        expect(spectral.energyKept).toBeGreaterThan(uniform.energyKept - 1e-6);
      }),
      runs,
    );
  });

  it('does not depend on the order of the sites', async () => {
    await fc.assert(
      fc.asyncProperty(randomRounds({ mixed: true }), fc.integer({ min: 1, max: 5 }), async (round, rank) => {
        const turned = { ...round, sites: [...round.sites].reverse() };
        const [x, y] = [await aggregate(round, rank), await aggregate(turned, rank)];
        // Directions of one size are as good as one another: what is lost is unique, ΔW need not be.
        expect(y.energyKept).toBeCloseTo(x.energyKept, 5);
        expect(relativeError(y.state.head, x.state.head)).toBeLessThan(1e-6);
        const [wide, back] = [await aggregate(round, 100), await aggregate(turned, 100)];
        expect(relativeError(deltas(back.state), deltas(wide.state))).toBeLessThan(1e-5);
        expect(back.drift.spread).toBeCloseTo(wide.drift.spread, 5);
      }),
      { numRuns: 30 },
    );
  });

  it('gives every site the same weight when it is told so, whatever its number of images', async () => {
    await fc.assert(
      fc.asyncProperty(randomRounds({ mixed: true }), async (round) => {
        const { state } = await aggregate(round, 100, { weighting: 'equal' });
        const shares = round.sites.map(() => 1 / round.sites.length);
        expect(relativeError(deltas(state), denseMean({ ...round, shares }))).toBeLessThan(1e-5);
      }),
      { numRuns: 20 },
    );
  });

  it('merges partial sums and means to the same result', async () => {
    await fc.assert(
      fc.asyncProperty(randomRounds({ mixed: true }), fc.nat(), async ({ global, sites, shares }, cut) => {
        const parts = [sites.slice(0, cut % sites.length), sites.slice(cut % sites.length)];
        const [whole, merged] = [createProductSums(global, products), createProductSums(global, products)];
        const [mean, mergedMean] = [createTensorMean(), createTensorMean()];
        let site = 0;
        for (const part of parts) {
          const [sums, heads] = [createProductSums(global, products), createTensorMean()];
          for (const { state } of part) {
            const share = shares[site++]!;
            for (const each of [whole, sums]) await each.add(state, share);
            for (const each of [mean, heads]) each.add(state.head, share);
          }
          await merged.merge(sums.toPart());
          if (part.length > 0) mergedMean.merge(heads.toPart());
        }
        for (const module of global.lora.keys()) {
          const cutOf = async (sums: typeof whole) => {
            const { a, b } = (await sums.decompose(module, 100)).cut(100, 1, { seed: 1 });
            return deltaWeight({ module, r: a.dims[0]!, scale: 1, a, b });
          };
          const [x, y] = [await cutOf(whole), await cutOf(merged)];
          expect(relativeError(new Map([['x', y]]), new Map([['x', x]]))).toBeLessThan(1e-5);
        }
        expect(merged.squares()).toBeCloseTo(whole.squares(), 6);
        expect(await merged.alongStart()).toBeCloseTo(await whole.alongStart(), 6);
        expect(relativeError(mergedMean.result(), mean.result())).toBeLessThan(1e-6);
      }),
      { numRuns: 30 },
    );
  });

  it('leaves ΔW as it is when ranks grow and scales change', async () => {
    await fc.assert(
      fc.asyncProperty(
        randomRounds({ mixed: true }),
        fc.constantFrom('alpha' as const, 'rslora' as const),
        fc.double({ min: 0.01, max: 50, noNaN: true }),
        async ({ global, sites, shares }, loraScaling, loraAlpha) => {
          const alone = { global, sites: [{ ...sites[0]!, state: global }], shares };
          const { state } = await aggregate(alone, 9, { loraScaling, loraAlpha });
          for (const [module, { r, scale }] of state.lora) {
            expect(r).toBeGreaterThanOrEqual(global.lora.get(module)!.r);
            expect(scale).toBeCloseTo(loraAlpha / (loraScaling === 'alpha' ? r : Math.sqrt(r)), 12);
          }
          expect(relativeError(deltas(state), deltas(global))).toBeLessThan(1e-5);
        },
      ),
      runs,
    );
  });

  it('never has more directions than before over a whole annealing, however they are spread', async () => {
    await fc.assert(
      fc.asyncProperty(
        randomRounds({ mixed: false }),
        fc.constantFrom('linear' as const, 'cosine' as const, 'cubic' as const),
        fc.constantFrom('uniform' as const, 'spectral' as const),
        async ({ global, sites }, shape, allocation) => {
          const config = runSettings(base, {
            shape,
            allocation,
            rounds: 6,
            initiatingRounds: 1,
            rMax: 6,
            rMin: 1,
          });
          let state = global;
          let budget = Number.POSITIVE_INFINITY;
          for (let round = 0; round < config.rounds; round++) {
            const updates = sites.map((site) => ({ ...site, state: { ...state, head: site.state.head } }));
            ({ state } = await aggregateOnce(config, base, round, state, updates));
            expect(total(ranksOf(state))).toBeLessThanOrEqual(budget);
            budget = total(ranksOf(state));
          }
        },
      ),
      { numRuns: 25 },
    );
  });

  it('takes momentum of ΔW: with η and β it is the heavy ball of the dense matrices', async () => {
    const [round] = fc.sample(randomRounds({ mixed: false }), { numRuns: 1, seed: 5 });
    const serverOptimiser = { kind: 'momentum', learningRate: 0.5, beta: 0.7 } as const;
    const { state, memory } = await aggregate(round!, 100, { serverOptimiser });
    const [start, mean] = [deltas(round!.global), denseMean(round!)];
    const first = mixture([0.5, start], [0.5, mean]);
    expect(relativeError(deltas(state), first)).toBeLessThan(1e-5);

    const config = runSettings(base, { strategy: 'flexlora', rMax: 100, rMin: 1, serverOptimiser });
    const second = await aggregateOnce(config, base, 1, state, round!.sites, { memory });
    const expected = mixture([0.5, first], [0.5, mean], [0.7, first], [-0.7, start]);
    expect(relativeError(deltas(second.state), expected)).toBeLessThan(1e-5);
  });
});

function mixture(...parts: [number, ReadonlyMap<string, FloatTensor>][]): Map<string, FloatTensor> {
  const names = [...parts[0]![1].keys()];
  return new Map(
    names.map((name) => {
      const { dims, data } = parts[0]![1].get(name)!;
      const values = data.map((_, i) =>
        parts.reduce((sum, [w, tensors]) => sum + w * tensors.get(name)!.data[i]!, 0),
      );
      return [name, { dtype: 'float32', dims, data: values }];
    }),
  );
}

describe('drift', () => {
  it('is what the dense changes give, also from factors that change something already', async () => {
    await fc.assert(
      fc.asyncProperty(
        randomRounds({ mixed: true }),
        fc.integer({ min: 1, max: 100 }),
        async (round, rank) => {
          const { drift } = await aggregate(round, rank);
          const changes = round.sites.map(({ state }) => changeOf(state, round.global));
          const mean = mixture(
            ...changes.map((change, k) => [round.shares[k]!, change] as [number, typeof change]),
          );
          const spread = changes.reduce(
            (sum, change, k) => sum + round.shares[k]! * squaredNorm(mixture([1, change], [-1, mean])),
            0,
          );
          const size = changes.reduce((sum, change, k) => sum + round.shares[k]! * squaredNorm(change), 0);
          expect(drift.spread).toBeCloseTo(Math.sqrt(spread), 3);
          expect(drift.share).toBeCloseTo(spread / size, 4);
        },
      ),
      runs,
    );
  });
});

/** ΔW of layers and values of the head, as changes. */
function changeOf(state: ModelState, start: ModelState): Map<string, FloatTensor> {
  const all = (each: ModelState) => new Map([...deltas(each), ...each.head]);
  return mixture([1, all(state)], [-1, all(start)]);
}
