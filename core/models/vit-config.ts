/** What a vision transformer is made of, without its weights. */
import { AppError } from '../shared/errors.ts';

const vitActivations = ['gelu', 'gelu-tanh', 'quick-gelu'] as const;
export type VitActivation = (typeof vitActivations)[number];

/** Whose names the modules have; see vit-names.ts. */
const vitNamings = ['timm', 'transformers-vit', 'transformers-dinov2', 'transformers-clip'] as const;
export type VitNaming = (typeof vitNamings)[number];

/** Optional fields that are absent mean the original ViT, and are not part of the model's identity then. */
export interface VitConfig {
  /** Catalogue id, for instance `vit-tiny`. */
  readonly id: string;
  readonly licence: string;
  /** Side of the square image in pixels; a multiple of `patchSize`. */
  readonly imageSize: number;
  readonly patchSize: number;
  /** Width of the tokens; a multiple of `heads`. */
  readonly hiddenSize: number;
  readonly layers: number;
  readonly heads: number;
  /** Width inside the feed-forward part; with `gatedMlp` of each of its halves. */
  readonly mlpSize: number;
  /** Epsilon of the layer normalisations. */
  readonly epsilon: number;
  /** Channel means and deviations of the pixels scaled to 0…1; red, green, blue. */
  readonly mean: readonly number[];
  readonly deviation: readonly number[];
  /** `gelu` (exact) when absent. */
  readonly activation?: VitActivation;
  /** Feed-forward part of Shazeer 2020 (SwiGLU), as the largest DINOv2 has it. */
  readonly gatedMlp?: boolean;
  /** False: query, key and value have no bias. */
  readonly qkvBias?: boolean;
  /** False: the patch embedding has no bias (CLIP). */
  readonly patchBias?: boolean;
  /** The tokens are normalised before the first block, too (CLIP). */
  readonly normBefore?: boolean;
  /** What each half of a block adds is scaled per channel. */
  readonly layerScale?: boolean;
  /** False: there is no class token; then the pooling is `mean`. */
  readonly classToken?: boolean;
  /** DeiT's second token; it takes part, the embedding does not read it. */
  readonly distillationToken?: boolean;
  /** Number of DINOv2's register tokens. */
  readonly registers?: number;
  /** How many of the tokens before the patches have a position embedding; all but the registers when absent. */
  readonly positionedTokens?: number;
  /** The embedding is the class token (when absent) or the mean of the patch tokens. */
  readonly pooling?: 'class' | 'mean';
  /** With pooling `mean`: the last normalisation comes after it (timm's `fc_norm`). */
  readonly normAfterPooling?: boolean;
  /** `timm` when absent. */
  readonly naming?: VitNaming;
  /** The weights came with q, k and v as one layer, which PEFT adapts as one. */
  readonly fusedQkv?: boolean;
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

export function patchCount({ imageSize, patchSize }: VitConfig): number {
  return (imageSize / patchSize) ** 2;
}

/** Names of the weights whose tokens stand before the patches, in order; how many tokens they are; how many have positions. */
export function prefixTokens(config: VitConfig): { names: string[]; count: number; positioned: number } {
  const { registers = 0 } = config;
  const names: string[] = [];
  if (config.classToken !== false) names.push('cls_token');
  if (config.distillationToken === true) names.push('dist_token');
  const single = names.length;
  if (registers > 0) names.push('reg_token');
  return { names, count: single + registers, positioned: config.positionedTokens ?? single };
}

/** @throws AppError CONFIG_INVALID for impossible sizes */
export function checkVitConfig(config: VitConfig): void {
  const invalid = (what: string) => new AppError('CONFIG_INVALID', what);
  if (config.imageSize % config.patchSize !== 0) {
    throw invalid(
      `The image size of the model (${config.imageSize}) is not a multiple of its patch size (${config.patchSize}).`,
    );
  }
  if (config.hiddenSize % config.heads !== 0) {
    throw invalid(
      `The width of the model (${config.hiddenSize}) is not a multiple of its number of heads (${config.heads}).`,
    );
  }
  if (config.classToken === false && config.pooling !== 'mean') {
    throw invalid('The model has no class token, so its embedding can only be the mean of the patch tokens.');
  }
}
