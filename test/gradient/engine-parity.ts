/** Runs one graph on two engines and compares what comes out. */
import type { Engine, Executable } from '../../core/engine/engine.ts';
import { createOnnxRuntimeEngine } from '../../core/engine/onnxruntime/engine.ts';
import { createTensorFlowEngine } from '../../core/engine/tensorflow/engine.ts';
import { readInstallation, tensorFlowFolder } from '../../core/engine/tensorflow/installation.ts';
import { appendGradients } from '../../core/graph/autodiff.ts';
import type { Graph } from '../../core/graph/graph.ts';
import type { Tensor } from '../../core/shared/tensor.ts';
import { buildForward, randomTensor } from './finite-differences.ts';
import type { RuleCase } from './rule-cases.ts';

export interface Leg {
  readonly title: string;
  readonly engine: Engine;
}

/** WebAssembly always; the native library where it is installed (`.ci/tensorflow.sh` does that). */
export function tensorFlowLegs(): Leg[] {
  const wasm = { title: 'WebAssembly', engine: createTensorFlowEngine({ folder: '/nowhere' }) };
  const native = readInstallation(tensorFlowFolder());
  if (native === undefined) {
    if (process.env['WITH_TENSORFLOW'])
      throw new Error('WITH_TENSORFLOW is set, but no libtensorflow is installed');
    return [wasm];
  }
  return [wasm, { title: `libtensorflow ${native.tensorflow}`, engine: createTensorFlowEngine() }];
}

const reference = createOnnxRuntimeEngine();

async function runOnce(engine: Engine, graph: Graph, feeds: Readonly<Record<string, Tensor>>) {
  const executable: Executable = await engine.compile(graph, { device: 'cpu', threads: 2 });
  try {
    return await executable.run(feeds);
  } finally {
    await executable.release();
  }
}

export interface Disagreement {
  readonly output: string;
  /** Largest |a − b| over the largest |b|; infinite when shapes or types differ or a value is not a number. */
  readonly error: number;
}

/** The outputs of `engine` against ONNX Runtime's on the processor, the worst first. */
export async function disagreements(
  engine: Engine,
  graph: Graph,
  feeds: Readonly<Record<string, Tensor>>,
): Promise<Disagreement[]> {
  const expected = await runOnce(reference, graph, feeds);
  const actual = await runOnce(engine, graph, feeds);
  const compared = graph.outputs.map((output) => ({
    output,
    error: relativeDifference(actual[output]!, expected[output]!),
  }));
  return compared.sort((a, b) => b.error - a.error);
}

export function relativeDifference(actual: Tensor, expected: Tensor): number {
  if (actual.dtype !== expected.dtype || actual.dims.join() !== expected.dims.join()) return Infinity;
  if (actual.data.length !== expected.data.length) return Infinity;
  let largest = 0;
  let difference = 0;
  for (let i = 0; i < expected.data.length; i++) {
    const [a, b] = [Number(actual.data[i]), Number(expected.data[i])];
    largest = Math.max(largest, Math.abs(b));
    difference = Number.isNaN(a) || Number.isNaN(b) ? Infinity : Math.max(difference, Math.abs(a - b));
  }
  return difference === 0 ? 0 : difference / Math.max(largest, 1e-6);
}

/** Its result, a weighted sum as the loss, and the gradients of that. */
export function withGradients(ruleCase: RuleCase): Graph {
  const { builder, output } = buildForward(ruleCase);
  const weights = randomTensor(builder.dimsOf(output), 'loss weights');
  const wrt = ruleCase.wrt ?? Object.keys(ruleCase.feeds);
  const loss = builder.reduceSum(builder.mul(output, builder.constant(weights)), undefined, false);
  const gradients = appendGradients(builder, loss, wrt);
  builder.output(output, 'result');
  for (const name of wrt) builder.output(gradients.get(name)!, `gradient of ${name}`);
  return builder.build();
}
