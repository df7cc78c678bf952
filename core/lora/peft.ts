/**
 * A model state as a folder that Hugging Face PEFT can load: `adapter_config.json` and
 * `adapter_model.safetensors`. What PEFT has no words for stands under the key `anneal`; base weights that
 * were trained too lie in a third file beside them.
 * Source: https://huggingface.co/docs/peft/developer_guides/checkpoint
 */
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import { sha256 } from '../shared/hash.ts';
import { type FloatTensor, floatTensor } from '../shared/tensor.ts';
import { writeFileAtomically } from '../store/atomic-file.ts';
import type { LoraLayer, ModelState } from './model-state.ts';
import { decodeSafetensors, encodeSafetensors, invalid } from './safetensors.ts';
import { checkedLayer } from './state-file.ts';

const configName = 'adapter_config.json';
const weightsName = 'adapter_model.safetensors';
const baseWeightsName = 'anneal_base_weights.safetensors';
const prefix = 'base_model.model.';
/** Name of the head in PEFT's words, listed in `modules_to_save`. */
const headModule = 'classifier';

const sizes = z.array(z.number().int().nonnegative());
const configSchema = z.object({
  peft_type: z.literal('LORA'),
  anneal: z.object({
    formatVersion: z.literal(1),
    baseSha256: z.string().regex(/^[0-9a-f]{64}$/),
    classes: z.array(z.string()),
    layers: z.array(
      z.object({ module: z.string(), r: z.number().int().positive(), scale: z.number().positive() }),
    ),
    /** Layers without factors yet; PEFT knows no rank 0, so they are not in the weights file. */
    emptyLayers: z.array(
      z.object({ module: z.string(), scale: z.number().positive(), aShape: sizes, bShape: sizes }),
    ),
    weightsSha256: z.string(),
    baseWeightsSha256: z.string().nullable(),
  }),
});

/**
 * Writes the folder (made where missing; other files in it are left alone). The configuration comes last and
 * names the hashes of the weights, so an interrupted write is never taken for a complete adapter.
 * @param base what PEFT shall know the base model by
 * @throws AppError SHAPE_MISMATCH when the state belongs to another base; the system's error, for instance ENOSPC
 */
export async function writePeftFolder(
  folder: string,
  state: ModelState,
  base: { id: string; sha256: string },
): Promise<void> {
  if (base.sha256 !== state.baseSha256) {
    throw new AppError('SHAPE_MISMATCH', `This adapter does not belong to the base model ${base.id}.`);
  }
  const weights = encodeSafetensors(adapterTensors(state), { format: 'pt' });
  const baseWeights = state.base.size === 0 ? null : encodeSafetensors(state.base, { format: 'pt' });
  const config = adapterConfig(state, base.id, {
    formatVersion: 1,
    baseSha256: state.baseSha256,
    classes: [...state.classes],
    layers: layersOf(state).map(({ module, r, scale }) => ({ module, r, scale })),
    emptyLayers: [...state.lora.values()]
      .filter((layer) => layer.r === 0)
      .map(({ module, scale, a, b }) => ({ module, scale, aShape: [...a.dims], bShape: [...b.dims] })),
    weightsSha256: sha256(weights),
    baseWeightsSha256: baseWeights === null ? null : sha256(baseWeights),
  });
  await mkdir(folder, { recursive: true });
  await writeFileAtomically(join(folder, weightsName), weights);
  if (baseWeights === null) await rm(join(folder, baseWeightsName), { force: true });
  else await writeFileAtomically(join(folder, baseWeightsName), baseWeights);
  await writeFileAtomically(join(folder, configName), Buffer.from(`${JSON.stringify(config, null, 2)}\n`));
}

/**
 * Reads back exactly what {@link writePeftFolder} wrote.
 * @throws AppError MODEL_FILE_INVALID naming the file and what was expected
 */
export async function readPeftFolder(folder: string): Promise<ModelState> {
  const config = parseConfig(await readNamed(folder, configName));
  const { anneal } = config;
  const weights = await readHashed(folder, weightsName, anneal.weightsSha256);
  const rest = new Map(decodeSafetensors(weights, weightsName).tensors);
  const take = (name: string): FloatTensor => {
    const tensor = rest.get(name);
    if (tensor === undefined) throw invalid(weightsName, `tensor "${name}" is missing`);
    rest.delete(name);
    return tensor;
  };

  const lora = new Map<string, LoraLayer>();
  for (const { module, r, scale } of anneal.layers) {
    const [a, b] = [take(`${prefix}${module}.lora_A.weight`), take(`${prefix}${module}.lora_B.weight`)];
    lora.set(module, checkedLayer({ module, r, scale, a, b }, weightsName));
  }
  for (const { module, scale, aShape, bShape } of anneal.emptyLayers) {
    const layer = { module, r: 0, scale, a: emptyTensor(aShape), b: emptyTensor(bShape) };
    lora.set(module, checkedLayer(layer, configName));
  }
  const head = new Map<string, FloatTensor>();
  for (const [name, tensor] of rest) {
    const start = `${prefix}${headModule}.`;
    if (!name.startsWith(start)) throw invalid(weightsName, `tensor "${name}" was not expected`);
    head.set(name.slice(start.length), tensor);
  }
  const base = new Map<string, FloatTensor>();
  if (anneal.baseWeightsSha256 !== null) {
    const bytes = await readHashed(folder, baseWeightsName, anneal.baseWeightsSha256);
    for (const [name, tensor] of decodeSafetensors(bytes, baseWeightsName).tensors) base.set(name, tensor);
  }
  return { baseSha256: anneal.baseSha256, classes: anneal.classes, lora, head, base };
}

/** Layers that have factors, in the order of the state. */
function layersOf(state: ModelState): LoraLayer[] {
  return [...state.lora.values()].filter((layer) => layer.r > 0);
}

function adapterTensors(state: ModelState): Map<string, FloatTensor> {
  const tensors = new Map<string, FloatTensor>();
  for (const { module, a, b } of layersOf(state)) {
    tensors.set(`${prefix}${module}.lora_A.weight`, a);
    tensors.set(`${prefix}${module}.lora_B.weight`, b);
  }
  for (const [name, tensor] of state.head) tensors.set(`${prefix}${headModule}.${name}`, tensor);
  return tensors;
}

function adapterConfig(
  state: ModelState,
  baseId: string,
  anneal: z.infer<typeof configSchema>['anneal'],
): Record<string, unknown> {
  const layers = layersOf(state);
  const r = Math.max(1, ...layers.map((layer) => layer.r));
  // PEFT scales by lora_alpha / r, each layer by its own of both.
  const alphaOf = (layer: LoraLayer) => layer.scale * layer.r;
  const alpha = layers.length === 0 ? r : alphaOf(layers.find((layer) => layer.r === r)!);
  return {
    peft_type: 'LORA',
    task_type: null,
    base_model_name_or_path: baseId,
    r,
    lora_alpha: alpha,
    target_modules: layers.map((layer) => layer.module),
    rank_pattern: pattern(layers, (layer) => layer.r, r),
    alpha_pattern: pattern(layers, alphaOf, alpha),
    modules_to_save: [headModule],
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    lora_dropout: 0,
    use_dora: false,
    use_rslora: false,
    anneal,
  };
}

/**
 * Empty when all layers have the common value; otherwise names every layer, longest name first, because PEFT
 * takes the first key that a module's name ends with.
 */
function pattern(
  layers: readonly LoraLayer[],
  pick: (layer: LoraLayer) => number,
  common: number,
): Record<string, number> {
  if (layers.every((layer) => pick(layer) === common)) return {};
  const longestFirst = [...layers].sort((x, y) => y.module.length - x.module.length);
  return Object.fromEntries(longestFirst.map((layer) => [layer.module, pick(layer)]));
}

function parseConfig(bytes: Buffer): z.infer<typeof configSchema> {
  try {
    return configSchema.parse(JSON.parse(bytes.toString('utf8')));
  } catch (error) {
    throw invalid(configName, 'expected a LoRA adapter that Anneal exported', error);
  }
}

/** A tensor without values. @throws AppError MODEL_FILE_INVALID when the shape asks for some */
function emptyTensor(dims: readonly number[]): FloatTensor {
  if (!dims.includes(0)) throw invalid(configName, `expected an empty shape, found [${dims.join(', ')}]`);
  return floatTensor(dims);
}

async function readHashed(folder: string, name: string, expected: string): Promise<Buffer> {
  const bytes = await readNamed(folder, name);
  if (sha256(bytes) !== expected) throw invalid(name, `its SHA-256 is not the one in ${configName}`);
  return bytes;
}

async function readNamed(folder: string, name: string): Promise<Buffer> {
  try {
    return await readFile(join(folder, name));
  } catch (error) {
    throw invalid(name, 'it cannot be read from the adapter folder', error);
  }
}
