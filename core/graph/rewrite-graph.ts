/** Rewriting a graph node by node. */
import type { Graph, GraphNode } from './graph.ts';
import { GraphBuilder } from './graph-builder.ts';

/** A builder with a graph's inputs and constants but none of its nodes, whose names it keeps free. */
export function builderWithoutNodes(graph: Graph): GraphBuilder {
  const outer = [...graph.inputs, ...graph.initializers.keys()];
  const types = new Map(outer.map((name) => [name, graph.types.get(name)!]));
  const builder = GraphBuilder.from({ ...graph, nodes: [], outputs: [], types });
  builder.reserve([...graph.types.keys(), ...graph.nodes.map(({ name }) => name)]);
  return builder;
}

/**
 * @param rewrite gives the node that takes a node's place, with the same outputs; what it needs besides, it
 *   appends to the builder
 */
export function rewriteNodes(
  graph: Graph,
  rewrite: (node: GraphNode, builder: GraphBuilder) => GraphNode,
): Graph {
  const builder = builderWithoutNodes(graph);
  for (const node of graph.nodes) builder.copyNode(rewrite(node, builder), graph.types);
  for (const output of graph.outputs) builder.output(output);
  return builder.build();
}
