/** Compiling and running graphs, operator by operator. */
import * as tf from '@tensorflow/tfjs';
import type { Graph, GraphNode } from '../../graph/graph.ts';
import { AppError } from '../../shared/errors.ts';
import { elementCount, type Tensor } from '../../shared/tensor.ts';
import { checkFeeds } from '../check-feeds.ts';
import type { CompileOptions, Executable } from '../engine.ts';
import { runError } from '../run-error.ts';
import { selectBackend, startBackend, wasmBackendName } from './backend.ts';
import type { Kernel } from './operators/kernel.ts';
import { operatorTable } from './operators/table.ts';
import { download, upload } from './transfer.ts';
import { createConstantValue, createValue, type Produced, plain, type Value } from './value.ts';

interface Step {
  readonly node: GraphNode;
  readonly kernel: Kernel;
  readonly outputBytes: number;
  /** Values that no later node and no output of the graph needs. */
  readonly lastUses: string[];
}

interface Program {
  readonly graph: Graph;
  readonly steps: readonly Step[];
  /** The graph's constants by name. */
  readonly constants: ReadonlyMap<string, Value>;
  /** Constants that kernels made for themselves. */
  readonly kept: readonly Value[];
}

/**
 * @param folder where the native library is installed, if it is
 * @throws AppError OPERATOR_UNSUPPORTED naming the first node that the engine lacks, before anything runs;
 *   DEVICE_UNAVAILABLE; SHAPE_MISMATCH for a constant that does not fit 32-bit integers
 */
export async function compile(folder: string, graph: Graph, options: CompileOptions): Promise<Executable> {
  const program = plan(graph);
  const backend = await startBackend(folder, options);
  return createExecutable(program, backend);
}

function plan(graph: Graph): Program {
  const nodes = neededNodes(graph);
  const kept: Value[] = [];
  const keep = (dims: readonly number[], make: () => tf.Tensor) => {
    const value = createConstantValue(dims, make);
    kept.push(value);
    return value;
  };
  const kernels = nodes.map((node) => kernelOf(graph, node, keep));
  const lastUses = lastUsesOf(graph, nodes);
  const steps = nodes.map((node, index) => ({
    node,
    kernel: kernels[index]!,
    outputBytes: bytesPerValue * node.outputs.reduce((sum, name) => sum + sizeOf(graph, name), 0),
    lastUses: lastUses[index]!,
  }));
  const constants = new Map(
    [...graph.initializers].map(([name, tensor]) => [
      name,
      createConstantValue(tensor.dims, () => upload(name, tensor)),
    ]),
  );
  return { graph, steps, constants, kept };
}

/** On the backends floats and integers have 32 bits. */
const bytesPerValue = 4;

function sizeOf(graph: Graph, name: string): number {
  const type = graph.types.get(name);
  return type === undefined ? 0 : elementCount(type.dims);
}

/** Nodes that lead to an output of the graph. */
function neededNodes(graph: Graph): GraphNode[] {
  const needed = new Set(graph.outputs);
  const nodes: GraphNode[] = [];
  for (const node of graph.nodes.toReversed()) {
    if (!node.outputs.some((output) => needed.has(output))) continue;
    nodes.push(node);
    for (const input of node.inputs) needed.add(input);
  }
  return nodes.reverse();
}

function kernelOf(
  graph: Graph,
  node: GraphNode,
  keep: (dims: readonly number[], make: () => tf.Tensor) => Value,
): Kernel {
  const operator = operatorTable[node.op];
  if (operator === undefined) {
    throw new AppError(
      'OPERATOR_UNSUPPORTED',
      `The operator ${node.op} (${node.name}) is not supported by the engine "tensorflow".`,
      { action: 'Train with the engine "onnxruntime", or choose a model without this operator.' },
    );
  }
  return operator({
    node,
    attributes: node.attributes,
    inputs: node.inputs.map((name) => graph.types.get(name)),
    outputs: node.outputs.flatMap((name) => graph.types.get(name) ?? []),
    constant: (index) => graph.initializers.get(node.inputs[index] ?? ''),
    keep,
  });
}

/** By node: what can be freed after it. Outputs that nobody reads are freed at once. */
function lastUsesOf(graph: Graph, nodes: readonly GraphNode[]): string[][] {
  const spared = new Set(graph.outputs);
  for (const name of graph.initializers.keys()) spared.add(name);
  return nodes
    .toReversed()
    .map((node) => {
      const freed = [...node.inputs, ...node.outputs].filter((name) => name !== '' && !spared.has(name));
      for (const name of freed) spared.add(name);
      return [...new Set(freed)];
    })
    .reverse();
}

/** WebAssembly has 4 GiB of memory at most and aborts for good when they are used up; work space needs some, too. */
const wasmBytes = 3 * 2 ** 30;

function createExecutable(program: Program, backend: string): Executable {
  const limitBytes = backend === wasmBackendName ? wasmBytes : Number.POSITIVE_INFINITY;
  let released = false;
  return {
    async run(feeds) {
      if (released) throw new AppError('TRAINING_FAILED', 'The compiled model has already been released.');
      const checked = checkFeeds(program.graph, feeds);
      await selectBackend(backend);
      return execute(program, checked, limitBytes);
    },
    async release() {
      if (released) return;
      released = true;
      for (const value of program.constants.values()) value.dispose();
      for (const value of program.kept) value.dispose();
    },
  };
}

function execute(
  program: Program,
  feeds: ReadonlyMap<string, Tensor>,
  limitBytes: number,
): Record<string, Tensor> {
  const { graph, constants } = program;
  const live = new Map<string, Value>();
  const lookUp = (name: string) => live.get(name) ?? constants.get(name)!;
  try {
    for (const [name, tensor] of feeds) live.set(name, createValue(tensor.dims, plain(upload(name, tensor))));
    for (const step of program.steps) {
      if (tf.memory().numBytes + step.outputBytes > limitBytes)
        throw new Error('out of memory in WebAssembly');
      runStep(step, graph, live, lookUp);
      for (const name of step.lastUses) {
        live.get(name)?.dispose();
        live.delete(name);
      }
    }
    return Object.fromEntries(
      graph.outputs.map((name) => {
        const { dtype, dims } = graph.types.get(name)!;
        return [name, download(lookUp(name).plain(), dtype, dims)];
      }),
    );
  } catch (cause) {
    throw cause instanceof AppError ? cause : runError(cause, 'TensorFlow');
  } finally {
    for (const value of live.values()) value.dispose();
  }
}

function runStep(
  { node, kernel }: Step,
  graph: Graph,
  live: Map<string, Value>,
  lookUp: (name: string) => Value,
): void {
  const inputs = node.inputs.map((name) => (name === '' ? undefined : lookUp(name)));
  const produced = tf.tidy(
    () => kernel(inputs as Value[]) as unknown as tf.TensorContainer,
  ) as unknown as Produced[];
  for (const [index, name] of node.outputs.entries()) {
    if (name !== '') live.set(name, createValue(graph.types.get(name)!.dims, produced[index]!));
  }
}
