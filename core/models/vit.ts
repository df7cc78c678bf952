/**
 * Vision transformers (ViT, and DeiT without distillation) of any size.
 * Sources: Dosovitskiy et al. 2021, Touvron et al. 2021; tensor names are timm's, with q, k and v apart.
 */
import type { Graph } from '../graph/graph.ts';
import { GraphBuilder } from '../graph/graph-builder.ts';
import { AppError } from '../shared/errors.ts';
import { hashJson } from '../shared/hash.ts';
import { createRandom, mixSeed } from '../shared/random.ts';
import { elementCount, type FloatTensor, floatTensor, sameDims } from '../shared/tensor.ts';
import type { AdaptableLayer, BaseModel } from './base-model.ts';
import { hashWeights } from './canonical-hash.ts';

export interface VitConfig {
  /** Catalogue id, for instance `vit-tiny`. */
  readonly id: string;
  readonly licence: string;
  /** Side of the square picture in pixels; a multiple of `patchSize`. */
  readonly imageSize: number;
  readonly patchSize: number;
  /** Width of the tokens; a multiple of `heads`. */
  readonly hiddenSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly mlpSize: number;
  /** Epsilon of the layer normalisations. */
  readonly epsilon: number;
  /** Channel means and deviations of the pixels scaled to 0…1; red, green, blue. */
  readonly mean: readonly number[];
  readonly deviation: readonly number[];
}

/** DeiT-Tiny's numbers with the pixel statistics of the original ViT. */
export const vitTiny: VitConfig = {
  id: 'vit-tiny',
  licence: 'Apache-2.0',
  imageSize: 224,
  patchSize: 16,
  hiddenSize: 192,
  layers: 12,
  heads: 3,
  mlpSize: 768,
  epsilon: 1e-6,
  mean: [0.5, 0.5, 0.5],
  deviation: [0.5, 0.5, 0.5],
};

const attentionParts = ['attn.q', 'attn.k', 'attn.v', 'attn.proj'] as const;

/** Shapes of all weights by name; linear layers are [out, in]. */
export function vitWeightShapes(config: VitConfig): Map<string, readonly number[]> {
  const { hiddenSize: width, mlpSize, patchSize } = config;
  const shapes = new Map<string, readonly number[]>();
  const layer = (name: string, ...dims: number[]) => {
    shapes.set(`${name}.weight`, dims).set(`${name}.bias`, [dims[0]!]);
  };
  shapes.set('cls_token', [1, 1, width]).set('pos_embed', [1, patchCount(config) + 1, width]);
  layer('patch_embed.proj', width, 3, patchSize, patchSize);
  for (let index = 0; index < config.layers; index++) {
    const block = `blocks.${index}`;
    layer(`${block}.norm1`, width);
    for (const part of attentionParts) layer(`${block}.${part}`, width, width);
    layer(`${block}.norm2`, width);
    layer(`${block}.mlp.fc1`, mlpSize, width);
    layer(`${block}.mlp.fc2`, width, mlpSize);
  }
  layer('norm', width);
  return shapes;
}

/** Untrained weights as the papers start from: normal with deviation 0.02, norms at one, biases at zero. */
export function randomVitWeights(config: VitConfig, seed: number): Map<string, FloatTensor> {
  const weights = new Map<string, FloatTensor>();
  for (const [name, dims] of vitWeightShapes(config)) {
    const tensor = floatTensor(dims);
    if (/norm\d?\.weight$/.test(name)) {
      tensor.data.fill(1);
    } else if (!name.endsWith('.bias')) {
      const random = createRandom(mixSeed(seed, name));
      for (let index = 0; index < tensor.data.length; index++) tensor.data[index] = 0.02 * random.normal();
    }
    weights.set(name, tensor);
  }
  return weights;
}

/** @throws AppError CONFIG_INVALID for impossible sizes, MODEL_FILE_INVALID when a weight is missing or misshapen */
export function createVit(config: VitConfig, weights: ReadonlyMap<string, FloatTensor>): BaseModel {
  checkConfig(config);
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
  const layers = adaptableLayers(config);
  const modules = layers.map((layer) => layer.module);
  const attention = modules.filter((module) => /attn\.[qv]$/.test(module));
  return {
    id: config.id,
    sha256: identityOf(config, ordered),
    inputSize: config.imageSize,
    embeddingSize: config.hiddenSize,
    licence: config.licence,
    weights: ordered,
    layers,
    presets: { default: attention, attention, 'all-linear': modules, all: modules },
    // The last normalisation leaves components of about 1 already.
    headGain: 1,
    buildGraph: (batch) => buildGraph(config, ordered, batch),
  };
}

/** Two models with the same weights but, say, another number of heads are different models. */
function identityOf(config: VitConfig, weights: ReadonlyMap<string, FloatTensor>): string {
  const { id: _id, licence: _licence, ...architecture } = config;
  return hashJson({ architecture, weights: hashWeights(weights) });
}

function patchCount({ imageSize, patchSize }: VitConfig): number {
  return (imageSize / patchSize) ** 2;
}

function checkConfig(config: VitConfig): void {
  if (config.imageSize % config.patchSize !== 0) {
    throw new AppError(
      'CONFIG_INVALID',
      'The picture size of the model is not a multiple of its patch size.',
    );
  }
  if (config.hiddenSize % config.heads !== 0) {
    throw new AppError('CONFIG_INVALID', 'The width of the model is not a multiple of its number of heads.');
  }
}

function adaptableLayers({ layers, hiddenSize, mlpSize }: VitConfig): AdaptableLayer[] {
  return Array.from({ length: layers }, (_, block) => {
    const linear = (part: string, out: number, width: number): AdaptableLayer => {
      const module = `blocks.${block}.${part}`;
      return { module, kind: 'linear', weight: `${module}.weight`, weightDims: [out, width], block };
    };
    return [
      ...attentionParts.map((part) => linear(part, hiddenSize, hiddenSize)),
      linear('mlp.fc1', mlpSize, hiddenSize),
      linear('mlp.fc2', hiddenSize, mlpSize),
    ];
  }).flat();
}

/** The names that a block's parts share while the graph is built. */
interface Scope {
  readonly config: VitConfig;
  readonly builder: GraphBuilder;
  readonly batch: number;
  readonly tokens: number;
  weight(name: string): string;
}

/** Tokens stay a matrix [batch · tokens, width] all the way: every linear layer is then one plain Gemm. */
function buildGraph(config: VitConfig, weights: ReadonlyMap<string, FloatTensor>, batch: number): Graph {
  const builder = new GraphBuilder();
  const tokens = patchCount(config) + 1;
  const weight = (name: string) => (builder.has(name) ? name : builder.constant(weights.get(name)!, name));
  const scope: Scope = { config, builder, batch, tokens, weight };
  let x = embedPatches(scope);
  for (let index = 0; index < config.layers; index++) {
    x = builder.add(x, attention(scope, `blocks.${index}.attn`, norm(scope, `blocks.${index}.norm1`, x)));
    x = builder.add(x, feedForward(scope, `blocks.${index}.mlp`, norm(scope, `blocks.${index}.norm2`, x)));
  }
  const separate = builder.reshape(x, [batch, tokens, config.hiddenSize]);
  const classToken = builder.reshape(builder.slice(separate, [0], [1], [1]), [batch, config.hiddenSize]);
  builder.output(norm(scope, 'norm', classToken), 'embedding');
  return builder.build();
}

function embedPatches({ config, builder, batch, tokens, weight }: Scope): string {
  const { imageSize, patchSize, hiddenSize } = config;
  const pixels = builder.input('pixels', 'float32', [batch, 3, imageSize, imageSize]);
  const perChannel = (values: readonly number[]) =>
    builder.constant(
      floatTensor(
        [1, 3, 1, 1],
        Float32Array.from(values, (value) => 255 * value),
      ),
    );
  const normalised = builder.div(builder.sub(pixels, perChannel(config.mean)), perChannel(config.deviation));
  const patches = builder.conv(normalised, weight('patch_embed.proj.weight'), {
    bias: weight('patch_embed.proj.bias'),
    strides: [patchSize, patchSize],
  });
  const rows = builder.transpose(builder.reshape(patches, [batch, hiddenSize, tokens - 1]), [0, 2, 1]);
  const classToken = builder.expand(weight('cls_token'), [batch, 1, hiddenSize]);
  const placed = builder.add(builder.concat([classToken, rows], 1), weight('pos_embed'));
  return builder.reshape(placed, [batch * tokens, hiddenSize]);
}

function norm({ config, builder, weight }: Scope, name: string, x: string): string {
  const options = { epsilon: config.epsilon };
  return builder.layerNormalization(x, weight(`${name}.weight`), weight(`${name}.bias`), options);
}

function linear({ builder, weight }: Scope, name: string, x: string): string {
  return builder.gemm(x, weight(`${name}.weight`), weight(`${name}.bias`), { transB: true });
}

function attention(scope: Scope, name: string, x: string): string {
  const { config, builder, batch, tokens } = scope;
  const { hiddenSize, heads } = config;
  const headSize = hiddenSize / heads;
  const byHead = (part: string, permutation: readonly number[]) =>
    builder.transpose(
      builder.reshape(linear(scope, `${name}.${part}`, x), [batch, tokens, heads, headSize]),
      permutation,
    );
  const query = builder.mul(byHead('q', [0, 2, 1, 3]), builder.scalar(1 / Math.sqrt(headSize)));
  const scores = builder.softmax(builder.matMul(query, byHead('k', [0, 2, 3, 1])));
  const mixed = builder.transpose(builder.matMul(scores, byHead('v', [0, 2, 1, 3])), [0, 2, 1, 3]);
  return linear(scope, `${name}.proj`, builder.reshape(mixed, [batch * tokens, hiddenSize]));
}

function feedForward(scope: Scope, name: string, x: string): string {
  return linear(scope, `${name}.fc2`, scope.builder.gelu(linear(scope, `${name}.fc1`, x)));
}

/** Number of weights; what full fine-tuning would train. */
export function countVitParameters(config: VitConfig): number {
  let count = 0;
  for (const dims of vitWeightShapes(config).values()) count += elementCount(dims);
  return count;
}
