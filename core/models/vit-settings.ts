/** What the configuration files beside a vision transformer's weights say, in transformers' words or timm's. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { invalid } from '../lora/safetensors.ts';
import { AppError } from '../shared/errors.ts';
import { exportAdvice, type ModelKind } from './export-advice.ts';
import type { VitActivation } from './vit-config.ts';

export const vitConfigFile = 'config.json';
export const vitProcessorFile = 'preprocessor_config.json';
const maxJsonBytes = 50_000_000;

/** All that is stated; what follows from the weights themselves may be absent. */
export interface VitSettings {
  imageSize?: number;
  patchSize?: number;
  hiddenSize?: number;
  layers?: number;
  heads?: number;
  mlpSize?: number;
  epsilon: number;
  activation: VitActivation;
  pooling?: 'class' | 'mean';
  /** A pooling that Anneal does not know, as the file calls it. */
  otherPooling?: string;
  mean?: readonly number[];
  deviation?: readonly number[];
  licence?: string;
}

const count = z.number().int().positive();
const side = z.union([count, z.tuple([count, count]).transform(([height, width]) => ({ height, width }))]);
const perChannel = z.tuple([z.number(), z.number(), z.number()]);

const timmDefaultsSchema = z.looseObject({
  input_size: z.tuple([count, count, count]).optional(),
  mean: perChannel.optional(),
  std: perChannel.optional(),
  license: z.string().nullish(),
});
const configSchema = z.looseObject({
  model_type: z.string().optional(),
  architecture: z.string().optional(),
  image_size: side.optional(),
  patch_size: side.optional(),
  num_channels: z.literal(3).optional(),
  hidden_size: count.optional(),
  num_hidden_layers: count.optional(),
  num_attention_heads: count.optional(),
  intermediate_size: count.optional(),
  hidden_act: z.string().optional(),
  layer_norm_eps: z.number().positive().optional(),
  image_mean: perChannel.optional(),
  image_std: perChannel.optional(),
  global_pool: z.string().optional(),
  license: z.string().nullish(),
  model_args: z
    .looseObject({
      num_heads: count.optional(),
      img_size: side.optional(),
      act_layer: z.string().optional(),
      global_pool: z.string().optional(),
    })
    .nullish(),
  pretrained_cfg: timmDefaultsSchema.nullish(),
  vision_config: z.looseObject({ model_type: z.string().optional() }).optional(),
});
type RawConfig = z.infer<typeof configSchema>;

const processorSchema = z.looseObject({
  do_normalize: z.boolean().nullish(),
  image_mean: perChannel.nullish(),
  image_std: perChannel.nullish(),
});

/** Transformers' defaults where a configuration leaves something out. */
const familyDefaults: Readonly<Record<string, { epsilon: number; heads?: number }>> = {
  vit: { epsilon: 1e-12, heads: 12 },
  deit: { epsilon: 1e-12, heads: 12 },
  // The encoder of a masked autoencoder (He et al. 2021) is a ViT; its decoder is left out.
  vit_mae: { epsilon: 1e-12, heads: 12 },
  dinov2: { epsilon: 1e-6, heads: 12 },
  dinov2_with_registers: { epsilon: 1e-6, heads: 12 },
  // The half of CLIP that reads images (Radford et al. 2021).
  clip_vision_model: { epsilon: 1e-5, heads: 12 },
  timm_wrapper: { epsilon: 1e-6 },
};
const timmDefaults = { epsilon: 1e-6 };

/** Names of both libraries; `gelu_fast` is the tanh form written in another way. */
const activations: Readonly<Record<string, VitActivation>> = {
  gelu: 'gelu',
  gelu_new: 'gelu-tanh',
  gelu_fast: 'gelu-tanh',
  gelu_pytorch_tanh: 'gelu-tanh',
  gelu_tanh: 'gelu-tanh',
  quick_gelu: 'quick-gelu',
  quickgelu: 'quick-gelu',
};

/** timm's configurations name the architecture, not its heads; most have 64 channels each, these have not. */
const timmHeads: Readonly<Record<number, number>> = { 1152: 16, 1280: 16, 1408: 16, 1664: 16 };

/**
 * @throws AppError MODEL_FILE_INVALID naming the file and the field
 */
export async function readVitSettings(folder: string): Promise<VitSettings> {
  const json = await readJsonFile(folder, vitConfigFile);
  if (json === null) throw invalid(vitConfigFile, 'it is missing');
  const config = imagePartOf(parse(configSchema, json, vitConfigFile));
  const processorJson = await readJsonFile(folder, vitProcessorFile);
  const processor = processorJson === null ? {} : parse(processorSchema, processorJson, vitProcessorFile);
  const defaults = defaultsOf(config);
  const imageSize = sideOf(config.image_size ?? config.model_args?.img_size, 'image_size');
  const inputSize = config.pretrained_cfg?.input_size;
  const pooling = config.model_args?.global_pool ?? config.global_pool;
  const normalisation = normalisationOf(config, processor);
  return present({
    imageSize: imageSize ?? sideOf(inputSize && { height: inputSize[1], width: inputSize[2] }, 'input_size'),
    patchSize: sideOf(config.patch_size, 'patch_size'),
    hiddenSize: config.hidden_size,
    layers: config.num_hidden_layers,
    heads: config.num_attention_heads ?? config.model_args?.num_heads ?? defaults.heads,
    mlpSize: config.intermediate_size,
    epsilon: config.layer_norm_eps ?? defaults.epsilon,
    activation: activationOf(config),
    pooling: pooling === 'token' ? ('class' as const) : pooling === 'avg' ? ('mean' as const) : undefined,
    otherPooling: pooling === undefined || ['', 'token', 'avg'].includes(pooling) ? undefined : pooling,
    ...normalisation,
    licence: config.license ?? config.pretrained_cfg?.license ?? undefined,
  });
}

/** Of a CLIP with both its halves, the one for images. */
function imagePartOf(config: RawConfig): RawConfig {
  if (config.model_type !== 'clip' || config.vision_config === undefined) return config;
  return parse(configSchema, { ...config.vision_config, model_type: 'clip_vision_model' }, vitConfigFile);
}

/** What the configuration calls the model, for advice alone. */
export async function readModelKind(folder: string): Promise<ModelKind> {
  const config = configSchema.safeParse(await readJsonFile(folder, vitConfigFile).catch(() => null));
  if (!config.success) return {};
  const { model_type: family, architecture, image_size: imageSize } = config.data;
  return { family, architecture, imageSize: typeof imageSize === 'number' ? imageSize : undefined };
}

/** Number of attention heads of timm's ViT of this width; undefined when it has none such. */
export function usualHeads(hiddenSize: number): number | undefined {
  return timmHeads[hiddenSize] ?? (hiddenSize % 64 === 0 ? hiddenSize / 64 : undefined);
}

/**
 * A JSON file of the folder, or null when there is none.
 * @throws AppError MODEL_FILE_INVALID when it is too long or no JSON
 */
export async function readJsonFile(folder: string, name: string): Promise<unknown> {
  try {
    await using handle = await open(join(folder, name), 'r');
    const { size } = await handle.stat();
    if (size > maxJsonBytes) throw invalid(name, `expected at most ${maxJsonBytes} bytes, found ${size}`);
    return JSON.parse(await handle.readFile('utf8')) as unknown;
  } catch (cause) {
    if ((cause as { code?: unknown }).code === 'ENOENT') return null;
    if (cause instanceof SyntaxError) throw invalid(name, 'it is not JSON text', cause);
    if (cause instanceof Error && 'syscall' in cause) throw invalid(name, 'it cannot be read', cause);
    throw cause;
  }
}

export function parse<T>(schema: z.ZodType<T>, json: unknown, file: string): T {
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const field = issue.path.length === 0 ? 'the file as a whole' : `"${issue.path.join('.')}"`;
  throw invalid(file, `${field} is invalid: ${issue.message}`, parsed.error);
}

function defaultsOf({ model_type: family, architecture, image_size: imageSize }: RawConfig): {
  epsilon: number;
  heads?: number;
} {
  if (family === undefined || (architecture !== undefined && !Object.hasOwn(familyDefaults, family)))
    return timmDefaults;
  if (Object.hasOwn(familyDefaults, family)) return familyDefaults[family]!;
  const known = Object.keys(familyDefaults).join(', ');
  throw new AppError(
    'MODEL_FILE_INVALID',
    `${vitConfigFile} is of a model of the type "${family.slice(0, 100)}"; folders of these types can be opened: ${known}.`,
    { action: exportAdvice({ family, imageSize: typeof imageSize === 'number' ? imageSize : undefined }) },
  );
}

function activationOf(config: RawConfig): VitActivation {
  const isQuick =
    config.architecture?.includes('quickgelu') === true || config.model_type === 'clip_vision_model';
  const implied = isQuick ? 'quick_gelu' : 'gelu';
  const named = config.hidden_act ?? config.model_args?.act_layer ?? implied;
  if (Object.hasOwn(activations, named)) return activations[named]!;
  const known = Object.keys(activations).join(', ');
  throw invalid(vitConfigFile, `the activation is "${named}": expected one of ${known}`);
}

function normalisationOf(config: RawConfig, processor: z.infer<typeof processorSchema>) {
  if (config.image_mean && config.image_std) return { mean: config.image_mean, deviation: config.image_std };
  if (processor.do_normalize === false) return { mean: [0, 0, 0], deviation: [1, 1, 1] };
  if (processor.image_mean && processor.image_std)
    return { mean: processor.image_mean, deviation: processor.image_std };
  const { mean, std } = config.pretrained_cfg ?? {};
  return { mean, deviation: std };
}

function sideOf(
  value: number | { height: number; width: number } | undefined,
  field: string,
): number | undefined {
  if (value === undefined || typeof value === 'number') return value;
  if (value.height === value.width) return value.height;
  throw invalid(vitConfigFile, `${field} is ${value.height} × ${value.width}: expected a square`);
}

/** Drops absent keys. */
function present<T extends object>(value: T) {
  return Object.fromEntries(Object.entries(value).filter(([, entry]) => entry !== undefined)) as {
    [K in keyof T as undefined extends T[K] ? never : K]: T[K];
  } & { [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined> };
}
