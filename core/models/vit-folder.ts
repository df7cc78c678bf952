/** Opens a vision transformer from a folder: `config.json` and `model.safetensors`, of timm or of transformers. */
import { z } from 'zod';
import { invalid } from '../lora/safetensors.ts';
import { AppError } from '../shared/errors.ts';
import { type FloatTensor, sameDims } from '../shared/tensor.ts';
import { plural } from '../shared/text.ts';
import type { BaseModel } from './base-model.ts';
import { OpenQuestion } from './open-question.ts';
import { resizePositions } from './position-embeddings.ts';
import { createVit, vitWeightShapes } from './vit.ts';
import { prefixTokens, type VitConfig } from './vit-config.ts';
import { fileVitName } from './vit-names.ts';
import {
  readJsonFile,
  readVitSettings,
  usualHeads,
  type VitSettings,
  vitConfigFile,
  vitProcessorFile,
} from './vit-settings.ts';
import {
  findWeightFiles,
  readVitWeights,
  requireSafetensors,
  type VitWeights,
  vitIndexFile,
  vitWeightsFile,
} from './vit-weights.ts';

/** timm builds its CLIPs, the only ones that normalise before the first block, with PyTorch's own epsilon. */
const timmClipEpsilon = 1e-5;

const perChannel = z.tuple([z.number(), z.number(), z.number()]);

/** What a person may say about a folder; everything absent follows from its files. */
export const vitOptionsSchema = z.strictObject({
  /** Catalogue id of the base model that it becomes. */
  id: z.string().min(1),
  licence: z.string(),
  /** Side of the square image in pixels; the position embeddings are interpolated to it. */
  imageSize: z.number().int().positive().max(4096).optional(),
  pooling: z.enum(['class', 'mean']).optional(),
  /** Means and deviations of red, green and blue of the pixels scaled to 0…1. */
  mean: perChannel.optional(),
  deviation: perChannel.refine((values) => values.every((value) => value > 0), 'must be above 0').optional(),
});
export type VitOptions = z.infer<typeof vitOptionsSchema>;

/**
 * Names of the files of a folder that its model needs, `config.json` first.
 * @throws AppError MODEL_FILE_INVALID
 */
export async function listVitFiles(folder: string): Promise<string[]> {
  const pieces = [...(await findWeightFiles(folder)).entries()];
  for (const [file] of pieces) await requireSafetensors(folder, file);
  const indexed = pieces.some(([, promised]) => promised !== null);
  const processed = (await readJsonFile(folder, vitProcessorFile)) !== null;
  return [
    vitConfigFile,
    ...(processed ? [vitProcessorFile] : []),
    ...(indexed ? [vitIndexFile] : []),
    ...pieces.map(([file]) => file),
  ];
}

/**
 * Opens a ViT, DeiT, DINOv2 or CLIP's vision transformer of any size. Tensors are fp32, fp16, bf16 or fp64; their names those of timm or of
 * transformers (see vit-names.ts); classifiers are left out. The whole file is read.
 * @throws AppError MODEL_FILE_INVALID naming file, tensor and what was expected; CONFIG_INVALID when a setting is
 *   missing or contradicts the files
 */
export async function openVitFolder(folder: string, options: VitOptions): Promise<BaseModel> {
  const settings = await readVitSettings(folder);
  const weights = await readVitWeights(folder);
  const { config, fileSide } = configure(settings, weights, options);
  checkSettings(settings, config, fileSide);
  const tensors = renameFinalNorm(weights.tensors);
  checkTensors(config, fileSide, weights, tensors);
  const side = config.imageSize / config.patchSize;
  if (Number.isInteger(side) && side !== fileSide) {
    const antialias = weights.naming === 'timm' || (config.registers ?? 0) > 0;
    const { positioned } = prefixTokens(config);
    tensors.set('pos_embed', resizePositions(tensors.get('pos_embed')!, positioned, side, antialias));
  }
  return createVit(config, tensors);
}

/** The whole configuration: shapes tell most of it, the files' settings and the person the rest. */
function configure(
  settings: VitSettings,
  weights: VitWeights,
  options: VitOptions,
): { config: VitConfig; fileSide: number } {
  const { tensors, naming, fusedQkv } = weights;
  const dimsOf = (name: string, rank: number): readonly number[] => {
    const dims = tensors.get(name)?.dims;
    const file = weights.origins.get(name)?.file ?? vitWeightsFile;
    if (dims?.length === rank) return dims;
    const shown = weights.origins.get(name)?.tensor ?? fileVitName(naming, name, fusedQkv);
    throw invalid(
      file,
      `tensor "${shown}" is ${dims ? `of shape [${dims.join(', ')}]` : 'missing'}: expected ${plural(rank, 'axis', 'axes')}`,
    );
  };
  const [hiddenSize = 0, channels = 0, patchSize = 0, patchWidth = 0] = dimsOf('patch_embed.proj.weight', 4);
  if (channels !== 3 || patchWidth !== patchSize || patchSize === 0 || hiddenSize === 0) {
    throw invalid(
      vitWeightsFile,
      `the patch embedding has the shape [${[hiddenSize, channels, patchSize, patchWidth].join(', ')}]: expected [width, 3, size, size]`,
    );
  }
  const [inner = 0] = dimsOf('blocks.0.mlp.fc1.weight', 2);
  const [, mlpSize = 0] = dimsOf('blocks.0.mlp.fc2.weight', 2);
  const has = (name: string) => tensors.has(name);
  const registers = has('reg_token') ? dimsOf('reg_token', 3)[1]! : 0;
  const single = Number(has('cls_token')) + Number(has('dist_token'));
  const { positioned, side: fileSide } = positionsOf(
    dimsOf('pos_embed', 3)[1]!,
    single,
    registers,
    settings,
    patchSize,
  );
  const pooling = poolingOf(settings, options, has);
  const config: VitConfig = {
    id: options.id,
    licence: options.licence,
    imageSize: options.imageSize ?? settings.imageSize ?? fileSide * patchSize,
    patchSize,
    hiddenSize,
    layers: countBlocks(tensors),
    heads: headsOf(settings, naming, hiddenSize),
    mlpSize,
    epsilon: naming === 'timm' && has('norm_pre.weight') ? timmClipEpsilon : settings.epsilon,
    ...normalisationOf(settings, options),
    ...(settings.activation === 'gelu' ? {} : { activation: settings.activation }),
    ...(inner === 2 * mlpSize ? { gatedMlp: true } : {}),
    ...(has('blocks.0.attn.q.bias') ? {} : { qkvBias: false }),
    ...(has('patch_embed.proj.bias') ? {} : { patchBias: false }),
    ...(has('norm_pre.weight') ? { normBefore: true } : {}),
    ...(has('blocks.0.ls1.gamma') ? { layerScale: true } : {}),
    ...(has('cls_token') ? {} : { classToken: false }),
    ...(has('dist_token') ? { distillationToken: true } : {}),
    ...(registers > 0 ? { registers } : {}),
    ...(positioned === single ? {} : { positionedTokens: positioned }),
    ...(pooling === 'mean' ? { pooling } : {}),
    ...(pooling === 'mean' && has('fc_norm.weight') ? { normAfterPooling: true } : {}),
    ...(naming === 'timm' ? {} : { naming }),
    ...(fusedQkv ? { fusedQkv } : {}),
  };
  return { config, fileSide };
}

/** How many tokens have positions, and how many patches lie along one side of the file's own image. */
function positionsOf(
  positions: number,
  single: number,
  registers: number,
  settings: VitSettings,
  patchSize: number,
): { positioned: number; side: number } {
  const candidates = [...new Set([single, single + registers, 0])].map((positioned) => ({
    positioned,
    side: Math.sqrt(positions - positioned),
  }));
  const stated = settings.imageSize === undefined ? undefined : settings.imageSize / patchSize;
  const fitting =
    candidates.find(({ side }) => side === stated) ??
    candidates.find(({ side }) => Number.isInteger(side) && side > 0);
  if (fitting !== undefined) return fitting;
  throw invalid(
    vitWeightsFile,
    `the position embeddings are ${positions}: expected a square number of patches and ${single} more`,
  );
}

function poolingOf(
  { pooling, otherPooling }: VitSettings,
  options: VitOptions,
  has: (name: string) => boolean,
): 'class' | 'mean' {
  const chosen = options.pooling ?? pooling;
  if (chosen !== undefined) return chosen;
  if (otherPooling !== undefined) {
    throw new OpenQuestion(
      { about: 'pooling', choices: has('cls_token') ? ['class', 'mean'] : ['mean'] },
      {
        code: 'CONFIG_INVALID',
        message: `${vitConfigFile} asks for the pooling "${otherPooling}", which Anneal does not know.`,
        action: 'Choose the pooling "class" or "mean" (--pooling).',
      },
    );
  }
  return has('fc_norm.weight') || !has('cls_token') ? 'mean' : 'class';
}

function headsOf(settings: VitSettings, naming: string, hiddenSize: number): number {
  const heads = settings.heads ?? (naming === 'timm' ? usualHeads(hiddenSize) : undefined);
  if (heads !== undefined) return heads;
  throw new AppError(
    'CONFIG_INVALID',
    `${vitConfigFile} does not say how many attention heads the model has.`,
    { action: 'Add "num_attention_heads" to it.' },
  );
}

function normalisationOf(settings: VitSettings, options: VitOptions) {
  const mean = options.mean ?? settings.mean;
  const deviation = options.deviation ?? settings.deviation;
  if (mean !== undefined && deviation !== undefined) return { mean, deviation };
  throw new OpenQuestion(
    { about: 'pixels' },
    {
      code: 'CONFIG_INVALID',
      message: 'The folder does not say how the model wants its pixels normalised.',
      action: `Give --mean and --std, or put ${vitProcessorFile} of the model beside ${vitConfigFile}.`,
    },
  );
}

function countBlocks(tensors: ReadonlyMap<string, FloatTensor>): number {
  let blocks = 0;
  for (const name of tensors.keys()) {
    const index = /^blocks\.(\d+)\./.exec(name)?.[1];
    if (index !== undefined) blocks = Math.max(blocks, Number(index) + 1);
  }
  return blocks;
}

/** The configuration may leave things out, but what it says must be so. */
function checkSettings(settings: VitSettings, config: VitConfig, fileSide: number): void {
  const stated: readonly [string, number | undefined, number][] = [
    ['hidden_size', settings.hiddenSize, config.hiddenSize],
    ['patch_size', settings.patchSize, config.patchSize],
    ['num_hidden_layers', settings.layers, config.layers],
    // DINOv2's configuration counts its gated part otherwise, and mostly not at all.
    ['intermediate_size', config.gatedMlp === true ? undefined : settings.mlpSize, config.mlpSize],
    ['image_size', settings.imageSize, fileSide * config.patchSize],
  ];
  for (const [field, said, found] of stated) {
    if (said !== undefined && said !== found) {
      throw invalid(vitConfigFile, `${field} is ${said}, but the weights are those of ${found}`);
    }
  }
}

/** timm's `fc_norm` stands where others have `norm`. */
function renameFinalNorm(tensors: ReadonlyMap<string, FloatTensor>): Map<string, FloatTensor> {
  if (tensors.has('norm.weight')) return new Map(tensors);
  return new Map([...tensors].map(([name, tensor]) => [name.replace(/^fc_norm\./, 'norm.'), tensor]));
}

/** Every weight of the configuration is there in its shape, and nothing else is. */
function checkTensors(
  config: VitConfig,
  fileSide: number,
  { naming, fusedQkv, origins }: VitWeights,
  tensors: ReadonlyMap<string, FloatTensor>,
): void {
  const expected = vitWeightShapes({ ...config, imageSize: fileSide * config.patchSize });
  const originOf = (name: string) => origins.get(name) ?? origins.get(`fc_${name}`);
  for (const [name, dims] of expected) {
    const found = tensors.get(name);
    if (found !== undefined && sameDims(found.dims, dims)) continue;
    const { tensor, file } = originOf(name) ?? {
      tensor: fileVitName(naming, name, fusedQkv),
      file: vitWeightsFile,
    };
    const fault = found === undefined ? 'is missing' : `has the shape [${found.dims.join(', ')}]`;
    throw invalid(file, `tensor "${tensor}" ${fault}: expected [${dims.join(', ')}]`);
  }
  for (const name of tensors.keys()) {
    if (expected.has(name)) continue;
    const { tensor, file } = originOf(name)!;
    throw invalid(file, `tensor "${tensor}" was not expected beside the others`);
  }
}
