/** Gelu written out where its gradient needs the error function as well, so that it is computed once. */
import { stringOf } from '../attributes.ts';
import type { Graph, GraphNode } from '../graph.ts';
import { GraphBuilder } from '../graph-builder.ts';
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
  const outer = [...graph.inputs, ...graph.initializers.keys()];
  const builder = GraphBuilder.from({
    ...graph,
    nodes: [],
    outputs: [],
    types: new Map(outer.map((name) => [name, graph.types.get(name)!])),
  });
  builder.reserve([...graph.types.keys(), ...graph.nodes.map(({ name }) => name)]);
  for (const node of graph.nodes) {
    if (!inTraining(node)) {
      builder.copyNode(node, graph.types);
      continue;
    }
    const t = builder.mul(node.inputs[0]!, builder.scalar(Math.SQRT1_2));
    const product = builder.mul(t, builder.add(builder.erf(t), builder.scalar(1)));
    const inputs = [product, builder.scalar(Math.SQRT1_2)];
    builder.copyNode(
      { op: 'Mul', name: node.name, inputs, outputs: node.outputs, attributes: {} },
      graph.types,
    );
  }
  for (const output of graph.outputs) builder.output(output);
  return builder.build();
}
