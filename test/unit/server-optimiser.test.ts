/** Server optimisers against their papers' formulas written out, and momentum on products against dense matrices. */
import { describe, expect, it } from 'vitest';
import { createFactorSum } from '../../core/lora/factor-sum.ts';
import type { LoraLayer } from '../../core/lora/model-state.ts';
import { createRandom } from '../../core/shared/random.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import {
  applyServerOptimiser,
  previousLayer,
  productMomentum,
  rememberLayers,
} from '../../core/strategy/server-optimiser.ts';
import type { ServerMemory } from '../../core/strategy/strategy.ts';
import { deltaWeight } from '../fixtures/delta-weight.ts';
import { randomLayer, randomTensor } from '../fixtures/random-state.ts';

const rounds = 6;
const size = 20;

/** Runs the optimiser; in each round the sites' merge lies a seeded change away from where the round started. */
function run(settings: Parameters<typeof applyServerOptimiser>[0]) {
  const random = createRandom(1);
  const start = randomTensor([4, 5], random);
  const changes = Array.from({ length: rounds }, () => randomTensor([4, 5], random, 0.1).data);
  let state = start;
  let memory: ServerMemory | null = null;
  for (const change of changes) {
    const merged = floatTensor(
      [4, 5],
      state.data.map((value, i) => value + change[i]!),
    );
    const step: ReturnType<typeof applyServerOptimiser> = applyServerOptimiser(settings, {
      before: new Map([['x', state]]),
      after: new Map([['x', merged]]),
      memory,
    });
    state = step.tensors.get('x')!;
    memory = step.memory;
  }
  return { start: start.data, changes, end: state.data, memory };
}

describe('value by value', () => {
  it('none takes the merge as it is', () => {
    const after = new Map([['x', randomTensor([3], createRandom(1))]]);
    const { tensors, memory } = applyServerOptimiser(
      { kind: 'none' },
      { before: new Map(), after, memory: null },
    );
    expect(tensors).toEqual(after);
    expect(memory).toBeNull();
  });

  it('momentum follows v ← βv + Δ, x ← x + ηv', () => {
    const { start, changes, end } = run({ kind: 'momentum', learningRate: 0.7, beta: 0.9 });
    for (let i = 0; i < size; i++) {
      let [x, v] = [start[i]!, 0];
      for (const change of changes) {
        v = 0.9 * v + change[i]!;
        x += 0.7 * v;
      }
      expect(end[i]!).toBeCloseTo(x, 5);
    }
  });

  it('adam follows FedAdam, from v = τ² and without bias correction', () => {
    const settings = { kind: 'adam', learningRate: 0.05, beta1: 0.9, beta2: 0.99, epsilon: 1e-2 } as const;
    const { start, changes, end } = run(settings);
    for (let i = 0; i < size; i++) {
      let [x, m, v] = [start[i]!, 0, 1e-4];
      for (const change of changes) {
        m = 0.9 * m + 0.1 * change[i]!;
        v = 0.99 * v + 0.01 * change[i]! ** 2;
        x += (0.05 * m) / (Math.sqrt(v) + 1e-2);
      }
      expect(end[i]!).toBeCloseTo(x, 4);
    }
  });

  it('momentum without inertia and with rate 1 is no optimiser at all', () => {
    const { start, changes, end } = run({ kind: 'momentum', learningRate: 1, beta: 0 });
    end.forEach((value, i) => {
      expect(value).toBeCloseTo(
        changes.reduce((sum, change) => sum + change[i]!, start[i]!),
        5,
      );
    });
  });

  it('forgets moments of tensors that are gone or have another shape, and changes no memory that it was given', () => {
    const settings = { kind: 'momentum', learningRate: 1, beta: 0.9 } as const;
    const old = new Map([
      ['velocity.x', floatTensor([2], Float32Array.of(1, 1))],
      ['velocity.gone', floatTensor([1], Float32Array.of(5))],
    ]);
    const before = new Map([['x', floatTensor([3])]]);
    const after = new Map([['x', floatTensor([3], Float32Array.of(1, 2, 3))]]);

    const { tensors, memory } = applyServerOptimiser(settings, { before, after, memory: old });

    expect([...tensors.get('x')!.data]).toEqual([1, 2, 3]);
    expect([...memory!.keys()]).toEqual(['velocity.x']);
    expect([...old.get('velocity.x')!.data]).toEqual([1, 1]);
    const again = new Map([['velocity.x', floatTensor([3], Float32Array.of(1, 1, 1))]]);
    applyServerOptimiser(settings, { before, after, memory: again });
    expect([...again.get('velocity.x')!.data]).toEqual([1, 1, 1]);
  });

  it('refuses a state that has another shape than the one before', () => {
    const settings = { kind: 'momentum', learningRate: 1, beta: 0.9 } as const;
    const step = {
      before: new Map([['x', floatTensor([2])]]),
      after: new Map([['x', floatTensor([3])]]),
      memory: null,
    };
    expect(() => applyServerOptimiser(settings, step)).toThrow(/"x" of the merged state/);
  });
});

describe('momentum on products', () => {
  const settings = { kind: 'momentum', learningRate: 0.8, beta: 0.9 } as const;
  const [out, inputs] = [8, 6];

  /** Runs rounds with sites whose products are random; the result is cut to `rank` in each. */
  function runProducts(rank: number) {
    const random = createRandom(2);
    let layer = randomLayer('q', [out, inputs], 2, 1.5, random);
    let memory: ServerMemory | null = null;
    const states = [layer];
    const means: Float64Array[] = [];
    for (let round = 0; round < rounds; round++) {
      const sum = createFactorSum(layer.a.dims, layer.b.dims);
      const mean = new Float64Array(out * inputs);
      for (const weight of [3, 5]) {
        const site = randomLayer('q', [out, inputs], 2, 1.5, random);
        void sum.add({ weight, ...site });
        deltaWeight(site).data.forEach((value, i) => {
          mean[i]! += (weight / 8) * value;
        });
      }
      const step = productMomentum(settings, 8, layer, previousLayer(memory, 'q'));
      for (const part of step.parts) void sum.add(part);
      memory = rememberLayers(new Map([['q', layer]]));
      const cut = sum.truncate(rank, 1.5, { seed: 1, divisor: step.divisor });
      layer = { ...layer, r: cut.a.dims[0]!, a: cut.a, b: cut.b };
      states.push(layer);
      means.push(mean);
    }
    return { states, means };
  }

  const dense = (layer: LoraLayer) => deltaWeight(layer).data;

  it('is FedAvgM on ΔW while nothing is cut off', () => {
    const { states, means } = runProducts(Math.min(out, inputs));
    let x = Float64Array.from(dense(states[0]!));
    let v = new Float64Array(x.length);
    for (const [round, mean] of means.entries()) {
      v = v.map((value, i) => 0.9 * value + (mean[i]! - x[i]!));
      x = x.map((value, i) => value + 0.8 * v[i]!);
      const found = dense(states[round + 1]!);
      x.forEach((value, i) => {
        expect(found[i]!).toBeCloseTo(value, 4);
      });
    }
  });

  it('follows what was kept when ranks are cut: the best rank-2 part of the heavy-ball step', () => {
    const { states, means } = runProducts(2);
    const [before, now, next] = [dense(states[1]!), dense(states[2]!), states[3]!];
    const step = Float64Array.from(means[2]!, (mean, i) => {
      const value = now[i]!;
      return value + 0.8 * (mean - value) + 0.9 * (value - before[i]!);
    });
    const whole = createFactorSum([6, inputs], [out, 6]);
    const eye = floatTensor([6, 6]);
    for (let i = 0; i < 6; i++) eye.data[i * 7] = 1;
    void whole.add({ weight: 1, scale: 1, a: eye, b: floatTensor([out, 6], Float32Array.from(step)) });
    const best = whole.truncate(2, 1.5, { seed: 1 });
    const expected = dense({ ...next, r: 2, a: best.a, b: best.b });
    dense(next).forEach((value, i) => {
      expect(value).toBeCloseTo(expected[i]!, 4);
    });
  });

  it('begins without inertia, from nothing, and remembers no layer of rank 0', () => {
    const layer = randomLayer('q', [out, inputs], 2, 1.5, createRandom(3));
    expect(previousLayer(null, 'q')).toBeNull();
    const { parts, divisor } = productMomentum(settings, 4, layer, null);
    expect(divisor).toBe(5);
    expect(parts).toHaveLength(1);
    expect(parts[0]!.weight).toBeCloseTo((1 - 0.8) * 5, 12);
    const empty = { ...layer, r: 0, a: floatTensor([0, inputs]), b: floatTensor([out, 0]) };
    expect(rememberLayers(new Map([['q', empty]])).size).toBe(0);
    expect(productMomentum(settings, 4, empty, null).parts).toEqual([]);
  });
});
