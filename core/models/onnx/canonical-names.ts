/**
 * Names of layers and weights that follow from how a network is connected alone. Sites may have the same network from files with
 * other names; what they train has the same names nevertheless. The file's own names stay beside them, for people and for PEFT.
 */
import type { GraphNode } from '../../graph/graph.ts';
import type { AdaptableLayer, BaseModel } from '../base-model.ts';
import { inCanonicalOrder } from './canonical-order.ts';
import { foldedConvolutions } from './folded-convolutions.ts';
import { moduleNameOf, unique } from './layer-names.ts';
import { type LayerRoles, layerRoles } from './layer-roles.ts';
import { type FoundLayer, findLayers, type Naming, trainingNames } from './layers.ts';
import { pixelsName, type Specialised } from './specialise.ts';

/** What ONNX Runtime's optimiser puts before the name of a weight that it has multiplied. */
const fusionPrefix = /^Conv(?:Bn|Mul|Add)Fusion_(?:BN_B|Mul_B|Add_B|W)_/;
/** Least share of the layers that the preset `default` of a network with convolutions has. */
const leastShare = 0.6;

/**
 * Layers are `conv_0`, `linear_1`, … in canonical order, their weights `conv_0.weight` and `conv_0.bias`; other weights are called
 * after their operator: `prelu_0.weight`.
 * @param written for one image, with names of the file
 */
export function nameCanonically(written: Specialised): Naming {
  const graph = inCanonicalOrder(written.graph);
  const { weights } = written;
  const found = findLayers(graph, new Set(weights.keys()));
  const taken = new Set<string>(trainingNames);
  const names = new Map<string, string>();
  const give = (weight: string | undefined, name: string) => {
    const key = weights.get(weight ?? '')?.key;
    if (key !== undefined && !names.has(key)) names.set(key, unique(name, taken));
  };
  const uses = new Map<string, number>();
  for (const { bias } of found) uses.set(bias ?? '', (uses.get(bias ?? '') ?? 0) + 1);
  const modules = found.map(({ kind }, index) => `${kind}_${index}`);
  for (const [index, { weight, bias }] of found.entries()) {
    give(weight, `${modules[index]}.weight`);
    if (bias !== undefined && uses.get(bias) === 1) give(bias, `${modules[index]}.bias`);
  }
  const counts = new Map<string, number>();
  for (const node of graph.nodes) {
    const own = node.inputs.filter((input) => weights.has(input) && !names.has(weights.get(input)!.key));
    if (own.length === 0) continue;
    const op = node.op.toLowerCase();
    const count = counts.get(op) ?? 0;
    counts.set(op, count + 1);
    for (const input of own) give(input, `${op}_${count}.${partOf(node, node.inputs.indexOf(input))}`);
  }
  const layers = describeLayers(written, found, modules, names);
  const roles = layerRoles(graph, new Set(found.map(({ weight }) => weight)), pixelsName);
  const folded = foldedConvolutions(graph, found, (weight) => weights.get(weight)?.stem ?? '');
  const whole = layers.map((layer, index) => {
    const { weight } = found[index]!;
    return {
      ...layer,
      block: roles.blocks.get(weight) ?? 0,
      ...(folded.has(weight) ? { foldedNorm: true } : {}),
    };
  });
  return { names, layers: whole, presets: presetsOf(whole, found, roles) };
}

/** What a weight is to its operator. */
function partOf({ op }: GraphNode, position: number): string {
  if (op === 'BatchNormalization')
    return ['input', 'weight', 'bias', 'mean', 'variance'][position] ?? 'weight';
  return op === 'Add' || op === 'Sub' || position === 2 ? 'bias' : 'weight';
}

function describeLayers(
  { weights, origins }: Specialised,
  found: readonly FoundLayer[],
  modules: readonly string[],
  names: ReadonlyMap<string, string>,
): AdaptableLayer[] {
  const inFile = new Set<string>();
  return found.map(({ node, kind, weight, weightDims, bias }, index) => {
    const { key, stem } = weights.get(weight)!;
    const beside = { weight: stem.replace(fusionPrefix, ''), bias: weights.get(bias ?? '')?.stem ?? '' };
    const module = modules[index]!;
    const peftModule = unique(moduleNameOf(beside, origins.get(node.name)?.name ?? '', module), inFile);
    return { module, kind, weight: names.get(key)!, weightDims, block: 0, peftModule };
  });
}

/**
 * `default`: in a transformer without convolutions beyond its first layer what makes queries and values, as in the LoRA paper; elsewhere
 * the convolutions that mix channels and all of an attention's projections, with the linear layers and, at last, those of single
 * channels where that is less than {@link leastShare} of all. The layers that read pixels see little but edges.
 */
function presetsOf(
  layers: readonly AdaptableLayer[],
  found: readonly FoundLayer[],
  { attention, depthwise, stem }: LayerRoles,
): BaseModel['presets'] {
  const pick = (wanted: (weight: string, layer: AdaptableLayer) => boolean) =>
    layers.filter((layer, index) => wanted(found[index]!.weight, layer)).map(({ module }) => module);
  const all = layers.map(({ module }) => module);
  const projections = pick((weight) => attention.has(weight));
  const isInside = (weight: string) => !stem.has(weight) && !depthwise.has(weight);
  const isHybrid = pick((weight, { kind }) => kind === 'conv' && !stem.has(weight)).length > 0;
  const mixing = pick((weight, { kind }) => attention.has(weight) || (kind === 'conv' && isInside(weight)));
  const inner = pick(isInside);
  const behindStem = pick((weight) => !stem.has(weight));
  const wide =
    [mixing, inner, behindStem].find((modules) => modules.length >= leastShare * all.length) ?? all;
  const presets: Record<string, readonly string[]> = {
    default: !isHybrid && projections.length > 0 ? projections : wide,
    all,
  };
  if (projections.length > 0) presets['attention'] = projections;
  const first = pick((weight) => stem.has(weight));
  if (first.length > 0 && first.length < all.length) presets['patch-embedding'] = first;
  return presets;
}
