/**
 * Builds ONNX graphs (opset 20) operator by operator; every value gets a static type.
 * Source of the operators' meaning: https://onnx.ai/onnx/operators/
 */
import type { Attributes } from './attributes.ts';
import type { Graph, GraphNode } from './graph.ts';
import { OperatorBuilder } from './operator-builder.ts';
import { inferTypes, operators } from './operators.ts';

/** Values are named by strings; each operator method returns the name of its output. */
export class GraphBuilder extends OperatorBuilder {
  /** Goes on with an existing graph: its inputs, nodes, initializers, outputs and types are taken over. */
  static from(graph: Graph): GraphBuilder {
    const builder = new GraphBuilder();
    builder.load(graph);
    return builder;
  }

  override append(
    op: string,
    inputs: readonly string[],
    attributes: Attributes = {},
    outputCount = 1,
  ): string[] {
    const request = { builder: this, op, inputs, attributes, outputCount };
    const composed = operators.get(op)?.compose?.(request);
    if (composed !== undefined) return composed;
    for (const input of inputs) if (input !== '') this.typeOf(input);
    const name = this.freshName(op.toLowerCase());
    return this.addNode({ op, name, inputs, attributes }, inferTypes({ ...request, name }));
  }
}

/** A builder with a graph's inputs and constants but none of its nodes, whose names it keeps free. */
export function builderWithoutNodes(graph: Graph): GraphBuilder {
  const outer = [...graph.inputs, ...graph.initializers.keys()];
  const types = new Map(outer.map((name) => [name, graph.types.get(name)!]));
  const builder = GraphBuilder.from({ ...graph, nodes: [], outputs: [], types });
  builder.reserve([...graph.types.keys(), ...graph.nodes.map(({ name }) => name)]);
  return builder;
}

/**
 * Rewrites a graph node by node.
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
