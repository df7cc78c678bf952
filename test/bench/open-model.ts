/** Opens the base model of a prepared benchmark as the product does. */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { decodeSafetensors } from '../../core/lora/safetensors.ts';
import type { BaseModel } from '../../core/models/base-model.ts';
import { loadBaseModel } from '../../core/models/catalogue.ts';
import { createVit, type VitConfig } from '../../core/models/vit.ts';
import { elementCount, type FloatTensor, floatTensor } from '../../core/shared/tensor.ts';
import type { Description } from './description.ts';

export function openModel(description: Description): Promise<BaseModel> {
  if (description.kind === 'face-resnet') return loadBaseModel('face-resnet-128');
  return openVit(dirname(description.modelFile), description.network);
}

const configSchema = z.object({
  image_size: z.number(),
  patch_size: z.number(),
  hidden_size: z.number(),
  num_hidden_layers: z.number(),
  num_attention_heads: z.number(),
  intermediate_size: z.number(),
  layer_norm_eps: z.number(),
  image_mean: z.array(z.number()),
  image_std: z.array(z.number()),
});

async function openVit(folder: string, id: string): Promise<BaseModel> {
  const config = configSchema.parse(JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')));
  const vit: VitConfig = {
    id,
    licence: 'Apache-2.0',
    imageSize: config.image_size,
    patchSize: config.patch_size,
    hiddenSize: config.hidden_size,
    layers: config.num_hidden_layers,
    heads: config.num_attention_heads,
    mlpSize: config.intermediate_size,
    epsilon: config.layer_norm_eps,
    mean: config.image_mean,
    deviation: config.image_std,
  };
  const { tensors } = decodeSafetensors(await readFile(join(folder, 'model.safetensors')), 'the model');
  return createVit(vit, splitAttention(tensors));
}

/** timm keeps q, k and v in one tensor, one after the other. */
export function splitAttention(tensors: ReadonlyMap<string, FloatTensor>): Map<string, FloatTensor> {
  const split = new Map<string, FloatTensor>();
  for (const [name, tensor] of tensors) {
    if (!name.includes('.attn.qkv.')) {
      split.set(name, tensor);
      continue;
    }
    const dims = [tensor.dims[0]! / 3, ...tensor.dims.slice(1)];
    const size = elementCount(dims);
    for (const [index, part] of ['q', 'k', 'v'].entries()) {
      const data = tensor.data.subarray(index * size, (index + 1) * size);
      split.set(name.replace('.qkv.', `.${part}.`), floatTensor(dims, data));
    }
  }
  return split;
}
