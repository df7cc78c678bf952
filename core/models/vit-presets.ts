/**
 * The usual vision transformers as shapes alone, for counting what a run would send before anyone has fetched weights.
 * Sizes: Dosovitskiy et al. 2021 (arXiv 2010.11929), table 1; the tiny and small ones Touvron et al. 2021.
 */
import { hashJson } from '../shared/hash.ts';
import { elementCount, type FloatTensor } from '../shared/tensor.ts';
import type { BaseModel } from './base-model.ts';
import { assembleVit, vitWeightShapes } from './vit.ts';
import { checkVitConfig, type VitConfig, vitTiny } from './vit-config.ts';

const preset = (id: string, hiddenSize: number, layers: number): VitConfig => ({
  ...vitTiny,
  id,
  hiddenSize,
  layers,
  heads: hiddenSize / 64,
  mlpSize: 4 * hiddenSize,
});

/** By id: ViT with patches of 16 pixels and images of 224. */
export const vitPresets: ReadonlyMap<string, VitConfig> = new Map(
  [vitTiny, preset('vit-small', 384, 12), preset('vit-base', 768, 12), preset('vit-large', 1024, 24)].map(
    (config) => [config.id, config],
  ),
);

/**
 * A base model of these shapes whose weights are all zero: for planning only. Its identity is that of the architecture,
 * which no trained model has. The weights share one piece of memory, the size of the largest.
 * @throws AppError CONFIG_INVALID for impossible sizes
 */
export function createShapeOnlyVit(config: VitConfig): BaseModel {
  checkVitConfig(config);
  const shapes = [...vitWeightShapes(config)];
  const zeros = new Float32Array(Math.max(...shapes.map(([, dims]) => elementCount(dims))));
  const weights = new Map(
    shapes.map(([name, dims]): [string, FloatTensor] => [
      name,
      { dtype: 'float32', dims, data: zeros.subarray(0, elementCount(dims)) },
    ]),
  );
  const { id: _id, licence: _licence, ...architecture } = config;
  return assembleVit(config, weights, hashJson({ shapesOnly: architecture }));
}
