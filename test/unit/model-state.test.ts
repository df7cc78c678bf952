import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { inputNameOf, loraAName, loraBName } from '../../core/lora/inject.ts';
import {
  allParts,
  mapTensors,
  memoryName,
  nameOfA,
  nameOfB,
  nameOfBase,
  nameOfHead,
  type Parts,
  partsWithout,
  tensorsOf,
  withTensors,
} from '../../core/lora/model-state.ts';
import { cutLayer, padLayer, sliceFactors, stackFactors } from '../../core/lora/stack-factors.ts';
import { createRandom } from '../../core/shared/random.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { localParts, sentParts, trainedParts } from '../../core/strategy/what-travels.ts';
import { deltaWeight } from '../fixtures/delta-weight.ts';
import { randomLayer, randomTensor } from '../fixtures/random-state.ts';

function exampleState(seed: number) {
  const random = createRandom(seed);
  const layers = [
    randomLayer('blocks.1.q', [6, 5], 2, 0.1, random),
    // A name that looks like a tensor's own.
    randomLayer('lora_A.weight', [4, 3, 3, 3], 3, 2, random),
  ];
  return {
    baseSha256: '0f'.repeat(32),
    classes: ['a', 'b'],
    lora: new Map(layers.map((layer) => [layer.module, layer])),
    head: new Map([['weight', randomTensor([2, 5], random)]]),
    base: new Map([['blocks.1.q.weight', randomTensor([6, 5], random)]]),
  };
}

const parts = fc.record({ a: fc.boolean(), b: fc.boolean(), head: fc.boolean(), base: fc.boolean() });

describe('a state as named tensors', () => {
  it('falls into what is meant and what is not', () => {
    const state = exampleState(1);
    const all = tensorsOf(state);
    expect(all.size).toBe(6);
    fc.assert(
      fc.property(parts, (some: Parts) => {
        const [meant, others] = [tensorsOf(state, some), tensorsOf(state, partsWithout(allParts, some))];
        expect(meant.size + others.size).toBe(all.size);
        expect(new Map([...meant, ...others].sort())).toEqual(new Map([...all].sort()));
      }),
    );
  });

  it('is put together again, with other tensors in their places and the rest untouched', () => {
    const [state, other] = [exampleState(1), exampleState(2)];
    expect(mapTensors(state, (tensor) => tensor)).toEqual(state);
    fc.assert(
      fc.property(parts, (some: Parts) => {
        const mixed = tensorsOf(withTensors(state, tensorsOf(other, some)));
        for (const [name, tensor] of tensorsOf(state, partsWithout(allParts, some)))
          expect(mixed.get(name)).toBe(tensor);
        for (const [name, tensor] of tensorsOf(other, some)) expect(mixed.get(name)).toBe(tensor);
      }),
    );
  });

  it('has names of its own in graphs, and the old ones in what sites and servers keep', () => {
    for (const module of ['blocks.1.q', 'lora_A.weight', 'a']) {
      expect([nameOfA(module), nameOfB(module)].map(inputNameOf)).toEqual([
        loraAName(module),
        loraBName(module),
      ]);
      expect([nameOfA(module), nameOfB(module)].map(memoryName)).toEqual([
        `lora.${module}.a`,
        `lora.${module}.b`,
      ]);
    }
    for (const name of ['weight', 'q.lora_A.weight']) {
      expect(inputNameOf(nameOfHead(name))).toBe(`head.${name}`);
      expect(inputNameOf(nameOfBase(name))).toBe(name);
      expect(memoryName(nameOfHead(name))).toBe(`head.${name}`);
      expect(memoryName(nameOfBase(name))).toBe(`base.${name}`);
    }
  });
});

const sides = ['both', 'a', 'b'] as const;

describe('what travels', () => {
  it.each(
    sides.flatMap((trains) =>
      sides.flatMap((sends) => [false, true].map((localHead) => ({ trains, sends, localHead }))),
    ),
  )('and what stays make up what trains: %o', ({ trains, sends, localHead }) => {
    const [trained, sent] = [trainedParts({ trains }), sentParts({ plan: { sends }, config: { localHead } })];
    const local = localParts({ localHead }, { trains, sends });
    for (const part of ['a', 'b', 'head', 'base'] as const) {
      expect(local[part] && sent[part]).toBe(false);
      expect(trained[part]).toBe(local[part] || (trained[part] && sent[part]));
    }
    expect(local.base).toBe(false);
    expect(local.head).toBe(localHead);
  });
});

describe('stacked factors', () => {
  const random = createRandom(5);
  it.each([
    ['linear', [6, 5]],
    ['conv', [4, 3, 3, 3]],
  ])('multiply to the weighted sum of the products, and are cut apart again: %s', (_kind, weightDims) => {
    const [x, y] = [2, 3].map((r) => randomLayer('layer', weightDims, r, 0.5, random));
    const stack = stackFactors([
      { factors: x!, weight: 0.25 },
      { factors: y!, weight: 2 },
    ]);
    const sum = deltaWeight({ ...x!, ...stack, r: 5 });
    const [ofX, ofY] = [deltaWeight(x!), deltaWeight(y!)];
    sum.data.forEach((value, i) => {
      expect(value).toBeCloseTo(0.25 * ofX.data[i]! + 2 * ofY.data[i]!, 5);
    });
    const rows = weightDims[0]!;
    const last = sliceFactors(stack, { rankStart: 2, r: 3, rowStart: 0, rows });
    expect(last.a).toEqual(y!.a);
    expect([...last.b.data]).toEqual([...y!.b.data].map((value) => 2 * value));
  });

  it('lie in the rows of a wider B that are their own', () => {
    const layer = randomLayer('layer', [2, 5], 1, 1, random);
    const { b } = stackFactors([{ factors: layer, weight: 1, rowStart: 3 }], 6);
    expect(b).toEqual(floatTensor([6, 1], Float32Array.of(0, 0, 0, ...layer.b.data, 0)));
  });

  it('are filled up with zeros and cut to what they were', () => {
    const layer = randomLayer('layer', [4, 3, 3, 3], 2, 1, random);
    const padded = padLayer(layer, 5);
    expect(padded.r).toBe(5);
    expect(deltaWeight(padded)).toEqual(deltaWeight(layer));
    expect(cutLayer(padded, 2)).toEqual(layer);
    expect([padLayer(layer, 1), cutLayer(layer, 3)]).toEqual([layer, layer]);
  });
});
