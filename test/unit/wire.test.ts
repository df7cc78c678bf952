import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { countParameters, type ModelState, mapLayers, tensorsOf } from '../../core/lora/model-state.ts';
import { decodeSafetensors } from '../../core/lora/safetensors.ts';
import { cutLayer } from '../../core/lora/stack-factors.ts';
import { encodeModelState } from '../../core/lora/state-file.ts';
import { initialState } from '../../core/models/initial-state.ts';
import { createRandom } from '../../core/shared/random.ts';
import {
  decodeFrozenBase,
  decodeGlobalState,
  decodeUpdate,
  encodeFrozenBase,
  encodeGlobalState,
  encodeUpdate,
  fileSizeBytes,
  fileValueCount,
  frozenBaseForm,
  globalForm,
  type Residual,
  updateForm,
  type WireContext,
} from '../../core/strategy/wire/wire.ts';
import { randomLayer, shapeOnlyBase, trainedState } from '../fixtures/random-state.ts';
import { statesEqual } from '../fixtures/states-equal.ts';

const base = shapeOnlyBase();
const start = initialState(base, {
  classes: ['a', 'b', 'c'],
  targetModules: 'default',
  r: 4,
  scale: 2,
  seed: 1,
});
const precisions = ['fp32', 'fp16', 'int8'] as const;
const sides = ['both', 'a', 'b'] as const;

function contextOf(change: {
  precision?: (typeof precisions)[number];
  sends?: (typeof sides)[number];
  localHead?: boolean;
  errorFeedback?: boolean;
  strategy?: WireContext['config']['strategy'];
}): WireContext {
  const { precision = 'fp32', sends = 'both', localHead = false, errorFeedback = false } = change;
  return {
    config: {
      strategy: change.strategy ?? 'fedavg-lora',
      wire: { up: precision, down: precision, errorFeedback },
      localHead,
      ...{ freezeA: false, seed: 1, rMax: 4 },
    },
    plan: { sends },
    base,
  };
}

const everyContext = precisions.flatMap((precision) =>
  sides.flatMap((sends) => [false, true].map((localHead) => ({ precision, sends, localHead }))),
);

/** Cuts every layer, as a site with a rank of its own does. */
const cut = (state: ModelState, r: number) => mapLayers(state, (layer) => cutLayer(layer, r));

/** Largest distance of two tensors' values. */
function distance(x: Float32Array, y: Float32Array): number {
  expect(x).toHaveLength(y.length);
  return x.reduce((most, value, i) => Math.max(most, Math.abs(value - y[i]!)), 0);
}

describe('an update', () => {
  test.each(everyContext)('arrives with what travels, the rest as it was: %o', (change) => {
    const context = contextOf(change);
    const trained = cut(trainedState(start, 3, { base, baseNames: ['body.q.weight', 'body.q.bias'] }), 3);

    const { bytes } = encodeUpdate({ ...context, start, trained });
    const arrived = decodeUpdate(bytes, 'update', { ...context, start });

    expect(bytes).toHaveLength(fileSizeBytes(trained, updateForm(context)));
    const [before, wanted, found] = [cut(start, 3), trained, arrived].map((state) => tensorsOf(state));
    expect([...found!.keys()].sort()).toEqual([...wanted!.keys()].sort());
    let values = 0;
    for (const [name, tensor] of found!) {
      const stays =
        (name.endsWith('lora_A.weight') && change.sends === 'b') ||
        (name.endsWith('lora_B.weight') && change.sends === 'a') ||
        (name.startsWith('head.') && change.localHead);
      const expected = (stays ? before : wanted)!.get(name)!;
      expect(tensor.dims).toEqual(expected.dims);
      // Changes of the fixture are 0.1 times normal numbers: none is above 0.8.
      const bound = stays ? 0 : { fp32: 0, fp16: 6e-4, int8: 0.8 / 254 + 1e-6 }[change.precision];
      expect(distance(tensor.data, expected.data), name).toBeLessThanOrEqual(bound);
      if (!stays) values += tensor.data.length;
    }
    expect(fileValueCount(trained, updateForm(context))).toBe(values);
  });

  test('in float32 and whole is the state file itself', () => {
    const trained = trainedState(start, 3);
    const { bytes, residual } = encodeUpdate({ ...contextOf({}), start, trained });

    expect(bytes).toEqual(encodeModelState(trained));
    expect(residual).toBeNull();
    expect(fileValueCount(trained, updateForm(contextOf({})))).toBe(countParameters(trained));
  });

  test('may hold layers without factors', () => {
    const context = contextOf({ precision: 'int8' });
    const empty = cut(start, 0);
    const trained = trainedState(empty, 2, { base, baseNames: [...base.weights.keys()] });

    const { bytes } = encodeUpdate({ ...context, start: empty, trained });
    const arrived = decodeUpdate(bytes, 'update', { ...context, start: empty });

    expect(arrived.lora.get('body.q')!.r).toBe(0);
    expect(arrived.base.size).toBe(base.weights.size);
  });

  test('with values that are not finite is not coded', () => {
    const trained = trainedState(start, 3);
    trained.head.get('bias')!.data[1] = Number.NaN;
    const encode = () => encodeUpdate({ ...contextOf({ precision: 'int8' }), start, trained });

    expect(encode).toThrow(expect.objectContaining({ code: 'TRAINING_FAILED' }));
    expect(encode).toThrow('head.bias');
  });
});

describe('rounding', () => {
  const finite = fc.float({ noNaN: true, noDefaultInfinity: true });
  const rowOf = (max: number) =>
    fc.array(fc.float({ noNaN: true, min: Math.fround(-max), max: Math.fround(max) }), {
      minLength: 60,
      maxLength: 60,
    });
  /** The head's weight, 3 rows of 20, coded and read again; without a start to be a difference from. */
  function throughGlobal(values: readonly number[], precision: 'fp16' | 'int8'): Float32Array {
    const context = contextOf({ precision });
    const weight = { ...start.head.get('weight')!, data: Float32Array.from(values) };
    const state = { ...start, head: new Map([...start.head, ['weight', weight]]) };
    const bytes = encodeGlobalState(state, context);
    return decodeGlobalState(bytes, 'state', { ...context, initial: start }).head.get('weight')!.data;
  }

  test('to fp16 stays within 2⁻¹¹ of the value and 2⁻²⁵, and ends at ±65504', () => {
    fc.assert(
      fc.property(rowOf(1e5), (values) => {
        throughGlobal(values, 'fp16').forEach((found, i) => {
          const value = Math.max(-65504, Math.min(65504, Math.fround(values[i]!)));
          expect(Math.abs(found - value)).toBeLessThanOrEqual(2 ** -11 * Math.abs(value) + 2 ** -25);
        });
      }),
      { numRuns: 30 },
    );
  });

  test('to int8 stays within half a step of the row’s largest value by 127', () => {
    fc.assert(
      fc.property(fc.array(finite, { minLength: 60, maxLength: 60 }), (values) => {
        const found = throughGlobal(values, 'int8');
        for (const row of [0, 1, 2]) {
          const own = Float32Array.from(values.slice(20 * row, 20 * row + 20));
          const largest = own.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
          // A part in 10⁶ for the rounding of the scale and of the product; 2⁻¹⁴⁹ · 127 where the scale is no float32.
          const bound = (largest / 254) * (1 + 2e-5) + 2 ** -142;
          own.forEach((value, i) => {
            expect(Math.abs(found[20 * row + i]! - value)).toBeLessThanOrEqual(bound);
          });
        }
      }),
      { numRuns: 100 },
    );
  });
});

describe('error feedback', () => {
  function rounds(strategy: WireContext['config']['strategy'], count: number) {
    const context = contextOf({ precision: 'int8', errorFeedback: true, strategy });
    let residual: Residual | null = null;
    const lost = new Map<string, Float64Array>();
    for (let round = 0; round < count; round++) {
      const trained = trainedState(start, round);
      const sent = encodeUpdate({ ...context, start, trained, residual });
      residual = sent.residual;
      const arrived = tensorsOf(decodeUpdate(sent.bytes, 'update', { ...context, start }));
      for (const [name, { data }] of tensorsOf(trained)) {
        const sum = lost.get(name) ?? new Float64Array(data.length);
        lost.set(name, sum);
        data.forEach((value, i) => {
          sum[i]! += value - arrived.get(name)!.data[i]!;
        });
      }
    }
    return { lost, residual: residual! };
  }

  test('loses nothing over many rounds but the last leftover, where factors go on', () => {
    const { lost, residual } = rounds('fedavg-lora', 12);

    expect([...residual.keys()].sort()).toEqual([...lost.keys()].sort());
    for (const [name, sum] of lost) {
      const left = residual.get(name)!.data;
      expect(Math.max(...sum.map((value, i) => Math.abs(value - left[i]!)))).toBeLessThan(1e-5);
      expect(Math.max(...sum.map(Math.abs))).toBeLessThan(0.005);
    }
  });

  test('leaves factors alone that an exact aggregation replaces', () => {
    const { residual } = rounds('sa-fedlora', 2);

    expect([...residual.keys()].sort()).toEqual(['head.bias', 'head.weight']);
  });

  test('forgets a leftover whose tensor has another shape by now', () => {
    const context = contextOf({ precision: 'int8', errorFeedback: true });
    const first = encodeUpdate({ ...context, start, trained: trainedState(start, 1) });
    const smaller = cut(start, 2);
    const trained = trainedState(smaller, 2);

    const again = encodeUpdate({ ...context, start: smaller, trained, residual: first.residual });
    const fresh = encodeUpdate({ ...context, start: smaller, trained });

    const arrived = ({ bytes }: { bytes: Uint8Array }) =>
      decodeUpdate(bytes, 'update', { ...context, start: smaller });
    expect(arrived(again).lora).toEqual(arrived(fresh).lora);
    expect(arrived(again).head).not.toEqual(arrived(fresh).head);
  });
});

describe('a global state', () => {
  test.each(everyContext)('is the same at both ends, and of the planned size: %o', (change) => {
    const context = contextOf(change);
    const options = { ...context, initial: start };
    const state = trainedState(start, 5, { base, baseNames: ['body.conv.weight', 'stem.conv.bias'] });

    const bytes = encodeGlobalState(state, context);
    const [coordinator, site] = [1, 2].map(() => decodeGlobalState(bytes, 'state', options));

    expect(statesEqual(coordinator!, site!)).toBe(true);
    expect(encodeGlobalState(site!, context)).toHaveLength(fileSizeBytes(state, globalForm(context)));
    expect(fileValueCount(state, globalForm(context))).toBe(fileValueCount(state, updateForm(context)));
    if (change.localHead) expect(site!.head).toEqual(start.head);
    if (change.sends === 'a') expect(site!.lora.get('body.q')!.b).toEqual(start.lora.get('body.q')!.b);
    // Coded against the base model's own weights, of size 1, not as they are.
    const weight = state.base.get('body.conv.weight')!.data;
    const bound = { fp32: 0, fp16: 5e-4, int8: 4e-3 }[change.precision];
    expect(distance(site!.base.get('body.conv.weight')!.data, weight)).toBeLessThanOrEqual(bound);
  });

  test('may have other ranks than the first one when it travels whole', () => {
    const context = contextOf({ precision: 'fp16' });
    const state = cut(trainedState(start, 5), 2);

    const arrived = decodeGlobalState(encodeGlobalState(state, context), 'state', {
      ...context,
      initial: start,
    });

    expect(arrived.lora.get('body.conv')!.b.dims).toEqual([12, 2, 1, 1]);
  });
});

describe('a part of the frozen base delta', () => {
  const part: ModelState = {
    ...start,
    lora: new Map(
      [...start.lora].slice(1).map(([module]) => {
        const { weightDims } = base.layers.find((layer) => layer.module === module)!;
        return [module, randomLayer(module, weightDims, 11, 1, createRandom(4))] as const;
      }),
    ),
    base: new Map([
      [
        'stem.conv.bias',
        trainedState(start, 1, { base, baseNames: ['stem.conv.bias'] }).base.get('stem.conv.bias')!,
      ],
    ]),
  };

  test.each(precisions)('travels in %s at any rank, without a head', (precision) => {
    const { config } = contextOf({ precision, sends: 'a', localHead: true });

    const bytes = encodeFrozenBase(part, { config, base });
    const arrived = decodeFrozenBase(bytes, 'part', { config, base, initial: start });

    expect(bytes).toHaveLength(fileSizeBytes(part, frozenBaseForm({ config })));
    expect(arrived.head.size).toBe(0);
    expect([...arrived.lora.keys()].sort()).toEqual(['body.conv', 'body.q']);
    expect(arrived.lora.get('body.q')!.b.dims).toEqual([20, 11]);
    expect(fileValueCount(part, frozenBaseForm({ config }))).toBe(
      countParameters({ ...part, head: new Map() }),
    );
    const bound = { fp32: 0, fp16: 1e-3, int8: 0.01 }[precision];
    expect(distance(arrived.lora.get('body.q')!.b.data, part.lora.get('body.q')!.b.data)).toBeLessThanOrEqual(
      bound,
    );
  });
});

describe('a file that is not what the round expects is refused with one sentence', () => {
  const context = contextOf({ precision: 'int8', sends: 'a', localHead: true });
  const trained = trainedState(start, 3, { base, baseNames: ['body.q.weight'] });
  const { bytes } = encodeUpdate({ ...context, start, trained });
  const read = (file: Uint8Array, own: WireContext = context) =>
    decodeUpdate(file, 'the update', { ...own, start });

  /** The same file with its header's text changed; padding keeps its length. */
  function withHeader(change: (text: string) => string): Uint8Array {
    const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const text = new TextDecoder().decode(bytes.subarray(8, 8 + length)).trimEnd();
    const changed = change(text);
    expect(changed).not.toBe(text);
    const header = new TextEncoder().encode(changed);
    const padded = Math.ceil(header.length / 8) * 8;
    const file = new Uint8Array(8 + padded + bytes.length - 8 - length).fill(32);
    new DataView(file.buffer).setBigUint64(0, BigInt(padded), true);
    file.set(header, 8);
    file.set(bytes.subarray(8 + length), 8 + padded);
    return file;
  }

  function withScale(value: number): Uint8Array {
    const file = bytes.slice();
    const length = Number(new DataView(file.buffer).getBigUint64(0, true));
    new DataView(file.buffer).setFloat32(8 + length, value, true);
    return file;
  }

  test.each([
    [
      'of another precision',
      () => read(bytes, contextOf({ precision: 'fp16', sends: 'a', localHead: true })),
      'precision',
    ],
    [
      'of other factors',
      () => read(bytes, contextOf({ precision: 'int8', sends: 'b', localHead: true })),
      'parts',
    ],
    ['with a head kept back', () => read(bytes, contextOf({ precision: 'int8', sends: 'a' })), 'parts'],
    ['of another kind', () => decodeGlobalState(bytes, 'the update', { ...context, initial: start }), 'kind'],
    ['a whole state file', () => read(encodeModelState(trained)), 'metadata'],
    [
      'of another base model',
      () => read(withHeader((text) => text.replace(base.sha256, 'cd'.repeat(32)))),
      'another base model',
    ],
    ['of other classes', () => read(withHeader((text) => text.replace('\\"a\\"', '\\"x\\"'))), 'classes'],
    [
      'of a layer that nobody asked for',
      () => read(withHeader((text) => text.replaceAll('body.q\\"', 'body.k\\"'))),
      'body.k',
    ],
    ['of a higher rank', () => read(withHeader((text) => text.replace('\\"r\\":4', '\\"r\\":9'))), 'rank 9'],
    [
      'of a lower rank than its tensors',
      () => read(withHeader((text) => text.replace('\\"r\\":4', '\\"r\\":3'))),
      'expected',
    ],
    [
      'of a scale that is no number',
      () => read(withHeader((text) => text.replace('\\"scale\\":2', '\\"scale\\":null'))),
      'lora',
    ],
    [
      'of another number type',
      () => read(withHeader((text) => text.replace('"dtype":"I8"', '"dtype":"U8"'))),
      'expected I8',
    ],
    [
      'without scales',
      () => read(withHeader((text) => text.replace('"scales"', '"scalez"'))),
      '"scales" is missing',
    ],
    [
      'with a weight that the base model lacks',
      () => read(withHeader((text) => text.replace('base.body.q.weight', 'base.body.z.weight'))),
      'body.z.weight',
    ],
    ['with a scale of NaN', () => read(withScale(Number.NaN)), '"scales" holds NaN'],
    ['with a scale of infinity', () => read(withScale(Number.POSITIVE_INFINITY)), '"scales" holds Infinity'],
    ['with a negative scale', () => read(withScale(-1)), '"scales" holds -1'],
    ['with a scale that makes values too large', () => read(withScale(3e38)), 'finite numbers'],
  ])('%s', (_what, run, sentence) => {
    expect(run).toThrow(expect.objectContaining({ code: 'MODEL_FILE_INVALID' }));
    expect(run).toThrow(sentence);
    expect(run).toThrow('the update');
  });

  test('with a further tensor', () => {
    const more = trainedState(start, 3, { base, baseNames: ['body.q.weight'] });
    const file = encodeUpdate({
      ...contextOf({ precision: 'int8', sends: 'both', localHead: true }),
      start,
      trained: more,
    }).bytes;
    const length = Number(new DataView(file.buffer).getBigUint64(0, true));
    const text = new TextDecoder().decode(file.subarray(8, 8 + length));
    const renamed = text.replace('lora_A lora_B base', 'lora_A base'.padEnd(18, ' '));
    file.set(new TextEncoder().encode(renamed), 8);

    expect(() => read(file)).toThrow(expect.objectContaining({ code: 'MODEL_FILE_INVALID' }));
  });

  test('NaN among 16-bit values', () => {
    const half = contextOf({ precision: 'fp16' });
    const file = encodeUpdate({ ...half, start, trained }).bytes;
    new DataView(file.buffer).setUint16(file.length - 2, 0x7e00, true);

    expect(() => read(file, half)).toThrow(expect.objectContaining({ code: 'MODEL_FILE_INVALID' }));
  });

  test('a state without a factor that nobody keeps, of another rank', () => {
    const half = contextOf({ precision: 'fp16', sends: 'b' });
    const file = encodeGlobalState(cut(trained, 2), half);

    expect(() => decodeGlobalState(file, 'state', { ...half, initial: start })).toThrow('rank 2');
  });

  test('any damage is met with MODEL_FILE_INVALID or values that are finite', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 }),
        fc.option(fc.nat(bytes.length - 1)),
        (changes, length) => {
          const file = bytes.slice(0, length ?? bytes.length);
          for (const [place, value] of changes) if (place < file.length) file[place] = value;
          try {
            for (const { data } of tensorsOf(read(file)).values())
              expect(data.every(Number.isFinite)).toBe(true);
          } catch (error) {
            expect(error).toMatchObject({ code: 'MODEL_FILE_INVALID' });
          }
        },
      ),
      { numRuns: 1500 },
    );
  });
});

test('an int8 update of small layers is less than half a 16-bit one, scales included', () => {
  const size = (precision: 'fp16' | 'int8', state: ModelState) =>
    fileSizeBytes(state, updateForm(contextOf({ precision })));
  const wide = {
    ...start,
    lora: new Map([['body.q', randomLayer('body.q', [768, 768], 8, 1, createRandom(1))]]),
  };

  expect(size('int8', wide) / size('fp16', wide)).toBeLessThan(0.6);
  expect(decodeSafetensors(encodeModelState(wide), 'plain').tensors.size).toBe(4);
});
