/** Which values of an imported network are weights, which layers LoRA can adapt, and what they are called. */
import type { Graph, GraphNode } from '../../graph/graph.ts';
import type { FloatTensor } from '../../shared/tensor.ts';
import type { AdaptableLayer, BaseModel } from '../base-model.ts';
import { blockKeyOf, clean, isAttention, moduleNameOf, parameterNameOf, unique } from './layer-names.ts';
import { embeddingName, pixelsName, type Specialised } from './specialise.ts';

export interface Naming {
  /** Name in the graph of each known value, by its name in the file. */
  readonly names: ReadonlyMap<string, string>;
  readonly layers: readonly AdaptableLayer[];
  readonly presets: BaseModel['presets'];
}

export interface FoundLayer {
  readonly node: GraphNode;
  readonly weight: string;
  readonly kind: 'conv' | 'linear';
  readonly weightDims: readonly number[];
  readonly bias: string | undefined;
}

/** Inputs that hold weights, by operator; statistics of BatchNormalization do not train and are none. */
const weightInputs: Readonly<Record<string, readonly number[]>> = {
  Conv: [1, 2],
  ConvTranspose: [1, 2],
  Gemm: [0, 1, 2],
  MatMul: [0, 1],
  PRelu: [1],
  LayerNormalization: [1, 2],
  InstanceNormalization: [1, 2],
  BatchNormalization: [1, 2],
  Add: [0, 1],
  Mul: [0, 1],
  Concat: [],
  Expand: [0],
  Reshape: [0],
  Gather: [0],
};

/** What training graphs call their own inputs and outputs; the head behind the embedding is `head`. */
export const trainingNames = [
  ...[pixelsName, embeddingName, 'head.weight', 'head.bias', 'labels', 'sampleWeights', 'classPrior'],
  ...['loss', 'logits'],
];

/**
 * Names the weights of a network after its layers by the file's names: as versions before canonical names did, for what they
 * imported. @param written at any batch size, with names of the file
 */
export function nameLayers(written: Specialised): Naming {
  const { graph, weights, origins } = written;
  const names = new Map<string, string>();
  const modules = new Set<string>(['head']);
  const taken = new Set<string>(trainingNames);
  const layers: AdaptableLayer[] = [];
  const blocks = new Map<string, number>();
  const found = findLayers(graph, new Set(weights.keys()));
  // Exporters store equal tensors once: zeros that are the bias of many layers say nothing about one of them.
  const biasUses = new Map<string, number>();
  for (const { bias } of found) biasUses.set(bias ?? '', (biasUses.get(bias ?? '') ?? 0) + 1);
  for (const [index, layer] of found.entries()) {
    const { key, stem } = weights.get(layer.weight)!;
    const fallback = `${layer.kind}_${index}`;
    const isOwn = layer.bias !== undefined && biasUses.get(layer.bias) === 1;
    const bias = isOwn ? weights.get(layer.bias!) : undefined;
    const nodeName = origins.get(layer.node.name)?.name ?? '';
    const module = unique(
      moduleNameOf({ weight: stem, bias: bias?.stem ?? '' }, nodeName, fallback),
      modules,
    );
    const weight = unique(`${module}.weight`, taken);
    names.set(key, weight);
    if (bias !== undefined && !names.has(bias.key)) names.set(bias.key, unique(`${module}.bias`, taken));
    const blockKey = blockKeyOf(module);
    const block = blocks.get(blockKey) ?? blocks.size;
    blocks.set(blockKey, block);
    layers.push({ module, kind: layer.kind, weight, weightDims: layer.weightDims, block });
  }
  for (const { op, name: nodeName, inputs } of graph.nodes) {
    for (const [position, input] of inputs.entries()) {
      const parameter = weights.get(input);
      if (parameter === undefined || names.has(parameter.key)) continue;
      const isBias = op === 'Add' || position === 2;
      const name = parameterNameOf(parameter.stem, origins.get(nodeName)?.name ?? '', isBias);
      names.set(parameter.key, unique(name || clean(parameter.key) || 'weight', taken));
    }
  }
  return { names, layers, presets: presetsOf(layers, found) };
}

/** Layers in the order of use; a weight that several nodes share is one layer. */
export function findLayers(graph: Graph, weights: ReadonlySet<string>): FoundLayer[] {
  const found = new Map<string, FoundLayer>();
  const readers = new Map<string, GraphNode[]>();
  for (const node of graph.nodes) {
    for (const input of node.inputs) {
      const list = readers.get(input) ?? [];
      list.push(node);
      readers.set(input, list);
    }
  }
  for (const node of graph.nodes) {
    const weight = node.inputs[1] ?? '';
    if (!weights.has(weight) || found.has(weight)) continue;
    const layer = layerOf(node, graph.types.get(weight)!.dims);
    // A weight that is also read in another way would not take its adapter along.
    const isWhole = readers
      .get(weight)!
      .every((reader) => reader.op === node.op && reader.inputs[1] === weight);
    if (layer === undefined || !isWhole) continue;
    found.set(weight, { ...layer, weight, bias: biasOf(node, graph, weights, readers) });
  }
  return [...found.values()];
}

function layerOf(node: GraphNode, dims: readonly number[]): Omit<FoundLayer, 'weight' | 'bias'> | undefined {
  const { op, attributes } = node;
  if (op === 'Conv') return { node, kind: 'conv', weightDims: dims };
  if (dims.length !== 2) return undefined;
  const [rows, columns] = dims as [number, number];
  if (op === 'MatMul') return { node, kind: 'linear', weightDims: [columns, rows] };
  if (op !== 'Gemm' || attributes['transA'] === 1) return undefined;
  const alpha = attributes['alpha'];
  // An adapter adds to W; a factor on the product would leave it out.
  if (typeof alpha === 'object' && 'float' in alpha && alpha.float !== 1) return undefined;
  return { node, kind: 'linear', weightDims: attributes['transB'] === 1 ? dims : [columns, rows] };
}

/** The third input, or what the only reader of a MatMul adds. */
function biasOf(
  node: GraphNode,
  graph: Graph,
  weights: ReadonlySet<string>,
  readers: ReadonlyMap<string, readonly GraphNode[]>,
): string | undefined {
  if (node.op !== 'MatMul') return weights.has(node.inputs[2] ?? '') ? node.inputs[2] : undefined;
  const next = readers.get(node.outputs[0]!) ?? [];
  if (next.length !== 1 || next[0]!.op !== 'Add') return undefined;
  const other = next[0]!.inputs.find((input) => input !== node.outputs[0]);
  return weights.has(other ?? '') && graph.types.get(other!)!.dims.length === 1 ? other : undefined;
}

function presetsOf(layers: readonly AdaptableLayer[], found: readonly FoundLayer[]): BaseModel['presets'] {
  const all = layers.map(({ module }) => module);
  const attention = all.filter(isAttention);
  // The first convolution sees little but edges; depthwise ones have few weights for much work.
  const convs = layers.filter(
    ({ kind }, index) => kind === 'conv' && index > 0 && (found[index]!.node.attributes['group'] ?? 1) === 1,
  );
  const linear = layers.filter(({ kind }) => kind === 'linear');
  const chosen = [attention, convs.map(({ module }) => module), linear.map(({ module }) => module), all];
  const presets: Record<string, readonly string[]> = {
    default: chosen.find((modules) => modules.length > 0) ?? all,
    all,
  };
  if (attention.length > 0) presets['attention'] = attention;
  return presets;
}

/** The weights that full training changes, in the order of use. @param graph its nodes in the order that counts */
export function trainableWeightsOf(graph: Graph, named: ReadonlySet<string>): Map<string, FloatTensor> {
  const weights = new Map<string, FloatTensor>();
  for (const node of graph.nodes) {
    const { op, inputs } = node;
    if (isPlainNormalisation(node, graph)) continue;
    const positions = op === 'Concat' ? [...inputs.keys()] : (weightInputs[op] ?? []);
    for (const position of positions) {
      const name = inputs[position] ?? '';
      const tensor = graph.initializers.get(name);
      if (named.has(name) && tensor?.dtype === 'float32') weights.set(name, tensor as FloatTensor);
    }
  }
  return weights;
}

/** Exporters write GroupNorm as InstanceNormalization with ones and zeros, which are no weights. */
function isPlainNormalisation({ op, inputs }: GraphNode, graph: Graph): boolean {
  if (op !== 'InstanceNormalization') return false;
  const holds = (name: string | undefined, wanted: number) =>
    graph.initializers.get(name ?? '')?.data.every((value: number | bigint) => value === wanted) ?? false;
  return holds(inputs[1], 1) && holds(inputs[2], 0);
}
