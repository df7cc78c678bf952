/**
 * The scale and shift of a frozen LayerNormalization move into the products that read it:
 * (γ∘x̂ + β)Wᵀ + b = x̂(W∘γ)ᵀ + (b + Wβ). What is left is x̂, which is what the gradient wants.
 */
import { type FloatTensor, floatTensor } from '../../shared/tensor.ts';
import { floatOf, integerOf } from '../attributes.ts';
import type { Graph, GraphNode } from '../graph.ts';
import { type GraphBuilder, rewriteNodes } from '../graph-builder.ts';
import { type GraphIndex, indexGraph } from './graph-index.ts';

interface Affine {
  readonly scale: FloatTensor;
  readonly shift: FloatTensor;
}

/**
 * Folds every LayerNormalization over the last axis whose scale and bias are constants and whose result is read
 * by matrix products alone. A weight that is fed (a LoRA factor) is scaled in the graph, where it is small.
 */
export function foldNormalisationAffine(graph: Graph): Graph {
  const index = indexGraph(graph);
  const folded = new Map<string, Affine>();
  for (const node of graph.nodes) {
    const affine = foldableAffine(node, graph, index);
    if (affine) folded.set(node.outputs[0]!, affine);
  }
  if (folded.size === 0) return graph;
  return rewriteNodes(graph, (node, builder) => {
    const affine = folded.get(node.outputs[0]!);
    if (affine) return plainNormalisation(builder, node, affine);
    const read = node.op === 'Gemm' ? folded.get(node.inputs[0]!) : undefined;
    return read ? foldedProduct(builder, node, graph, read) : node;
  });
}

function foldableAffine(node: GraphNode, graph: Graph, index: GraphIndex): Affine | undefined {
  if (node.op !== 'LayerNormalization' || node.outputs.length !== 1) return undefined;
  const [x, scaleName, biasName] = node.inputs as [string, string, string | undefined];
  const y = node.outputs[0]!;
  const rank = graph.types.get(x)!.dims.length;
  const axis = integerOf(node.attributes, 'axis', -1);
  const scale = graph.initializers.get(scaleName) as FloatTensor | undefined;
  const bias = biasName ? (graph.initializers.get(biasName) as FloatTensor | undefined) : undefined;
  if (rank !== 2 || (axis !== -1 && axis !== 1) || scale === undefined || (biasName && !bias))
    return undefined;
  const users = index.usersOf(y);
  if (index.isOutput(y) || users.length === 0) return undefined;
  const shift = bias ?? floatTensor(scale.dims);
  return users.every((user) => isFoldable(user, y, graph)) ? { scale, shift } : undefined;
}

/** A product x·W or x·Wᵀ whose summand, if any, is a constant vector. */
function isFoldable({ op, inputs, attributes }: GraphNode, value: string, graph: Graph): boolean {
  const [left, right, summand] = inputs as [string, string, string | undefined];
  if (op !== 'Gemm' || left !== value || right === value || summand === value) return false;
  if (integerOf(attributes, 'transA', 0) !== 0 || floatOf(attributes, 'beta', 1) !== 1) return false;
  return (
    floatOf(attributes, 'alpha', 1) === 1 && (!summand || graph.initializers.get(summand)?.dims.length === 1)
  );
}

function plainNormalisation(builder: GraphBuilder, node: GraphNode, { scale }: Affine): GraphNode {
  const ones = builder.constant(floatTensor(scale.dims, new Float32Array(scale.data.length).fill(1)));
  const zeros = builder.constant(floatTensor(scale.dims));
  return { ...node, inputs: [node.inputs[0]!, ones, zeros] };
}

function foldedProduct(builder: GraphBuilder, node: GraphNode, graph: Graph, affine: Affine): GraphNode {
  const [x, weightName, summandName] = node.inputs as [string, string, string | undefined];
  const outFirst = integerOf(node.attributes, 'transB', 0) !== 0;
  const weight = graph.initializers.get(weightName) as FloatTensor | undefined;
  const summand = summandName ? (graph.initializers.get(summandName) as FloatTensor) : undefined;
  if (weight) {
    const { folded, shift } = foldWeight(weight, affine, outFirst);
    const base = summand?.data;
    const bias = shift.map((value, n) => value + (base ? base[base.length === 1 ? 0 : n]! : 0));
    const inputs = [x, builder.constant(folded), builder.constant(floatTensor([bias.length], bias))];
    return { ...node, inputs };
  }
  const size = affine.scale.data.length;
  const row = (data: Float32Array, dims: readonly number[]) => builder.constant(floatTensor(dims, data));
  const scaled = builder.mul(weightName, row(affine.scale.data, outFirst ? [1, size] : [size, 1]));
  const shift = builder.gemm(row(affine.shift.data, [1, size]), weightName, summandName, {
    transB: outFirst,
  });
  return { ...node, inputs: [x, scaled, shift] };
}

/** W∘γ in the layout of W, and Wβ. */
function foldWeight(
  { dims, data }: FloatTensor,
  { scale, shift }: Affine,
  outFirst: boolean,
): { folded: FloatTensor; shift: Float32Array } {
  const [rows, columns] = dims as [number, number];
  const folded = floatTensor(dims);
  const sums = new Float64Array(outFirst ? rows : columns);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, at++) {
      const inner = outFirst ? column : row;
      const outer = outFirst ? row : column;
      const value = data[at]!;
      folded.data[at] = value * scale.data[inner]!;
      sums[outer] = sums[outer]! + value * shift.data[inner]!;
    }
  }
  return { folded, shift: Float32Array.from(sums) };
}
