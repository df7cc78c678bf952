/** Nodes that compute the same from the same are computed once. */
import type { Tensor } from '../../shared/tensor.ts';
import type { Attribute, Graph, GraphNode } from '../graph.ts';

/** Constants up to this many values are compared. */
const comparedValues = 64;

function tensorKey({ dtype, dims, data }: Tensor): unknown {
  return [dtype, dims, Array.from(data as ArrayLike<unknown>, String)];
}

function attributeKey(value: Attribute): unknown {
  if (typeof value !== 'object' || Array.isArray(value) || 'float' in value) return value;
  return tensorKey(value as Tensor);
}

/** From each small constant to the first one of the same value. */
function equalConstants({ initializers, outputs }: Graph): Map<string, string> {
  const first = new Map<string, string>();
  const renamed = new Map<string, string>();
  for (const [name, tensor] of initializers) {
    if (tensor.data.length > comparedValues || outputs.includes(name)) continue;
    const key = JSON.stringify(tensorKey(tensor));
    const twin = first.get(key);
    if (twin === undefined) first.set(key, name);
    else renamed.set(name, twin);
  }
  return renamed;
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
  const renamed = equalConstants(graph);
  const known = new Map<string, GraphNode>();
  const nodes: GraphNode[] = [];
  for (const original of graph.nodes) {
    const inputs = original.inputs.map((input) => renamed.get(input) ?? input);
    const node = { ...original, inputs };
    const key = keyOf(node);
    const twin = known.get(key);
    if (twin !== undefined && !node.outputs.some((output) => outputs.has(output))) {
      for (const [index, output] of node.outputs.entries()) renamed.set(output, twin.outputs[index]!);
      continue;
    }
    if (twin === undefined) known.set(key, node);
    nodes.push(node);
  }
  return { ...graph, nodes };
}
