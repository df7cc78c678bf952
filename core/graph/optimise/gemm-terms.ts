/** Constant factors and sums beside matrix products become terms of those: alpha·A·B + beta·C is one node. */
import { sameDims } from '../../shared/tensor.ts';
import { floatOf } from '../attributes.ts';
import type { Graph, GraphNode } from '../graph.ts';
import { type GraphIndex, indexGraph } from './graph-index.ts';

interface Product {
  readonly node: GraphNode;
  readonly value: string;
  readonly factor: number;
}

/** y = x·c with a constant number c, when y is as large as x. */
function scalarProduct(node: GraphNode, graph: Graph, index: GraphIndex): Product | undefined {
  if (node.op !== 'Mul') return undefined;
  const [left, right] = node.inputs as [string, string];
  for (const [value, other] of [
    [left, right],
    [right, left],
  ] as const) {
    const factor = index.scalarOf(other);
    const same = graph.types.get(value)!.dims.length === graph.types.get(node.outputs[0]!)!.dims.length;
    if (factor !== undefined && same) return { node, value, factor };
  }
  return undefined;
}

function scaledGemm(gemm: GraphNode, alphaFactor: number, betaFactor: number): GraphNode {
  const alpha = floatOf(gemm.attributes, 'alpha', 1) * alphaFactor;
  const beta = floatOf(gemm.attributes, 'beta', 1) * betaFactor;
  const attributes = { ...gemm.attributes, alpha: { float: alpha } };
  return { ...gemm, attributes: gemm.inputs[2] ? { ...attributes, beta: { float: beta } } : attributes };
}

/** Whether a Gemm reads the value as one of its two factors only, and as one of them only. */
function isOneFactor({ op, inputs }: GraphNode, value: string): boolean {
  return op === 'Gemm' && inputs[2] !== value && (inputs[0] === value) !== (inputs[1] === value);
}

/** (A·B)·c becomes one Gemm, and so does (x·c)·B. One pass; what it makes possible is left to the next. */
export function absorbScalarFactors(graph: Graph): Graph {
  const index = indexGraph(graph);
  const replaced = new Map<GraphNode, GraphNode>();
  const dropped = new Set<GraphNode>();
  const free = (...nodes: readonly GraphNode[]) =>
    nodes.every((node) => !replaced.has(node) && !dropped.has(node));
  for (const node of graph.nodes) {
    const product = scalarProduct(node, graph, index);
    if (product === undefined) continue;
    const { value, factor } = product;
    const [y] = node.outputs as [string];
    const source = index.producerOf(value);
    if (source?.op === 'Gemm' && index.onlyUserOf(value) === node && free(source, node)) {
      // At the place of the product, since a summand of the Gemm may not be older than that.
      replaced.set(node, { ...scaledGemm(source, factor, factor), name: node.name, outputs: [y] });
      dropped.add(source);
      continue;
    }
    const users = index.usersOf(y);
    if (
      index.isOutput(y) ||
      users.length === 0 ||
      !users.every((user) => isOneFactor(user, y)) ||
      !free(node, ...users)
    ) {
      continue;
    }
    for (const user of users) {
      const inputs = user.inputs.map((input) => (input === y ? value : input));
      replaced.set(user, { ...scaledGemm(user, factor, 1), inputs });
    }
    dropped.add(node);
  }
  const nodes = graph.nodes.filter((node) => !dropped.has(node)).map((node) => replaced.get(node) ?? node);
  return { ...graph, nodes };
}

/** a + A·B with the product used nowhere else becomes Gemm(A, B, a): one pass over memory less. */
export function chainSums(graph: Graph): Graph {
  const index = indexGraph(graph);
  const replaced = new Map<GraphNode, GraphNode>();
  const dropped = new Set<GraphNode>();
  const dimsOf = (value: string) => graph.types.get(value)!.dims;
  for (const node of graph.nodes) {
    if (node.op !== 'Add') continue;
    const [left, right] = node.inputs as [string, string];
    for (const [summand, value] of [
      [left, right],
      [right, left],
    ] as const) {
      const product = index.producerOf(value);
      if (product?.op !== 'Gemm' || product.inputs[2] || index.onlyUserOf(value) !== node) continue;
      if (summand === value || dropped.has(product) || !sameDims(dimsOf(summand), dimsOf(value))) continue;
      // A product that has become a sum itself in this pass is no longer free of a summand.
      if (replaced.has(product)) continue;
      const inputs = [product.inputs[0]!, product.inputs[1]!, summand];
      replaced.set(node, { ...product, name: node.name, inputs, outputs: node.outputs });
      dropped.add(product);
      break;
    }
  }
  const nodes = graph.nodes.filter((node) => !dropped.has(node)).map((node) => replaced.get(node) ?? node);
  return { ...graph, nodes };
}
