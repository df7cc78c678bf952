/**
 * Batched products with a factor that a Transpose has turned, for processors: ONNX Runtime's FusedMatMul reads the
 * second factor turned as it lies. What is left to move keeps its innermost axis, which is several times faster,
 * and is often there already.
 */
import type { Graph, GraphNode } from '../graph.ts';
import { permutationOf } from '../operators/shape.ts';
import { indexGraph } from './graph-index.ts';

/** Transpose of a Transpose becomes one of the first one's input. */
export function composeTransposes(graph: Graph): Graph {
  const sources = new Map<string, { input: string; permutation: number[] }>();
  const nodes = graph.nodes.map((node) => {
    if (node.op !== 'Transpose') return node;
    const [input, output] = [node.inputs[0]!, node.outputs[0]!];
    const permutation = permutationOf(node.attributes, graph.types.get(input)!.dims.length);
    const earlier = sources.get(input);
    const whole = earlier
      ? { input: earlier.input, permutation: permutation.map((axis) => earlier.permutation[axis]!) }
      : { input, permutation };
    sources.set(output, whole);
    return earlier ? { ...node, inputs: [whole.input], attributes: { perm: whole.permutation } } : node;
  });
  return { ...graph, nodes };
}

/** MatMul(a, Transpose(b)) reads b turned wherever the Transpose moves b's innermost axis away from the end. */
export function readRotatedFactors(graph: Graph): Graph {
  const index = indexGraph(graph);
  const types = new Map(graph.types);
  const nodes = graph.nodes.flatMap((node): GraphNode[] => {
    const turned = node.op === 'MatMul' ? index.producerOf(node.inputs[1]!) : undefined;
    if (turned?.op !== 'Transpose') return [node];
    const source = turned.inputs[0]!;
    const { dtype, dims } = graph.types.get(source)!;
    const rank = dims.length;
    const permutation = permutationOf(turned.attributes, rank);
    if (
      rank < 3 ||
      graph.types.get(node.inputs[0]!)!.dims.length !== rank ||
      permutation[rank - 2] !== rank - 1
    ) {
      return [node];
    }
    const kept = [...permutation.slice(0, -2), permutation[rank - 1]!, rank - 1];
    const fused = { ...node, op: 'FusedMatMul', domain: 'com.microsoft', attributes: { transB: 1 } };
    if (kept.every((axis, place) => axis === place)) return [{ ...fused, inputs: [node.inputs[0]!, source] }];
    const output = `${node.name}.factor`;
    types.set(output, { dtype, dims: kept.map((axis) => dims[axis]!) });
    const moved: GraphNode = {
      op: 'Transpose',
      name: output,
      inputs: [source],
      outputs: [output],
      attributes: { perm: kept },
    };
    return [moved, { ...fused, inputs: [node.inputs[0]!, output] }];
  });
  return { ...graph, nodes, types };
}

/** Drops nodes whose results nobody reads. */
export function withoutUnread(graph: Graph): Graph {
  const read = new Set(graph.outputs);
  const kept: GraphNode[] = [];
  for (const node of graph.nodes.toReversed()) {
    if (!node.outputs.some((output) => read.has(output))) continue;
    for (const input of node.inputs) read.add(input);
    kept.push(node);
  }
  return { ...graph, nodes: kept.reverse() };
}
