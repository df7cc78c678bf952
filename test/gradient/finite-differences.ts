/** Compares appended gradients with central finite differences, both through the real engine. */
import type { Executable } from '../../core/engine/engine.ts';
import { createOnnxRuntimeEngine } from '../../core/engine/onnxruntime/engine.ts';
import { appendGradients } from '../../core/graph/autodiff.ts';
import type { Graph } from '../../core/graph/graph.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { createRandom, mixSeed } from '../../core/shared/random.ts';
import { elementCount, type FloatTensor, floatTensor, type Tensor } from '../../core/shared/tensor.ts';

export type Feeds = Record<string, FloatTensor>;

/** A differentiable computation of float inputs to one float output of any shape. */
export interface Computation {
  readonly feeds: Feeds;
  /** Inputs whose gradient is checked; all of them when absent. */
  readonly wrt?: readonly string[];
  build(builder: GraphBuilder): string;
}

export interface GradientComparison {
  /** Largest |appended − numeric|, relative to the largest |numeric| of that input or 1. */
  readonly error: number;
  readonly analytic: ReadonlyMap<string, Float32Array>;
  readonly numeric: ReadonlyMap<string, Float64Array>;
  readonly forward: Graph;
  readonly backward: Graph;
}

const engine = createOnnxRuntimeEngine();
/** Truncation grows with its square, float32 rounding falls with it. */
const step = 0.01;

export function randomTensor(
  dims: readonly number[],
  seed: number | string,
  scale = 1,
  shift = 0,
): FloatTensor {
  const random = createRandom(mixSeed('tensor', seed, ...dims));
  return floatTensor(
    dims,
    Float32Array.from({ length: elementCount(dims) }, () => shift + scale * random.normal()),
  );
}

/** Values at least 0.1 apart from each other and from 0, in random order: safe beside kinks and ties. */
export function spacedTensor(dims: readonly number[], seed: number | string): FloatTensor {
  const count = elementCount(dims);
  const values = Array.from({ length: count }, (_, index) => 0.1 * (index - Math.floor(count / 2)) + 0.05);
  return floatTensor(dims, Float32Array.from(createRandom(mixSeed('spaced', seed)).shuffle(values)));
}

/** Values in [low, high]. */
export function uniformTensor(
  dims: readonly number[],
  seed: number | string,
  low: number,
  high: number,
): FloatTensor {
  const random = createRandom(mixSeed('uniform', seed, ...dims));
  const values = Float32Array.from(
    { length: elementCount(dims) },
    () => low + (high - low) * random.uniform(),
  );
  return floatTensor(dims, values);
}

export function buildForward(computation: Computation): { builder: GraphBuilder; output: string } {
  const builder = new GraphBuilder();
  for (const [name, tensor] of Object.entries(computation.feeds))
    builder.input(name, tensor.dtype, tensor.dims);
  return { builder, output: computation.build(builder) };
}

export function compile(graph: Graph): Promise<Executable> {
  return engine.compile(graph, { device: 'cpu', threads: 1 });
}

/** Runs a graph once. */
export async function execute(
  graph: Graph,
  feeds: Readonly<Record<string, Tensor>>,
): Promise<Record<string, Tensor>> {
  const executable = await compile(graph);
  try {
    return await executable.run(feeds);
  } finally {
    await executable.release();
  }
}

/** Loss = Σ weights · output with fixed random weights, so that every output value counts differently. */
export async function compareGradients(computation: Computation): Promise<GradientComparison> {
  const { builder, output } = buildForward(computation);
  const weights = randomTensor(builder.dimsOf(output), 'loss weights');
  const wrt = computation.wrt ?? Object.keys(computation.feeds);
  const forward = GraphBuilder.from(builder.build());
  forward.output(output, 'result');
  const forwardGraph = forward.build();
  const loss = builder.reduceSum(builder.mul(output, builder.constant(weights)), undefined, false);
  const gradients = appendGradients(builder, loss, wrt);
  for (const name of wrt) builder.output(gradients.get(name)!, `gradient of ${name}`);
  const backwardGraph = builder.build();
  const results = await execute(backwardGraph, computation.feeds);
  const analytic = new Map(wrt.map((name) => [name, results[`gradient of ${name}`]!.data as Float32Array]));
  const numeric = await differences(forwardGraph, computation.feeds, wrt, weights.data);
  let error = 0;
  for (const name of wrt) error = Math.max(error, relativeError(analytic.get(name)!, numeric.get(name)!));
  return { error, analytic, numeric, forward: forwardGraph, backward: backwardGraph };
}

export function relativeError(analytic: Float32Array, numeric: Float64Array): number {
  if (analytic.length !== numeric.length) return Number.POSITIVE_INFINITY;
  const size = numeric.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1);
  return analytic.reduce((worst, value, index) => {
    const error = Math.abs(value - numeric[index]!) / size;
    return Number.isNaN(error) ? Number.POSITIVE_INFINITY : Math.max(worst, error);
  }, 0);
}

/** The weighted sum is taken in doubles outside the graph: float32 rounding of a large sum would drown it. */
async function differences(
  graph: Graph,
  feeds: Feeds,
  wrt: readonly string[],
  weights: Float32Array,
): Promise<Map<string, Float64Array>> {
  const executable = await compile(graph);
  const result = new Map<string, Float64Array>();
  try {
    for (const name of wrt) {
      const { data, dims } = feeds[name]!;
      const slope = new Float64Array(data.length);
      for (let index = 0; index < data.length; index++) {
        const outputs: Float32Array[] = [];
        const places: number[] = [];
        for (const shift of [step, -step]) {
          const moved = data.slice();
          moved[index] = data[index]! + shift;
          places.push(moved[index]!);
          const run = await executable.run({ ...feeds, [name]: floatTensor(dims, moved) });
          outputs.push(run['result']!.data as Float32Array);
        }
        let change = 0;
        for (let i = 0; i < weights.length; i++) change += weights[i]! * (outputs[0]![i]! - outputs[1]![i]!);
        slope[index] = change / (places[0]! - places[1]!);
      }
      result.set(name, slope);
    }
  } finally {
    await executable.release();
  }
  return result;
}
