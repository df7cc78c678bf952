/** Floating-point operations of a graph's matrix products and convolutions; a multiply-add counts as two. */
import { elementCount } from '../shared/tensor.ts';
import type { Graph, GraphNode } from './graph.ts';

/** Sum over the nodes Conv, ConvTranspose, Gemm and MatMul; everything else counts as nothing. */
export function countFlops(graph: Graph): number {
  return graph.nodes.reduce((sum, node) => sum + nodeFlops(graph, node), 0);
}

/** How much of {@link countFlops} are convolutions; 0 for a graph without any product. */
export function convolutionShare(graph: Graph): number {
  const convolutions = graph.nodes.filter(({ op }) => op === 'Conv' || op === 'ConvTranspose');
  const flops = convolutions.reduce((sum, node) => sum + nodeFlops(graph, node), 0);
  return flops === 0 ? 0 : flops / countFlops(graph);
}

function nodeFlops(graph: Graph, node: GraphNode): number {
  const dims = (name: string | undefined) => graph.types.get(name ?? '')?.dims ?? [];
  const [x, weight] = [dims(node.inputs[0]), dims(node.inputs[1])];
  const output = dims(node.outputs[0]);
  switch (node.op) {
    case 'MatMul':
    case 'FusedMatMul':
      return 2 * elementCount(output) * innerSize(x, node.op === 'FusedMatMul' && isSet(node, 'transA'));
    case 'Gemm':
      return 2 * elementCount(output) * innerSize(x, isSet(node, 'transA'));
    // weight is [out, in / groups, ...kernel]
    case 'Conv':
      return 2 * elementCount(output) * elementCount(weight.slice(1));
    // weight is [in, out / groups, ...kernel]: every input value meets one such slice
    case 'ConvTranspose':
      return 2 * elementCount(x) * elementCount(weight.slice(1));
    default:
      return 0;
  }
}

/** Length of the sum of a product whose left side has these dims. */
function innerSize(dims: readonly number[], transposed: boolean): number {
  return dims.at(transposed && dims.length > 1 ? -2 : -1) ?? 1;
}

function isSet(node: GraphNode, attribute: string): boolean {
  return node.attributes[attribute] === 1;
}
