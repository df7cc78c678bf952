/** What both sides of a benchmark read: one folder per network, made by prepare-network.ts. */
import { z } from 'zod';

/** `description.json`; beside it `parameters.safetensors` and `images.bin` (uint8 RGB [count, side, side, 3]). */
export const descriptionSchema = z.object({
  network: z.string(),
  kind: z.enum(['vit', 'face-resnet']),
  /** Hugging Face style configuration of a transformer. */
  config: z.record(z.string(), z.unknown()).optional(),
  /** Weights as safetensors: timm's names, or Anneal's own for face-resnet-128. */
  modelFile: z.string(),
  modules: z.array(z.string()),
  rank: z.number().int().positive(),
  scale: z.number().positive(),
  classes: z.number().int().positive(),
  batch: z.number().int().positive(),
  side: z.number().int().positive(),
  images: z.number().int().positive(),
  seed: z.number().int(),
  training: z.object({
    learningRate: z.number(),
    headLearningRate: z.number(),
    weightDecay: z.number(),
    clipNorm: z.number(),
  }),
});

export type Description = z.infer<typeof descriptionSchema>;

export const descriptionFile = 'description.json';
export const parametersFile = 'parameters.safetensors';
export const imagesFile = 'images.bin';
