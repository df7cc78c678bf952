/** Nodes that compute the same from the same are computed once. */
import type { Attribute, Graph, GraphNode } from '../graph.ts';

/** Operators whose repetition is not the same value. */
const stateful = new Set([
  'Dropout',
  'RandomNormal',
  'RandomUniform',
  'RandomNormalLike',
  'RandomUniformLike',
]);

function attributeKey(value: Attribute): unknown {
  if (typeof value !== 'object' || Array.isArray(value) || 'float' in value) return value;
  const { dtype, dims, data } = value as { dtype: string; dims: readonly number[]; data: ArrayLike<unknown> };
  return [dtype, dims, Array.from(data, String)];
}

function keyOf({ op, domain, inputs, outputs, attributes }: GraphNode): string {
  const sorted = Object.keys(attributes).sort();
  return JSON.stringify([
    op,
    domain ?? '',
    inputs,
    outputs.length,
    sorted.map((name) => [name, attributeKey(attributes[name]!)]),
  ]);
}

/** The first of equal nodes stays; a node that makes a graph output always stays. */
export function mergeCommonSubexpressions(graph: Graph): Graph {
  const outputs = new Set(graph.outputs);
  const renamed = new Map<string, string>();
  const known = new Map<string, GraphNode>();
  const nodes: GraphNode[] = [];
  for (const original of graph.nodes) {
    const inputs = original.inputs.map((input) => renamed.get(input) ?? input);
    const node = { ...original, inputs };
    const key = keyOf(node);
    const twin = stateful.has(node.op) ? undefined : known.get(key);
    if (twin !== undefined && !node.outputs.some((output) => outputs.has(output))) {
      for (const [index, output] of node.outputs.entries()) renamed.set(output, twin.outputs[index]!);
      continue;
    }
    if (twin === undefined) known.set(key, node);
    nodes.push(node);
  }
  return { ...graph, nodes };
}
