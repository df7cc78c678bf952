import onnxProto from 'onnx-proto';
import { describe, expect, test } from 'vitest';
import { encodeOnnxModel } from '../../core/graph/encode.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { floatTensor } from '../../core/shared/tensor.ts';

const mismatch = expect.objectContaining({ code: 'SHAPE_MISMATCH' });

describe('GraphBuilder', () => {
  test('shares small equal constants, and keeps 0 and -0 apart', () => {
    const builder = new GraphBuilder();

    expect(builder.scalar(2)).toBe(builder.scalar(2));
    expect(builder.integers([1, 2])).not.toBe(builder.integers([2, 1]));
    expect(builder.scalar(0)).not.toBe(builder.scalar(-0));
  });

  test('goes on with an existing graph without taking its names', () => {
    const first = new GraphBuilder();
    first.output(first.relu(first.input('x', 'float32', [2])));

    const second = GraphBuilder.from(first.build());
    const added = second.relu('x');
    second.output(added);
    const graph = second.build();

    expect(graph.outputs).toHaveLength(2);
    expect(new Set(graph.nodes.map((node) => node.name)).size).toBe(2);
  });

  test('refuses a name that is taken and a value that does not exist', () => {
    const builder = new GraphBuilder();
    builder.input('x', 'float32', [1]);

    expect(() => builder.input('x', 'float32', [1])).toThrow('already has a value named "x"');
    expect(() => builder.relu('y')).toThrow('no value named "y"');
  });

  test('leaves out constants that nothing uses', () => {
    const builder = new GraphBuilder();
    builder.constant(floatTensor([100]), 'unused');
    builder.output(builder.relu(builder.input('x', 'float32', [1])));

    expect([...builder.build().initializers.keys()]).toEqual([]);
  });

  test.each<[string, (builder: GraphBuilder) => unknown]>([
    ['Add of shapes that do not broadcast', (g) => g.add('a', 'b')],
    ['MatMul of other inner sizes', (g) => g.matMul('a', 'a')],
    [
      'Gemm with a summand that is too large',
      (g) => g.gemm('a', 'b', 'image', { transA: true, transB: true }),
    ],
    ['Reshape to another count', (g) => g.reshape('a', [4])],
    ['Reshape with -1 that does not divide', (g) => g.reshape('a', [4, -1])],
    ['Concat along an axis where others differ', (g) => g.concat(['a', 'b'], 0)],
    ['Conv of other channels', (g) => g.conv('image', g.constant(floatTensor([2, 3, 1, 1])))],
    [
      'Conv with a kernel larger than the image',
      (g) => g.conv('image', g.constant(floatTensor([1, 2, 9, 9]))),
    ],
    ['Squeeze of a long axis', (g) => g.squeeze('a', [0])],
    ['Split that does not add up', (g) => g.split('a', [1, 1], 1)],
    ['Transpose with a repeated axis', (g) => g.transpose('a', [0, 0])],
    ['a reduction over an axis that is not there', (g) => g.reduceSum('a', [2])],
    ['Expand that does not broadcast', (g) => g.expand('a', [5, 3])],
    ['Mul of different types', (g) => g.mul('a', g.integers([1]))],
  ])('%s is a shape mismatch', (_title, build) => {
    const builder = new GraphBuilder();
    builder.input('a', 'float32', [2, 3]);
    builder.input('b', 'float32', [4, 2]);
    builder.input('image', 'float32', [1, 2, 4, 4]);

    expect(() => build(builder)).toThrow(mismatch);
  });

  test('an unknown operator is named', () => {
    const builder = new GraphBuilder();
    builder.input('x', 'float32', [1]);

    expect(() => builder.append1('Celu', ['x'])).toThrow(
      expect.objectContaining({ code: 'OPERATOR_UNSUPPORTED', message: expect.stringContaining('Celu') }),
    );
  });
});

describe('encodeOnnxModel', () => {
  test('what is decoded again is what was built', () => {
    const builder = new GraphBuilder();
    const x = builder.input('x', 'float32', [1, 1, 4, 4]);
    const weight = builder.constant(
      floatTensor(
        [2, 1, 3, 3],
        Float32Array.from({ length: 18 }, (_, i) => i / 7),
      ),
      'w',
    );
    const y = builder.softmax(builder.conv(x, weight, { pads: [1, 1, 1, 1] }), 1);
    builder.output(
      builder.gemm(builder.flatten(y), builder.constant(floatTensor([32, 2])), undefined, { alpha: 0.5 }),
      'out',
    );
    const graph = builder.build();

    const bytes = encodeOnnxModel(graph);
    const model = onnxProto.onnx.ModelProto.decode(bytes);
    const decoded = model.graph!;

    expect(Number(model.opsetImport[0]!.version)).toBe(20);
    expect(decoded.node!.map(({ opType, input, output }) => ({ opType, input, output }))).toEqual(
      graph.nodes.map(({ op, inputs, outputs }) => ({ opType: op, input: inputs, output: outputs })),
    );
    expect(decoded.node![0]!.attribute![0]!.ints!.map(Number)).toEqual([1, 1, 1, 1]);
    expect(decoded.node!.find(({ opType }) => opType === 'Gemm')!.attribute![0]!.f).toBe(0.5);
    const tensor = decoded.initializer!.find(({ name }) => name === 'w')!;
    expect(tensor.dims!.map(Number)).toEqual([2, 1, 3, 3]);
    expect(new Float32Array(Uint8Array.from(tensor.rawData!).buffer)).toEqual(
      graph.initializers.get('w')!.data,
    );
    const dims = decoded.output![0]!.type!.tensorType!.shape!.dim!.map(({ dimValue }) => Number(dimValue));
    expect(dims).toEqual([1, 2]);
  });

  test('the same graph gives the same bytes', () => {
    const build = () => {
      const builder = new GraphBuilder();
      builder.output(builder.gelu(builder.input('x', 'float32', [3])));
      return Buffer.from(encodeOnnxModel(builder.build())).toString('hex');
    };

    expect(build()).toBe(build());
  });
});
