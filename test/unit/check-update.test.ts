import { describe, expect, it } from 'vitest';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import type { TrainMode } from '../../core/engine/trainer-protocol.ts';
import type { ModelState } from '../../core/lora/model-state.ts';
import { createRandom } from '../../core/shared/random.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { checkUpdate } from '../../core/strategy/check-update.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import { randomLayer, randomTensor, shapeOnlyBase, trainedState } from '../fixtures/random-state.ts';

const base = shapeOnlyBase();
const config = defaultRunConfig({ baseId: base.id, baseSha256: base.sha256, classes: ['a', 'b'], rMax: 4 });
const global = createRunState(config, base);
const good = trainedState(global, 1);
const baseNames = [...base.weights.keys()];
const goodFull = trainedState(global, 1, { base, baseNames });
const random = createRandom(1);
const trained: Record<TrainMode, string[]> = {
  head: [],
  prototypes: [],
  lora: [],
  full: baseNames,
  'last-k': ['body.q.weight', 'body.q.bias'],
};

const withLayer = (changes: object): ModelState => ({
  ...good,
  lora: new Map(good.lora).set('body.q', { ...good.lora.get('body.q')!, ...changes }),
});
const withoutLayer = (): ModelState => {
  const lora = new Map(good.lora);
  lora.delete('body.q');
  return { ...good, lora };
};
const withHead = (name: string, tensor = floatTensor([2])): ModelState => ({
  ...good,
  head: new Map(good.head).set(name, tensor),
});
const withBase = (name: string, tensor = floatTensor([20, 12])): ModelState => ({
  ...goodFull,
  base: new Map(goodFull.base).set(name, tensor),
});
const nan = (dims: number[]) => {
  const tensor = randomTensor(dims, random);
  tensor.data[tensor.data.length - 1] = Number.NaN;
  return tensor;
};

describe('checkUpdate', () => {
  it.each<[string, TrainMode, ModelState]>([
    ['factors and head', 'lora', good],
    ['the untrained state itself', 'lora', global],
    ['all base weights', 'full', goodFull],
    ['some base weights', 'last-k', trainedState(global, 1, { base, baseNames: trained['last-k'] })],
  ])('accepts %s in mode %s', (_what, mode, update) => {
    expect(() => checkUpdate(update, { base, global, plan: { mode }, trained: trained[mode] })).not.toThrow();
  });

  it.each<[string, TrainMode, ModelState, RegExp]>([
    ['another base', 'lora', { ...good, baseSha256: 'ff'.repeat(32) }, /another base model/],
    ['other classes', 'lora', { ...good, classes: ['a', 'c'] }, /classes/],
    ['more classes', 'lora', { ...good, classes: ['a', 'b', 'c'] }, /classes/],
    ['a missing layer', 'lora', withoutLayer(), /"body.q" is missing/],
    ['a higher rank', 'lora', withLayer(randomLayer('body.q', [20, 12], 5, 2, random)), /rank 5.*asks for 4/],
    [
      'factors of another shape',
      'lora',
      withLayer(randomLayer('body.q', [20, 11], 4, 2, random)),
      /"body.q".*shape/,
    ],
    [
      'a lower rank',
      'lora',
      withLayer(randomLayer('body.q', [20, 12], 2, 2, random)),
      /rank 2 and scale 2 instead of 4 and 2/,
    ],
    ['another scale', 'lora', withLayer({ scale: 3 }), /scale 3 instead of 4 and 2/],
    [
      'some of the base weights that train',
      'last-k',
      trainedState(global, 1, { base, baseNames: ['body.q.weight'] }),
      /1 of the 2/,
    ],
    ['a rank that lies', 'lora', withLayer({ r: 3 }), /"body.q".*shape/],
    ['a scale of infinity', 'lora', withLayer({ scale: Number.POSITIVE_INFINITY }), /scale Infinity/],
    ['NaN in A', 'lora', withLayer({ a: nan([4, 12]) }), /"body.q" holds values that are not finite/],
    ['NaN in B', 'lora', withLayer({ b: nan([20, 4]) }), /"body.q" holds values that are not finite/],
    ['NaN in the head', 'lora', withHead('bias', nan([2])), /"bias" of the head holds values/],
    ['an unknown tensor in the head', 'lora', withHead('gain'), /"gain" of the head was not asked for/],
    [
      'a head of another shape',
      'lora',
      withHead('weight', floatTensor([2, 19])),
      /\[2, 19\] instead of \[2, 20\]/,
    ],
    [
      'half a head',
      'lora',
      { ...good, head: new Map([['bias', floatTensor([2])]]) },
      /"weight" of the head is missing/,
    ],
    ['base weights in a LoRA round', 'lora', goodFull, /stay fixed/],
    ['base weights in a head round', 'head', goodFull, /stay fixed/],
    ['no base weights in a full round', 'full', good, /base model are missing/],
    [
      'some base weights in a full round',
      'full',
      trainedState(global, 1, { base, baseNames: ['body.q.weight'] }),
      /1 of the 6/,
    ],
    ['an unknown base weight', 'full', withBase('other'), /"other" of the base model was not asked for/],
    [
      'a base weight of another shape',
      'full',
      withBase('body.q.weight', floatTensor([12, 20])),
      /\[12, 20\] instead/,
    ],
    [
      'NaN in a base weight',
      'full',
      withBase('body.q.weight', nan([20, 12])),
      /"body.q.weight" holds values/,
    ],
    [
      'outsize factors',
      'lora',
      withLayer({ b: randomTensor([20, 4], random, 1000) }),
      /"body.q" is too large \(.* times/,
    ],
    [
      'an outsize factor beside one of zero, whose product tells nothing',
      'lora',
      withLayer({ a: randomTensor([4, 12], random, 1e4), b: floatTensor([20, 4]) }),
      /A of layer "body.q" is too large/,
    ],
    [
      'an outsize base weight',
      'full',
      withBase('body.q.weight', randomTensor([20, 12], random, 200)),
      /"body.q.weight" is too large/,
    ],
    [
      'an outsize head',
      'lora',
      withHead('bias', floatTensor([2], Float32Array.of(1e6, 0))),
      /"bias" of the head is too large/,
    ],
  ])('rejects %s', (_what, mode, update, message) => {
    expect(() => checkUpdate(update, { base, global, plan: { mode }, trained: trained[mode] })).toThrow(
      expect.objectContaining({ code: 'UPDATE_REJECTED', message: expect.stringMatching(message) }),
    );
  });

  it('lets the bounds be chosen', () => {
    const bounds = { relativeNorm: 1e-6, rootMeanSquare: 100 };
    expect(() => checkUpdate(good, { base, global, plan: { mode: 'lora' }, trained: [] }, bounds)).toThrow(
      /too large/,
    );
  });
});
