/**
 * PRelu for processors: ONNX Runtime takes one value at a time there, about ten times as long as for the same
 * in operators that it has vectorised. The values stay the same to the last bit.
 */
import type { Graph, GraphNode } from '../graph.ts';
import type { GraphBuilder } from '../graph-builder.ts';
import { rewriteNodes } from '../rewrite-graph.ts';

export function splitPrelu(graph: Graph): Graph {
  if (!graph.nodes.some(({ op }) => op === 'PRelu')) return graph;
  return rewriteNodes(graph, (node, builder) =>
    node.op === 'PRelu' ? splitNode(builder, node, graph) : node,
  );
}

/** Appends all but the last node, which it returns under the name and with the output of the PRelu. */
function splitNode(builder: GraphBuilder, node: GraphNode, graph: Graph): GraphNode {
  const [x, slope] = node.inputs as [string, string];
  const known = graph.initializers.get(slope);
  const shrinks =
    known !== undefined && Array.from(known.data, Number).every((value) => value >= 0 && value <= 1);
  // A slope of at most 1 lowers what is positive and raises what is negative: the larger of the two is right.
  if (shrinks) return { ...node, op: 'Max', inputs: [x, builder.mul(x, slope)] };
  const below = builder.mul(builder.min(x, builder.scalar(0)), slope);
  return { ...node, op: 'Add', inputs: [builder.relu(x), below] };
}
