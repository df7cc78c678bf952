/** Rewrites a forward graph so that weights can train: LoRA factors beside them, or the weights themselves. */
import type { Graph, GraphNode } from '../graph/graph.ts';
import { builderWithoutNodes, type GraphBuilder } from '../graph/graph-builder.ts';
import { AppError } from '../shared/errors.ts';
import { sameDims } from '../shared/tensor.ts';
import { basePrefix, isFactorName } from './model-state.ts';

/** What injection needs to know of a layer; `AdaptableLayer` of a base model has it all. */
export interface LoraTarget {
  readonly module: string;
  readonly kind: 'conv' | 'linear';
  /** Name of the weight among the graph's initializers or inputs. */
  readonly weight: string;
  /** conv: [out, in, kh, kw]; linear: [out, in]. */
  readonly weightDims: readonly number[];
}

export interface LoraInjection {
  readonly layer: LoraTarget;
  readonly r: number;
  readonly scale: number;
  /**
   * Probability, 0 (default) to below 1, with which a value that A reads is dropped. Above 0 the branch reads x · mask, where
   * the mask is a graph input {@link loraMaskName} of x's shape; see `fillLoraMask` for its values.
   */
  readonly dropout?: number;
}

/** Name of the graph input that takes a layer's factor A; PEFT's words. */
export function loraAName(module: string): string {
  return `${module}.lora_A`;
}

/** Name of the graph input that takes a layer's factor B. */
export function loraBName(module: string): string {
  return `${module}.lora_B`;
}

/** Name of the graph input that takes the dropout mask of a layer, in the shape of what the layer reads. */
export function loraMaskName(module: string): string {
  return `${module}.lora_mask`;
}

/** Name of the graph input that takes a tensor of a state: factors and base weights by their names in the model. */
export function inputNameOf(name: string): string {
  if (isFactorName(name)) return name.slice('lora.'.length, -'.weight'.length);
  return name.startsWith(basePrefix) ? name.slice(basePrefix.length) : name;
}

/** Shapes of A and B for a layer at rank r, as `LoraLayer` has them. */
export function loraDims(layer: LoraTarget, r: number): { a: number[]; b: number[] } {
  const [out, ...rest] = layer.weightDims as [number, ...number[]];
  return { a: [r, ...rest], b: layer.kind === 'conv' ? [out, r, 1, 1] : [out, r] };
}

/**
 * Every use y = op(x, W) of an adapted weight becomes y + scale · B(A(x)), with graph inputs
 * `${module}.lora_A` and `${module}.lora_B` in the shapes of {@link loraDims}, in the order given; with dropout
 * y + scale · B(A(x · mask)), with inputs `${module}.lora_mask` after those, in the order of use.
 * Handles Conv (in groups, too: ΔW has the weight's own shape [out, in / group, kh, kw] there), Gemm,
 * MatMul with a weight [in, out], and MatMul with a transposed weight [out, in].
 * Source: Hu et al. 2021; for convolutions a kh×kw convolution to r channels, then 1×1 (as PEFT has it).
 * @throws AppError SHAPE_MISMATCH when the model has no such layer, OPERATOR_UNSUPPORTED when its operator
 *   cannot carry factors
 */
export function injectLora(graph: Graph, injections: readonly LoraInjection[]): Graph {
  const byWeight = new Map(injections.map((injection) => [injection.layer.weight, injection]));
  const transposed = transposedWeights(graph, byWeight);
  const builder = builderWithoutNodes(graph);
  for (const { layer, r } of injections) {
    const dims = loraDims(layer, r);
    builder.input(loraAName(layer.module), 'float32', dims.a);
    builder.input(loraBName(layer.module), 'float32', dims.b);
  }
  const adapted = new Set<string>();
  for (const node of graph.nodes) {
    const weight = node.inputs[1] ?? '';
    const injection = byWeight.get(weight) ?? transposed.get(weight);
    if (injection === undefined) {
      builder.copyNode(node, graph.types);
      continue;
    }
    adapted.add(injection.layer.module);
    adaptNode(builder, node, graph, injection, transposed.has(weight));
  }
  for (const output of graph.outputs) builder.output(output);
  const missing = injections.find(({ layer }) => !adapted.has(layer.module));
  if (missing !== undefined) throw unknownLayer(missing.layer.module);
  return builder.build();
}

/** Makes initializers graph inputs, in the order given: what `full` and `last-k` train. */
export function promoteToInputs(graph: Graph, names: readonly string[]): Graph {
  const initializers = new Map(graph.initializers);
  for (const name of names) {
    if (!initializers.delete(name)) {
      throw new AppError('MODEL_FILE_INVALID', `The model has no weight "${name}" to train.`);
    }
  }
  return { ...graph, inputs: [...graph.inputs, ...names], initializers };
}

function unknownLayer(module: string): AppError {
  return new AppError('SHAPE_MISMATCH', `The base model has no layer "${module}" to adapt.`);
}

/** Values that are an adapted weight turned by a Transpose node. */
function transposedWeights(
  graph: Graph,
  byWeight: ReadonlyMap<string, LoraInjection>,
): Map<string, LoraInjection> {
  const found = new Map<string, LoraInjection>();
  for (const node of graph.nodes) {
    const injection = byWeight.get(node.inputs[0] ?? '');
    if (node.op === 'Transpose' && injection !== undefined) found.set(node.outputs[0]!, injection);
  }
  return found;
}

/** Appends the node with its output renamed, and the low-rank way beside it under the old name. */
function adaptNode(
  builder: GraphBuilder,
  node: GraphNode,
  graph: Graph,
  injection: LoraInjection,
  weightIsTransposed: boolean,
): void {
  const output = node.outputs[0]!;
  const frozen = `${output}.frozen`;
  const type = graph.types.get(output)!;
  builder.copyNode({ ...node, outputs: [frozen] }, new Map([[frozen, type]]));
  const delta = lowRankDelta(builder, node, injection, weightIsTransposed);
  builder.copyNode(
    { op: 'Add', name: `${node.name}.adapted`, inputs: [frozen, delta], outputs: [output], attributes: {} },
    new Map([[output, type]]),
  );
}

function lowRankDelta(
  builder: GraphBuilder,
  node: GraphNode,
  { layer, scale, dropout = 0 }: LoraInjection,
  weightIsTransposed: boolean,
): string {
  const a = loraAName(layer.module);
  const b = loraBName(layer.module);
  const x = dropout > 0 ? maskedInput(builder, node.inputs[0]!, layer.module) : node.inputs[0]!;
  const scaled = (value: string) => (scale === 1 ? value : builder.mul(value, builder.scalar(scale)));
  if (node.op === 'Conv' && layer.kind === 'conv') {
    const group = (node.attributes['group'] as number | undefined) ?? 1;
    const inner = builder.append1('Conv', [x, repeatFactor(builder, a, group)], node.attributes);
    // On the factor, which is small, and not on what it is applied to.
    return builder.conv(inner, scaled(b), group === 1 ? {} : { group });
  }
  if (node.op === 'Gemm' && layer.kind === 'linear') {
    checkLinear(node, layer, node.attributes['transB'] === 1, builder);
    const inner = builder.gemm(x, a, undefined, { transA: node.attributes['transA'] === 1, transB: true });
    const alpha = node.attributes['alpha'] as { float: number } | undefined;
    // What the operator multiplies its product with, it does with a merged weight, too.
    return builder.gemm(scaled(inner), b, undefined, {
      transB: true,
      ...(alpha === undefined ? {} : { alpha: alpha.float }),
    });
  }
  if (node.op === 'MatMul' && layer.kind === 'linear') {
    checkLinear(node, layer, weightIsTransposed, builder);
    const inner = builder.matMul(x, builder.transpose(a, [1, 0]));
    return builder.matMul(scaled(inner), builder.transpose(b, [1, 0]));
  }
  throw new AppError(
    'OPERATOR_UNSUPPORTED',
    `The layer "${layer.module}" (${node.op}) cannot carry LoRA factors.`,
  );
}

/** A once for each group of a convolution, [group · r, in / group, kh, kw]: on its own channels, before its own rows of B. */
function repeatFactor(builder: GraphBuilder, a: string, group: number): string {
  if (group === 1) return a;
  const [r = 1, ...rest] = builder.dimsOf(a);
  const copies = builder.expand(builder.unsqueeze(a, [0]), [group, r, ...rest]);
  return builder.reshape(copies, [group * r, ...rest]);
}

/** x · mask; a weight that is used twice takes its mask twice, as both uses read as many values. */
function maskedInput(builder: GraphBuilder, x: string, module: string): string {
  const mask = loraMaskName(module);
  const dims = builder.dimsOf(x);
  if (!builder.has(mask)) builder.input(mask, 'float32', dims);
  else if (!sameDims(builder.dimsOf(mask), dims)) {
    throw new AppError(
      'OPERATOR_UNSUPPORTED',
      `The layer "${module}" is used on inputs of different shapes, which LoRA dropout cannot follow.`,
      { action: 'Set the LoRA dropout to 0 for this model.' },
    );
  }
  return builder.mul(x, mask);
}

/** Guards against a square weight read the wrong way round being adapted without a word. */
function checkLinear(node: GraphNode, layer: LoraTarget, outFirst: boolean, builder: GraphBuilder): void {
  const [out, input] = layer.weightDims as [number, number];
  const dims = builder.dimsOf(node.inputs[1]!);
  // A Transpose has already been applied to what the MatMul reads.
  const [rows, columns] = node.op === 'Gemm' && outFirst ? [out, input] : [input, out];
  if (dims[0] !== rows || dims[1] !== columns) {
    throw new AppError(
      'MODEL_FILE_INVALID',
      `The layer "${layer.module}" has a weight of shape [${dims.join(', ')}] instead of [${rows}, ${columns}].`,
    );
  }
}
