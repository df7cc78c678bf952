import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { type MergeBase, mergeLora, mergeState } from '../../core/lora/merge.ts';
import type { LoraLayer, ModelState } from '../../core/lora/model-state.ts';
import { createRandom } from '../../core/shared/random.ts';
import type { FloatTensor } from '../../core/shared/tensor.ts';
import { deltaWeight } from '../fixtures/delta-weight.ts';
import { randomLayer, randomTensor } from '../fixtures/random-state.ts';

/** Largest difference as a share of the largest value. */
function relativeDifference(x: FloatTensor, y: FloatTensor): number {
  expect(x.dims).toEqual(y.dims);
  let [difference, largest] = [0, 0];
  for (const [index, value] of x.data.entries()) {
    difference = Math.max(difference, Math.abs(value - y.data[index]!));
    largest = Math.max(largest, Math.abs(value));
  }
  return difference / largest;
}

/** Takes out what the layer puts in. */
const opposite = (layer: LoraLayer): LoraLayer => ({ ...layer, scale: -layer.scale });

const size = fc.integer({ min: 1, max: 6 });
const weightDims = fc.oneof(fc.tuple(size, size), fc.tuple(size, size, size, size));

describe('mergeLora', () => {
  it('is undone by the opposite scale up to float32 rounding, linear and convolution', () => {
    fc.assert(
      fc.property(
        weightDims,
        size,
        fc.double({ min: 0.01, max: 4, noNaN: true }),
        fc.integer(),
        (dims, r, scale, seed) => {
          const random = createRandom(seed);
          const weight = randomTensor(dims, random);
          const layer = randomLayer('m', dims, r, scale, random);
          const delta = deltaWeight(layer);

          const merged = mergeLora(weight, layer);
          const back = mergeLora(merged, opposite(layer));

          for (const [index, value] of merged.data.entries()) {
            expect(value).toBeCloseTo(weight.data[index]! + delta.data[index]!, 4);
          }
          // Rounding is that of the larger of both, which the factors here make at most about 40 times the weight.
          const growth = Math.max(1, ...merged.data.map(Math.abs)) / Math.max(...weight.data.map(Math.abs));
          expect(relativeDifference(weight, back)).toBeLessThan(2 ** -23 * growth);
        },
      ),
      { numRuns: 200, seed: 1 },
    );
  });

  it('gives the original to 1e-6 where the change is about as large as the weight', () => {
    const random = createRandom(4);
    const weight = randomTensor([40, 30], random);
    const layer = randomLayer('m', [40, 30], 8, 1, random);

    expect(relativeDifference(weight, mergeLora(mergeLora(weight, layer), opposite(layer)))).toBeLessThan(
      1e-6,
    );
  });

  it('names the layer and both shapes when they disagree', () => {
    const random = createRandom(4);
    const layer = randomLayer('block.q', [4, 3], 2, 1, random);
    expect(() => mergeLora(randomTensor([3, 4], random), layer)).toThrow(
      expect.objectContaining({
        code: 'SHAPE_MISMATCH',
        message: expect.stringMatching(/block\.q.*\[4, 3\].*\[3, 4\]/),
      }),
    );
  });
});

/** Four linear layers whose weights are stored in both ways, two of them square, and a convolution. */
function base(): MergeBase {
  const random = createRandom(9);
  const weights = new Map<string, FloatTensor>([
    ['gemm.weight', randomTensor([5, 4], random)],
    ['matmul.weight', randomTensor([5, 4], random)],
    ['square.weight', randomTensor([4, 4], random)],
    ['squareMatmul.weight', randomTensor([4, 4], random)],
    ['conv.weight', randomTensor([3, 2, 3, 3], random)],
    ['gemm.bias', randomTensor([5], random)],
  ]);
  const linear = (module: string, out: number, input: number) =>
    ({ module, kind: 'linear', weight: `${module}.weight`, weightDims: [out, input] }) as const;
  return {
    sha256: 'ab'.repeat(32),
    weights,
    layers: [
      linear('gemm', 5, 4),
      linear('matmul', 4, 5),
      linear('square', 4, 4),
      linear('squareMatmul', 4, 4),
      { module: 'conv', kind: 'conv', weight: 'conv.weight', weightDims: [3, 2, 3, 3] },
    ],
    buildGraph(batch) {
      const builder = new GraphBuilder();
      const constant = (name: string) => builder.constant(weights.get(name)!, name);
      let x = builder.input('x', 'float32', [batch, 4]);
      x = builder.gemm(x, constant('gemm.weight'), constant('gemm.bias'), { transB: true });
      x = builder.matMul(x, constant('matmul.weight'));
      x = builder.gemm(x, constant('square.weight'), undefined, { transB: true });
      builder.output(builder.matMul(x, constant('squareMatmul.weight')), 'embedding');
      return builder.build();
    },
  };
}

function stateOf({ sha256, layers }: MergeBase, replaced: [string, FloatTensor][] = []): ModelState {
  const random = createRandom(10);
  const lora = layers.map(({ module, weightDims }) => randomLayer(module, weightDims, 2, 0.5, random));
  return {
    baseSha256: sha256,
    classes: ['a', 'b'],
    lora: new Map(lora.map((layer) => [layer.module, layer])),
    head: new Map(),
    base: new Map(replaced),
  };
}

describe('mergeState', () => {
  it('changes weights in their own layout, square ones as the graph reads them', () => {
    const model = base();
    const state = stateOf(model);

    const merged = mergeState(model, state);

    for (const { module, weight, weightDims } of model.layers) {
      const delta = deltaWeight(state.lora.get(module)!);
      const [rows, columns] = weightDims as [number, number];
      const isTransposed = module.toLowerCase().includes('matmul');
      for (const [index, value] of merged.get(weight)!.data.entries()) {
        const at = isTransposed ? (index % rows) * columns + Math.floor(index / rows) : index;
        expect(value).toBeCloseTo(model.weights.get(weight)!.data[index]! + delta.data[at]!, 5);
      }
    }
    expect(merged.get('gemm.bias')).toBe(model.weights.get('gemm.bias'));
  });

  it('comes back to the base with the opposite scales; its own tensors were never written to', () => {
    const model = base();
    const before = new Map([...model.weights].map(([name, { data }]) => [name, data.slice()]));
    const state = stateOf(model);
    const opposed = {
      ...state,
      lora: new Map([...state.lora].map(([module, layer]) => [module, opposite(layer)])),
    };

    const back = mergeState({ ...model, weights: mergeState(model, state) }, opposed);

    for (const [name, tensor] of model.weights) {
      expect(tensor.data).toEqual(before.get(name));
      expect(relativeDifference(tensor, back.get(name)!)).toBeLessThan(1e-6);
    }
  });

  it('adds the factors to base weights that the state replaces', () => {
    const model = base();
    const own = randomTensor([5, 4], createRandom(11));
    const state = stateOf(model, [['gemm.weight', own]]);

    const merged = mergeState(model, state).get('gemm.weight')!;

    expect(merged.data[3]).toBeCloseTo(own.data[3]! + deltaWeight(state.lora.get('gemm')!).data[3]!, 5);
  });

  it.each<[string, (state: ModelState) => ModelState, RegExp]>([
    ['another base', (state) => ({ ...state, baseSha256: '00'.repeat(32) }), /does not belong/],
    [
      'an unknown layer',
      (state) => ({ ...state, lora: new Map([['x', { ...state.lora.get('gemm')!, module: 'x' }]]) }),
      /no layer "x"/,
    ],
    [
      'an unknown weight',
      (state) => ({ ...state, base: new Map([['y', randomTensor([2], createRandom(1))]]) }),
      /"y" of shape \[2\]/,
    ],
  ])('refuses %s', (_what, change, message) => {
    const model = base();
    expect(() => mergeState(model, change(stateOf(model)))).toThrow(
      expect.objectContaining({ code: 'SHAPE_MISMATCH', message: expect.stringMatching(message) }),
    );
  });
});
