/**
 * An order of a graph's nodes that follows from how they are connected alone, not from the file that they came from: depth
 * first from the outputs, inputs in their order, each node after those that it reads.
 */
import type { Graph, GraphNode } from '../../graph/graph.ts';

/** The graph with its nodes in that order; nodes that lead to no output are left out. */
export function inCanonicalOrder(graph: Graph): Graph {
  const producer = new Map<string, GraphNode>();
  for (const node of graph.nodes) for (const output of node.outputs) producer.set(output, node);
  const ordered: GraphNode[] = [];
  const visited = new Set<GraphNode>();
  for (const output of graph.outputs) {
    const waiting: { node: GraphNode; next: number }[] = [];
    const enter = (value: string | undefined) => {
      const node = producer.get(value ?? '');
      if (node === undefined || visited.has(node)) return;
      visited.add(node);
      waiting.push({ node, next: 0 });
    };
    enter(output);
    for (let top = waiting.at(-1); top !== undefined; top = waiting.at(-1)) {
      if (top.next < top.node.inputs.length) enter(top.node.inputs[top.next++]);
      else {
        ordered.push(top.node);
        waiting.pop();
      }
    }
  }
  return { ...graph, nodes: ordered };
}
