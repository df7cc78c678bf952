/** What layers are for, from how they are connected: names differ from exporter to exporter, connections do not. */
import type { Graph, GraphNode } from '../../graph/graph.ts';

export interface LayerRoles {
  /** Weights of projections whose results meet in an attention: of its queries, of its values, or of several at once. */
  readonly attention: ReadonlySet<string>;
  /** Weights of convolutions that see each channel by itself. */
  readonly depthwise: ReadonlySet<string>;
  /** Weights of the layers that read the pixels: the first convolution, or the embedding of patches. */
  readonly stem: ReadonlySet<string>;
  /** Index of the block of each weight, counted from the input. */
  readonly blocks: ReadonlyMap<string, number>;
}

/** What stands between a projection and the products of an attention: other forms, shares, scales, biases, norms. */
const passing = new Set([
  ...[
    'Reshape',
    'Transpose',
    'Flatten',
    'Split',
    'Slice',
    'Gather',
    'Squeeze',
    'Unsqueeze',
    'Expand',
    'Concat',
  ],
  ...['Mul', 'Div', 'Add', 'Sub', 'Identity', 'Cast', 'Clip', 'Where', 'Relu', 'Elu', 'Softplus'],
  ...['LayerNormalization', 'BatchNormalization', 'InstanceNormalization', 'LpNormalization', 'Pad'],
]);
/** Ways of this many nodes lead somewhere else. */
const longestWay = 48;

/**
 * @param graph in topological order
 * @param weights of the layers
 * @param pixels name of the input
 */
export function layerRoles(graph: Graph, weights: ReadonlySet<string>, pixels: string): LayerRoles {
  const producer = new Map(graph.nodes.flatMap((node) => node.outputs.map((name) => [name, node] as const)));
  return {
    attention: findAttention(graph, weights, producer),
    depthwise: findDepthwise(graph, weights),
    stem: findStem(graph, weights, pixels),
    blocks: findBlocks(graph, weights, pixels),
  };
}

type Producers = ReadonlyMap<string, GraphNode>;

/** The weight of a layer; a transposed one is the layer's, too. */
function weightOf(node: GraphNode, weights: ReadonlySet<string>, producer: Producers): string | undefined {
  const name = node.inputs[1] ?? '';
  if (weights.has(name)) return name;
  const before = producer.get(name);
  const turned = before?.op === 'Transpose' ? before.inputs[0]! : '';
  return weights.has(turned) ? turned : undefined;
}

/** Whatever of `wanted` a value is made of, looking back through {@link passing} nodes. */
function lookBack(value: string, producer: Producers, visit: (node: GraphNode) => boolean): void {
  const waiting = [{ name: value, steps: 0 }];
  const seen = new Set<string>();
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const node = producer.get(next.name);
    if (node === undefined || seen.has(node.name) || next.steps > longestWay) continue;
    seen.add(node.name);
    if (visit(node) || !passing.has(node.op)) continue;
    for (const input of node.inputs) waiting.push({ name: input, steps: next.steps + 1 });
  }
}

function findAttention(graph: Graph, weights: ReadonlySet<string>, producer: Producers): Set<string> {
  const found = new Set<string>();
  const layersBehind = (value: string) => {
    lookBack(value, producer, (node) => {
      const weight = weightOf(node, weights, producer);
      if (weight !== undefined) found.add(weight);
      return weight !== undefined;
    });
  };
  const isProduct = (node: GraphNode) =>
    node.op === 'MatMul' && weightOf(node, weights, producer) === undefined;
  const mixers = new Set<string>();
  for (const softmax of graph.nodes) {
    if (softmax.op !== 'Softmax') continue;
    const scores: GraphNode[] = [];
    lookBack(softmax.inputs[0]!, producer, (node) => {
      if (isProduct(node)) scores.push(node);
      return isProduct(node);
    });
    if (scores.length === 0) continue;
    for (const score of scores) layersBehind(score.inputs[0]!);
    for (const output of softmax.outputs) mixers.add(output);
  }
  if (mixers.size === 0) return found;
  // Forward through the same nodes: the product of the shares with the values.
  for (const node of graph.nodes) {
    const side = node.inputs.findIndex((input) => mixers.has(input));
    if (side < 0) continue;
    if (isProduct(node)) layersBehind(node.inputs[1 - side]!);
    else if (passing.has(node.op)) for (const output of node.outputs) mixers.add(output);
  }
  return found;
}

function findDepthwise(graph: Graph, weights: ReadonlySet<string>): Set<string> {
  const found = new Set<string>();
  for (const { op, inputs, attributes } of graph.nodes) {
    const weight = inputs[1] ?? '';
    if (op !== 'Conv' || !weights.has(weight)) continue;
    const group = (attributes['group'] as number | undefined) ?? 1;
    if (group > 1 && graph.types.get(weight)!.dims[1] === 1) found.add(weight);
  }
  return found;
}

function findStem(graph: Graph, weights: ReadonlySet<string>, pixels: string): Set<string> {
  const stem = new Set<string>();
  const raw = new Set([pixels]);
  for (const node of graph.nodes) {
    if (!node.inputs.some((input) => raw.has(input))) continue;
    const weight = node.inputs[1] ?? '';
    if (weights.has(weight)) stem.add(weight);
    else for (const output of node.outputs) raw.add(output);
  }
  return stem;
}

/**
 * Everything that is computed from an image goes through some values, which cut the network into pieces. A piece with several
 * ways through it is a block (a residual one, for instance), and so is each layer of a plain chain. A piece behind an
 * attention's that has none itself is the other half of a transformer's block.
 */
function findBlocks(graph: Graph, weights: ReadonlySet<string>, pixels: string): Map<string, number> {
  const lastUse = new Map<string, number>();
  for (const [index, node] of graph.nodes.entries())
    for (const input of node.inputs) lastUse.set(input, index);
  const blocks = new Map<string, number>();
  const live = new Set([pixels]);
  const computed = new Set([pixels]);
  let [count, wasAttention] = [0, false];
  let piece = { layers: [] as string[], isWide: false, isAttention: false };
  const close = () => {
    if (piece.layers.length > 0) {
      const joins = piece.isWide && !piece.isAttention && wasAttention;
      if (!joins) count++;
      for (const weight of piece.layers) if (!blocks.has(weight)) blocks.set(weight, count - 1);
      wasAttention = piece.isWide && piece.isAttention;
    }
    piece = { layers: [], isWide: false, isAttention: false };
  };
  for (const [index, node] of graph.nodes.entries()) {
    if (!node.inputs.some((input) => computed.has(input))) continue;
    for (const input of node.inputs) if (weights.has(input)) piece.layers.push(input);
    if (node.op === 'Softmax') piece.isAttention = true;
    for (const output of node.outputs) {
      computed.add(output);
      if (lastUse.has(output) || graph.outputs.includes(output)) live.add(output);
    }
    for (const input of node.inputs) if (lastUse.get(input) === index) live.delete(input);
    if (live.size === 1) close();
    else piece.isWide = true;
  }
  close();
  return blocks;
}
