import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { countParameters, type ModelState, mapTensors } from '../../core/lora/model-state.ts';
import { decodeSafetensors, encodeSafetensors } from '../../core/lora/safetensors.ts';
import { decodeModelState, encodeModelState, modelStateSizeBytes } from '../../core/lora/state-file.ts';
import { createRandom } from '../../core/shared/random.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { randomLayer, randomTensor } from '../fixtures/random-state.ts';
import { statesEqual } from '../fixtures/states-equal.ts';

function exampleState(seed: number, options: { r?: number; base?: boolean } = {}): ModelState {
  const random = createRandom(seed);
  const { r = 2 } = options;
  const layers = [
    randomLayer('blocks.1.q', [6, 5], r, 0.1, random),
    randomLayer('blocks.0.conv', [4, 3, 3, 3], r + 1, 2, random),
  ];
  return {
    baseSha256: '0f'.repeat(32),
    classes: ['unaffected', 'Ärm "x"', '数'],
    lora: new Map(layers.map((layer) => [layer.module, layer])),
    head: new Map([
      ['weight', randomTensor([3, 5], random)],
      ['bias', randomTensor([3], random)],
    ]),
    base: new Map(options.base ? [['conv.weight', randomTensor([4, 3, 3, 3], random)]] : []),
  };
}

describe('model state files', () => {
  it('give back every value, name, rank and scale', () => {
    fc.assert(
      fc.property(fc.integer(), fc.nat(5), fc.boolean(), (seed, r, base) => {
        const state = exampleState(seed, { r, base });
        const read = decodeModelState(encodeModelState(state), 'state');
        expect(read).toEqual(state);
        expect(statesEqual(read, state)).toBe(true);
      }),
      { numRuns: 50 },
    );
  });

  it('keep NaN and infinity as they are, for whoever judges the state', () => {
    const state = {
      ...exampleState(1),
      head: new Map([['bias', floatTensor([2], Float32Array.of(NaN, Infinity))]]),
    };
    const read = decodeModelState(encodeModelState(state), 'state');
    expect([...read.head.get('bias')!.data]).toEqual([NaN, Infinity]);
  });

  it('have the same bytes whatever the order of the maps', () => {
    const state = exampleState(1);
    const reversed = {
      ...state,
      lora: new Map([...state.lora].reverse()),
      head: new Map([...state.head].reverse()),
    };
    expect(encodeModelState(reversed)).toEqual(encodeModelState(state));
  });

  it('have the size and the parameters that the shape foretells', () => {
    for (const state of [
      exampleState(1),
      exampleState(2, { r: 0 }),
      exampleState(3, { r: 11, base: true }),
    ]) {
      const bytes = encodeModelState(state);
      const shape = mapTensors(state, ({ dims }) => ({ dims }));
      expect(modelStateSizeBytes(shape)).toBe(bytes.length);
      const values = [...decodeSafetensors(bytes, 'x').tensors.values()].map(({ data }) => data.length);
      expect(countParameters(shape)).toBe(values.reduce((sum, count) => sum + count, 0));
    }
  });

  it('tell states apart that differ in one value, scale or class', () => {
    const state = exampleState(1);
    const bias = floatTensor([3], Float32Array.from(state.head.get('bias')!.data));
    bias.data[1]! += 1e-6;
    const layer = state.lora.get('blocks.1.q')!;
    expect(statesEqual(state, { ...state, head: new Map(state.head).set('bias', bias) })).toBe(false);
    expect(
      statesEqual(state, { ...state, lora: new Map(state.lora).set('blocks.1.q', { ...layer, scale: 0.2 }) }),
    ).toBe(false);
    expect(statesEqual(state, { ...state, classes: [...state.classes].reverse() })).toBe(false);
  });

  describe('refuse', () => {
    const good = encodeModelState(exampleState(1));
    const rewrite = (
      change: (
        tensors: Map<string, ReturnType<typeof floatTensor>>,
        metadata: Record<string, string>,
      ) => void,
    ) => {
      const { tensors, metadata } = decodeSafetensors(good, 'x');
      const [copy, notes] = [new Map(tensors), { ...metadata }];
      change(copy, notes);
      return encodeSafetensors(copy, notes);
    };
    it.each<[string, Uint8Array, RegExp]>([
      ['a file of another kind', encodeSafetensors(new Map(), { format: 'pt' }), /anneal-model-state/],
      [
        'a newer version',
        rewrite((_, notes) => {
          notes['formatVersion'] = '2';
        }),
        /version 1/,
      ],
      [
        'a base that is no SHA-256',
        rewrite((_, notes) => {
          notes['baseSha256'] = 'x';
        }),
        /metadata/,
      ],
      [
        'classes that are no list',
        rewrite((_, notes) => {
          notes['classes'] = '{}';
        }),
        /"classes" cannot be read/,
      ],
      [
        'a scale of 0',
        rewrite((_, notes) => {
          notes['lora'] = '{"blocks.1.q":{"r":2,"scale":0}}';
        }),
        /"lora" cannot be read/,
      ],
      [
        'a missing factor',
        rewrite((tensors) => {
          tensors.delete('lora.blocks.1.q.lora_B.weight');
        }),
        /"lora.blocks.1.q.lora_B.weight" is missing/,
      ],
      [
        'a tensor nobody asked for',
        rewrite((tensors) => {
          tensors.set('other', floatTensor([1]));
        }),
        /"other" was not expected/,
      ],
      [
        'factors of a layer that is not listed',
        rewrite((_, notes) => {
          notes['lora'] = '{}';
        }),
        /was not expected/,
      ],
      [
        'an A of another rank',
        rewrite((tensors) => {
          tensors.set('lora.blocks.1.q.lora_A.weight', floatTensor([3, 5]));
        }),
        /lora_A of "blocks.1.q": expected \[2, in\]/,
      ],
      [
        'a B of another rank',
        rewrite((tensors) => {
          tensors.set('lora.blocks.0.conv.lora_B.weight', floatTensor([4, 3]));
        }),
        /lora_B of "blocks.0.conv": expected \[out, 3, 1, 1\]/,
      ],
    ])('%s', (_what, bytes, message) => {
      expect(() => decodeModelState(bytes, 'update')).toThrow(
        expect.objectContaining({ code: 'MODEL_FILE_INVALID', message: expect.stringMatching(message) }),
      );
    });

    it('nothing else than with MODEL_FILE_INVALID, for any truncation or flipped bits', () => {
      fc.assert(
        fc.property(
          fc.nat(good.length - 1),
          fc.integer({ min: 1, max: 255 }),
          fc.boolean(),
          (at, mask, cut) => {
            const bytes = cut ? good.slice(0, at) : good.slice();
            if (!cut) bytes[at]! ^= mask;
            try {
              decodeModelState(bytes, 'update');
            } catch (error) {
              expect(error).toMatchObject({ code: 'MODEL_FILE_INVALID' });
              return;
            }
            expect(cut).toBe(false);
          },
        ),
        { numRuns: 3000 },
      );
    });
  });
});
