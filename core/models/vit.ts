/**
 * Vision transformers (ViT, DeiT, DINOv2, CLIP's) of any size.
 * Sources: Dosovitskiy et al. 2021, Touvron et al. 2021, Oquab et al. 2023, Radford et al. 2021; weights have timm's names, with
 * q, k and v apart.
 */
import { originalAlignment } from '../config/alignment.ts';
import { AppError } from '../shared/errors.ts';
import { hashJson } from '../shared/hash.ts';
import { type FloatTensor, sameDims } from '../shared/tensor.ts';
import { type AdaptableLayer, type BaseModel, hashWeights } from './base-model.ts';
import { checkVitConfig, patchCount, prefixTokens, type VitConfig } from './vit-config.ts';
import { buildVitGraph } from './vit-graph.ts';
import { layerModule } from './vit-names.ts';

const attentionParts = ['attn.q', 'attn.k', 'attn.v', 'attn.proj'] as const;

/** Shapes of all weights by name; linear layers are [out, in]. */
export function vitWeightShapes(config: VitConfig): Map<string, readonly number[]> {
  const { hiddenSize: width, mlpSize, patchSize, registers = 0 } = config;
  const tokens = prefixTokens(config);
  const shapes = new Map<string, readonly number[]>();
  const layer = (name: string, ...dims: number[]) => {
    shapes.set(`${name}.weight`, dims).set(`${name}.bias`, [dims[0]!]);
  };
  for (const name of tokens.names) shapes.set(name, [1, name === 'reg_token' ? registers : 1, width]);
  shapes.set('pos_embed', [1, tokens.positioned + patchCount(config), width]);
  layer('patch_embed.proj', width, 3, patchSize, patchSize);
  if (config.patchBias === false) shapes.delete('patch_embed.proj.bias');
  if (config.normBefore === true) layer('norm_pre', width);
  for (let index = 0; index < config.layers; index++) {
    const block = `blocks.${index}`;
    layer(`${block}.norm1`, width);
    for (const part of attentionParts) {
      layer(`${block}.${part}`, width, width);
      if (config.qkvBias === false && part !== 'attn.proj') shapes.delete(`${block}.${part}.bias`);
    }
    if (config.layerScale === true) shapes.set(`${block}.ls1.gamma`, [width]);
    layer(`${block}.norm2`, width);
    layer(`${block}.mlp.fc1`, config.gatedMlp === true ? 2 * mlpSize : mlpSize, width);
    layer(`${block}.mlp.fc2`, width, mlpSize);
    if (config.layerScale === true) shapes.set(`${block}.ls2.gamma`, [width]);
  }
  layer('norm', width);
  return shapes;
}

/** @throws AppError CONFIG_INVALID for impossible sizes, MODEL_FILE_INVALID when a weight is missing or misshapen */
export function createVit(config: VitConfig, weights: ReadonlyMap<string, FloatTensor>): BaseModel {
  checkVitConfig(config);
  const ordered = new Map<string, FloatTensor>();
  for (const [name, dims] of vitWeightShapes(config)) {
    const tensor = weights.get(name);
    if (tensor === undefined || !sameDims(tensor.dims, dims)) {
      throw new AppError(
        'MODEL_FILE_INVALID',
        `The model has no weight "${name}" of shape [${dims.join(', ')}].`,
      );
    }
    ordered.set(name, tensor);
  }
  return assembleVit(config, ordered, identityOf(config, ordered));
}

/** @param weights of the right shapes, in the order of {@link vitWeightShapes} */
export function assembleVit(
  config: VitConfig,
  weights: ReadonlyMap<string, FloatTensor>,
  sha256: string,
): BaseModel {
  const layers = adaptableLayers(config);
  const modules = layers.map((layer) => layer.module);
  const attention = layers
    .filter(({ weight }) => /attn\.[qv]\.weight$/.test(weight))
    .map(({ module }) => module);
  return {
    id: config.id,
    sha256,
    inputSize: config.imageSize,
    alignment: originalAlignment,
    embeddingSize: config.hiddenSize,
    licence: config.licence,
    weights,
    layers,
    presets: { default: attention, attention, 'all-linear': modules, all: modules },
    // The last normalisation leaves components of about 1 already.
    headGain: 1,
    normalisation: { mean: config.mean, deviation: config.deviation },
    buildGraph: (batch) => buildVitGraph(config, weights, batch),
  };
}

/** Two models with the same weights but, say, another number of heads are different models. */
function identityOf(config: VitConfig, weights: ReadonlyMap<string, FloatTensor>): string {
  const { id: _id, licence: _licence, fusedQkv: _fusedQkv, ...architecture } = config;
  return hashJson({ architecture, weights: hashWeights(weights) });
}

function adaptableLayers(config: VitConfig): AdaptableLayer[] {
  const { layers, hiddenSize, mlpSize, naming = 'timm', gatedMlp = false } = config;
  return Array.from({ length: layers }, (_, block) => {
    const linear = (part: string, out: number, width: number): AdaptableLayer => ({
      module: layerModule(naming, block, part, gatedMlp),
      kind: 'linear',
      weight: `blocks.${block}.${part}.weight`,
      weightDims: [out, width],
      block,
    });
    const fused = (index: number) =>
      config.fusedQkv === true && index < 3
        ? {
            peftModule: `blocks.${block}.attn.qkv`,
            peftPart: { start: index * hiddenSize, rows: 3 * hiddenSize },
          }
        : {};
    return [
      ...attentionParts.map((part, index) => ({ ...linear(part, hiddenSize, hiddenSize), ...fused(index) })),
      linear('mlp.fc1', gatedMlp ? 2 * mlpSize : mlpSize, hiddenSize),
      linear('mlp.fc2', hiddenSize, mlpSize),
    ];
  }).flat();
}
