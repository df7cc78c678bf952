/** Gelu written out where its gradient needs the error function as well, so that it is computed once. */
import { stringOf } from '../attributes.ts';
import type { Graph, GraphNode } from '../graph.ts';
import { rewriteNodes } from '../rewrite-graph.ts';
import { indexGraph } from './graph-index.ts';

/**
 * x·Φ(x) = (t + t·erf t)/√2 with t = x/√2, in the very nodes that the gradient rule of Gelu appends; merging
 * common subexpressions afterwards leaves one of each.
 */
export function shareGelu(graph: Graph): Graph {
  const index = indexGraph(graph);
  const inTraining = (node: GraphNode) =>
    node.op === 'Gelu' &&
    stringOf(node.attributes, 'approximate', 'none') === 'none' &&
    index
      .usersOf(node.inputs[0]!)
      .some((user) => user.op === 'Mul' && index.usersOf(user.outputs[0]!).some(({ op }) => op === 'Erf'));
  if (!graph.nodes.some(inTraining)) return graph;
  return rewriteNodes(graph, (node, builder) => {
    if (!inTraining(node)) return node;
    const t = builder.mul(node.inputs[0]!, builder.scalar(Math.SQRT1_2));
    const product = builder.mul(t, builder.add(builder.erf(t), builder.scalar(1)));
    const inputs = [product, builder.scalar(Math.SQRT1_2)];
    return { ...node, op: 'Mul', inputs, attributes: {} };
  });
}
