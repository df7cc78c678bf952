import { describe, expect, test } from 'vitest';
import { createOnnxRuntimeEngine } from '../../core/engine/onnxruntime/engine.ts';
import type { Graph } from '../../core/graph/graph.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { fillLoraMask } from '../../core/lora/dropout.ts';
import {
  injectLora,
  type LoraTarget,
  loraAName,
  loraBName,
  loraDims,
  loraMaskName,
  promoteToInputs,
} from '../../core/lora/inject.ts';
import { createRandom } from '../../core/shared/random.ts';
import { elementCount, type FloatTensor, floatTensor } from '../../core/shared/tensor.ts';

const random = createRandom(3);
const engine = createOnnxRuntimeEngine();

function randomTensor(dims: readonly number[]): FloatTensor {
  return floatTensor(
    dims,
    Float32Array.from({ length: elementCount(dims) }, () => random.normal()),
  );
}

async function run(graph: Graph, feeds: Record<string, FloatTensor>): Promise<Float32Array> {
  const executable = await engine.compile(graph, { device: 'cpu', threads: 1 });
  const result = await executable.run(feeds);
  await executable.release();
  return result[graph.outputs[0]!]!.data as Float32Array;
}

/** W + scale · B·A, read as matrices. */
function merged(weight: FloatTensor, a: FloatTensor, b: FloatTensor, r: number, scale: number): FloatTensor {
  const inner = a.data.length / r;
  const data = weight.data.map((value, index) => {
    const [out, column] = [Math.floor(index / inner), index % inner];
    let sum = value;
    for (let k = 0; k < r; k++) sum += scale * b.data[out * r + k]! * a.data[k * inner + column]!;
    return sum;
  });
  return floatTensor(weight.dims, data);
}

type Form =
  | 'conv'
  | 'grouped conv'
  | 'depthwise conv'
  | 'gemm'
  | 'scaled gemm'
  | 'gemm untransposed'
  | 'matmul'
  | 'matmul of a transposed weight';

function transposed({ dims, data }: FloatTensor): FloatTensor {
  const [rows, columns] = dims as [number, number];
  return floatTensor(
    [columns, rows],
    data.map((_, index) => data[(index % rows) * columns + Math.floor(index / rows)]!),
  );
}

/** A network of one layer whose weight is given as PEFT counts. */
function oneLayer(form: Form, weight: FloatTensor, x: FloatTensor): Graph {
  const builder = new GraphBuilder();
  builder.input('x', 'float32', x.dims);
  const outFirst = form !== 'gemm untransposed' && form !== 'matmul';
  const w = builder.constant(outFirst ? weight : transposed(weight), 'layer.weight');
  const apply: Record<Form, () => string> = {
    conv: () => builder.conv('x', w, { strides: [2, 1], pads: [1, 0, 1, 1], dilations: [1, 2] }),
    'grouped conv': () => builder.conv('x', w, { group: 2, pads: [1, 1, 1, 1] }),
    'depthwise conv': () => builder.conv('x', w, { group: 4, strides: [2, 2] }),
    'scaled gemm': () => builder.gemm('x', w, undefined, { transB: true, alpha: 0.5 }),
    gemm: () => builder.gemm('x', w, undefined, { transB: true }),
    'gemm untransposed': () => builder.gemm('x', w),
    matmul: () => builder.matMul('x', w),
    'matmul of a transposed weight': () => builder.matMul('x', builder.transpose(w, [1, 0])),
  };
  builder.output(builder.tanh(apply[form]()), 'embedding');
  return builder.build();
}

const linearDims = { weight: [5, 4], x: [3, 4] };

describe('injectLora', () => {
  test.each<[Form, { weight: number[]; x: number[] }]>([
    ['conv', { weight: [4, 3, 3, 2], x: [2, 3, 6, 7] }],
    ['grouped conv', { weight: [6, 2, 3, 3], x: [2, 4, 5, 5] }],
    ['depthwise conv', { weight: [8, 1, 3, 3], x: [2, 4, 7, 7] }],
    ['gemm', linearDims],
    ['scaled gemm', linearDims],
    ['gemm untransposed', linearDims],
    ['matmul', { weight: [5, 4], x: [2, 3, 4] }],
    ['matmul of a transposed weight', { weight: [5, 4], x: [2, 3, 4] }],
  ])('%s gives what the merged weight gives', async (form, dims) => {
    const [weight, x] = [randomTensor(dims.weight), randomTensor(dims.x)];
    const kind = form.endsWith('conv') ? 'conv' : 'linear';
    const layer: LoraTarget = { module: 'layer', kind, weight: 'layer.weight', weightDims: dims.weight };
    const factors = loraDims(layer, 2);
    const [a, b] = [randomTensor(factors.a), randomTensor(factors.b)];

    const adapted = injectLora(oneLayer(form, weight, x), [{ layer, r: 2, scale: 0.3 }]);
    const actual = await run(adapted, { x, [loraAName('layer')]: a, [loraBName('layer')]: b });

    const expected = await run(oneLayer(form, merged(weight, a, b, 2, 0.3), x), { x });
    expect(adapted.inputs).toEqual(['x', 'layer.lora_A', 'layer.lora_B']);
    for (const [index, value] of actual.entries()) expect(value).toBeCloseTo(expected[index]!, 4);
  });

  test('with dropout only the adapted branch reads the masked values', async () => {
    const [weight, x] = [randomTensor([5, 4]), randomTensor([3, 4])];
    const layer: LoraTarget = { module: 'layer', kind: 'linear', weight: 'layer.weight', weightDims: [5, 4] };
    const factors = { layer_A: randomTensor([2, 4]), layer_B: randomTensor([5, 2]) };
    const mask = floatTensor([3, 4]);
    fillLoraMask(mask.data, { probability: 0.5, seed: 1, step: 0, module: 'layer' });

    const graph = injectLora(oneLayer('gemm', weight, x), [{ layer, r: 2, scale: 0.3, dropout: 0.5 }]);
    const actual = await run(graph, {
      x,
      [loraAName('layer')]: factors.layer_A,
      [loraBName('layer')]: factors.layer_B,
      [loraMaskName('layer')]: mask,
    });

    expect(graph.inputs).toEqual(['x', 'layer.lora_A', 'layer.lora_B', 'layer.lora_mask']);
    expect(graph.types.get('layer.lora_mask')!.dims).toEqual([3, 4]);
    const at = (values: Float32Array, row: number, columns: number, column: number) =>
      values[row * columns + column]!;
    for (const [index, value] of actual.entries()) {
      const [row, out] = [Math.floor(index / 5), index % 5];
      let sum = 0;
      for (let i = 0; i < 4; i++) {
        let delta = 0;
        for (let k = 0; k < 2; k++)
          delta += 0.3 * at(factors.layer_B.data, out, 2, k) * at(factors.layer_A.data, k, 4, i);
        sum += at(x.data, row, 4, i) * (at(weight.data, out, 4, i) + at(mask.data, row, 4, i) * delta);
      }
      expect(value).toBeCloseTo(Math.tanh(sum), 5);
    }
  });

  test('dropout refuses a weight that reads values of different shapes', () => {
    const builder = new GraphBuilder();
    builder.input('x', 'float32', [3, 4]);
    builder.input('y', 'float32', [2, 4]);
    builder.constant(randomTensor([5, 4]), 'layer.weight');
    const uses = ['x', 'y'].map((name) => builder.gemm(name, 'layer.weight', undefined, { transB: true }));
    builder.output(builder.concat(uses, 0), 'embedding');
    const layer: LoraTarget = { module: 'layer', kind: 'linear', weight: 'layer.weight', weightDims: [5, 4] };

    expect(() => injectLora(builder.build(), [{ layer, r: 1, scale: 1, dropout: 0.1 }])).toThrow(
      expect.objectContaining({ code: 'OPERATOR_UNSUPPORTED', message: expect.stringContaining('"layer"') }),
    );
  });

  test('a square weight whose layout is the other one is refused rather than adapted wrongly', () => {
    const graph = oneLayer('gemm untransposed', randomTensor([5, 4]), randomTensor([3, 4]));
    const layer: LoraTarget = { module: 'layer', kind: 'linear', weight: 'layer.weight', weightDims: [4, 5] };

    expect(() => injectLora(graph, [{ layer, r: 1, scale: 1 }])).toThrow(
      expect.objectContaining({ code: 'MODEL_FILE_INVALID' }),
    );
  });

  test('a layer that the model does not have is named', () => {
    const graph = oneLayer('gemm', randomTensor([5, 4]), randomTensor([3, 4]));
    const layer: LoraTarget = {
      module: 'elsewhere',
      kind: 'linear',
      weight: 'elsewhere.weight',
      weightDims: [5, 4],
    };

    expect(() => injectLora(graph, [{ layer, r: 1, scale: 1 }])).toThrow('elsewhere');
  });
});

describe('promoteToInputs', () => {
  test('a fed weight gives what the built-in one gives', async () => {
    const [weight, x] = [randomTensor([5, 4]), randomTensor([3, 4])];
    const graph = oneLayer('gemm', weight, x);

    const promoted = promoteToInputs(graph, ['layer.weight']);

    expect(promoted.inputs).toEqual(['x', 'layer.weight']);
    expect([...(await run(promoted, { x, 'layer.weight': weight }))]).toEqual([...(await run(graph, { x }))]);
  });

  test('an unknown weight is named', () => {
    const graph = oneLayer('gemm', randomTensor([5, 4]), randomTensor([3, 4]));

    expect(() => promoteToInputs(graph, ['nowhere'])).toThrow('nowhere');
  });
});
