/** Who makes and who reads each value of a graph. */
import type { Graph, GraphNode } from '../graph.ts';

export interface GraphIndex {
  producerOf(value: string): GraphNode | undefined;
  usersOf(value: string): readonly GraphNode[];
  /** The only node that reads the value; undefined when there are none or several, or when it is a graph output. */
  onlyUserOf(value: string): GraphNode | undefined;
  isOutput(value: string): boolean;
  /** The value of a float32 constant of one element. */
  scalarOf(value: string): number | undefined;
}

export function indexGraph(graph: Graph): GraphIndex {
  const producers = new Map<string, GraphNode>();
  const users = new Map<string, GraphNode[]>();
  for (const node of graph.nodes) {
    for (const output of node.outputs) producers.set(output, node);
    for (const input of new Set(node.inputs)) {
      const known = users.get(input);
      if (known) known.push(node);
      else users.set(input, [node]);
    }
  }
  const outputs = new Set(graph.outputs);
  const usersOf = (value: string) => users.get(value) ?? [];
  return {
    producerOf: (value) => producers.get(value),
    usersOf,
    onlyUserOf: (value) =>
      outputs.has(value) || usersOf(value).length !== 1 ? undefined : usersOf(value)[0],
    isOutput: (value) => outputs.has(value),
    scalarOf(value) {
      const tensor = graph.initializers.get(value);
      return tensor?.dtype === 'float32' && tensor.data.length === 1 ? Number(tensor.data[0]) : undefined;
    },
  };
}
