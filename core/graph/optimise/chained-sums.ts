/** A sum with a matrix product becomes the product's own summand: one pass over memory less. */
import { sameDims } from '../../shared/tensor.ts';
import type { Graph, GraphNode } from '../graph.ts';
import { indexGraph } from './graph-index.ts';

/** a + A·B with the product used nowhere else becomes Gemm(A, B, a). */
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
