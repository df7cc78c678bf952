import { afterAll, describe, expect, test } from 'vitest';
import type { Executable } from '../../core/engine/engine.ts';
import { createOnnxRuntimeEngine } from '../../core/engine/onnxruntime/engine.ts';
import { appendGradients } from '../../core/graph/autodiff.ts';
import type { Graph } from '../../core/graph/graph.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { foldNormalisationAffine } from '../../core/graph/optimise/normalisation-affine.ts';
import { lowerForProcessor, optimiseTrainingGraph } from '../../core/graph/optimise/optimise.ts';
import { createRandom } from '../../core/shared/random.ts';
import { elementCount, floatTensor, type Tensor } from '../../core/shared/tensor.ts';

const engine = createOnnxRuntimeEngine();
const executables: Executable[] = [];
const random = createRandom(5);
const values = (...dims: number[]) =>
  floatTensor(
    dims,
    Float32Array.from({ length: elementCount(dims) }, () => random.normal() * 0.5),
  );

afterAll(async () => {
  for (const executable of executables) await executable.release();
});

/** Every output of a graph on inputs that depend on the inputs' names and shapes alone. */
async function run(graph: Graph): Promise<Map<string, Float32Array>> {
  const executable = await engine.compile(graph, { device: 'cpu', threads: 1 });
  executables.push(executable);
  const feeds: Record<string, Tensor> = {};
  for (const name of graph.inputs) {
    const own = createRandom(name.length);
    const { dims } = graph.types.get(name)!;
    feeds[name] = floatTensor(
      dims,
      Float32Array.from({ length: elementCount(dims) }, () => own.normal()),
    );
  }
  const outputs = await executable.run(feeds);
  return new Map(graph.outputs.map((name) => [name, outputs[name]!.data as Float32Array]));
}

async function expectSameValues(before: Graph, after: Graph): Promise<void> {
  const [expected, actual] = [await run(before), await run(after)];
  expect([...actual.keys()]).toEqual([...expected.keys()]);
  for (const [name, data] of expected) {
    const scale = Math.max(...data.map(Math.abs));
    const worst = Math.max(...data.map((value, i) => Math.abs(value - actual.get(name)![i]!)));
    expect(scale, name).toBeGreaterThan(0);
    expect(worst / scale, name).toBeLessThan(1e-5);
  }
}

const count = (graph: Graph, op: string) => graph.nodes.filter((node) => node.op === op).length;

/** A transformer block's half with LoRA beside a product: norm, two products with Gelu between, residual sum. */
function feedForward(): Graph {
  const builder = new GraphBuilder();
  const x = builder.input('x', 'float32', [6, 8]);
  const a = builder.input('lora_A', 'float32', [2, 8]);
  const b = builder.input('lora_B', 'float32', [12, 2]);
  const normal = builder.layerNormalization(x, builder.constant(values(8)), builder.constant(values(8)));
  const frozen = builder.gemm(normal, builder.constant(values(12, 8)), builder.constant(values(12)), {
    transB: true,
  });
  const low = builder.mul(builder.gemm(normal, a, undefined, { transB: true }), builder.scalar(0.5));
  const inner = builder.gelu(builder.add(frozen, builder.gemm(low, b, undefined, { transB: true })));
  builder.output(builder.add(x, builder.gemm(inner, builder.constant(values(12, 8)))), 'y');
  return builder.build();
}

function withGradients(graph: Graph, wrt: readonly string[]): Graph {
  const builder = GraphBuilder.from(graph);
  const loss = builder.reduceSum(builder.mul('y', 'y'), undefined, false);
  for (const [name, gradient] of appendGradients(builder, loss, wrt)) builder.output(gradient, `d ${name}`);
  return builder.build();
}

describe('a training graph', () => {
  test('computes the same after the scale and shift of its norms moved into the weights', async () => {
    const graph = feedForward();
    const folded = foldNormalisationAffine(graph);

    const wrt = ['x', 'lora_A', 'lora_B'];
    await expectSameValues(withGradients(graph, wrt), withGradients(folded, wrt));

    const norm = folded.nodes.find((node) => node.op === 'LayerNormalization')!;
    expect(Array.from(folded.initializers.get(norm.inputs[1]!)!.data, Number)).toEqual(new Array(8).fill(1));
  });

  test('keeps a norm whose result is read by more than products', () => {
    const builder = new GraphBuilder();
    const x = builder.input('x', 'float32', [6, 8]);
    const normal = builder.layerNormalization(x, builder.constant(values(8)), builder.constant(values(8)));
    builder.output(builder.add(builder.gemm(normal, builder.constant(values(8, 8))), normal), 'y');
    const graph = builder.build();

    expect(foldNormalisationAffine(graph)).toBe(graph);
  });

  test('has one error function, no scalar products and fewer sums when it is optimised', async () => {
    const graph = withGradients(feedForward(), ['lora_A', 'lora_B']);
    const optimised = optimiseTrainingGraph(graph);

    await expectSameValues(graph, optimised);

    expect([count(graph, 'Erf'), count(graph, 'Gelu')]).toEqual([1, 1]);
    expect([count(optimised, 'Erf'), count(optimised, 'Gelu')]).toEqual([1, 0]);
    expect(count(optimised, 'Add')).toBeLessThan(count(graph, 'Add'));
    const isScalar = (name: string) => optimised.initializers.get(name)?.data.length === 1;
    const scaled = optimised.nodes.filter((node) => node.op === 'Mul' && node.inputs.some(isScalar));
    // What scales the loss itself has no product beside it.
    expect(scaled.filter((node) => optimised.types.get(node.outputs[0]!)!.dims.at(-1) === 12)).toEqual([]);
  });

  test('keeps its outputs by name, also when two of them are the same', async () => {
    const builder = new GraphBuilder();
    const x = builder.input('x', 'float32', [3, 4]);
    builder.output(builder.exp(x), 'first');
    builder.output(builder.exp(x), 'second');
    const graph = builder.build();

    await expectSameValues(graph, optimiseTrainingGraph(graph));
  });

  test('does not take a scalar into a product that others read as well', async () => {
    const builder = new GraphBuilder();
    const x = builder.input('x', 'float32', [3, 4]);
    const product = builder.gemm(x, builder.constant(values(4, 4)));
    builder.output(builder.mul(product, builder.scalar(3)), 'y');
    builder.output(builder.tanh(product), 'z');
    const graph = builder.build();

    await expectSameValues(graph, optimiseTrainingGraph(graph));
  });

  test('adds the same product to itself', async () => {
    const builder = new GraphBuilder();
    const x = builder.input('x', 'float32', [3, 4]);
    const product = builder.gemm(x, builder.constant(values(4, 4)));
    builder.output(builder.add(product, product), 'y');
    const graph = builder.build();

    await expectSameValues(graph, optimiseTrainingGraph(graph));
  });
});

describe('on a processor', () => {
  test('attention reads keys and values turned, and its softmax gradient sums over heads', async () => {
    const builder = new GraphBuilder();
    const heads = (name: string, permutation: readonly number[]) =>
      builder.transpose(builder.input(name, 'float32', [2, 7, 3, 4]), permutation);
    const weights = builder.softmax(
      builder.matMul(heads('query', [0, 2, 1, 3]), heads('keys_', [0, 2, 3, 1])),
    );
    builder.output(builder.matMul(weights, heads('values.', [0, 2, 1, 3])), 'y');
    const graph = withGradients(builder.build(), ['query', 'keys_', 'values.']);
    const lowered = lowerForProcessor(graph);

    await expectSameValues(graph, lowered);

    expect(count(lowered, 'FusedMatMul')).toBeGreaterThan(0);
    expect(count(lowered, 'Transpose')).toBeLessThan(count(graph, 'Transpose'));
    const wide = graph.nodes.filter(
      (node) => node.op === 'ReduceSum' && graph.types.get(node.inputs[0]!)!.dims.join() === '2,3,7,7',
    );
    expect(wide).toEqual([]);
  });

  test.each([
    { name: 'same size', pads: [1, 1, 1, 1], dilations: [1, 1] },
    { name: 'valid', pads: [0, 0, 0, 0], dilations: [1, 1] },
    { name: 'uneven pads and dilation', pads: [2, 0, 1, 2], dilations: [2, 1] },
  ])('a narrow convolution with fed weights is turned: $name', async ({ pads, dilations }) => {
    const builder = new GraphBuilder();
    const x = builder.input('x', 'float32', [2, 8, 6, 7]);
    const a = builder.input('lora_A', 'float32', [2, 8, 3, 3]);
    builder.output(builder.conv(x, a, { pads, dilations }), 'y');
    const graph = builder.build();
    const lowered = lowerForProcessor(graph);

    await expectSameValues(graph, lowered);

    expect([count(lowered, 'Conv'), count(lowered, 'ConvTranspose')]).toEqual([0, 1]);
  });

  test.each([
    { name: 'with a stride', shape: [2, 8, 3, 3], options: { strides: [2, 2] } },
    { name: 'as wide as its input', shape: [8, 8, 3, 3], options: {} },
    { name: 'of single places', shape: [2, 8, 1, 1], options: {} },
    { name: 'with more padding than kernel', shape: [2, 8, 3, 3], options: { pads: [3, 3, 3, 3] } },
  ])('a convolution $name stays', ({ shape, options }) => {
    const builder = new GraphBuilder();
    const x = builder.input('x', 'float32', [2, 8, 6, 7]);
    builder.output(builder.conv(x, builder.input('lora_A', 'float32', shape), options), 'y');

    expect(count(lowerForProcessor(builder.build()), 'Conv')).toBe(1);
  });
});
