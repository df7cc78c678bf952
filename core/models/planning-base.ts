/** Base models for planning: installed ones, files that are not imported, and architectures without weights. */
import { stat } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { z } from 'zod';
import { invalid } from '../lora/safetensors.ts';
import { AppError } from '../shared/errors.ts';
import type { BaseModel } from './base-model.ts';
import type { Catalogue } from './catalogue.ts';
import { findModelSource, type ModelSource, openModelFiles, unstatedLicence } from './model-formats.ts';
import type { VitConfig } from './vit-config.ts';
import { createShapeOnlyVit, vitPresets } from './vit-presets.ts';
import { parse, readJsonFile, readVitSettings, usualHeads, vitConfigFile } from './vit-settings.ts';
import { findWeightFiles } from './vit-weights.ts';

export interface PlanningBase {
  readonly base: BaseModel;
  /** Without weights: its identity is that of the architecture, and no run can start from it. */
  readonly shapesOnly: boolean;
}

/**
 * Opens what `name` stands for: the id of an installed model, else one of the presets (`vit-tiny`, `vit-small`,
 * `vit-base`, `vit-large`), else the path of a model as `anneal models import` takes it, or of a configuration of a
 * vision transformer without weights.
 * @throws AppError MODEL_UNKNOWN when it is none of these; MODEL_FILE_INVALID | CONFIG_INVALID
 */
export async function openPlanningBase(catalogue: Catalogue, name: string): Promise<PlanningBase> {
  const entries = await catalogue.list();
  if (entries.some((entry) => entry.id === name)) {
    return { base: await catalogue.load(name), shapesOnly: false };
  }
  const preset = vitPresets.get(name);
  if (preset !== undefined) return { base: createShapeOnlyVit(preset), shapesOnly: true };
  const status = await stat(name).catch(() => null);
  if (status === null) {
    const known = [...entries.map(({ id }) => id), ...vitPresets.keys()].join(', ');
    throw new AppError(
      'MODEL_UNKNOWN',
      `There is no base model and no file "${name}"; available are ${known}.`,
    );
  }
  const folder = status.isDirectory() ? name : dirname(name);
  const isConfig = status.isDirectory() ? !(await hasWeights(name)) : basename(name) === vitConfigFile;
  if (isConfig) return { base: createShapeOnlyVit(await readVitShapes(folder)), shapesOnly: true };
  const source = await findModelSource(name);
  const files = source.files.map((file) => ({ name: file }));
  const described = {
    id: source.name,
    licence: unstatedLicence,
    format: source.format,
    options: anyPixels(source.format),
    files,
  };
  return { base: await openModelFiles(source.folder, described), shapesOnly: false };
}

/** Planning counts shapes, which no normalisation changes: one that a file does not tell is not asked for. */
const anyPixels = (format: ModelSource['format']): Record<string, unknown> =>
  format === 'onnx' ? { mean: [0, 0, 0], deviation: [1, 1, 1] } : {};

async function hasWeights(folder: string): Promise<boolean> {
  const files = [...(await findWeightFiles(folder)).keys()];
  const found = await Promise.all(files.map((file) => stat(resolve(folder, file)).catch(() => null)));
  return found.some((status) => status !== null);
}

/** What distinguishes the families in shape; sizes are read with `readVitSettings`. */
const familySchema = z.looseObject({
  model_type: z.string().optional(),
  architecture: z.string().optional(),
  qkv_bias: z.boolean().optional(),
  num_register_tokens: z.int().nonnegative().optional(),
  use_swiglu_ffn: z.boolean().optional(),
});

/**
 * The architecture that a `config.json` describes without its weights.
 * @throws AppError MODEL_FILE_INVALID naming the field that is missing
 */
async function readVitShapes(folder: string): Promise<VitConfig> {
  const json = await readJsonFile(folder, vitConfigFile);
  if (json === null) throw invalid(vitConfigFile, 'it is missing');
  const family = parse(familySchema, json, vitConfigFile);
  const id = basename(resolve(folder));
  const named = /^(?:vit|deit)_(tiny|small|base|large)_patch16_224(?:\.|$)/.exec(family.architecture ?? '');
  if (named !== null) return { ...vitPresets.get(`vit-${named[1]}`)!, id };
  const settings = await readVitSettings(folder);
  const stated = (value: number | undefined, field: string): number => {
    if (value !== undefined) return value;
    throw invalid(
      vitConfigFile,
      `"${field}" is missing, and there are no weights next to it to read it from`,
    );
  };
  const hiddenSize = stated(settings.hiddenSize, 'hidden_size');
  const isDino = family.model_type?.startsWith('dinov2') === true;
  const { use_swiglu_ffn: gated = false, num_register_tokens: registers = 0 } = family;
  return {
    id,
    licence: settings.licence ?? unstatedLicence,
    imageSize: stated(settings.imageSize, 'image_size'),
    patchSize: stated(settings.patchSize, 'patch_size'),
    hiddenSize,
    layers: stated(settings.layers, 'num_hidden_layers'),
    heads: stated(settings.heads ?? usualHeads(hiddenSize), 'num_attention_heads'),
    mlpSize: gated ? gatedWidth(hiddenSize) : (settings.mlpSize ?? 4 * hiddenSize),
    epsilon: settings.epsilon,
    mean: [0.5, 0.5, 0.5],
    deviation: [0.5, 0.5, 0.5],
    naming: isDino ? 'transformers-dinov2' : 'transformers-vit',
    ...(family.qkv_bias === false ? { qkvBias: false } : {}),
    ...(family.model_type === 'deit' ? { distillationToken: true } : {}),
    ...(isDino ? { layerScale: true } : {}),
    ...(isDino && gated ? { gatedMlp: true } : {}),
    ...(isDino && registers > 0 ? { registers } : {}),
  };
}

/** Width of each half of DINOv2's gated part: two thirds of four times the width, up to a multiple of 8. */
const gatedWidth = (hiddenSize: number) => 8 * Math.ceil(Math.floor((4 * hiddenSize * 2) / 3) / 8);
