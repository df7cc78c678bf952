/** Activations written out in simpler operators. */
import { stringOf } from '../attributes.ts';
import type { Graph, GraphNode } from '../graph.ts';
import { type GraphBuilder, rewriteNodes } from '../graph-builder.ts';
import { indexGraph } from './graph-index.ts';

/**
 * PRelu for processors: ONNX Runtime takes one value at a time there, about ten times as long as for the same
 * in operators that it has vectorised. The values stay the same to the last bit.
 */
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

/**
 * Gelu where its gradient needs the error function as well, so that it is computed once:
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
